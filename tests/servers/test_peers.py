"""Keys of peers: refreshed in the background, revoked by removal, kept while the peer is away."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from sconto.base.errors import PeerError, UnavailableError, WireError
from sconto.base.keys import SigningKey
from sconto.federation.signatures import PROFILE_PATH
from sconto.servers import peers
from sconto.servers.peers import KEYS_FRESH_MS, Reply, fetch, make_http
from sconto.store import access
from sconto.store.processes import Change

pytestmark = pytest.mark.anyio

MINUTE_MS = 60_000


@pytest.fixture
def database_url(sqlite_database: str) -> str:
    return sqlite_database


class WallClock:
    """Real time, and what was added to it."""

    def __init__(self) -> None:
        self.added_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.added_ms


class Publisher:
    """A hub's profile, as it is now; `pause` holds the answer back."""

    def __init__(self, hub: Any) -> None:
        self.keys = [hub.key]
        self.asked = 0
        self.status = 200
        self.pause: asyncio.Event | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == PROFILE_PATH
        self.asked += 1
        if self.pause is not None:
            await self.pause.wait()
        jwks = [{**key.public.jwk, "kid": key.kid} for key in self.keys]
        return httpx.Response(self.status, json={"keys": jwks, "sconto": {"incarnation": "i"}})


@pytest.fixture
def wall(shop: Any) -> WallClock:
    made = WallClock()
    shop.server.base.wall_clock = made
    return made


@pytest.fixture
def publisher(shop: Any, hub: Any, network: Any) -> Publisher:
    made = Publisher(hub)
    network.servers[hub.url] = made
    return made


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(300):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


async def ask(shop: Any, hub: Any, wall: WallClock, key: SigningKey | None = None) -> Any:
    """A signed request of the hub, made now; 404: it was believed, there are no such terms."""
    headers = hub.sign(shop, "GET", "/v1/terms/x", b"", key=key, created_s=wall() // 1000)
    return await shop.call("GET", "/v1/terms/x", headers=headers, key=None)


async def test_a_removed_key_ends_when_the_peer_is_heard_from(
    shop: Any, hub: Any, wall: WallClock, publisher: Publisher
) -> None:
    """The request that is heard is answered at once, by the old keys; the next one is refused."""
    new = SigningKey.from_seed(secrets.token_bytes(32))
    publisher.keys = [new]
    assert (await ask(shop, hub, wall)).status == 404
    assert publisher.asked == 0, "the keys are fresh"
    wall.added_ms = KEYS_FRESH_MS + 1
    publisher.pause = asyncio.Event()
    heard = await asyncio.wait_for(ask(shop, hub, wall), 5)
    assert heard.status == 404, "the refresh waits, the request does not"
    await until(lambda: publisher.asked == 1)
    publisher.pause.set()
    await until(lambda: shop.server.base.directory.known_keys(hub.url).get(new.kid) is not None)
    assert (await ask(shop, hub, wall)).problem[:2] == (401, "key_not_found")
    assert (await ask(shop, hub, wall, new)).status == 404
    with shop.store.read() as connection:
        (kept,) = access.list_peers(connection)
    assert [key["kid"] for key in kept.jwks] == [new.kid], "a restart knows it too"


async def test_keys_are_refreshed_though_nobody_is_heard(
    shop: Any, hub: Any, wall: WallClock, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten minutes, more or less, each time; and not in between."""
    monkeypatch.setattr(peers, "LOOK_PERIOD_S", 0.01)
    directory = shop.server.base.directory
    await directory.stop()
    monkeypatch.setattr(peers.random, "uniform", lambda low, high: 0.01 if low >= 1 else high)
    await directory.start()
    publisher.keys = []
    await asyncio.sleep(0.2)
    assert publisher.asked == 0
    wall.added_ms = int(KEYS_FRESH_MS * 1.2) + MINUTE_MS
    await until(lambda: not directory.known_keys(hub.url).keys)
    assert publisher.asked == 1
    wall.added_ms += KEYS_FRESH_MS
    await asyncio.sleep(0.2)
    assert publisher.asked == 1
    wall.added_ms += KEYS_FRESH_MS
    await until(lambda: publisher.asked == 2)


@pytest.mark.parametrize("away", ["unreachable", "broken", "no profile"])
async def test_while_the_peer_is_away_its_keys_stay(
    shop: Any, hub: Any, wall: WallClock, publisher: Publisher, network: Any, away: str
) -> None:
    """Goal: a merchant sells on for a week. Method: every way to be away, heard from all along."""

    async def broken(request: httpx.Request) -> httpx.Response:
        publisher.asked += 1
        return httpx.Response(200, json={"keys": "none"})

    if away == "unreachable":
        del network.servers[hub.url]
    elif away == "broken":
        network.servers[hub.url] = broken
    else:
        publisher.status = 503
    for day in range(1, 8):
        wall.added_ms = day * 86_400_000
        assert (await ask(shop, hub, wall)).status == 404
        await asyncio.sleep(0.02)
    assert shop.server.base.directory.known_keys(hub.url).get(hub.key.kid) is not None
    asked = len([one for one in network.requests if one.url.path == PROFILE_PATH])
    assert asked >= 3
    for _ in range(20):
        wall.added_ms += 1000  # a signature is good once
        assert (await ask(shop, hub, wall)).status == 404
    await asyncio.sleep(0.02)
    again = len([one for one in network.requests if one.url.path == PROFILE_PATH])
    assert again - asked <= 1, "a peer that is away is asked once a minute at most"


async def test_stopping_does_not_wait_for_a_peer(
    shop: Any, hub: Any, wall: WallClock, publisher: Publisher
) -> None:
    publisher.pause = asyncio.Event()
    wall.added_ms = KEYS_FRESH_MS * 2
    await ask(shop, hub, wall)
    await until(lambda: publisher.asked == 1)
    await asyncio.wait_for(shop.server.base.directory.stop(), 2)
    assert shop.server.base.directory.known_keys(hub.url).get(hub.key.kid) is not None


# --- what a peer may answer -----------------------------------------------------------------------

Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]


async def fetched(handler: Handler, max_bytes: int = 1000) -> Reply:
    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        return await fetch(http, "https://hub.example/x", max_bytes, accept="text/plain")


async def test_no_more_is_read_than_was_wanted() -> None:
    """Goal: an answer without an end ends here. Method: count what was taken from it."""
    given = 0

    async def endless() -> Any:
        nonlocal given
        while True:
            given += 100
            yield b"x" * 100

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=endless())

    with pytest.raises(PeerError, match="answered too much"):
        await fetched(answer)
    assert given <= 1200


async def test_a_bomb_is_not_unpacked() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        async def packed() -> Any:
            yield b"\x1f\x8b"

        return httpx.Response(200, headers={"content-encoding": "gzip"}, content=packed())

    with pytest.raises(PeerError, match="encoding"):
        await fetched(answer)


async def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ANSWER_WITHIN_S", 0.2)

    async def slowly() -> Any:
        while True:
            yield b"x"
            await asyncio.sleep(0.02)

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=slowly())

    with pytest.raises(WireError, match="does not finish"):
        await fetched(answer)


async def test_no_redirect_is_followed_and_no_proxy_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    async with make_http() as http:
        assert not http.follow_redirects
        assert not http.trust_env
        assert http.headers["accept-encoding"] == "identity"


async def test_peers_that_could_not_be_read_are_read_again(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: no process keeps an old list of peers. Method: the first look at a change fails."""
    base = shop.server.base
    looks = []

    def reload() -> None:
        looks.append(1)
        if len(looks) == 1:
            raise UnavailableError("the database does not answer", code="storage_unavailable")

    monkeypatch.setattr(base.directory, "reload", reload)
    base._take_up(Change("peers", "https://hub.example"))
    assert len(looks) == 1
    await until(lambda: len(looks) == 2)
