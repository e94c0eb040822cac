"""Units come back by closures only, and then whoever was refused gets them."""

import pytest

from sconto.servers.hub.allotments import ASK_AGAIN_MS
from sconto.servers.merchant import closing, reservations

pytestmark = pytest.mark.anyio


async def sell_all(net, site, cart, tries):
    """Checkouts one after the other; how many got the promotion."""
    sold = 0
    for _ in range(tries):
        sold += await site.sell(net.order_id(), cart)
        await net.settle()
        net.clock.advance(1)
    return sold


async def test_demand_at_one_of_three_uses_the_whole_cap(net, make_cart):
    """Goal: 99.5 % of a cap is used with all online. Method: demand at one of three only."""
    shops = [await net.add_merchant(name) for name in ("a", "b", "c")]
    await net.promise("p", *shops, limits=[{"uses": 100}])
    sold = await sell_all(net, shops[0], make_cart(), 130)
    assert sold == 100
    budget = net.hub.budget("p")
    assert (budget.spent.uses, budget.free.uses, budget.open.uses) == (100, 0, 0)
    assert budget.written_off.uses == 0
    assert net.hub.count() == shops[0].count() == 100
    assert not any(site.parked() for site in net.sites)


async def test_who_needs_its_part_keeps_it(net, make_cart):
    a, b = [await net.add_merchant(name) for name in ("a", "b")]
    await net.promise("p", a, b, limits=[{"uses": 4}])
    assert await b.sell(net.order_id(), make_cart()) == 1
    await net.settle()
    before = len(b.parts("p"))
    sold = 0
    for _ in range(6):
        sold += await a.sell(net.order_id(), make_cart())
        await net.settle()
    assert sold + 1 + sum(part.left.uses for part in b.parts("p")) == 4
    assert [part.state for part in b.parts("p")] == ["open"] * before
    # Later it has not been needed for a while.
    net.clock.advance(closing.IDLE_MS / 1000 + ASK_AGAIN_MS / 1000)
    for _ in range(4):
        sold += await a.sell(net.order_id(), make_cart())
        await net.settle()
        net.clock.advance(ASK_AGAIN_MS / 1000)
    assert sold + 1 == 4
    assert net.hub.budget("p").spent.uses == 4


async def test_money_that_lies_in_rests_is_used_too(net, make_cart):
    """A budget of money alone; a cart that takes 105 of 1000 nine times, and 55 once."""
    a, b = [await net.add_merchant(name) for name in ("a", "b")]
    await net.promise("p", a, b, limits=[{"amount_minor": 1000}])
    assert await sell_all(net, a, make_cart((2, 525)), 14) == 9
    assert await sell_all(net, a, make_cart((1, 550)), 3) == 1
    budget = net.hub.budget("p")
    assert (budget.spent.minor, budget.written_off.minor) == (1000, 0)


async def test_reserved_units_are_not_closed_away(net, make_cart):
    """What is reserved from a part that is wanted back can be redeemed, released and expire."""
    a, b = [await net.add_merchant(name) for name in ("a", "b")]
    await net.promise("p", b, a, limits=[{"uses": 16}])
    (part,) = b.parts("p")
    assert part.left.uses == 8
    for order_id in ("used", "given", "late"):
        document = {"order_id": order_id, "cart": make_cart(), "ttl_s": 60}
        await b.post("/v1/reservations", document, 201)
    net.clock.advance(30)
    assert await sell_all(net, a, make_cart(), 12) == 8
    held = b.parts("p")[0]
    assert (held.state, held.is_closing, held.left.uses) == ("open", True, 5)
    assert await b.sell(net.order_id(), make_cart()) == 0, "it spends no more of it"
    await b.post("/v1/reservations/used/redeem")
    await b.post("/v1/reservations/given/release")
    await closing.finish(b.server)
    assert b.parts("p")[0].state == "open", "one reservation is left"
    net.clock.advance(60)
    await reservations.expire_overdue(b.server)
    await closing.finish(b.server)
    assert b.parts("p")[0].state == "closed"
    await net.settle()
    sold = await sell_all(net, a, make_cart(), 10)
    budget = net.hub.budget("p")
    assert (sold, budget.spent.uses, budget.open.uses, budget.free.uses) == (7, 16, 0, 0)
    assert not any(site.parked() for site in net.sites)


async def test_a_closure_frees_once_and_only_what_was_not_spent(net, make_cart):
    """The same closure again, a wrong one, and one of units that were never reported."""
    a = await net.add_merchant("a")
    await net.promise("p", a, limits=[{"uses": 10}])
    await a.sell(net.order_id(), make_cart())
    await net.settle()
    (part,) = a.parts("p")
    said = {"allotment_id": part.allotment_id, "spent_minor": 105, "last_sequence": 1}

    def tell(spent):
        data = {**said, "spent_uses": spent}
        a.store.write_now(lambda tx: tx.send(net.hub.url, "sconto.allotment.closed.v1", "p", data))

    tell(0)
    await net.settle()
    assert net.hub.parked()[-1].startswith("closure_mismatch")
    assert net.hub.budget("p").open.uses == 4
    for _ in range(2):
        tell(3)
        await net.settle()
        budget = net.hub.budget("p")
        assert (budget.free.uses, budget.spent.uses, budget.written_off.uses) == (7, 1, 2)


async def test_declining_gives_everything_back(net, make_cart):
    a, b = [await net.add_merchant(name) for name in ("a", "b")]
    await net.promise("p", a, b, limits=[{"uses": 10}])
    await a.sell(net.order_id(), make_cart())
    await a.post("/v1/acceptances", {"hub": net.hub.url, "all": True, "accept": False})
    await net.settle()
    assert {part.state for part in a.parts("p")} == {"closed"}
    budget = net.hub.budget("p")
    assert (budget.spent.uses, budget.open.uses) == (1, b.parts("p")[0].left.uses)
    await a.post("/v1/acceptances", {"hub": net.hub.url, "all": True})
    await net.settle()
    assert await a.sell(net.order_id(), make_cart()) == 1


async def test_the_end_of_a_promotion_closes_its_parts(net, make_cart):
    a, b = [await net.add_merchant(name) for name in ("a", "b")]
    await net.promise("p", a, b, limits=[{"uses": 10}])
    await a.sell(net.order_id(), make_cart())
    await net.hub.post("/v1/promotions/p/end")
    await net.settle()
    budget = net.hub.budget("p")
    assert (budget.spent.uses, budget.open.uses, budget.free.uses) == (1, 0, 9)
    assert not any(site.parked() for site in net.sites)
