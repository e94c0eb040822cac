"""The other servers: whose keys they have, and how they are called.

A peer is trusted because an operator registered its URL; its keys are what it publishes at
`/.well-known/ucp`. They are kept, so that signatures can be checked while it is away.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import msgspec

from sconto.base.canonical import parse_json
from sconto.base.errors import ForbiddenError, PeerError, ScontoError, WireError
from sconto.base.keys import KeySet, PublicKey
from sconto.federation.signatures import PROFILE_PATH, sign_request
from sconto.servers.config import Home
from sconto.store import access
from sconto.store.writer import Store, Tx

#: An unknown key id makes us look at the peer's profile again, but not more often than this.
REFRESH_FLOOR_MS = 60_000
PROFILE_BYTES_MAX = 128 * 1024
ANSWER_BYTES_MAX = 16 << 20


class Directory:
    """The registered peers and their keys, in memory and in the datastore."""

    def __init__(self, store: Store, http: httpx.AsyncClient, clock: Callable[[], int]) -> None:
        self._store = store
        self._http = http
        self._clock = clock
        self._peers: dict[str, access.Peer] = {}
        self._keys: dict[str, KeySet] = {}
        self._asked_at_ms: dict[str, int] = {}
        self.reload()

    def reload(self) -> None:
        """Read the peers again, after one was registered."""
        with self._store.read() as connection:
            peers = access.list_peers(connection)
        self._peers = {peer.url: peer for peer in peers}
        self._keys = {
            peer.url: KeySet.from_jwks(peer.jwks) for peer in peers if peer.jwks is not None
        }

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
        if found is None and self._asked_at_ms.get(url, 0) + REFRESH_FLOOR_MS <= self._clock():
            try:
                await self.refresh(url)
            except PeerError:
                return None
            found = self.known_keys(url).get(kid)
        return found

    async def refresh(self, url: str) -> None:
        """Fetch a peer's profile and keep its keys. Raises WireError or PeerError."""
        self.trusted(url)
        self._asked_at_ms[url] = self._clock()
        profile = await fetch_profile(self._http, url)
        keys = profile["keys"]
        incarnation = profile.get("sconto", {}).get("incarnation")
        self._keys[url] = KeySet.from_jwks(keys)

        def keep(tx: Tx) -> None:
            access.keep_peer_keys(tx, url, keys, incarnation)

        await self._store.write(keep)
        self._peers[url] = self._peers[url]._replace(jwks=keys, incarnation=incarnation)


async def fetch_profile(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """What a server publishes of itself. No redirect is followed, nothing large is read."""
    try:
        answer = await http.get(url + PROFILE_PATH, headers={"Accept": "application/json"})
    except httpx.HTTPError as error:
        raise WireError(f"{url} cannot be reached: {_reason(error)}", url=url) from None
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
        try:
            answer = await self._http.request(method, url + path, content=body, headers=signed)
        except httpx.HTTPError as error:
            raise WireError(f"{url} cannot be reached: {_reason(error)}", url=url) from None
        if len(answer.content) > ANSWER_BYTES_MAX:
            raise PeerError(f"{url} answered too much", url=url)
        if answer.status_code >= 400 or answer.status_code < 200:
            raise _refused(url, answer)
        return answer.content


def _refused(url: str, answer: httpx.Response) -> PeerError:
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
        timeout=httpx.Timeout(10.0, connect=3.0),
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=20),
    )


async def gather_quietly(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
