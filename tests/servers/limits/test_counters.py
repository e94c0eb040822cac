"""Limits by shopper, store, code, attribute and period: exact at the till, undone with the sale."""

import asyncio
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from sconto.store import books
from sconto.store.schema import limit_counters, redemption_counters

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def balanced(shop):
    """Every test ends with books that balance."""
    yield
    with shop.store.read() as connection:
        assert books.check(connection).faults == []


async def promise(shop, make_terms, *limits, **more):
    terms = make_terms("p", limits=list(limits), **more)
    answer = await shop.post("/v1/promotions", {"terms": terms, "launch": True})
    assert answer.status == 201, answer


async def buy(shop, order_id, cart, path="redemptions", **more):
    answer = await shop.post(f"/v1/{path}", {"order_id": order_id, "cart": cart, **more})
    assert answer.status == 201, answer
    return answer


def uses(answer):
    return len(answer["redemptions"])


def reason(answer):
    (refused,) = answer["evaluation"]["refused"]
    return [refused.get(name) for name in ("code", "needed", "had", "unit")]


def counted(shop):
    query = sa.select(limit_counters.c.uses, limit_counters.c.minor)
    with shop.store.read() as connection:
        return sorted(tuple(row) for row in connection.execute(query))


async def test_uses_for_each_shopper(shop, make_terms, make_cart):
    await promise(shop, make_terms, {"per": ["shopper"], "uses": 2})
    got = [uses(await buy(shop, f"o{n}", make_cart(), client="ann")) for n in range(2)]
    refused = await buy(shop, "o2", make_cart(), client="ann")
    assert (got, uses(refused)) == ([1, 1], 0)
    assert reason(refused) == ["limit_reached", 1, 0, "uses"]
    assert uses(await buy(shop, "o3", make_cart(), client="ben")) == 1
    stranger = await buy(shop, "o4", make_cart())
    assert (uses(stranger), reason(stranger)[0]) == (0, "shopper_unknown")
    shop.audit()


async def test_an_evaluation_knows_the_limit_too(shop, make_terms, make_cart):
    await promise(shop, make_terms, {"per": ["shopper"], "uses": 1})
    asked = {"cart": make_cart(), "client": "ann"}
    evaluated = (await shop.post("/v1/evaluations", asked))["evaluation"]
    assert len(evaluated["applied"]) == 1
    await buy(shop, "o1", make_cart(), client="ann")
    evaluated = (await shop.post("/v1/evaluations", asked))["evaluation"]
    assert evaluated["refused"][0]["code"] == "limit_reached"


@pytest.mark.parametrize(
    ("limit", "same", "other"),
    [
        ({"per": ["store"]}, {"store": "1"}, {"store": "2"}),
        (
            {"per": ["attribute"], "attribute": "till"},
            {"attributes": {"till": 7}},
            {"attributes": {"till": "7"}},
        ),
        ({"per": ["store", "shopper"]}, {"store": "1"}, {"store": "2"}),
    ],
    ids=["store", "attribute", "store and shopper"],
)
async def test_each_is_counted_apart(shop, make_terms, make_cart, limit, same, other):
    await promise(shop, make_terms, {**limit, "uses": 1})
    carts = [{**make_cart(), **one} for one in (same, same, other)]
    got = [uses(await buy(shop, f"o{n}", cart, client="ann")) for n, cart in enumerate(carts)]
    assert got == [1, 0, 1]


async def test_a_code_is_counted_however_it_is_typed(shop, make_terms, make_cart):
    access = {"type": "code", "code": "SAVE-10"}
    await promise(shop, make_terms, {"per": ["code"], "uses": 1}, access=access)
    first = await buy(shop, "o1", make_cart(codes=("save10",)))
    second = await buy(shop, "o2", make_cart(codes=("SAVE 10",)))
    assert (uses(first), uses(second)) == (1, 0)


async def test_money_for_each_shopper(shop, make_terms, make_cart):
    """A cart gives 105; of 200 there is room for one, then for 95 more."""
    await promise(shop, make_terms, {"per": ["shopper"], "amount_minor": 200})
    assert uses(await buy(shop, "o1", make_cart(), client="ann")) == 1
    refused = await buy(shop, "o2", make_cart(), client="ann")
    assert reason(refused) == ["limit_reached", 105, 95, "minor"]
    assert uses(await buy(shop, "o3", make_cart((1, 950)), client="ann")) == 1
    assert uses(await buy(shop, "o4", make_cart((1, 10)), client="ann")) == 0
    assert counted(shop) == [(2, 200)]


@pytest.mark.parametrize(
    ("period", "last", "next_"),
    [
        ("day", "2026-03-07T23:59:59", "2026-03-08T00:00:00"),
        ("week", "2026-03-08T23:59:59", "2026-03-09T00:00:00"),
        ("month", "2026-02-28T23:59:59", "2026-03-01T00:00:00"),
        ("year", "2026-12-31T23:59:59", "2027-01-01T00:00:00"),
    ],
)
async def test_periods_end_where_the_promotion_is(shop, make_terms, make_cart, period, last, next_):
    """Goal: edges in the promotion's zone, also when its clock changes. Method: the last second."""
    zone = ZoneInfo("America/Chicago")
    limit = {"per": ["shopper"], "uses": 1, "period": period}
    await promise(shop, make_terms, limit, schedule={"time_zone": zone.key})
    got = []
    for n, local in enumerate((last, last, next_, next_)):
        at = datetime.fromisoformat(local).replace(tzinfo=zone).isoformat()
        got.append(uses(await buy(shop, f"o{n}", make_cart(), client="ann", at=at)))
    assert got == [1, 0, 1, 0]


async def test_what_ends_or_comes_back_is_counted_back(shop, make_terms, make_cart):
    await promise(shop, make_terms, {"per": ["shopper"], "uses": 1}, {"per": ["store"], "uses": 9})
    who = {"client": "ann"}
    await buy(shop, "o1", make_cart(), "reservations", **who)
    assert uses(await buy(shop, "o2", make_cart(), **who)) == 0, "a reservation counts"
    assert (await shop.post("/v1/reservations/o1/release")).status == 200
    assert counted(shop) == [(0, 0), (0, 0)]
    assert uses(await buy(shop, "o3", make_cart(), **who)) == 1
    half = {"reversal_id": "r1", "lines": [{"line_id": "1", "quantity": 1}]}
    assert (await shop.post("/v1/orders/o3/reversals", half)).status == 201
    assert uses(await buy(shop, "o4", make_cart(), **who)) == 0, "half of it is still used"
    assert (await shop.post("/v1/orders/o3/reversals", {"reversal_id": "r2"})).status == 201
    assert counted(shop) == [(0, 0), (0, 0)]
    assert uses(await buy(shop, "o5", make_cart(), **who)) == 1
    with shop.store.read() as connection:
        rows = connection.execute(sa.select(redemption_counters)).all()
    assert len(rows) == 2
    shop.audit()


async def test_two_tokens_of_one_shopper_in_one_cart(shop, hub, make_terms, make_cart, make_holder):
    """The hub issues no more than a shopper may use for ever; in a period the till keeps them."""
    limit = {"per": ["shopper"], "uses": 1, "period": "day"}
    terms = make_terms("p", access={"type": "token"}, limits=[limit])
    await hub.offer(shop, terms, uses=10)
    ann, ben = make_holder("ann"), make_holder("ben")
    tokens = [hub.issue(shop, terms, holder) for holder in (ann, ann, ben)]
    presented = [token.present(shop, "o1") for token in tokens]
    sold = await buy(shop, "o1", make_cart(), presented=presented)
    assert uses(sold) == 2
    assert reason(sold) == ["limit_reached", 1, 0, "uses"]
    assert {one["token_id"] for one in sold["redemptions"]} >= {tokens[2].id}


async def test_64_at_once_for_a_limit_of_ten(shop, make_terms, make_cart):
    """pain 5, vendure #4660: a limit by shopper is not evaded by asking often enough at once."""
    await promise(shop, make_terms, {"per": ["shopper"], "uses": 10})
    sold = await asyncio.gather(*(buy(shop, f"o{n}", make_cart(), client="ann") for n in range(64)))
    assert sum(uses(one) for one in sold) == 10
    assert counted(shop) == [(10, 1050)]
    shop.audit()


async def test_a_control_group_holds_tokens_that_give_nothing(
    shop, hub, make_terms, make_cart, make_holder
):
    """Whether the hub has told, or only the token itself does."""
    terms = make_terms("p", access={"type": "token"}, holdout_basis_points=10_000)
    await hub.offer(shop, terms, uses=10)
    token = hub.issue(shop, terms, make_holder("ann"))
    sold = await buy(shop, "o1", make_cart(), presented=[token.present(shop, "o1")])
    assert (uses(sold), reason(sold)[0]) == (0, "control_group")
    told = hub.issue(shop, terms, make_holder("ben"))
    assert (await hub.send(shop, hub.issued(told, is_control=True))).status == 200
    sold = await buy(shop, "o2", make_cart(), presented=[told.present(shop, "o2")])
    assert (uses(sold), reason(sold)[0]) == (0, "control_group")
