"""Presenting at a real merchant: choose, prove, redeem, link; and what a thief can do: nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from sconto.base.keys import SigningKey
from sconto.tokens import make_proof

pytestmark = pytest.mark.anyio
BOTH_DATABASES = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
Cart = Callable[..., dict[str, Any]]


@pytest.fixture
async def key(world: Any) -> str:
    """An account's key that holds one token."""
    frame_id = await world.publish(await world.promise())
    made: str = await world.account()
    clipped = await world.clip(made, frame_id=frame_id)
    assert clipped.status == 201
    return made


async def held(world: Any, key: str) -> Any:
    return (await world.wallet.get("/v1/tokens", key=key))["tokens"][0]


async def present(world: Any, key: str, order_id: str = "o-1", **more: Any) -> Any:
    document = {"token_id": (await held(world, key))["token_id"], "order_id": order_id} | more
    return await world.wallet.post("/v1/presentations", document, key=key)


def shown(presentation: Any) -> list[dict[str, str]]:
    return [{"token": presentation["token"], "proof": presentation["proof"]}]


async def redeem(world: Any, presented: Any, cart: dict[str, Any], order_id: str = "o-1") -> Any:
    document = {"order_id": order_id, "cart": cart, "presented": presented}
    return await world.shop.post("/v1/redemptions", document)


@BOTH_DATABASES
async def test_a_presented_token_is_redeemed_and_told_of(
    world: Any, key: str, make_cart: Cart
) -> None:
    """The whole flow: every server has the same counts and cents, the wallet the receipt."""
    presentation = await present(world, key)
    assert presentation.status == 201
    assert presentation["merchant"] == "https://shop.example"
    order = await redeem(world, shown(presentation), make_cart(525))
    assert (order.status, order.json.get("discount_minor")) == (201, 100), order
    await world.settle()
    for server in (world.hub, world.shop, world.wallet):
        totals = server.totals()
        assert (totals.presented, totals.applied, totals.redeemed) == (1, 1, 1), server.url
        assert (totals.given_minor, totals.reversed_minor) == (100, 0), server.url
        assert server.parked() == []
    token_id = (await held(world, key))["token_id"]
    token = await world.wallet.get(f"/v1/tokens/{token_id}", key=key)
    assert (token["status"], token.json.get("uses_left", 0)) == ("redeemed", 0)
    assert token["used"] == [
        {
            "merchant": "https://shop.example",
            "at": order["at"],
            "amount_minor": 100,
            "currency": "USD",
            "order_id": "o-1",
            "receipt": order["receipt"],
            "receipt_is_verified": True,
        }
    ]
    assert (await present(world, key, "o-2")).problem == (409, "token_redeemed", "token_id")


@BOTH_DATABASES
async def test_a_return_brings_the_token_back(world: Any, key: str, make_cart: Cart) -> None:
    order = await redeem(world, shown(await present(world, key)), make_cart(525))
    assert order.status == 201
    returned = await world.shop.post("/v1/orders/o-1/reversals", {"reversal_id": "r-1"})
    assert returned.status in (200, 201), returned
    await world.settle()
    for server in (world.hub, world.shop, world.wallet):
        totals = server.totals()
        assert (totals.reversed, totals.reversed_minor) == (1, 100), server.url
    token = await held(world, key)
    assert (token["status"], token["uses_left"]) == ("usable", 1)
    savings = await world.wallet.get("/v1/savings", key=key)
    assert savings["saved_minor"] == {"USD": 0}
    assert (await present(world, key, "o-2")).status == 201


@BOTH_DATABASES
async def test_savings_by_month_and_promotion(world: Any, key: str, make_cart: Cart) -> None:
    order = await redeem(world, shown(await present(world, key)), make_cart(525))
    await world.settle()
    savings = await world.wallet.get("/v1/savings", key=key)
    assert savings.json == {
        "saved_minor": {"USD": 100},
        "by_month": [{"month": order["at"][:7], "currency": "USD", "uses": 1, "amount_minor": 100}],
        "by_promotion": [
            {
                "promotion_id": "oaty-10",
                "title": "1.00 off Oaty",
                "funded_by": ["oaty"],
                "currency": "USD",
                "uses": 1,
                "amount_minor": 100,
            }
        ],
        "tokens": {"redeemed": 1},
    }
    everything = await world.wallet.get("/v1/statistics?by=promotion,merchant")
    assert everything["totals"]["given_minor"] == 100
    assert everything["rows"][0]["merchant"] == "https://shop.example"
    assert (await world.wallet.get("/v1/statistics?by=colour")).problem[2] == "by"


async def test_a_stolen_token_is_useless_without_its_key(
    world: Any, key: str, make_cart: Cart
) -> None:
    """A thief has the token, or a proof that was overheard; the order is refused each time."""
    presentation = await present(world, key)
    thief = SigningKey.from_seed(bytes(32))

    def forged(order: str) -> dict[str, str]:
        proof = make_proof(
            thief,
            presentation["token"],
            method="POST",
            url="https://shop.example/v1/redemptions",
            order=order,
            nonce=None,
            issued_at_ms=world.shop.server.base.wall_clock(),
            proof_id="p",
        )
        return {"token": presentation["token"], "proof": proof}

    before = world.shop.rows()
    stolen = await redeem(world, [forged("o-9")], make_cart(525), "o-9")
    assert stolen.status in (400, 422), stolen
    assert stolen.problem[1] == "holder_mismatch"
    overheard = await redeem(world, shown(presentation), make_cart(525), "o-9")
    assert overheard.problem[1] == "proof_mismatch"
    bare = await redeem(world, [{"token": presentation["token"]}], make_cart(525), "o-9")
    assert bare.problem[0] == 400
    assert world.shop.rows() == before


@BOTH_DATABASES
async def test_another_accounts_token_is_not_there(world: Any, key: str) -> None:
    """404 for everything that names it, and the same words as for a token that never was."""
    token_id = (await held(world, key))["token_id"]
    thief = await world.account("bob")
    wallet = world.wallet
    before = wallet.rows()
    for method, path, document in (
        ("GET", f"/v1/tokens/{token_id}", None),
        ("DELETE", f"/v1/tokens/{token_id}", None),
        ("POST", "/v1/presentations", {"token_id": token_id, "order_id": "o"}),
        ("POST", "/v1/links", {"token_id": token_id, "client": "c", "nonce": "n"}),
    ):
        answer = await wallet.call(method, path, document, key=thief)
        assert answer.problem == (404, "not_found", "token_id"), (method, path)
        assert answer["detail"] == f"there is no token {token_id}"
    for method, path, document in (
        ("GET", f"/v1/tokens/{token_id}?account_id=ada", None),
        (
            "POST",
            "/v1/presentations",
            {"token_id": token_id, "order_id": "o", "account_id": "ada"},
        ),
        ("GET", "/v1/savings?account_id=ada", None),
    ):
        answer = await wallet.call(method, path, document, key=thief)
        assert answer.problem == (404, "not_found", "account_id"), (method, path)
    assert wallet.rows() == before
    operator = await wallet.get(f"/v1/tokens/{token_id}")
    assert operator["account_id"] == "ada"


async def test_a_wallet_chooses_what_is_worth_presenting(world: Any, make_cart: Cart) -> None:
    """What would be used up for nothing stays; of two that exclude each other the better one."""
    wasted = await world.promise("wasted", no_effect="redeem", benefits=[
        {"type": "amount_off", "amount_minor": 50, "items": {"include": [{"brands": ["none"]}]}}
    ])  # fmt: skip
    small = await world.promise("small", combination={"exclusive": True})
    large = await world.promise("large", combination={"exclusive": True}, benefits=[
        {"type": "amount_off", "amount_minor": 200, "items": {"include": [{"brands": ["oaty"]}]}}
    ])  # fmt: skip
    frame_id = await world.publish(wasted, small, large)
    key = await world.account()
    ids = {}
    for name in ("wasted", "small", "large"):
        made = await world.clip(key, frame_id=frame_id, promotion_id=name, clip_id=name)
        assert made.status == 201, made
        ids[name] = made["token_id"]
    asked = {"merchant": "https://shop.example", "cart": make_cart(525)}
    choice = await world.wallet.post("/v1/choices", asked, key=key)
    assert choice.status == 200, choice
    assert [t["token_id"] for t in choice["tokens"]] == [ids["large"]]
    assert (choice["discount_minor"], choice["currency"]) == (200, "USD")
    assert {r["token_id"] for r in choice["refused"]} >= {ids["small"]}
    elsewhere = asked | {"merchant": "https://other.example"}
    assert (await world.wallet.post("/v1/choices", elsewhere, key=key))["tokens"] == []


async def test_a_linked_shopper_needs_no_gesture(world: Any, key: str, make_cart: Cart) -> None:
    """Coupon information: after the link the cart alone gets what the token gives."""
    token_id = (await held(world, key))["token_id"]
    await world.settle()
    code = await world.shop.post("/v1/clients/card-1/link-codes")
    asked = {"token_id": token_id, "client": "card-1", "nonce": code["nonce"]}
    linked = await world.wallet.post("/v1/links", asked, key=key)
    assert linked.json == {
        "client": "card-1",
        "merchant": "https://shop.example",
        "linked": True,
    }, linked
    assert (await world.wallet.post("/v1/links", asked, key=key)).json == linked.json
    document = {"order_id": "o-1", "cart": make_cart(525), "client": "card-1"}
    order = await world.shop.post("/v1/redemptions", document)
    assert order["discount_minor"] == 100, order
    await world.settle()
    assert (await held(world, key))["status"] == "redeemed"


async def test_a_link_that_the_merchant_refuses(world: Any, key: str) -> None:
    token_id = (await held(world, key))["token_id"]
    asked = {"token_id": token_id, "client": "card-1", "nonce": "guessed"}
    refused = await world.wallet.post("/v1/links", asked, key=key)
    assert refused.problem == (409, "link_refused", "nonce"), refused
    assert refused["peer_code"] == "invalid_nonce"
    del world.wire.apps["https://shop.example"]
    away = await world.wallet.post("/v1/links", asked, key=key)
    assert away.problem == (503, "merchant_unreachable", None)


async def test_a_token_that_was_given_up_is_no_good_to_anybody(
    world: Any, key: str, make_cart: Cart
) -> None:
    """The hub revokes it and tells the merchant, which applied it by itself until then."""
    presentation = await present(world, key)
    token_id = presentation["token_id"]
    gone = await world.wallet.call("DELETE", f"/v1/tokens/{token_id}", key=key)
    assert gone.status == 204, gone
    assert (await world.wallet.call("DELETE", f"/v1/tokens/{token_id}", key=key)).status == 204
    await world.settle()
    refused = await redeem(world, shown(presentation), make_cart(525))
    assert refused.problem[1] == "token_revoked"
    assert (await world.wallet.get("/v1/tokens", key=key))["tokens"] == []
    listed = await world.wallet.get("/v1/tokens?status=deleted", key=key)
    assert [t["token_id"] for t in listed["tokens"]] == [token_id]
    assert (await world.wallet.get("/v1/savings", key=key))["tokens"] == {"deleted": 1}


async def test_a_token_is_not_given_up_while_the_hub_is_away(world: Any, key: str) -> None:
    token_id = (await held(world, key))["token_id"]
    hub = world.wire.apps.pop("https://hub.example")
    away = await world.wallet.call("DELETE", f"/v1/tokens/{token_id}", key=key)
    assert away.problem == (503, "hub_unreachable", None)
    assert (await held(world, key))["status"] == "usable"
    world.wire.apps["https://hub.example"] = hub
    await world.hub.post("/v1/promotions/oaty-10/end", key=world.brand)
    assert (await world.wallet.call("DELETE", f"/v1/tokens/{token_id}", key=key)).status == 204


@BOTH_DATABASES
async def test_an_expired_token_is_kept_and_not_presented(world: Any, make_cart: Cart) -> None:
    terms = await world.promise(schedule={"days_after_clip": 0})
    key = await world.account()
    await world.clip(key, frame_id=await world.publish(terms))
    world.clock.advance(2 * 86_400)
    assert (await held(world, key))["status"] == "expired"
    assert (await present(world, key)).problem == (409, "token_expired", "token_id")
    asked = {"merchant": "https://shop.example", "cart": make_cart(525)}
    assert (await world.wallet.post("/v1/choices", asked, key=key))["tokens"] == []
    for status, number in (("expired", 1), ("usable", 0), ("redeemed", 0), ("not_yet", 0)):
        listed = await world.wallet.get(f"/v1/tokens?status={status}", key=key)
        assert len(listed["tokens"]) == number, status
    assert (await world.wallet.get("/v1/savings", key=key))["tokens"] == {"expired": 1}


async def test_what_is_held_is_shown_with_everybody_away(world: Any, key: str) -> None:
    world.wire.apps.clear()
    await world.wallet.server.stop()
    await world.wallet.http.aclose()
    await world.start_wallet()
    token = await held(world, key)
    assert (token["title"], token["status"]) == ("1.00 off Oaty", "usable")
    assert (await present(world, key)).status == 201
    assert (await world.wallet.get("/readyz", key=None)).status == 200
