"""What hurts users of other engines about limits, races, cancelled and repeated orders.

Each test is named after its thread in `docs/explanation/pains.md`.
"""

import asyncio
from typing import Any

import pytest

from sconto.servers.merchant.reservations import expire_overdue

pytestmark = pytest.mark.anyio

#: 10 % off two of 5.25.
OFF = 105


@pytest.fixture
def database_url(sqlite_database: str) -> str:
    """What each rests on is tested on PostgreSQL too, elsewhere."""
    return sqlite_database


@pytest.fixture
async def once(shop: Any, make_terms: Any, make_cart: Any) -> Any:
    """A function that publishes a promotion, and one that sends an order."""

    async def publish(*limits: dict[str, Any], **more: Any) -> None:
        terms = make_terms("p", limits=list(limits), **more)
        assert (await shop.post("/v1/promotions", {"terms": terms, "launch": True})).status == 201

    async def send(order_id: str, path: str = "redemptions", **more: Any) -> Any:
        request = {"order_id": order_id, "cart": make_cart(), **more}
        return await shop.post(f"/v1/{path}", request)

    yield publish, send
    shop.audit()


async def together(*calls: Any) -> list[int]:
    """The discounts of requests that are sent at once, rising."""
    replies = await asyncio.gather(*calls)
    assert {reply.status for reply in replies} == {201}
    return sorted(reply["discount_minor"] for reply in replies)


async def test_saleor_544_two_checkouts_at_once_do_not_both_use_the_last_one(once: Any) -> None:
    publish, send = once
    await publish({"uses": 1})
    assert await together(send("o1"), send("o2")) == [0, OFF]


async def test_eventyay_1398_a_limit_of_three_is_three(once: Any) -> None:
    publish, send = once
    await publish({"uses": 3})
    assert await together(*(send(f"o{n}") for n in range(8))) == [0] * 5 + [OFF] * 3


async def test_saleor_15855_a_completion_that_races_with_itself_is_one_order(
    shop: Any, once: Any
) -> None:
    """Nobody loses the race, so nobody refunds the payment of the order that succeeded."""
    publish, send = once
    await publish({"uses": 1})
    assert await together(*(send("o1") for _ in range(5))) == [OFF] * 5
    assert len(shop.entries("redeemed")) == 1


async def test_shopper_510_an_order_says_in_its_first_answer_what_it_did_not_get(
    shop: Any, once: Any
) -> None:
    """Order, uses and budget are one transaction: none is there with another one missing."""
    publish, send = once
    await publish({"uses": 1})
    await send("o1")
    short = await send("o2")
    assert [one["code"] for one in short["evaluation"]["refused"]] == ["allotment_exhausted"]
    assert (short["discount_minor"], short["redemptions"]) == (0, [])
    assert (await shop.get("/v1/orders/o2")).json == short.json


async def test_maho_1378_a_refusal_after_payment_cannot_be(shop: Any, once: Any) -> None:
    """What was reserved before the payment is there after it, even if the promotion ended."""
    publish, send = once
    await publish({"uses": 1})
    assert (await send("o1", "reservations"))["discount_minor"] == OFF
    assert (await send("o2"))["discount_minor"] == 0
    await shop.post("/v1/promotions/p/pause")
    assert (await shop.post("/v1/reservations/o1/redeem"))["discount_minor"] == OFF


async def test_vendure_1466_a_cancelled_order_gives_the_shoppers_use_back(
    shop: Any, once: Any
) -> None:
    publish, send = once
    await publish({"per": ["shopper"], "uses": 1})
    for order_id in ("o1", "o2"):
        assert (await send(order_id, client="ann"))["discount_minor"] == OFF
        assert (await send(f"not-{order_id}", client="ann"))["discount_minor"] == 0
        back = await shop.post(f"/v1/orders/{order_id}/reversals", {"reversal_id": "r"})
        assert back.status == 201


async def test_sylius_10125_support_need_not_issue_a_new_code(
    shop: Any, once: Any, make_cart: Any
) -> None:
    publish, send = once
    await publish({"uses": 1}, access={"type": "code", "code": "SORRY"})
    cart = make_cart(codes=("sorry",))
    for order_id in ("o1", "o2"):
        assert (await send(order_id, "reservations", cart=cart))["discount_minor"] == OFF
        await shop.post(f"/v1/reservations/{order_id}/release")


async def test_shopware_8575_an_aborted_payment_burns_nothing(
    shop: Any, once: Any, clock: Any
) -> None:
    """The browser was closed and nobody ever called again: the reservation ends by itself."""
    publish, send = once
    await publish({"uses": 1})
    await send("o1", "reservations", ttl_s=60)
    clock.advance(60)
    await expire_overdue(shop.server)
    assert (await send("o2"))["discount_minor"] == OFF


async def test_shopware_20171_a_cancelled_order_is_not_reopened_over_another_ones_use(
    shop: Any, once: Any
) -> None:
    """It stays as it ended; to buy after all is a new order, which gets what there is then."""
    publish, send = once
    await publish({"uses": 1})
    await send("o1", "reservations")
    await shop.post("/v1/reservations/o1/release")
    assert (await send("o2"))["discount_minor"] == OFF
    late = await shop.post("/v1/reservations/o1/redeem")
    assert late.problem == (409, "not_reserved", "order_id")
    again = await send("o1", "reservations")
    assert again["state"] == "released"
    assert (await send("o1-again"))["discount_minor"] == 0


async def test_saleor_7588_the_second_completion_of_a_secured_payment_is_the_first_one(
    shop: Any, once: Any
) -> None:
    publish, send = once
    await publish({"uses": 1})
    await send("o1", "reservations")
    first = await shop.post("/v1/reservations/o1/redeem")
    second = await shop.post("/v1/reservations/o1/redeem")
    assert (first.status, second.status, second.json) == (200, 200, first.json)
    assert second["discount_minor"] == OFF


async def test_vendure_4353_limits_hold_without_a_code_too(once: Any) -> None:
    publish, send = once
    await publish({"per": ["shopper"], "uses": 1})
    got = [(await send(f"o{n}", client="ann"))["discount_minor"] for n in range(2)]
    assert got == [OFF, 0]


async def test_solidus_3205_an_orders_own_use_does_not_count_against_it(
    shop: Any, once: Any, make_cart: Any
) -> None:
    """An order that is edited gives its use back and takes it anew; asking again costs nothing."""
    publish, send = once
    await publish({"per": ["shopper"], "uses": 1})
    assert (await send("o1", "reservations", client="ann"))["discount_minor"] == OFF
    assert (await send("o1", "reservations", client="ann"))["discount_minor"] == OFF
    await shop.post("/v1/reservations/o1/release")
    edited = make_cart((3, 525))
    order = await send("o1.2", "reservations", client="ann", cart=edited)
    assert order["discount_minor"] == 158


async def test_vendure_1807_a_part_that_comes_back_does_not_cost_the_code_its_use(
    shop: Any, once: Any, make_cart: Any
) -> None:
    """The limit is reached, by this order itself: what it keeps is priced with the code."""
    publish, send = once
    await publish({"uses": 1}, access={"type": "code", "code": "X"}, on_return="reevaluate")
    await send("o1", cart=make_cart((3, 500), codes=("x",)))
    line = {"line_id": "1", "quantity": 1}
    back = await shop.post("/v1/orders/o1/reversals", {"reversal_id": "r", "lines": [line]})
    assert (back["refund_minor"], back["discount_reversed_minor"]) == (450, 50)


async def test_medusa_15960_one_shoppers_limit_is_not_the_promotions(once: Any) -> None:
    publish, send = once
    await publish({"per": ["shopper"], "uses": 1}, {"uses": 3})
    got = [(await send(who, client=who))["discount_minor"] for who in ("ann", "ben", "cid", "dan")]
    assert got == [OFF, OFF, OFF, 0]


async def test_woocommerce_26108_a_limit_by_shopper_is_not_evaded_as_a_guest(once: Any) -> None:
    publish, send = once
    await publish({"per": ["shopper"], "uses": 1})
    guest = await send("o1")
    (refused,) = guest["evaluation"]["refused"]
    assert (guest["discount_minor"], refused["code"]) == (0, "shopper_unknown")
