"""Moving a token, as the wallet sees it: asked, pending, moved; and a hub that cheats."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sconto.client import WalletClient
from sconto.servers.merchant import Merchant
from sconto.store.schema import tokens
from sconto.tokens import issue_token
from sconto.wallet import claims_of

pytestmark = pytest.mark.anyio
BOTH_DATABASES = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)

OTHER = "https://other.example"
MOVES = "/v1/tokens/"


@pytest.fixture
async def key(world: Any) -> str:
    """An account's key that holds one token; another merchant takes part too."""
    frame_id = await world.publish(await world.promise())
    made: str = await world.account()
    assert (await world.clip(made, frame_id=frame_id)).status == 201
    await world.settle()
    return made


@pytest.fixture
async def other(
    world: Any, key: str, tmp_path: Path, other_database: Callable[[str], str], clock: Any
) -> AsyncIterator[Any]:
    """Another merchant of the same promotion."""
    make_home = type(world).build.__globals__["make_home"]
    served = type(world.shop)
    home = make_home(tmp_path / "other", "merchant", OTHER, other_database("other"))
    merchant = Merchant(home, clock)
    await merchant.start()
    site = served(merchant, world.wire)
    try:
        new = {"url": world.hub.url, "kind": "hub", "tenant_id": "hub-operator"}
        assert (await site.post("/v1/peers", new)).status == 201
        new = {"url": OTHER, "kind": "merchant", "tenant_id": "other"}
        assert (await world.hub.post("/v1/peers", new)).status == 201
        await world.settle()
        asked = {"hub": world.hub.url, "promotion_ids": ["oaty-10"]}
        assert (await site.post("/v1/acceptances", asked)).status == 200
        for _ in range(500):
            if site.rows()["allotments"]:
                break
            await asyncio.sleep(0.01)
        yield site
    finally:
        await site.http.aclose()
        await merchant.stop()


async def held(world: Any, key: str) -> Any:
    return (await world.wallet.get("/v1/tokens", key=key))["tokens"][0]


async def first(world: Any, key: str) -> str:
    """The id of the token that was clipped, wherever it has come to."""
    listed = (await world.wallet.get("/v1/tokens", key=key))["tokens"]
    (found,) = [one["token_id"] for one in listed if one["merchant"] == world.shop.url]
    return str(found)


async def move(world: Any, key: str, move_id: str = "m1", merchant: str = OTHER) -> Any:
    token_id = await first(world, key)
    document = {"move_id": move_id, "merchant": merchant}
    return await world.wallet.post(f"/v1/tokens/{token_id}/moves", document, key=key)


@BOTH_DATABASES
async def test_a_move_shows_how_it_stands(world: Any, key: str, other: Any) -> None:
    asked = await move(world, key)
    assert (asked.status, asked["state"]) == (200, "pending"), asked
    pending = await held(world, key)
    assert pending["move"]["state"] in ("pending", "moved")
    await world.settle()
    both = (await world.wallet.get("/v1/tokens", key=key))["tokens"]
    assert sorted(one["status"] for one in both) == ["moved", "usable"]
    new = next(one for one in both if one["status"] == "usable")
    assert (new["merchant"], new["uses_left"]) == (OTHER, 1)
    moved = next(one for one in both if one["status"] == "moved")
    assert moved["move"] == {
        "move_id": "m1", "token_id": moved["token_id"], "merchant": OTHER, "state": "moved",
        "successor_id": new["token_id"],
    }  # fmt: skip
    listed = await world.wallet.get("/v1/tokens?status=moved", key=key)
    assert [one["token_id"] for one in listed["tokens"]] == [moved["token_id"]]
    path = f"/v1/tokens/{moved['token_id']}/moves"
    rows = world.wallet.rows()
    again = await world.wallet.post(path, {"move_id": "m1", "merchant": OTHER}, key=key)
    assert again.json == moved["move"]
    assert world.wallet.rows() == rows
    shown = {"token_id": moved["token_id"], "order_id": "o"}
    problem = (await world.wallet.post("/v1/presentations", shown, key=key)).problem
    assert problem == (409, "token_moved", "token_id")
    assert (await world.wallet.get("/v1/savings", key=key))["tokens"] == {"issued": 1, "moved": 1}
    for server in (world.hub, world.shop, world.wallet):
        assert server.totals().clipped == 1, server.url
        assert server.parked() == []


async def test_a_lost_answer_is_made_good_by_asking_again(world: Any, key: str, other: Any) -> None:
    """The reply is cut off, or the hub is away: the same request again goes on."""
    world.wire.cut(MOVES, "before")
    assert (await move(world, key)).problem == (503, "hub_unreachable", None)
    world.wire.cut(MOVES, "after")
    assert (await move(world, key)).status == 503
    await world.settle()
    asked = await move(world, key)
    assert asked.status == 200, asked
    assert asked["state"] == "moved"


async def test_who_may_move_what(world: Any, key: str, other: Any) -> None:
    eve = await world.account("eve")
    token_id = (await held(world, key))["token_id"]
    path, document = f"/v1/tokens/{token_id}/moves", {"move_id": "m1", "merchant": OTHER}
    post = world.wallet.post
    assert (await post(path, document, key=eve)).problem == (404, "not_found", "token_id")
    assert (await post(path, document, key=None)).status == 401
    for changed, problem in (
        ({"merchant": "shop"}, (400, "invalid_input", "merchant")),
        ({"move_id": ""}, (400, "invalid_input", "move_id")),
        ({"colour": "red"}, (400, "invalid_input", "colour")),
        ({"account_id": "eve"}, (404, "not_found", "account_id")),
        ({"merchant": "https://third.example"}, (409, "move_refused", "merchant")),
        ({"merchant": "https://shop.example"}, (409, "move_refused", "merchant")),
    ):
        assert (await post(path, document | changed, key=key)).problem == problem, changed
    world.wire.apps.pop("https://shop.example")
    assert (await move(world, key))["state"] == "pending"
    refused = await move(world, key, merchant="https://third.example")
    assert refused.problem == (409, "exists_with_different_merchant", "merchant")
    refused = await move(world, key, "m2")
    assert (refused.problem, refused["peer_code"]) == (
        (409, "move_refused", None), "move_pending",
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://shop.example"},
        {"uses": 2},
        {"exp": 253_402_300_000},
        {"terms_digest": "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"},
        {"promotion_id": "q"},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_another_right_than_the_one_that_was_moved_is_not_kept(
    world: Any, key: str, other: Any, changes: dict[str, Any]
) -> None:
    """A hub that cheats is caught, by its answer and by its event alike."""
    first = claims_of((await world.wallet.get(
        f"/v1/tokens/{(await held(world, key))['token_id']}", key=key
    ))["jws"])  # fmt: skip

    claims = msgspec.structs.replace(first, **({"jti": "0" * 26, "aud": OTHER} | changes))
    forged = issue_token(world.hub.server.base.home.key, claims)
    data = {"token_id": first.jti, "move_id": "m1", "merchant": OTHER, "token": forged}
    world.wire.changes[MOVES] = lambda answer: answer | {"state": "moved", "token": forged}
    answer = await move(world, key)
    assert answer.problem[:2] == (502, "peer_broke_promise"), answer
    world.hub.store.write_now(
        lambda tx: tx.send(world.wallet.url, "sconto.token.moved.v1", first.jti, data)
    )
    for _ in range(500):
        if world.wallet.parked():
            break
        await asyncio.sleep(0.01)
    assert any("token_not_as_promised" in one or "mismatch" in one for one in world.wallet.parked())
    with world.wallet.store.read() as connection:
        kept = connection.execute(tokens.select()).all()
    assert forged not in [one.jws for one in kept]


async def test_a_shopper_moves_a_token_on_the_page(world: Any, key: str, other: Any) -> None:
    cookie = (
        (
            await world.wallet.http.post(
                "/login",
                content=f"api_key={key}&next=/tokens",
                headers={
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Origin": world.wallet.url,
                },
            )
        )
        .headers["set-cookie"]
        .partition(";")[0]
    )
    headers = {"Cookie": cookie, "Origin": world.wallet.url}
    page = await world.wallet.http.get("/tokens", headers=headers)
    token_id = (await held(world, key))["token_id"]
    assert f'name="token_id" value="{token_id}"' in page.text
    sent = await world.wallet.http.post(
        "/moves",
        content=f"token_id={token_id}&move_id=page&merchant={OTHER}",
        headers=headers | {"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert sent.status_code == 303, sent.text
    await world.settle()
    page = await world.wallet.http.get("/tokens", headers=headers)
    assert f"Moved to {OTHER}" in page.text
    assert f"At {OTHER}" in page.text


async def test_the_client_moves_a_token(world: Any, key: str, other: Any) -> None:
    token_id = (await held(world, key))["token_id"]
    transport = world.wire.apps[world.wallet.url]
    async with WalletClient(world.wallet.url, key, transport=transport) as client:
        asked = await client.move(token_id, move_id="m1", merchant=OTHER)
        assert asked["token_id"] == token_id
        await world.settle()
        asked = await client.move(token_id, move_id="m1", merchant=OTHER)
    assert asked["state"] == "moved"
