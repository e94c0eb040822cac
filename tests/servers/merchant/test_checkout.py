"""Checkout: evaluate, reserve, redeem, release, expire; once per order, never above a budget."""

import asyncio
from typing import Any

import pytest

from sconto.base.canonical import digest, parse_json
from sconto.base.clock import rfc3339
from sconto.base.errors import UnavailableError
from sconto.base.keys import KeySet, verify_compact
from sconto.redemption import RECEIPT_TYPE
from sconto.servers import merchant
from sconto.servers.merchant.reservations import expire_overdue

pytestmark = pytest.mark.anyio

#: 10 % off two of 5.25.
OFF = 105


async def publish(shop: Any, terms: dict[str, Any]) -> None:
    reply = await shop.post("/v1/promotions", {"terms": terms, "launch": True})
    assert reply.status == 201, reply


async def budget(shop: Any, promotion_id: str) -> dict[str, int]:
    found: dict[str, int] = (await shop.get(f"/v1/promotions/{promotion_id}"))["budget"]["uses"]
    return found


async def test_evaluating_spends_nothing(shop: Any, make_terms: Any, make_cart: Any) -> None:
    """A quote says what applies, what does not and why, as things stand; no row is written."""
    await publish(shop, make_terms("ten"))
    three = {"type": "quantity", "min": 3, "items": {"include": [{"brands": ["oaty"]}]}}
    await publish(shop, make_terms("big", 5000, conditions=[three]))
    before = shop.rows()
    reply = await shop.post("/v1/evaluations", {"cart": make_cart(codes=("NOPE",))})
    assert reply.status == 200
    evaluation = reply["evaluation"]
    assert [(a["promotion_id"], a["amount_minor"]) for a in evaluation["applied"]] == [("ten", OFF)]
    assert evaluation["totals"]["total_minor"] == 1050 - OFF
    refused = {one["promotion_id"]: one for one in evaluation["refused"]}
    assert refused["big"]["code"] == "quantity_too_low"
    assert (refused["big"]["needed"], refused["big"]["had"]) == (3, 2)
    assert refused[""]["presented_code"] == "NOPE"
    assert shop.rows() == before


async def test_an_evaluation_speaks_ucp_if_asked(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    await publish(shop, make_terms("ten"))
    asked = {"cart": make_cart(codes=("NOPE",))}
    assert "ucp" not in (await shop.post("/v1/evaluations", asked)).json
    shown = (await shop.post("/v1/evaluations", {**asked, "ucp": True}))["ucp"]
    assert set(shown) == {"currency", "line_items", "discounts", "totals", "messages"}
    assert [one["amount"] for one in shown["discounts"]["applied"]] == [OFF]
    assert [one["code"] for one in shown["messages"]] == ["discount_code_invalid"]


async def test_the_dearest_cart_does_not_use_up_what_has_no_limit(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    """Goal: one absurd cart ends no promotion. Method: as dear as may be, wholly off, twice."""
    await publish(shop, make_terms("free", 10_000))
    cart = make_cart()
    cart["lines"] = [{"id": "1", "sku": "x", "brand": "oaty", "price_minor": 10**15}]
    for number in range(2):
        sold = await shop.post("/v1/redemptions", {"order_id": f"big-{number}", "cart": cart})
        assert sold["discount_minor"] == 10**15, sold
    sold = await shop.post("/v1/redemptions", {"order_id": "small", "cart": make_cart()})
    assert sold["discount_minor"] == 1050
    shop.audit()


async def test_an_order_is_redeemed_once(shop: Any, make_terms: Any, make_cart: Any) -> None:
    """The same request again gets the same answer; other content under its id is a conflict."""
    await publish(shop, make_terms("ten", limits=[{"uses": 5}]))
    request = {"order_id": "o-1", "cart": make_cart()}
    first = await shop.post("/v1/redemptions", request)
    assert (first.status, first["state"], first["discount_minor"]) == (201, "redeemed", OFF)
    assert (first["subtotal_minor"], first["total_minor"]) == (1050, 1050 - OFF)
    before = shop.rows()
    again = await shop.post("/v1/redemptions", request)
    assert (again.status, again.content) == (201, first.content)
    assert (await shop.get("/v1/orders/o-1")).json == first.json
    other = await shop.post("/v1/redemptions", {**request, "cart": make_cart((1, 1))})
    assert other.problem == (409, "exists_with_different_content", "order_id")
    assert shop.rows() == before
    assert await budget(shop, "ten") == {
        "cap": 5, "free": 0, "open": 4, "spent": 1, "written_off": 0
    }  # fmt: skip
    assert (await shop.get("/v1/orders/o-2")).problem == (404, "not_found", "order_id")
    listed = await shop.get("/v1/orders?limit=1")
    assert ([one["order_id"] for one in listed["orders"]], listed["total"]) == (["o-1"], 1)
    shop.audit()


async def test_the_receipt_is_signed_and_names_what_was_used(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    """Anybody with the merchant's published keys can check it; the basket stays private."""
    await publish(shop, make_terms("ten"))
    order = await shop.post("/v1/redemptions", {"order_id": "o-1", "cart": make_cart()})
    keys = KeySet.from_jwks((await shop.get("/.well-known/ucp", key=None))["keys"])
    claims = verify_compact(keys, RECEIPT_TYPE, order["receipt"], "receipt")
    assert (claims["iss"], claims["order_id"]) == (shop.url, "o-1")
    assert (claims["subtotal_minor"], claims["discount_minor"]) == (1050, OFF)
    (used,) = claims["redemptions"]
    assert used["redemption_id"] == order["redemptions"][0]["redemption_id"]
    assert used["amount_minor"] == OFF
    assert claims["cart"].startswith(digest(b"")[:9])
    assert "oaty-1l" not in order["receipt"] and "sku" not in str(claims)
    none = await shop.post("/v1/redemptions", {"order_id": "o-2", "cart": make_cart((1, 1))})
    assert none["discount_minor"] == 0 and "receipt" not in none.json


async def test_a_reservation_is_redeemed_later(
    shop: Any, make_terms: Any, make_cart: Any, clock: Any
) -> None:
    """What was reserved is used as it was quoted, also if the promotion was paused meanwhile."""
    await publish(shop, make_terms("ten", limits=[{"uses": 1}]))
    request = {"order_id": "o-1", "cart": make_cart(), "ttl_s": 60}
    held = await shop.post("/v1/reservations", request)
    assert (held.status, held["state"], held["discount_minor"]) == (201, "reserved", OFF)
    assert held["expires_at"] == rfc3339(clock.now_ms + 60_000)
    assert "receipt" not in held.json
    assert (await shop.post("/v1/reservations", request)).json == held.json
    assert (await budget(shop, "ten"))["spent"] == 0
    shop.audit()
    direct = await shop.post("/v1/redemptions", request)
    assert direct.problem == (409, "exists_with_different_state", "order_id")
    nobody_else = await shop.post("/v1/redemptions", {"order_id": "o-2", "cart": make_cart()})
    assert nobody_else["discount_minor"] == 0
    await shop.post("/v1/promotions/ten/pause")
    done = await shop.post("/v1/reservations/o-1/redeem")
    assert (done.status, done["state"], done["discount_minor"]) == (200, "redeemed", OFF)
    assert done["receipt"] and "expires_at" not in done.json
    before = shop.rows()
    assert (await shop.post("/v1/reservations/o-1/redeem")).json == done.json
    released = await shop.post("/v1/reservations/o-1/release")
    assert released.problem == (409, "not_reserved", "order_id")
    assert shop.rows() == before
    assert (await budget(shop, "ten"))["spent"] == 1
    shop.audit()


async def test_a_released_reservation_gives_back(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    """Its unit is there for the next order, and the released one cannot be redeemed any more."""
    await publish(shop, make_terms("ten", limits=[{"uses": 1}, {"amount_minor": OFF}]))
    for number in range(3):
        order_id = f"o-{number}"
        held = await shop.post("/v1/reservations", {"order_id": order_id, "cart": make_cart()})
        assert held["discount_minor"] == OFF
        released = await shop.post(f"/v1/reservations/{order_id}/release")
        assert (released.status, released["state"]) == (200, "released")
        assert (await shop.post(f"/v1/reservations/{order_id}/release")).json == released.json
        late = await shop.post(f"/v1/reservations/{order_id}/redeem")
        assert late.problem == (409, "not_reserved", "order_id")
        assert late["state"] == "released"
        shop.audit()
    for act in ("redeem", "release"):
        unknown = await shop.post(f"/v1/reservations/nothing/{act}")
        assert unknown.problem == (404, "not_found", "order_id")


async def test_an_overdue_reservation_is_given_back_by_the_sweeper(
    shop: Any, make_terms: Any, make_cart: Any, clock: Any
) -> None:
    """From its last instant on it cannot be redeemed, whether or not the sweeper came already."""
    await publish(shop, make_terms("ten", limits=[{"uses": 1}]))
    request = {"order_id": "o-1", "cart": make_cart(), "ttl_s": 60}
    await shop.post("/v1/reservations", request)
    clock.advance(59)
    await expire_overdue(shop.server)
    assert (await shop.get("/v1/orders/o-1"))["state"] == "reserved"
    clock.advance(1)
    late = await shop.post("/v1/reservations/o-1/redeem")
    assert late.problem == (409, "reservation_expired", "order_id")
    await expire_overdue(shop.server)
    await expire_overdue(shop.server)
    assert (await shop.get("/v1/orders/o-1"))["state"] == "expired"
    assert (await shop.post("/v1/reservations/o-1/release"))["state"] == "expired"
    assert len(shop.entries("expired")) == 1
    next_one = await shop.post("/v1/redemptions", {"order_id": "o-2", "cart": make_cart()})
    assert next_one["discount_minor"] == OFF
    shop.audit()


async def test_a_database_that_is_away_is_no_mistake_of_ours(
    shop: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What expires is tried again, and the log says why in one line, without a traceback."""
    tried = asyncio.Semaphore(0)

    async def away(_: Any) -> None:
        tried.release()
        raise UnavailableError("the database does not answer", code="storage_unavailable")

    monkeypatch.setattr(merchant, "EXPIRY_PERIOD_S", 0)
    monkeypatch.setattr(merchant.reservations, "expire_overdue", away)
    expiring = asyncio.create_task(shop.server._expire())
    for _ in range(3):
        await tried.acquire()
    expiring.cancel()
    said = [record for record in caplog.records if "not expired" in record.message]
    assert len(said) >= 2 and not any(record.exc_info for record in said)


async def test_the_sweeper_runs_by_itself(shop: Any, make_cart: Any, clock: Any) -> None:
    await shop.post("/v1/reservations", {"order_id": "o-1", "cart": make_cart(), "ttl_s": 1})
    clock.advance(1)
    for _ in range(40):
        await asyncio.sleep(0.1)
        order = await shop.get("/v1/orders/o-1")
        if order["state"] != "reserved":
            break
    assert order["state"] == "expired"


async def test_the_last_unit_goes_to_exactly_one_of_64(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    """Goal: the cap holds under simultaneous requests, in count. Method: 64 at once, three rounds
    with the same promotion, whose cap grows by one after each round."""
    await publish(shop, make_terms("ten", limits=[{"uses": 1}]))
    for turn in range(3):
        orders = await asyncio.gather(
            *(
                shop.post("/v1/redemptions", {"order_id": f"o-{turn}-{i}", "cart": make_cart()})
                for i in range(64)
            )
        )
        assert {order.status for order in orders} == {201}
        assert sorted(order["discount_minor"] for order in orders) == [0] * 63 + [OFF]
        loser = next(order for order in orders if not order["discount_minor"])
        (refusal,) = loser["evaluation"]["refused"]
        assert refusal["code"] == "allotment_exhausted"
        assert (refusal["needed"], refusal["had"], refusal["unit"]) == (1, 0, "uses")
        await shop.post("/v1/promotions/ten/top-ups", {"top_up_id": f"t{turn}", "uses": 1})
    totals = (await shop.get("/v1/statistics"))["totals"]
    assert (totals["redeemed"], totals["presented"]) == (3, 3 * 64)
    shop.audit()


async def test_the_last_money_goes_to_exactly_as_many_as_it_covers(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    """A cap of 3.50 covers three discounts of 1.05; reservations and redemptions race for it."""
    await publish(shop, make_terms("ten", limits=[{"amount_minor": 350}]))
    paths = ("/v1/redemptions", "/v1/reservations")
    orders = await asyncio.gather(
        *(shop.post(paths[i % 2], {"order_id": f"o-{i}", "cart": make_cart()}) for i in range(64))
    )
    assert sorted(order["discount_minor"] for order in orders) == [0] * 61 + [OFF] * 3
    refusal = next(o for o in orders if not o["discount_minor"])["evaluation"]["refused"][0]
    assert (refusal["needed"], refusal["had"], refusal["missing"]) == (OFF, 35, 70)
    assert refusal["unit"] == "minor"
    small = await shop.post("/v1/redemptions", {"order_id": "small", "cart": make_cart((1, 350))})
    assert small["discount_minor"] == 35, "the rest is still there for whom it covers"
    shop.audit()


async def test_one_order_sent_64_times_at_once_is_redeemed_once(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    await publish(shop, make_terms("ten", limits=[{"uses": 64}]))
    request = {"order_id": "o-1", "cart": make_cart()}
    replies = await asyncio.gather(*(shop.post("/v1/redemptions", request) for _ in range(64)))
    assert {(reply.status, reply.content) for reply in replies} == {(201, replies[0].content)}
    assert len(shop.entries("redeemed")) == 1
    assert (await budget(shop, "ten"))["spent"] == 1
    acts = [shop.post("/v1/reservations", {"order_id": "o-2", "cart": make_cart()})]
    await asyncio.gather(*acts)
    ends = await asyncio.gather(
        *(shop.post(f"/v1/reservations/o-2/{'redeem' if i % 2 else 'release'}") for i in range(32))
    )
    assert {end.status for end in ends} == {200, 409}, "either all redeem or all release"
    assert len(shop.entries("redeemed")) + len(shop.entries("released")) == 2
    shop.audit()


async def test_another_promotion_takes_the_place_of_an_exhausted_one(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    """Of two that compete the better one applies while it lasts; then the other, to the cent."""
    compete = {"mode": "compete"}
    await publish(shop, make_terms("best", 5000, combination=compete, limits=[{"uses": 1}]))
    await publish(shop, make_terms("good", 1000, combination=compete))
    given = []
    for number in range(3):
        request = {"order_id": f"o-{number}", "cart": make_cart()}
        given.append((await shop.post("/v1/redemptions", request))["discount_minor"])
    assert given == [525, OFF, OFF]
    shop.audit()


async def test_a_code_is_typed_in_any_spelling_and_counts_once(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    await publish(shop, make_terms("code", access={"type": "code", "code": "SUMMER-2O26"}))
    for number, codes in enumerate((("summer 2026",), ("SUMMER2026", "summer-2026"))):
        request = {"order_id": f"o-{number}", "cart": make_cart(codes=codes)}
        order = await shop.post("/v1/redemptions", request)
        assert order.status == 201, order
        assert (order["discount_minor"], len(order["redemptions"])) == (OFF, 1)
        assert order["redemptions"][0]["code"] == codes[0]
    shop.audit()


async def test_when_it_happens_can_be_said_by_who_imports(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    """With the scope `replay`: the schedule, the statistics' day and the receipt follow `at`."""
    schedule = {"from": "2017-11-01", "until": "2017-12-01", "time_zone": "America/New_York"}
    await publish(shop, make_terms("ten", schedule=schedule))
    for order_id, at, given in (
        ("before", "2017-11-01T03:59:59Z", 0),
        ("first", "2017-11-01T04:00:00Z", OFF),
        ("last", "2017-11-30T23:59:59.999-05:00", OFF),
        ("after", "2017-12-01T00:00:00-05:00", 0),
    ):
        request = {"order_id": order_id, "cart": make_cart(), "at": at}
        order = await shop.post("/v1/redemptions", request)
        assert (order.status, order["discount_minor"]) == (201, given), order_id
    rows = (await shop.get("/v1/statistics?by=day"))["rows"]
    assert [(row["day"], row["redeemed"]) for row in rows] == [("2017-11-01", 1), ("2017-11-30", 1)]
    for at in ("2017-11-01T00:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "soon", 5):
        bad = await shop.post("/v1/redemptions", {"order_id": "x", "cart": make_cart(), "at": at})
        assert bad.problem == (400, "invalid_input", "at"), at
    shop.audit()


async def test_statistics_count_what_happened(shop: Any, make_terms: Any, make_cart: Any) -> None:
    """presented, applied, redeemed, reversed and money, by promotion, merchant and day."""
    await publish(shop, make_terms("ten", limits=[{"uses": 3}]))
    for number in range(4):
        await shop.post("/v1/redemptions", {"order_id": f"o-{number}", "cart": make_cart()})
    await shop.post("/v1/orders/o-0/reversals", {"reversal_id": "r"})
    await shop.post("/v1/reservations", {"order_id": "held", "cart": make_cart()})
    await shop.post("/v1/reservations/held/release")
    reply = await shop.get("/v1/statistics?by=promotion,merchant&promotion_id=ten")
    (row,) = reply["rows"]
    assert row == {
        "promotion_id": "ten",
        "merchant": shop.url,
        "shown": 0,
        "clipped": 0,
        "presented": 5,
        "applied": 4,
        "redeemed": 3,
        "reversed": 1,
        "given_minor": 3 * OFF,
        "reversed_minor": OFF,
    }
    assert reply["refused"] == {"allotment_exhausted": 1}
    bad = await shop.get("/v1/statistics?by=moon")
    assert bad.problem == (400, "invalid_input", "by")
    shop.audit()


async def test_a_cart_is_kept_as_it_came(shop: Any, make_terms: Any, make_cart: Any) -> None:
    """Unusual but right carts: no line, 0 price, unicode, the largest amounts, weighed goods."""
    await publish(shop, make_terms("ten"))
    line = {"id": "é\u2028", "sku": "🥛", "quantity": 3, "amount_minor": 1000}
    for number, (lines, given) in enumerate(
        (
            ([], 0),
            ([{"id": "1", "sku": "a", "price_minor": 0}], 0),
            ([line], 100),
            ([{"id": "1", "sku": "a", "price_minor": 10**12}], 10**11),
        )
    ):
        cart = {"currency": "USD", "lines": lines}
        order = await shop.post("/v1/redemptions", {"order_id": f"o-{number}", "cart": cart})
        assert (order.status, order["discount_minor"]) == (201, given), order
        back = await shop.post(f"/v1/orders/o-{number}/reversals", {"reversal_id": "r"})
        assert back.status == (201 if lines else 409), back
    strange = await shop.post("/v1/redemptions", {"order_id": "eur", "cart": make_cart()})
    assert parse_json(strange.content, max_bytes=10**6)["discount_minor"] == OFF
    shop.audit()


async def test_who_would_wait_too_long_is_refused_at_once(
    shop: Any, make_terms: Any, make_cart: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: an overloaded till hears so, and what it may ask again is done once. Method: the writer
    says that it is too busy; what ends a reservation, and what only asks, goes on."""
    await publish(shop, make_terms("ten"))
    body = {"order_id": "o-1", "cart": make_cart()}
    assert (await shop.post("/v1/reservations", body)).status == 201

    def refuse() -> None:
        raise UnavailableError("too many writes are waiting", code="overloaded")

    with monkeypatch.context() as patch:
        patch.setattr(shop.store, "check_not_overloaded", refuse)
        for path in ("/v1/reservations", "/v1/redemptions"):
            late = await shop.post(path, body | {"order_id": "o-2"})
            assert late.problem == (503, "overloaded", None)
            assert late.headers["retry-after"] == "1"
        assert (await shop.post("/v1/evaluations", {"cart": make_cart()})).status == 200
        assert (await shop.post("/v1/reservations/o-1/redeem", None)).status == 200
    assert (await shop.get("/v1/orders/o-2")).status == 404
    assert (await shop.post("/v1/redemptions", body | {"order_id": "o-2"})).status == 201
