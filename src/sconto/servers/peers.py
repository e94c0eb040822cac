"""The other servers: whose keys they have, and how they are called.

A peer is trusted because an operator registered its URL; its keys are what it publishes at
`/.well-known/ucp`. They are kept, so that signatures can be checked while it is away, and asked for
again every ten minutes or so: a key that the peer has taken out of its profile is revoked, and ends
here then. While the peer is away the old keys stay.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httpx
import msgspec

from sconto.base.canonical import parse_json
from sconto.base.errors import ForbiddenError, PeerError, ScontoError, WireError
from sconto.base.keys import KeySet, PublicKey
from sconto.federation.signatures import PROFILE_PATH, sign_request
from sconto.servers.config import Home
from sconto.store import access
from sconto.store.writer import Store, Tx

log = logging.getLogger("sconto.peers")

#: An unknown key id makes us look at the peer's profile again, but not more often than this.
REFRESH_FLOOR_MS = 60_000
#: Keys older than this are asked for again; a removed key is accepted for about this long.
KEYS_FRESH_MS = 600_000
#: How often we look whose keys are too old, in seconds.
LOOK_PERIOD_S = 20.0
#: Profiles that are fetched at the same time.
REFRESHES_MAX = 8
PROFILE_BYTES_MAX = 128 * 1024
ANSWER_BYTES_MAX = 16 << 20
#: Seconds for a whole answer; httpx bounds only the pauses in it.
ANSWER_WITHIN_S = 30.0


class Directory:
    """The registered peers and their keys, in memory and in the datastore."""

    def __init__(self, store: Store, http: httpx.AsyncClient, clock: Callable[[], int]) -> None:
        self._store = store
        self._http = http
        self._clock = clock
        self._peers: dict[str, access.Peer] = {}
        self._keys: dict[str, KeySet] = {}
        self._asked_at_ms: dict[str, int] = {}
        #: When a peer last told its keys, and when it is asked for them next, by the wall clock.
        self._fetched_at_ms: dict[str, int] = {}
        self._due_at_ms: dict[str, int] = {}
        self._refreshing: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(REFRESHES_MAX)
        self.reload()

    async def start(self) -> None:
        """Keep the peers' keys fresh from now on, in the background."""
        self._looking = asyncio.create_task(self._look(), name="refresh keys of peers")

    async def stop(self) -> None:
        """End the background work; what is being fetched is dropped."""
        tasks = list(self._refreshing.values())
        await gather_quietly([*tasks, *([self._looking] if self._looking else [])])

    def reload(self) -> None:
        """Read the peers again, after one was registered."""
        with self._store.read() as connection:
            peers = access.list_peers(connection)
        self._peers = {peer.url: peer for peer in peers}
        self._keys = {
            peer.url: KeySet.from_jwks(peer.jwks) for peer in peers if peer.jwks is not None
        }
        for peer in peers:
            if peer.url not in self._due_at_ms:
                self._fetched_at_ms[peer.url] = peer.jwks_fetched_at_ms or 0
                self._put_off(peer.url, peer.jwks_fetched_at_ms or 0)

    def get(self, url: str) -> access.Peer | None:
        return self._peers.get(url)

    def of_kind(self, kind: str) -> list[access.Peer]:
        """The peers of a kind, by URL."""
        return [peer for peer in self._peers.values() if peer.kind == kind]

    def trusted(self, url: str) -> access.Peer:
        """The peer with this URL, or ForbiddenError: nobody registered it."""
        peer = self._peers.get(url)
        if peer is None:
            raise ForbiddenError(
                f"{url} is not a registered server",
                code="peer_not_trusted",
                field="UCP-Agent",
                remedy="ask this server's operator to register it",
            )
        return peer

    def known_keys(self, url: str) -> KeySet:
        """The keys that we have of a peer, without asking it: for checks that must work offline."""
        return self._keys.get(url) or KeySet(())

    def keys_of_issuer(self, url: str) -> KeySet | None:
        """The keys of a hub that issues tokens, None for a stranger; without asking it."""
        peer = self._peers.get(url)
        return self.known_keys(url) if peer is not None and peer.kind == "hub" else None

    async def key(self, url: str, kid: str) -> PublicKey | None:
        """A peer's key; an unknown one makes us ask the peer, at most once a minute."""
        self.trusted(url)
        found = self.known_keys(url).get(kid)
        if found is None and not self._asked_lately(url):
            try:
                await self.refresh(url)
            except PeerError:
                return None
            found = self.known_keys(url).get(kid)
        return found

    def heard_from(self, url: str) -> None:
        """A peer has just proven to be there: keys of it that are old can be asked for now."""
        is_old = self._fetched_at_ms.get(url, 0) + KEYS_FRESH_MS <= self._clock()
        if is_old and not self._asked_lately(url):
            self._refresh_soon(url)

    async def refresh(self, url: str) -> None:
        """Fetch a peer's profile and keep its keys. Raises WireError or PeerError."""
        self.trusted(url)
        now_ms = self._clock()
        self._asked_at_ms[url] = now_ms
        self._put_off(url, now_ms)
        profile = await fetch_profile(self._http, url)
        keys = profile["keys"]
        incarnation = profile.get("sconto", {}).get("incarnation")
        known = KeySet.from_jwks(keys)
        self._keys[url] = known
        self._fetched_at_ms[url] = now_ms

        def keep(tx: Tx) -> None:
            access.keep_peer_keys(tx, url, keys, incarnation)
            tx.announce("peers", url)

        await self._store.write(keep)
        self._keys[url] = known  # a `reload` in between has read the old ones
        self._peers[url] = self._peers[url]._replace(jwks=keys, incarnation=incarnation)

    def _asked_lately(self, url: str) -> bool:
        return self._asked_at_ms.get(url, 0) + REFRESH_FLOOR_MS > self._clock()

    def _put_off(self, url: str, asked_at_ms: int) -> None:
        """The next time, spread so that peers are not all asked at once."""
        spread = random.uniform(0.8, 1.2)  # noqa: S311
        self._due_at_ms[url] = asked_at_ms + int(KEYS_FRESH_MS * spread)

    async def _look(self) -> None:
        # The first look is soon: keys may have been removed while this server was down.
        await asyncio.sleep(random.uniform(1.0, 2.0))  # noqa: S311
        while True:
            now_ms = self._clock()
            for url in list(self._peers):
                if self._due_at_ms.get(url, 0) <= now_ms:
                    self._refresh_soon(url)
            await asyncio.sleep(LOOK_PERIOD_S)

    def _refresh_soon(self, url: str) -> None:
        if url in self._refreshing:
            return
        task = asyncio.create_task(self._refresh_quietly(url), name=f"refresh keys of {url}")
        self._refreshing[url] = task
        task.add_done_callback(lambda _: self._refreshing.pop(url, None))

    async def _refresh_quietly(self, url: str) -> None:
        """A peer that is away keeps the keys that we know of it."""
        async with self._slots:
            try:
                await self.refresh(url)
            except ScontoError as error:
                log.info("keys not refreshed", extra={"peer": url, "why": str(error)})
            except Exception:
                log.exception("keys could not be refreshed", extra={"peer": url})


class Reply(NamedTuple):
    """An answer that was read to its end."""

    status_code: int
    reason_phrase: str
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")


async def fetch_profile(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """What a server publishes of itself. No redirect is followed, nothing large is read."""
    answer = await fetch(http, url + PROFILE_PATH, PROFILE_BYTES_MAX, accept="application/json")
    if answer.status_code != 200:
        raise PeerError(f"{url} answered {answer.status_code} for its profile", url=url)
    try:
        profile = parse_json(answer.content, max_bytes=PROFILE_BYTES_MAX, what="profile")
        KeySet.from_jwks(profile["keys"])
        if not isinstance(profile.get("sconto", {}), dict):
            raise TypeError
    except (ScontoError, KeyError, TypeError):
        raise PeerError(f"the profile of {url} is not one", url=url) from None
    return dict(profile)


class PeerClient:
    """Signed requests to other servers, in this server's name."""

    def __init__(self, home: Home, http: httpx.AsyncClient, wall_clock: Callable[[], int]) -> None:
        self._home = home
        self._http = http
        self._wall_clock = wall_clock

    async def call(
        self,
        method: str,
        url: str,
        path: str,
        document: Any = None,
        *,
        body: bytes | None = None,
        media_type: str = "application/json",
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a signed request and give the decoded JSON answer, None for an empty one.

        Raises WireError when no answer came, PeerError with the peer's own words for a 4xx or 5xx
        (`status`, `peer_code` and `peer_field` among its figures).
        """
        content = await self.call_bytes(
            method,
            url,
            path,
            document,
            body=body,
            media_type=media_type,
            idempotency_key=idempotency_key,
            headers=headers,
        )
        if not content:
            return None
        try:
            return msgspec.json.decode(content)
        except msgspec.DecodeError:
            raise PeerError(f"{url} did not answer in JSON", url=url) from None

    async def call_bytes(
        self,
        method: str,
        url: str,
        path: str,
        document: Any = None,
        *,
        body: bytes | None = None,
        media_type: str = "application/json",
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Like `call`, with the raw answer."""
        if body is None:
            body = b"" if document is None else msgspec.json.encode(document)
        sent = dict(headers or {}) | ({"Content-Type": media_type} if body else {})
        if method in ("POST", "PUT", "PATCH", "DELETE") and idempotency_key is None:
            idempotency_key = secrets.token_urlsafe(16)
        signed = sign_request(
            self._home.key,
            method,
            url + path,
            sent,
            body,
            profile_url=self._home.profile_url,
            created_s=self._wall_clock() // 1000,
            idempotency_key=idempotency_key,
            nonce=secrets.token_urlsafe(12),
        )
        request = self._http.build_request(method, url + path, content=body, headers=signed)
        answer = await _send(self._http, request, url, ANSWER_BYTES_MAX)
        if answer.status_code >= 400 or answer.status_code < 200:
            raise _refused(url, answer)
        return answer.content


async def fetch(http: httpx.AsyncClient, url: str, max_bytes: int, *, accept: str) -> Reply:
    """What is at an address of a peer, whatever its status; no more than `max_bytes` are read.

    Raises WireError when no whole answer came, PeerError for one that is too large.
    """
    request = http.build_request("GET", url, headers={"Accept": accept})
    return await _send(http, request, "/".join(url.split("/", 3)[:3]), max_bytes)


async def _send(
    http: httpx.AsyncClient, request: httpx.Request, origin: str, max_bytes: int
) -> Reply:
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            answer = await http.send(request, stream=True)
            try:
                content = await _read(answer, max_bytes, origin)
            finally:
                await answer.aclose()
    except TimeoutError:
        raise WireError(f"{origin} does not finish its answer", url=origin) from None
    except httpx.HTTPError as error:
        raise WireError(f"{origin} cannot be reached: {_reason(error)}", url=origin) from None
    return Reply(answer.status_code, answer.reason_phrase, content)


async def _read(answer: httpx.Response, max_bytes: int, origin: str) -> bytes:
    # Nobody was asked to compress, and a bomb would be unpacked before it is counted.
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise PeerError(f"{origin} answered in an encoding that was not asked for", url=origin)
    chunks, size = [], 0
    async for chunk in answer.aiter_bytes():
        size += len(chunk)
        if size > max_bytes:
            raise PeerError(f"{origin} answered too much", url=origin)
        chunks.append(chunk)
    return b"".join(chunks)


def _refused(url: str, answer: Reply) -> PeerError:
    try:
        problem = msgspec.json.decode(answer.content)
        if "error" in problem:  # RFC 6749, section 5.2
            problem = {"detail": problem.get("error_description", ""), "code": problem["error"]}
        detail, code = str(problem["detail"]), str(problem["code"])
        field = problem.get("field")
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        detail, code, field = answer.reason_phrase, "", None
    kind = WireError if answer.status_code in (429, 502, 503, 504, 507) else PeerError
    return kind(
        f"{url} answered {answer.status_code}: {detail[:500]}",
        url=url,
        status=answer.status_code,
        peer_code=code[:100],
        peer_field=field,
    )


def _reason(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__


def make_http() -> httpx.AsyncClient:
    """The client for all requests to peers: bounded in time, no redirects, no proxy."""
    return httpx.AsyncClient(
        headers={"Accept-Encoding": "identity"},
        timeout=httpx.Timeout(10.0, connect=3.0),
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=20),
    )


async def gather_quietly(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended.

    Again after a while: `asyncio.wait_for` of Python 3.11 may lose a cancellation.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        ended, pending = await asyncio.wait(pending, timeout=0.5)
        for task in ended:
            if not task.cancelled():
                task.exception()  # looked at, so that nobody complains that it was not
