"""Status lists at the merchant: what a list may still say when it is old, missing or another."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from sconto.servers.merchant import status
from sconto.servers.merchant.status import StatusLists
from sconto.tokens import Status, StatusReference
from sconto.tokens.status_list import StatusList, sign_status_list

pytestmark = pytest.mark.anyio


@pytest.fixture
def database_url(sqlite_database: str) -> str:
    return sqlite_database


class Lists:
    """What the hub publishes, and how often it was asked."""

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.now_s = int(time.time())
        self.revoked: tuple[int, ...] = ()
        self.life_s = 900
        self.ttl_s = 300
        self.answer: httpx.Response | None = None
        self.asked: list[str] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if self.answer is not None:
            return self.answer
        jws = sign_status_list(
            self.hub.key,
            StatusList.of(self.revoked),
            uri=str(request.url),
            issued_s=self.now_s,
            expires_s=self.now_s + self.life_s,
            ttl_s=self.ttl_s,
        )
        return httpx.Response(200, text=jws)


class Desk:
    """Asks about the token at a place of a list, at a time."""

    def __init__(self, shop: Any, hub: Any, holder: Any, terms: dict[str, Any]) -> None:
        self.shop, self.hub, self.holder, self.terms = shop, hub, holder, terms
        self.lists: StatusLists = shop.server.status_lists
        self.added_s = 0
        shop.server.base.wall_clock = lambda: time.time_ns() // 1_000_000 + self.added_s * 1000

    async def is_revoked(self, place: int, shard: str = "0", uri: str | None = None) -> bool:
        """What is said now; a fetch that this starts is waited for: the next call has it."""
        reference = StatusReference(idx=place, uri=uri or f"{self.hub.url}/status/{shard}")
        token = self.hub.issue(
            self.shop, self.terms, self.holder, status=Status(status_list=reference)
        )
        said = self.lists.is_revoked(token.claims)
        while self.lists._tasks:
            await asyncio.sleep(0.005)
        return said


@pytest.fixture
def lists(shop: Any, hub: Any, network: Any) -> Lists:
    made = Lists(hub)
    network.servers[hub.url] = made
    return made


@pytest.fixture
def desk(shop: Any, hub: Any, holder: Any, make_terms: Any) -> Desk:
    return Desk(shop, hub, holder, make_terms("p", access={"type": "token"}))


async def test_a_list_is_fetched_once_and_again_when_it_is_old(desk: Desk, lists: Lists) -> None:
    lists.revoked = (5,)
    assert not await desk.is_revoked(5), "a checkout does not wait for the list"
    assert await desk.is_revoked(5)
    assert not await desk.is_revoked(6)
    assert len(lists.asked) == 1
    lists.revoked = (5, 6)
    lists.now_s += 301
    desk.added_s = 301
    assert not await desk.is_revoked(6)
    assert await desk.is_revoked(6)
    assert len(lists.asked) == 2


@pytest.mark.parametrize("ttl_s", [60, 100_000])
async def test_a_list_says_how_long_it_is_fresh_up_to_five_minutes(
    desk: Desk, lists: Lists, ttl_s: int
) -> None:
    lists.ttl_s = ttl_s
    await desk.is_revoked(1)
    desk.added_s = min(ttl_s, 300) - 5
    await desk.is_revoked(1)
    assert len(lists.asked) == 1
    desk.added_s += 10
    await desk.is_revoked(1)
    assert len(lists.asked) == 2


async def test_an_expired_list_still_refuses_and_is_asked_for_again(
    desk: Desk, lists: Lists, caplog: pytest.LogCaptureFixture
) -> None:
    """1. What it says is revoked stays so. 2. The others are let through, and the log says it."""
    lists.revoked, lists.life_s = (5,), 60
    await desk.is_revoked(5)
    lists.answer = httpx.Response(503)
    desk.added_s = 61
    assert await desk.is_revoked(5)
    assert not await desk.is_revoked(6)
    assert len(lists.asked) == 2
    (told,) = [record for record in caplog.records if "status list" in record.message]
    assert told.goes_by_expired_list is True
    lists.answer = None
    lists.now_s += 61 + status.TRY_AGAIN_S
    lists.revoked = (5, 6)
    desk.added_s += status.TRY_AGAIN_S
    await desk.is_revoked(6)
    assert await desk.is_revoked(6)


async def test_a_hub_that_is_away_is_not_asked_for_each_customer(
    desk: Desk, lists: Lists, network: Any, hub: Any
) -> None:
    lists.answer = httpx.Response(404)
    for _ in range(50):
        assert not await desk.is_revoked(5)
    assert len(lists.asked) == 1
    desk.added_s = status.TRY_AGAIN_S + 1
    del network.servers[hub.url]
    for _ in range(50):
        assert not await desk.is_revoked(5)
    assert len([one for one in network.requests if "/status/" in str(one.url)]) == 2


async def test_an_older_list_does_not_replace_a_newer_one(desk: Desk, lists: Lists) -> None:
    """Goal: nobody takes a revocation back by playing an old list. Both are rightly signed."""
    lists.revoked = (5,)
    await desk.is_revoked(5)
    assert await desk.is_revoked(5)
    lists.revoked, lists.now_s = (), lists.now_s - 120
    desk.added_s = 301
    lists.life_s = 10_000
    await desk.is_revoked(5)
    assert len(lists.asked) == 2
    assert await desk.is_revoked(5)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="no list"),
        httpx.Response(200, text="x" * 100_000),
        httpx.Response(302, headers={"location": "https://169.254.169.254/"}),
        httpx.Response(200, content=b"\xff\xfe"),
    ],
)
async def test_what_is_no_list_is_none(
    desk: Desk, lists: Lists, network: Any, answer: httpx.Response
) -> None:
    lists.answer = answer
    assert not await desk.is_revoked(5)
    assert not await desk.is_revoked(5)
    assert {one.url.host for one in network.requests} == {"hub.example"}


async def test_a_list_of_another_hub_or_address_is_not_asked_for(
    desk: Desk, lists: Lists, network: Any
) -> None:
    for uri in ("https://evil.example/status/0", "https://hub.example.evil.example/status/0"):
        assert not await desk.is_revoked(5, uri=uri)
    assert network.requests == []


async def test_lists_are_bounded(desk: Desk, lists: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was longest not needed goes; one that is needed all along stays."""
    monkeypatch.setattr(status, "LISTS_MAX", 10)
    lists.revoked = (5,)
    await desk.is_revoked(5, "kept")
    for number in range(30):
        await desk.is_revoked(5, str(number))
        assert await desk.is_revoked(5, "kept")
    assert len(desk.lists) == 10
    assert lists.asked.count("https://hub.example/status/kept") == 1
    assert not await desk.is_revoked(5, "0"), "it was forgotten"
    assert await desk.is_revoked(5, "0"), "and fetched again"
