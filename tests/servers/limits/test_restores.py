"""Backups are past states: what they have forgotten is never spent a second time."""

import asyncio
import json

import pytest

from sconto.base.errors import InvalidInputError
from sconto.cli.restore import renew_hub, renew_merchant
from sconto.servers.config import load_home

pytestmark = pytest.mark.anyio


async def sell(net, site, cart, times):
    sold = 0
    for _ in range(times):
        sold += await site.sell(net.order_id(), cart)
    await net.settle()
    return sold


async def until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not happen")


async def with_backup(net, make_cart, uses=10):
    """A merchant with half of a promotion's uses, and its backup after the first of three sales."""
    a = await net.add_merchant("a")
    await net.promise("p", a, limits=[{"uses": uses}])
    await sell(net, a, make_cart(), 1)
    await a.stop()
    backup = a.backup()
    await a.start()
    await sell(net, a, make_cart(), 2)
    await a.stop()
    a.put_back(backup)
    return a


async def test_a_restored_merchant_that_says_nothing_is_found_out(net, make_cart):
    """It asks its hub at its start, may not spend, and says so; evaluations go on."""
    a = await with_backup(net, make_cart)
    await a.start()
    await net.settle()
    await until(lambda: a.server.base.deliverer.alarms)
    document = {"order_id": "x", "cart": make_cart()}
    problem = await a.post("/v1/redemptions", document, 503)
    assert problem["code"] == "restored_from_backup"
    assert "sconto merchant restore" in problem["remedy"]
    evaluated = await a.post("/v1/evaluations", {"cart": make_cart()})
    assert len(evaluated["evaluation"]["applied"]) == 1
    ready = (await a.call("GET", "/readyz")).json()
    assert (ready["status"], ready["restored_for"]) == ("restored_from_backup", [net.hub.url])
    await a.stop()
    await a.start()
    await a.post("/v1/redemptions", document, 503)
    assert net.hub.budget("p").spent.uses == 3


async def test_an_old_copy_that_wrote_as_much_as_its_hub_knows_more_is_found_out(net, make_cart):
    """It sells before it reaches its hub: its new events have numbers of others that it told."""
    a = await with_backup(net, make_cart)
    net.away.add(net.hub.url)
    await a.start()
    assert await a.sell(net.order_id(), make_cart()) == 1
    assert await a.sell(net.order_id(), make_cart()) == 1
    net.heal()
    await net.settle()
    await until(lambda: a.server.base.deliverer.alarms)
    await a.post("/v1/redemptions", {"order_id": "x", "cart": make_cart()}, 503)
    assert net.hub.budget("p").spent.uses == 3


async def test_a_restored_merchant_goes_on_as_another_incarnation(net, make_cart):
    """Three were sold, one is remembered; what the old incarnation held is written off."""
    a = await with_backup(net, make_cart)
    before = load_home(a.folder).incarnation
    done = renew_merchant(a.folder)
    assert done["incarnation"] != before
    assert done["closed"] == 1
    net.away.add(net.hub.url)
    await a.start()
    assert await a.sell(net.order_id(), make_cart()) == 0, "the hub has not heard of it yet"
    net.heal()
    await net.settle()
    budget = net.hub.budget("p")
    assert (budget.spent.uses, budget.written_off.uses) == (3, 2)
    assert await sell(net, a, make_cart(), 8) <= 5
    for _ in range(8):
        net.clock.advance(60)
        await sell(net, a, make_cart(), 1)
    budget = net.hub.budget("p")
    assert (budget.spent.uses, budget.written_off.uses, budget.free.uses) == (8, 2, 0)
    assert not net.hub.parked()
    assert not a.parked()
    assert (await a.call("GET", "/readyz")).json()["status"] == "ready"


async def test_an_old_copy_is_refused_once_the_new_incarnation_is_known(net, make_cart):
    a = await with_backup(net, make_cart)
    config, another = a.folder / "config.json", a.backup()
    kept = config.read_text()
    renew_merchant(a.folder)
    await a.start()
    await net.settle()
    await a.stop()
    config.write_text(kept)
    a.put_back(another)
    await a.start()
    await until(lambda: a.server.base.deliverer.alarms)
    await a.post("/v1/redemptions", {"order_id": "x", "cart": make_cart()}, 503)


async def test_reservations_of_a_restored_merchant_are_given_back(net, make_cart):
    a = await net.add_merchant("a")
    await net.promise("p", a, limits=[{"uses": 10}])
    await a.post("/v1/reservations", {"order_id": "r", "cart": make_cart()}, 201)
    await a.stop()
    a.put_back(a.backup())
    assert renew_merchant(a.folder)["reservations"] == 1
    await a.start()
    problem = await a.post("/v1/reservations/r/redeem", None, 409)
    assert problem["code"] == "reservation_expired"


async def test_a_restore_that_was_not_finished_does_not_serve(net):
    a = await net.add_merchant("a")
    await a.stop()
    path = a.folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "restoring": "X" * 26}))
    with pytest.raises(InvalidInputError) as refused:
        load_home(a.folder)
    assert refused.value.code == "restore_unfinished"
    incarnation = json.loads(path.read_text())["incarnation"]
    assert renew_merchant(a.folder)["incarnation"] == incarnation
    await a.start()


async def test_a_merchants_own_budget_is_written_off(net, make_cart):
    a = await net.add("merchant", "https://alone.example")
    for promotion_id, limits in (("limited", [{"uses": 5}]), ("endless", [])):
        terms = {
            "promotion_id": promotion_id,
            "title": promotion_id,
            "currency": "USD",
            "benefits": [{"type": "percent_off", "basis_points": 1000}],
            "limits": limits,
            "access": {"type": "code", "code": promotion_id},
        }
        await a.post("/v1/promotions", {"terms": terms, "launch": True}, 201)
    limited, endless = make_cart(codes=("limited",)), make_cart(codes=("endless",))
    assert await a.sell(net.order_id(), limited) == await a.sell(net.order_id(), endless) == 1
    await a.stop()
    assert renew_merchant(a.folder)["written_off"] == 1
    await a.start()
    assert await a.sell(net.order_id(), limited) == 0
    assert await a.sell(net.order_id(), endless) == 1
    assert a.budget("limited").written_off.uses == 4
    await a.post("/v1/promotions/limited/top-ups", {"top_up_id": "t", "uses": 1})
    assert await a.sell(net.order_id(), limited) == 1


async def test_a_restored_hub_grants_nothing_that_it_may_have_granted(net, make_cart):
    """A grant and two sales are forgotten; they are presented and settled; the rest is nobody's."""
    a, b = [await net.add_merchant(name) for name in ("a", "b")]
    await net.promise("p", a, limits=[{"uses": 20}])
    hub = net.hub
    await hub.stop()
    backup = hub.backup()
    await hub.start()
    await b.post("/v1/acceptances", {"hub": hub.url, "all": True})
    await net.settle()
    assert await sell(net, a, make_cart(), 1) + await sell(net, b, make_cart(), 2) == 3
    held = sum(p.left.uses for site in (a, b) for p in site.parts("p") if p.state == "open")
    assert hub.budget("p").spent.uses == 3
    await hub.stop()
    hub.put_back(backup)
    before = load_home(hub.folder).incarnation
    done = renew_hub(hub.folder)
    assert done["epoch"] != before
    await hub.start()
    assert hub.budget("p").free.uses == 0
    net.heal()
    await until(lambda: hub.count() == 3 and hub.budget("p").open.uses == held)
    budget = hub.budget("p")
    assert (budget.spent.uses, budget.open.uses, budget.free.uses) == (3, held, 0)
    assert hub.count("disputed") == 0
    # What comes back in the new epoch is not free either: it may have been granted again.
    for site in (a, b):
        await site.post("/v1/acceptances", {"hub": hub.url, "all": True, "accept": False})
    await net.settle()
    budget = hub.budget("p")
    assert (budget.spent.uses, budget.written_off.uses, budget.free.uses) == (3, 17, 0)
    await hub.post("/v1/promotions/p/top-ups", {"top_up_id": "t", "uses": 4})
    await a.post("/v1/acceptances", {"hub": hub.url, "all": True})
    await net.settle()
    assert await sell(net, a, make_cart(), 1) == 1
    assert not any(site.parked() for site in net.sites)


async def test_a_restored_hub_asks_nobody_for_what_it_cannot_grant_again(net, make_cart):
    """Units of an older epoch are not free when they come back: nobody would have them."""
    a, b = [await net.add_merchant(name) for name in ("a", "b")]
    await net.promise("p", a, b, limits=[{"uses": 8}])
    held = [sum(part.left.uses for part in site.parts("p")) for site in (a, b)]
    assert all(held)
    await net.hub.stop()
    renew_hub(net.hub.folder)
    await net.hub.start()
    net.heal()
    await until(lambda: net.hub.budget("p").open.uses == sum(held))
    net.clock.advance(31)
    assert await sell(net, a, make_cart(), held[0] + 2) == held[0], "and b is idle"
    assert await sell(net, b, make_cart(), held[1] + 2) == held[1]
    assert net.hub.budget("p").spent.uses == sum(held)


async def test_a_grant_that_the_hub_has_not_signed_is_not_taken_up(net, make_cart):
    a = await net.add_merchant("a")
    await net.promise("p", a, limits=[{"uses": 20}])
    (part,) = a.parts("p")
    await net.hub.stop()
    renew_hub(net.hub.folder)
    await net.hub.start()
    await net.settle()
    forged = {
        "allotment_id": "0" * 26,
        "promotion_id": "p",
        "uses": 10,
        "amount_minor": part.granted.minor,
        "incarnation": part.incarnation,
        "epoch": part.epoch,
        "proof": part.proof,
    }
    a.store.write_now(lambda tx: tx.send(net.hub.url, "sconto.allotment.presented.v1", "p", forged))
    await net.settle()
    assert net.hub.parked()[-1].startswith("proof_mismatch")
    assert len(net.hub.parts("p")) == 1
