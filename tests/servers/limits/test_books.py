"""`sconto hub|merchant ledger check`: it says that the books balance, or what is wrong by name."""

import json

import pytest
import sqlalchemy as sa

from sconto.cli import main
from sconto.store.database import open_engine

pytestmark = pytest.mark.anyio

#: What a person could do to a stopped server's datastore, and the rules that then do not hold.
DAMAGES = {
    "UPDATE transfers SET uses = uses + 1 WHERE reason = 'grant'": {"sums"},
    "UPDATE budgets SET free_uses = free_uses + 1, cap_uses = cap_uses + 1": {"sums"},
    "UPDATE budgets SET open_uses = open_uses - 1, free_uses = free_uses + 1": {"sums", "open"},
    "UPDATE budgets SET spent_uses = spent_uses - 1, free_uses = free_uses + 1": {
        "sums",
        "spent",
    },
    "UPDATE allotments SET left_uses = left_uses - 1": {"open", "left"},
    "UPDATE redemptions SET amount_minor = amount_minor + 1": {"spent", "left"},
    "DELETE FROM redemptions": {"spent", "left"},
    "UPDATE allotments SET state = 'written_off'": {"open", "written_off"},
}


@pytest.fixture
def check(capsys, monkeypatch):
    """Runs the command: exit code, document if any, errors."""

    def run(kind, site):
        capsys.readouterr()
        command = [kind, "ledger", "check", "--home", str(site.folder), "--json"]
        monkeypatch.setattr("sys.argv", ["sconto", *command])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code, json.loads(out) if out else None, err

    return run


async def test_books_that_balance(net, make_cart, check):
    a = await net.add_merchant("a")
    await net.promise("p", a, limits=[{"uses": 10}, {"per": ["store"], "uses": 9}])
    await a.sell("o1", make_cart())
    await a.sell("o2", make_cart())
    await a.post("/v1/reservations", {"order_id": "o3", "cart": make_cart()}, 201)
    await a.post("/v1/orders/o1/reversals", {"reversal_id": "r"}, 201)
    await net.settle()
    for site in net.sites:
        await site.stop()
    code, found, err = check("hub", net.hub)
    assert (code, err) == (0, "")
    assert found == {
        "budgets": 1,
        "allotments": 1,
        "redemptions": 2,
        "faults": [],
        "balances": True,
    }
    code, found, _ = check("merchant", a)
    assert (code, found["balances"], found["redemptions"]) == (0, True, 3)


@pytest.mark.parametrize(("damage", "rules"), DAMAGES.items(), ids=list(DAMAGES))
async def test_each_damage_is_named(net, make_cart, check, damage, rules):
    a = await net.add_merchant("a")
    await net.promise("p", a, limits=[{"uses": 10}])
    await a.sell("o1", make_cart())
    await net.settle()
    await net.hub.stop()
    engine = open_engine(net.hub.database_url)
    with engine.begin() as connection:
        connection.execute(sa.text(damage))
    engine.dispose()
    code, found, err = check("hub", net.hub)
    assert code == 2
    assert {fault["rule"] for fault in found["faults"]} == rules
    assert not found["balances"]
    assert "do not balance" in err
    assert err.count("\n") == 1


async def test_a_counter_that_is_wrong(net, make_cart, check):
    a = await net.add_merchant("a")
    await net.promise("p", a, limits=[{"per": ["store"], "uses": 9}])
    await a.sell("o1", make_cart())
    await a.stop()
    engine = open_engine(a.database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE limit_counters SET uses = 0"))
    engine.dispose()
    code, found, _ = check("merchant", a)
    assert (code, [fault["rule"] for fault in found["faults"]]) == (2, ["counter"])


async def test_it_waits_for_no_server_that_runs(net, check):
    code, _, err = check("hub", net.hub)
    assert code == 2
    assert "is serving" in err
