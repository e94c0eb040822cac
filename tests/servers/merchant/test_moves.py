"""A merchant releases a token: given up for good, and only what can be given up."""

from typing import Any

import pytest

pytestmark = pytest.mark.anyio

RELEASED, REFUSED = "token.released", "token.release_refused"


@pytest.fixture
def terms(make_terms: Any) -> dict[str, Any]:
    made: dict[str, Any] = make_terms(
        "p", access={"type": "token"}, limits=[{"uses": 3, "per": ["token"]}, {"uses": 100}]
    )
    return made


@pytest.fixture
async def token(shop: Any, hub: Any, holder: Any, terms: Any) -> Any:
    """A token of three uses that the hub has told of."""
    await hub.offer(shop, terms, uses=10)
    made = hub.issue(shop, terms, holder, uses=3)
    assert (await hub.send(shop, hub.issued(made))).status == 200
    return made


async def ask(shop: Any, hub: Any, token: Any, move_id: str = "m1", **changed: Any) -> None:
    data = hub.issued(token).data | {"move_id": move_id, "proof": "of the hub"} | changed
    hub.sequence -= 1
    event = hub.event("sconto.token.release_requested.v1", data)
    assert (await hub.send(shop, event)).status == 200


async def sell(
    shop: Any, token: Any, make_cart: Any, order_id: str, way: str = "redemptions"
) -> Any:
    path = f"/v1/{way}"
    shown = {"token": token.jws, "proof": token.prove(shop, order_id, path=path)}
    document = {"order_id": order_id, "cart": make_cart(), "presented": [shown]}
    return await shop.post(path, document)


async def test_what_is_left_is_released_for_good(
    shop: Any, hub: Any, token: Any, make_cart: Any
) -> None:
    """Presented, typed, or known of the client: it is refused; what came before stays."""
    sold = await sell(shop, token, make_cart, "o-1")
    await ask(shop, hub, token)
    said = {"token_id": token.id, "move_id": "m1", "uses": 2, "proof": "of the hub"}
    assert shop.outbox(hub.url, RELEASED) == [said]
    late = await sell(shop, token, make_cart, "o-2")
    assert late.problem == (400, "token_moved", "presented[0].token")
    typed = {"order_id": "o-3", "cart": make_cart(codes=(token.handle,))}
    assert (await shop.post("/v1/redemptions", typed))["redemptions"] == []
    reserved = await sell(shop, token, make_cart, "o-4", "reservations")
    assert reserved.problem == (400, "token_moved", "presented[0].token")
    again = await sell(shop, token, make_cart, "o-1")
    assert again.json == sold.json
    back = await shop.post("/v1/orders/o-1/reversals", {"reversal_id": "r"})
    assert back.status == 201, back
    late = await sell(shop, token, make_cart, "o-5")
    assert late.problem == (400, "token_moved", "presented[0].token")
    await ask(shop, hub, token)
    assert shop.outbox(hub.url, RELEASED) == [said, said], "the same answer, also after a return"
    shop.audit()


async def test_a_token_is_released_once(shop: Any, hub: Any, token: Any) -> None:
    await ask(shop, hub, token)
    await ask(shop, hub, token, "m2")
    assert [one["move_id"] for one in shop.outbox(hub.url, RELEASED)] == ["m1"]
    assert shop.outbox(hub.url, REFUSED) == [
        {"token_id": token.id, "move_id": "m2", "reason": "token_moved"}
    ]


async def test_what_is_needed_here_is_kept(shop: Any, hub: Any, token: Any, make_cart: Any) -> None:
    """While an order holds a use, when none is left, when it was revoked; refused stays refused."""

    def refused() -> list[str]:
        return [one["reason"] for one in shop.outbox(hub.url, REFUSED)]

    assert (await sell(shop, token, make_cart, "o-1", "reservations")).status == 201
    await ask(shop, hub, token)
    assert refused() == ["token_reserved"]
    await shop.post("/v1/reservations/o-1/release")
    await ask(shop, hub, token)
    assert refused() == ["token_reserved"] * 2, "an id that was refused stays refused"
    for number in range(2, 5):
        assert (await sell(shop, token, make_cart, f"o-{number}")).status == 201
    await ask(shop, hub, token, "m2")
    assert refused()[2:] == ["token_used"]
    await hub.send(shop, hub.revoked(token))
    await ask(shop, hub, token, "m3")
    assert refused()[3:] == ["token_revoked"]
    assert shop.outbox(hub.url, RELEASED) == []


async def test_a_token_that_was_never_told_of_is_given_up_too(
    shop: Any, hub: Any, holder: Any, terms: Any, make_cart: Any
) -> None:
    """Else it could still be presented: the token itself would be enough."""
    await hub.offer(shop, terms, uses=10)
    token = hub.issue(shop, terms, holder)
    await ask(shop, hub, token)
    assert [one["uses"] for one in shop.outbox(hub.url, RELEASED)] == [1]
    late = await sell(shop, token, make_cart, "o-1")
    assert late.problem == (400, "token_moved", "presented[0].token")


async def test_a_release_that_was_forgotten_is_only_noted(
    shop: Any, hub: Any, token: Any, make_cart: Any
) -> None:
    await ask(shop, hub, token, is_moved=True)
    assert shop.outbox(hub.url, RELEASED) == []
    late = await sell(shop, token, make_cart, "o-1")
    assert late.problem == (400, "token_moved", "presented[0].token")


async def test_another_hub_cannot_have_it_released(
    shop: Any, hub: Any, make_hub: Any, token: Any, make_cart: Any
) -> None:
    other = make_hub("https://other.example")
    other.register(shop)
    await ask(shop, other, token)
    await ask(shop, hub, token, uses=0)
    await ask(shop, hub, token, clipped_at="yesterday")
    reasons = [one["reason"] for one in (await shop.get("/v1/exchange"))["parked"]]
    assert sorted(reason.partition(":")[0] for reason in reasons) == [
        "invalid_input", "invalid_input", "peer_error",
    ]  # fmt: skip
    assert (await sell(shop, token, make_cart, "o-1")).status == 201


async def test_a_moved_token_that_comes_is_no_clip(
    shop: Any, hub: Any, holder: Any, terms: Any, make_cart: Any
) -> None:
    await hub.offer(shop, terms, uses=10)
    token = hub.issue(shop, terms, holder, uses=2)
    await hub.send(shop, hub.issued(token, is_moved=True))
    totals = (await shop.get("/v1/statistics"))["totals"]
    assert totals.get("clipped", 0) == 0
    assert (await sell(shop, token, make_cart, "o-1")).status == 201
