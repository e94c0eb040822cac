"""What a silent merchant holds: written off by an operator, honoured when it was spent in time."""

import pytest

pytestmark = pytest.mark.anyio


async def cut_off(net, make_cart):
    """Two merchants, of whom A is away after one sale; A has 5 of 10 uses, B 1."""
    a, b = [await net.add_merchant(name) for name in ("a", "b")]
    await net.promise("p", a, b, limits=[{"uses": 10}])
    await a.sell(net.order_id(), make_cart())
    await net.settle()
    net.away.add(a.url)
    return a, b


async def write_off(net, tenant_id="a", status=201, **asked):
    return await net.hub.post(f"/v1/merchants/{tenant_id}/write-offs", asked, status)


async def test_late_reports_are_honoured_and_nothing_is_granted_again(net, make_cart):
    a, b = await cut_off(net, make_cart)
    (part,) = a.parts("p")
    done = await write_off(net)
    assert [(one["allotment_id"], one["uses"]) for one in done["written_off"]] == [
        (part.allotment_id, 4)
    ]
    assert net.hub.budget("p").written_off.uses == 4
    assert (await write_off(net))["written_off"] == []
    sold = 1
    for _ in range(10):  # both sell what they have; A does not know
        sold += await a.sell(net.order_id(), make_cart())
        sold += await b.sell(net.order_id(), make_cart())
        await net.settle()
        net.clock.advance(60)
    assert sold == 10
    budget = net.hub.budget("p")
    assert (budget.spent.uses, budget.written_off.uses, budget.free.uses) == (6, 4, 0)
    net.heal()
    await net.settle()
    budget = net.hub.budget("p")
    assert (budget.spent.uses, budget.written_off.uses, budget.open.uses) == (10, 0, 0)
    assert net.hub.count() == 10
    assert not any(site.parked() for site in net.sites)


async def test_what_is_taken_back_of_a_written_off_part_stays_with_its_holder(net, make_cart):
    """Goal: R, as the model found. Method: the holder takes back and sells again, unaware."""
    a, _ = await cut_off(net, make_cart)
    await a.sell("back", make_cart())
    await write_off(net)
    await a.post("/v1/orders/back/reversals", {"reversal_id": "r"}, 201)
    net.heal()
    await net.settle()
    budget = net.hub.budget("p")
    assert (budget.spent.uses, budget.written_off.uses, budget.free.uses) == (1, 4, 4)
    assert await a.sell(net.order_id(), make_cart()) == 1
    await net.settle()
    assert net.hub.budget("p").written_off.uses == 3


async def test_a_closure_of_a_written_off_part_frees_nothing(net, make_cart):
    a, _ = await cut_off(net, make_cart)
    await write_off(net)
    net.heal()
    await a.post("/v1/acceptances", {"hub": net.hub.url, "all": True, "accept": False})
    await net.settle()
    budget = net.hub.budget("p")
    assert (budget.free.uses, budget.written_off.uses) == (4, 4)
    assert not net.hub.parked()


async def test_only_what_was_asked_for_is_written_off(net, make_cart):
    a = await net.add_merchant("a")
    await net.promise("p", a, limits=[{"uses": 10}])
    await net.promise("q", a, limits=[{"uses": 10}])
    done = await write_off(net, promotion_ids=["q"])
    assert [one["promotion_id"] for one in done["written_off"]] == ["q"]
    assert net.hub.budget("p").written_off.uses == 0
    await write_off(net, "nobody", 404)
    await write_off(net, "a", 400, promotions=["q"])
