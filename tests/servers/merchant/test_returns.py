"""Returns: a redemption is reversed by an opposite entry, whole or by lines, never deleted."""

import asyncio
from typing import Any

import pytest

pytestmark = pytest.mark.anyio


async def sell(shop: Any, terms: dict[str, Any], cart: dict[str, Any], order_id: str = "o") -> Any:
    await shop.post("/v1/promotions", {"terms": terms, "launch": True})
    order = await shop.post("/v1/redemptions", {"order_id": order_id, "cart": cart})
    assert order.status == 201
    return order


async def test_a_whole_order_comes_back(shop: Any, make_terms: Any, make_cart: Any) -> None:
    """Everything is given back once: the money, and the use for the next shopper."""
    await sell(shop, make_terms("ten", limits=[{"uses": 1}]), make_cart())
    request = {"reversal_id": "r"}
    back = await shop.post("/v1/orders/o/reversals", request)
    assert (back.status, back["refund_minor"], back["discount_reversed_minor"]) == (201, 945, 105)
    assert back["redemptions"][0]["is_complete"]
    before = shop.rows()
    assert (await shop.post("/v1/orders/o/reversals", request)).json == back.json
    more = await shop.post("/v1/orders/o/reversals", {"reversal_id": "r2"})
    assert more.problem == (409, "nothing_left", "order_id")
    assert shop.rows() == before
    order = await shop.get("/v1/orders/o")
    assert order["redemptions"][0]["state"] == "reversed"
    assert order["redemptions"][0]["reversed_minor"] == 105
    shop.audit()
    next_one = await shop.post("/v1/redemptions", {"order_id": "o-2", "cart": make_cart()})
    assert next_one["discount_minor"] == 105
    shop.audit()


async def test_parts_sum_to_the_whole(shop: Any, make_terms: Any, make_cart: Any) -> None:
    """Goal: no cent is lost or made by returning unit by unit, in whatever rounding."""
    lines = ((3, 333), (7, 101), (1, 1))
    order = await sell(shop, make_terms("odd", 1234), make_cart(*lines))
    paid = order["total_minor"]
    refunds, credited = [], []
    units = [str(i) for i, (quantity, _) in enumerate(lines, 1) for _ in range(quantity)]
    for number, line_id in enumerate(units):
        request = {"reversal_id": f"r{number}", "lines": [{"line_id": line_id, "quantity": 1}]}
        reply = await shop.post("/v1/orders/o/reversals", request)
        assert reply.status == 201, reply
        refunds.append(reply["refund_minor"])
        credited.append(reply["discount_reversed_minor"])
        shop.audit()
    assert sum(refunds) == paid
    assert sum(credited) == order["discount_minor"]
    assert min(refunds) >= 0
    reversals = shop.entries("reversed")
    assert sum(entry.amount_minor for entry in reversals) == order["discount_minor"]
    assert [entry.is_complete for entry in reversals].count(True) == 1


async def test_what_cannot_come_back(shop: Any, make_terms: Any, make_cart: Any) -> None:
    """Too many units, unknown lines, a line twice, other content, an order that is not redeemed."""
    await sell(shop, make_terms("ten"), make_cart((2, 500), (1, 100)))
    path = "/v1/orders/o/reversals"
    one = {"line_id": "1", "quantity": 1}
    assert (await shop.post(path, {"reversal_id": "r", "lines": [one]})).status == 201
    await shop.post("/v1/reservations", {"order_id": "held", "cart": make_cart()})
    before = shop.rows()
    for lines, problem in (
        ([{"line_id": "1", "quantity": 2}], (409, "too_many_returned", "lines[0].quantity")),
        ([one, {"line_id": "9", "quantity": 1}], (400, "invalid_input", "lines[1].line_id")),
        ([one, one], (400, "invalid_input", "lines[1].line_id")),
        ([{"line_id": "1", "quantity": 0}], (400, "invalid_input", "lines[0].quantity")),
        ([{"line_id": "1", "quantity": -1}], (400, "invalid_input", "lines[0].quantity")),
    ):
        reply = await shop.post(path, {"reversal_id": "r2", "lines": lines})
        assert reply.problem == problem
    changed = await shop.post(path, {"reversal_id": "r"})
    assert changed.problem == (409, "exists_with_different_content", "reversal_id")
    held = await shop.post("/v1/orders/held/reversals", {"reversal_id": "r"})
    assert held.problem == (409, "not_redeemed", "order_id")
    nothing = await shop.post("/v1/orders/nothing/reversals", {"reversal_id": "r"})
    assert nothing.problem == (404, "not_found", "order_id")
    assert shop.rows() == before


async def test_simultaneous_returns_give_back_once(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    """32 whole returns under their own ids race; one succeeds, and money comes back once."""
    await sell(shop, make_terms("ten", limits=[{"uses": 5}]), make_cart())
    replies = await asyncio.gather(
        *(shop.post("/v1/orders/o/reversals", {"reversal_id": f"r{i}"}) for i in range(32))
    )
    assert sorted(reply.status for reply in replies) == [201] + [409] * 31
    assert len(shop.entries("reversed")) == 1
    shop.audit()


async def test_shipping_comes_back_with_the_last_unit(shop: Any, make_cart: Any) -> None:
    """What was taken off shipping is reversed when nothing is kept."""
    terms = {
        "promotion_id": "free-shipping",
        "title": "Free shipping",
        "currency": "USD",
        "benefits": [{"type": "shipping_off", "basis_points": 10_000}],
    }
    cart = {**make_cart((1, 100), (1, 200)), "shipping": {"amount_minor": 499}}
    order = await sell(shop, terms, cart)
    assert (order["discount_minor"], order["shipping_minor"]) == (499, 499)
    credited = []
    for line_id in ("1", "2"):
        request = {
            "reversal_id": f"r{line_id}",
            "lines": [{"line_id": line_id, "quantity": 1}],
        }
        reply = await shop.post("/v1/orders/o/reversals", request)
        credited.append(reply["discount_reversed_minor"])
    assert credited == [0, 499]
    shop.audit()


@pytest.mark.parametrize(
    ("policy", "steps"),
    [
        # (discount that goes back to the promotion, what the shopper gets) of each unit in turn
        ("prorate", [(100, 900), (100, 900), (100, 900)]),
        ("reevaluate", [(100, 900), (200, 800), (0, 1000)]),
        ("keep", [(0, 900), (0, 900), (300, 900)]),
    ],
)
async def test_the_terms_say_what_a_return_does(
    shop: Any, make_terms: Any, make_cart: Any, policy: str, steps: list[tuple[int, int]]
) -> None:
    """10 % off three of 10.00 from two units on: what goes back with each unit, by policy."""
    pair = {"type": "quantity", "min": 2}
    terms = make_terms("ten", conditions=[pair], on_return=policy, limits=[{"uses": 1}])
    order = await sell(shop, terms, make_cart((3, 1000)))
    assert order["total_minor"] == 2700
    seen = []
    for number in range(3):
        request = {"reversal_id": f"r{number}", "lines": [{"line_id": "1", "quantity": 1}]}
        reply = await shop.post("/v1/orders/o/reversals", request)
        assert reply.status == 201, reply
        seen.append((reply["discount_reversed_minor"], reply["refund_minor"]))
        shop.audit()
    assert seen == steps
    assert sum(entry.is_complete for entry in shop.entries("reversed")) == 1
    again = await shop.post("/v1/redemptions", {"order_id": "o2", "cart": make_cart((3, 1000))})
    assert again["discount_minor"] == 300
