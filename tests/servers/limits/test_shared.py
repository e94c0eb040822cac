"""Limits that merchants share: exact over all of them together, also while the hub is away."""

import asyncio
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from sconto.base.clock import from_ms, rfc3339, to_ms
from sconto.cli.restore import renew_hub, renew_merchant
from sconto.servers.merchant import asking, closing, limiting, reservations
from sconto.store import ledger, schema
from sconto.terms.counting import period_of

pytestmark = pytest.mark.anyio

ZONE = "America/Chicago"
SCHEDULE = {"time_zone": ZONE}
CAP = 6
DAILY = {"uses": CAP, "period": "day"}


def today(net, zone=ZONE):
    return f"day:{period_of('day', from_ms(net.clock(), zone).date())}"


def to_time(net, hour, minute=0, zone=ZONE):
    """Let the clock go on to a time of day, today or tomorrow."""
    now = from_ms(net.clock(), zone)
    then = datetime(now.year, now.month, now.day, hour, minute, tzinfo=ZoneInfo(zone))
    if then <= now:
        then = datetime.combine(
            now.date() + timedelta(1), then.timetz().replace(fold=0), tzinfo=ZoneInfo(zone)
        )
    net.clock.advance((to_ms(then) - net.clock()) / 1000)


@pytest.fixture
async def pair(net):
    """Two merchants, at noon where the promotions are."""
    merchants = [await net.add_merchant(name) for name in ("a", "b")]
    to_time(net, 12)
    return merchants


async def promise(net, takers, *limits, **more):
    more = {"schedule": SCHEDULE, **more}
    await net.promise("p", *takers, limits=list(limits), **more)


async def sell(net, site, cart, times, **more):
    sold = 0
    for _ in range(times):
        sold += await site.sell(net.order_id(), cart, **more)
    await net.settle()
    return sold


async def sell_all(net, sites, cart, rounds, **more):
    """As many as go, at sites in turn, with time for them to give parts back.

    Each site tries twice: what it is refused moves to it then, and would else move on.
    """
    sold = 0
    for _ in range(rounds):
        for site in sites:
            for _ in range(2):
                sold += await sell(net, site, cart, 1, **more)
            net.clock.advance(31)
    return sold


async def reason(net, site, cart, **more):
    document = {"order_id": net.order_id(), "cart": cart, **more}
    answer = await site.post("/v1/redemptions", document, 201)
    (refused,) = answer["evaluation"]["refused"]
    return refused["code"]


def counter_parts(site, counter):
    with site.store.read() as connection:
        return ledger.of_promotion(connection, "p", counter)


def counter_budget(net, counter):
    with net.hub.store.read() as connection:
        return ledger.budget_of(connection, "p", counter)


async def test_a_daily_limit_is_one_for_all_merchants(net, pair, make_cart):
    await promise(net, pair, DAILY)
    day = today(net)
    assert await sell_all(net, pair, make_cart(), 4) == CAP
    budget = counter_budget(net, day)
    assert (budget.cap.uses, budget.spent.uses, budget.free.uses) == (CAP, CAP, 0)
    assert await reason(net, pair[0], make_cart()) == "allotment_exhausted"
    to_time(net, 0)
    assert today(net) != day
    assert await sell_all(net, pair, make_cart(), 4) == CAP
    assert not any(site.parked() for site in net.sites)


async def test_midnight_needs_no_network(net, pair, make_cart):
    """Both sell from parts of the next day that they asked for ahead, and no more than those."""
    await promise(net, pair, DAILY)
    assert await sell(net, pair[0], make_cart(), 1) == 1
    net.away.add(net.hub.url)
    to_time(net, 0)
    held = sum(part.left.uses for site in pair for part in counter_parts(site, today(net)))
    assert 2 <= held <= CAP
    sold = sum([await sell(net, site, make_cart(), CAP) for site in pair])
    assert sold == held
    to_time(net, 23)
    to_time(net, 0)
    assert await reason(net, pair[0], make_cart()) == "allotment_exhausted"
    net.heal()
    await net.settle()
    assert net.hub.count("disputed") == 0
    assert await sell(net, pair[0], make_cart(), 1) == 1


async def test_the_day_after_is_asked_for_at_midnight(net, pair, make_cart):
    await promise(net, pair, DAILY)
    for site in pair:
        await asking.provide(site.server)
    for _ in range(3):
        to_time(net, 0)
        for site in pair:
            await asking.provide(site.server)
        await net.settle()
    tomorrow = from_ms(net.clock(), ZONE).date() + timedelta(1)
    for site in pair:
        assert [part.state for part in counter_parts(site, f"day:{tomorrow}")] == ["open"]
    ended = from_ms(net.clock(), ZONE).date() - timedelta(2)
    assert {part.state for site in pair for part in counter_parts(site, f"day:{ended}")} == {
        "closed"
    }
    budget = counter_budget(net, f"day:{ended}")
    assert (budget.open.uses, budget.free.uses) == (0, CAP)


async def test_the_edge_of_the_day_is_where_the_promotion_is(net, pair, make_cart):
    """A second before midnight in Chicago and at midnight; one till says when, the other waits."""
    await promise(net, pair, {"uses": 1, "period": "day"})
    to_time(net, 0)
    last = rfc3339(net.clock() - 1000)
    first = rfc3339(net.clock())
    before = counter_budget(net, f"day:{from_ms(net.clock() - 1000, ZONE).date()}")
    assert before.cap.uses == 1
    sold = {}
    for at in (last, first):
        sold[at] = await sell_all(net, pair, make_cart(), 4, at=at)
    assert sold == {last: 1, first: 1}


async def test_money_in_a_month_and_uses_by_an_attribute(net, pair, make_cart):
    """1.05 off each: 9 times 1.05 are within 10.00 a month; 3 uses for each tier."""
    tier = {"uses": 3, "per": ["attribute"], "attribute": "tier"}
    await promise(net, pair, {"amount_minor": 1000, "period": "month"}, tier)
    gold, blue = ({**make_cart(), "attributes": {"tier": name}} for name in ("gold", "blue"))
    assert await reason(net, pair[0], gold) == "allotment_exhausted", "a new tier is asked for"
    await net.settle()
    assert await sell_all(net, pair, gold, 4) == 3
    assert await sell_all(net, pair, blue, 4) == 3
    assert await sell_all(net, pair, make_cart(), 4) == 3
    month = f"month:{period_of('month', from_ms(net.clock(), ZONE).date())}"
    assert counter_budget(net, month).spent == (9, 945)
    other = {**make_cart(), "attributes": {"tier": "red"}}
    assert await sell_all(net, pair, other, 4) == 0
    assert not any(site.parked() for site in net.sites)


async def test_a_public_code_is_one_counter_for_all(net, pair, make_cart):
    access = {"type": "code", "code": "SAVE-10"}
    await promise(net, pair, {"uses": 4, "per": ["code"]}, access=access)
    cart = make_cart(codes=("save10",))
    assert await sell_all(net, pair, cart, 4) == 4
    assert counter_budget(net, "ever:/code").spent.uses == 4


async def test_what_is_released_expired_or_reversed_comes_back(net, pair, make_cart):
    await promise(net, pair, DAILY)
    a, _ = pair
    day = today(net)
    (part,) = counter_parts(a, day)

    def left():  # a second part may have been granted meanwhile
        parts = {one.allotment_id: one for one in counter_parts(a, day)}
        return parts[part.allotment_id].left

    for order_id in ("given", "late", "used"):
        document = {"order_id": order_id, "cart": make_cart(), "ttl_s": 60}
        await a.post("/v1/reservations", document, 201)
    assert left().uses == part.left.uses - 3
    await a.post("/v1/reservations/given/release")
    await a.post("/v1/reservations/used/redeem")
    net.clock.advance(61)
    await reservations.expire_overdue(a.server)
    assert left() == (part.left.uses - 1, part.left.minor - 105)
    await net.settle()
    assert counter_budget(net, day).spent == (1, 105)
    lines = [{"line_id": "1", "quantity": 1}]
    await a.post("/v1/orders/used/reversals", {"reversal_id": "r1", "lines": lines}, 201)
    await net.settle()
    assert counter_budget(net, day).spent.uses == 1
    assert counter_budget(net, day).spent.minor < 105
    await a.post("/v1/orders/used/reversals", {"reversal_id": "r2"}, 201)
    await net.settle()
    assert left() == part.left
    assert counter_budget(net, day).spent == (0, 0)
    assert net.hub.count("disputed") == 0


async def test_a_part_that_is_reserved_from_is_not_closed(net, pair, make_cart):
    await promise(net, pair, DAILY)
    a, b = pair
    day = today(net)
    document = {"order_id": "r", "cart": make_cart(), "ttl_s": 3600}
    await a.post("/v1/reservations", document, 201)
    net.clock.advance(30)
    sold = await sell_all(net, [b], make_cart(), 4)
    (held,) = [part for part in counter_parts(a, day) if part.state == "open"]
    assert held.is_closing
    await a.post("/v1/reservations/r/redeem")
    await closing.finish(a.server)
    await net.settle()
    assert await sell_all(net, [b], make_cart(), 4) + sold == CAP - 1
    assert counter_budget(net, day).spent.uses == CAP


async def test_a_restored_merchant_does_not_spend_a_day_twice(net, pair, make_cart):
    await promise(net, pair, DAILY)
    a = pair[0]
    await a.stop()
    backup = a.backup()
    await a.start()
    assert await sell(net, a, make_cart(), 2) == 2
    await a.stop()
    a.put_back(backup)
    renew_merchant(a.folder)
    await a.start()
    await asking.provide(a.server)
    await net.settle()
    sold = 2 + await sell_all(net, pair, make_cart(), 4)
    budget = counter_budget(net, today(net))
    assert budget.spent.uses == sold == CAP - budget.written_off.uses
    assert budget.written_off.uses <= 3
    assert net.hub.count("disputed") == 0


async def test_a_written_off_merchant_is_honoured_from_there(net, pair, make_cart):
    await promise(net, pair, DAILY)
    a, b = pair
    day = today(net)
    net.away.add(a.url)
    assert await a.sell(net.order_id(), make_cart()) == 1
    await net.hub.post("/v1/merchants/a/write-offs", {}, 201)
    lost = counter_budget(net, day).written_off.uses
    assert lost > 0
    assert await sell_all(net, [b], make_cart(), 4) == CAP - lost
    net.heal()
    await net.settle()
    budget = counter_budget(net, day)
    assert (budget.spent.uses, budget.written_off.uses) == (CAP + 1 - lost, lost - 1)
    assert net.hub.count("disputed") == 0


@pytest.mark.parametrize("is_known", [True, False], ids=["in the backup", "not in the backup"])
async def test_a_restored_hub_does_not_grant_a_day_twice(net, pair, make_cart, is_known):
    """Also a counter that the backup does not know: it was opened, and all granted, since then."""
    a, b = pair
    hub, day = net.hub, today(net)
    await promise(net, pair[:1] if is_known else [], DAILY)
    await hub.stop()
    backup = hub.backup()
    await hub.start()
    for site in pair:
        await site.post("/v1/acceptances", {"hub": hub.url, "all": True})
        await net.settle()
    assert await sell(net, a, make_cart(), 2) == 2
    held = {
        site.url: sum(p.left.uses for p in counter_parts(site, day) if p.state == "open")
        for site in pair
    }
    await hub.stop()
    hub.put_back(backup)
    renew_hub(hub.folder)
    await hub.start()
    net.heal()
    left = sum(held.values())
    await until(lambda: hub.count() == 2 and _open(net, day) == left)
    budget = counter_budget(net, day)
    assert (budget.cap.uses, budget.spent.uses, budget.free.uses) == (CAP, 2, 0)
    assert await sell(net, b, make_cart(), 4) == held[b.url]
    assert 2 <= await sell_all(net, pair, make_cart(), 4) + 2 <= CAP - held[b.url]
    assert counter_budget(net, day).free.uses == 0
    assert hub.count("disputed") == 0
    for _ in range(2):
        to_time(net, 0)
        for site in pair:
            await asking.provide(site.server)
        await net.settle()
    assert await sell_all(net, pair, make_cart(), 4) == CAP, "a day after the next is whole again"


def _open(net, counter):
    budget = counter_budget(net, counter)
    return -1 if budget is None else budget.open.uses


async def until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not happen")


def _other():
    return {
        "promotion_id": "other",
        "title": "other",
        "currency": "EUR",
        "benefits": [{"type": "percent_off", "basis_points": 1000}],
    }


async def test_a_report_that_is_not_from_a_part_of_each_counter_is_disputed(net, pair, make_cart):
    """From no part, from another day's, from another merchant's, and for more than there is."""
    await promise(net, pair, DAILY)
    a, b = pair
    day = today(net)
    tomorrow = f"day:{from_ms(net.clock(), ZONE).date() + timedelta(1)}"
    await a.sell("o", make_cart())
    await net.settle()
    (main,) = a.parts("p")
    ids = {
        name: counter_parts(site, counter)[0].allotment_id
        for name, site, counter in (("mine", a, day), ("next", a, tomorrow), ("other", b, day))
    }
    with a.store.read() as connection:
        entry = dict(connection.execute(sa.select(schema.redemptions)).mappings().one())

    def report(number, parts, allotment_id=main.allotment_id, minor=105):
        said = {
            "kind": "redeemed",
            "promotion_id": "p",
            "merchant": a.url,
            "at_ms": entry["at_ms"],
            "day": day.removeprefix("day:"),
            "terms_digest": entry["terms_digest"],
            "order_id": f"x{number}",
            "redemption_id": f"x{number}",
            "allotment_id": allotment_id,
            "amount_minor": minor,
            "currency": "USD",
        }
        data = {"entry": said, "parts": parts}
        a.store.write_now(lambda tx: tx.send(net.hub.url, "sconto.journal.reported.v1", "p", data))

    report(1, [])
    report(2, [ids["next"]])
    report(3, [ids["other"]])
    report(4, [ids["mine"], ids["next"]])
    report(5, [ids["mine"]], minor=10**11)
    report(6, [ids["mine"]], allotment_id=ids["mine"])
    report(7, [ids["mine"], ids["mine"]])  # that is no report at all
    await net.settle()
    assert [reason.partition(":")[0] for reason in net.hub.parked()] == ["invalid_input"]
    query = sa.select(schema.redemptions.c.redemption_id, schema.redemptions.c.dispute)
    with net.hub.store.read() as connection:
        why = dict(connection.execute(query.where(schema.redemptions.c.state == "disputed")).all())
    assert why == {
        "x1": "limits_mismatch",
        "x2": "limits_mismatch",
        "x3": "allotment_unknown",
        "x4": "limits_mismatch",
        "x5": "beyond_grant",
        "x6": "allotment_unknown",
    }
    assert counter_budget(net, day).spent.uses == 1


async def test_counters_that_there_are_not_are_not_opened(net, pair):
    await promise(net, pair, DAILY)
    a, _ = pair
    later = from_ms(net.clock(), ZONE).date() + timedelta(2)

    async def ask(counter):
        data = {"promotion_id": "p", "needed_uses": 1, "needed_minor": 1, "counter": counter}
        a.store.write_now(lambda tx: tx.send(net.hub.url, asking.REQUESTED, "p", data))
        await net.settle()
        return net.hub.parked()[-1].partition(":")[0]

    assert await ask("week:2026-W48") == "counter_unknown"
    assert await ask(f"day:{later}") == "period_too_early"


async def test_a_merchant_whose_clock_is_ahead_asks_for_the_next_day_as_others_do(net, pair):
    """It is after midnight there, and not yet at the hub: within what signatures allow."""
    await promise(net, pair, DAILY)
    a, _ = pair
    to_time(net, 23, 58)
    next_there = from_ms(net.clock(), ZONE).date() + timedelta(2)
    data = {"promotion_id": "p", "needed_uses": 1, "needed_minor": 1}
    data["counter"] = f"day:{next_there}"

    async def ask():
        a.store.write_now(lambda tx: tx.send(net.hub.url, asking.REQUESTED, "p", data))
        await net.settle()

    net.clock.advance(61)  # 59 seconds before midnight
    await ask()
    assert not net.hub.parked()
    assert counter_budget(net, data["counter"]).open.uses


async def test_limits_that_cannot_be_exact_are_refused(net):
    def terms(**more):
        return {"terms": {**_other(), **more}, "launch": True}

    by_shopper = {"uses": 1, "per": ["shopper"], "period": "day"}
    token = {"type": "token"}
    problem = await net.hub.post("/v1/promotions", terms(limits=[by_shopper], access=token), 400)
    assert (problem["code"], problem["field"]) == ("limit_not_exact", "terms.limits[0].per")
    assert "merchant" in problem["remedy"]
    exact = {**by_shopper, "per": ["shopper", "merchant"]}
    await net.hub.post("/v1/promotions", terms(limits=[exact, DAILY], access=token), 201)
    path = "/v1/promotions/other/versions"
    changed = {"limits": [exact, {**DAILY, "uses": CAP + 1}], "access": token, "version": 2}
    problem = await net.hub.post(path, {"terms": {**_other(), **changed}}, 409)
    assert problem["code"] == "budget_changed"
    shop = await net.add("merchant", "https://alone.example")
    await shop.post("/v1/promotions", terms(limits=[by_shopper]), 201)


async def test_counters_of_periods_that_ended_long_ago_are_forgotten(net, pair, make_cart):
    """Until then a late return is counted back; after that it changes nothing."""
    a, _ = pair
    limit = {"uses": 1, "per": ["merchant"], "period": "day"}
    ever = {"uses": 5, "per": ["store"]}
    await promise(net, [a], limit, ever)
    cart = make_cart()
    for order_id in ("o1", "o2"):
        assert await a.sell(order_id, cart) == 1
        to_time(net, 0)
    counters = sa.select(schema.limit_counters.c.uses).order_by(schema.limit_counters.c.uses)

    def used():
        with a.store.read() as connection:
            return list(connection.execute(counters).scalars())

    await limiting.forget_ended(a.server)
    assert used() == [1, 1, 2]
    await a.post("/v1/orders/o1/reversals", {"reversal_id": "r"}, 201)
    assert used() == [0, 1, 1]
    net.clock.advance(101 * 86_400)
    await limiting.forget_ended(a.server)
    assert used() == [1]
    await a.post("/v1/orders/o2/reversals", {"reversal_id": "r"}, 201)
    assert used() == [0]
