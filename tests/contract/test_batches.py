"""What a batch puts off ends as what its commands do one by one: the slow twin is the oracle."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from sconto.base.errors import InvariantError
from sconto.ledger import Amounts
from sconto.store import Store, ledger, orders, promotions
from sconto.store.access import add_tenant
from sconto.store.orders import Order, Redemption
from sconto.store.prepared import PARAMETERS_MAX, Prepared, insert_into
from sconto.store.schema import allotments, budgets, redemptions, tenants, transfers
from sconto.store.schema import orders as orders_table
from sconto.store.writer import Tx

HERE = "https://shop.example"
PROMOTIONS = ("a", "b", "c")
CAP = Amounts(40, 4000)

Command = Callable[[Tx], Any]


@pytest.fixture
def promised(store: Store) -> None:
    """The promotions that the budgets are of."""

    def launch(tx: Tx) -> None:
        add_tenant(tx, "acme", "brand", "Acme")
        for promotion_id in PROMOTIONS:
            version = promotions.Version(promotion_id, 1, f"digest {promotion_id}", b"{}", "jws")
            promotions.save(
                tx, version, tenant_id="acme", hub=None, status="active", is_accepted=True
            )

    store.write_now(launch)


def order(order_id: str) -> Order:
    return Order(
        order_id, b"hash", "redeemed", None, "USD", 100, 0, 1, b"{}", b"{}", None, "jws", 1, None
    )


def redemption(order_id: str, promotion_id: str, allotment_id: str, minor: int) -> Redemption:
    return Redemption(
        f"{order_id}.{promotion_id}", order_id, HERE, promotion_id, "digest", None, None, None,
        allotment_id, minor, 0, "USD", "redeemed", 1,
    )  # fmt: skip


def check_out(order_id: str, wanted: list[tuple[str, int]], has_budget: bool) -> Command:
    """A checkout as a merchant does it: what is not covered is left out."""

    def command(tx: Tx) -> Any:
        known = orders.find(tx, order_id)
        if known is not None:
            return len(orders.redemptions_of(tx.connection, order_id))
        parts = ledger.available_to(tx, HERE, [promotion_id for promotion_id, _ in wanted])
        used = []
        for promotion_id, minor in wanted:
            amounts = Amounts(1, minor)
            part = next((p for p in parts.get(promotion_id, []) if amounts.fits(p.left)), None)
            if part is not None:
                left = ledger.spend(tx, part.allotment_id, amounts)
                assert amounts.fits(part.left)
                assert left.left == Amounts(part.left.uses - 1, part.left.minor - minor)
                used.append(redemption(order_id, promotion_id, part.allotment_id, minor))
                if has_budget:
                    ledger.settle_own(tx, promotion_id, HERE, amounts, used[-1].redemption_id)
        orders.add(tx, order(order_id), used)
        return len(used)

    return command


def others(rng: random.Random) -> list[Command]:
    """Commands that look at, or change, what checkouts put off."""
    promotion_id = rng.choice(PROMOTIONS)

    def give_back(tx: Tx) -> Any:
        return ledger.give_back(tx, f"{promotion_id}-1", Amounts(0, 0))

    def close(tx: Tx) -> Any:
        return ledger.reclaim(tx, f"{promotion_id}-1")

    def look(tx: Tx) -> Any:
        return (
            ledger.budget_of(tx.connection, promotion_id),
            ledger.of_promotion(tx.connection, promotion_id),
        )

    def count(tx: Tx) -> Any:
        return tx.read(sa.select(sa.func.count()).select_from(redemptions)).scalar()

    return [give_back, look, count, *([close] if rng.random() < 0.2 else [])]


def opening(tx: Tx) -> None:
    for promotion_id in PROMOTIONS:
        ledger.open_budget(tx, promotion_id, CAP, "digest")
        for number in (1, 2):
            ledger.grant(
                tx, f"{promotion_id}-{number}", promotion_id, holder=HERE, incarnation="i",
                needed=Amounts(10, 1000), holders=2,
            )  # fmt: skip


def commands(seed: int) -> list[Command]:
    rng = random.Random(seed)
    result: list[Command] = []
    for number in range(60):
        wanted = [(p, rng.choice((0, 1, 99, 400))) for p in PROMOTIONS if rng.random() < 0.6]
        result.append(check_out(f"o-{number}", wanted, has_budget=True))
        if rng.random() < 0.1:
            result.append(result[-1])
        if rng.random() < 0.1:
            result.append(rng.choice(others(rng)))
    return result


def everything(store: Store) -> dict[str, list[Any]]:
    with store.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(sa.select(table).order_by(*by))]
            for table, by in (
                (allotments, [allotments.c.allotment_id]),
                (budgets, [budgets.c.promotion_id]),
                (orders_table, [orders_table.c.order_id]),
                (redemptions, [redemptions.c.redemption_id]),
                (transfers, [transfers.c.transfer_id]),
            )
        }


def empty(store: Store) -> None:
    for table in (transfers, redemptions, orders_table, allotments, budgets):
        store.write_now(lambda tx, table=table: tx.write(sa.delete(table)))  # type: ignore[misc]


@pytest.mark.parametrize("seed", range(5))
def test_a_batch_is_its_commands_one_by_one(store: Store, promised: None, seed: int) -> None:
    """Goal: put off is not lost, doubled or reordered. Method: random checkouts, repeats, looks
    and closures, once in one transaction and once in one each: same answers, same tables."""
    store.write_now(opening)
    batched = store.write_now(lambda tx: [command(tx) for command in commands(seed)])
    in_a_batch = everything(store)
    empty(store)
    store.write_now(opening)
    single = [store.write_now(command) for command in commands(seed)]
    one_by_one = everything(store)
    assert batched == single
    for name in ("allotments", "budgets", "orders", "redemptions"):
        assert in_a_batch[name] == one_by_one[name], name
    without_id = [[row[1:] for row in found["transfers"]] for found in (in_a_batch, one_by_one)]
    assert sorted(without_id[0]) == sorted(without_id[1])
    assert len(in_a_batch["redemptions"]) > 20


@pytest.mark.parametrize("seed", range(2))
def test_batches_that_know_what_they_are_about(store: Store, promised: None, seed: int) -> None:
    """Goal: looking for all orders at once changes nothing. Method: the same commands with their
    order ids in batches of seven, and one by one."""
    store.write_now(opening)
    single = [store.write_now(command) for command in commands(seed)]
    one_by_one = everything(store)
    empty(store)
    store.write_now(opening)
    todo, batched = commands(seed), []
    for start in range(0, len(todo), 7):
        some = todo[start : start + 7]

        def batch(tx: Tx, some: list[Command] = some) -> list[Any]:
            about = Tx(tx.apart, tx.now_ms, None, [f"o-{n}" for n in range(60)])
            answers = [command(about) for command in some]
            about.catch_up()
            return answers

        batched += store.write_now(batch)
    assert batched == single
    together = everything(store)
    for name in ("allotments", "budgets", "orders", "redemptions"):
        assert together[name] == one_by_one[name], name


def test_a_batch_that_reckoned_wrongly_changes_nothing(store: Store, promised: None) -> None:
    """Goal: the guard in the database has the last word. Method: take units behind the back of a
    batch that has seen them; it fails as a whole."""
    store.write_now(opening)
    before = everything(store)

    def command(tx: Tx) -> None:
        part = ledger.available_to(tx, HERE, ["a"])["a"][0]
        tx.apart.execute(sa.update(allotments).values(left_uses=0))
        ledger.spend(tx, part.allotment_id, Amounts(1, 1))

    with pytest.raises(InvariantError, match="what it showed"):
        store.write_now(command)
    assert everything(store) == before


def test_more_than_was_shown_cannot_be_spent(store: Store, promised: None) -> None:
    store.write_now(opening)

    def command(tx: Tx) -> None:
        part = ledger.available_to(tx, HERE, ["a"])["a"][0]
        for _ in range(part.left.uses + 1):
            ledger.spend(tx, part.allotment_id, Amounts(1, 0))

    with pytest.raises(InvariantError, match="what it showed"):
        store.write_now(command)


@pytest.mark.parametrize("number", [1, 2, 3, 255, 2 * PARAMETERS_MAX // 4 + 7])
def test_many_rows_are_the_same_as_one_at_a_time(store: Store, number: int) -> None:
    """One statement takes up to PARAMETERS_MAX values; the parts of a longer list are all kept."""
    add = Prepared(insert_into(tenants))
    rows = [
        {"tenant_id": f"t{n:05}", "kind": "brand", "name": f"?{n}", "created_at_ms": n}
        for n in range(number)
    ]
    store.write_now(lambda tx: add.run_many(tx.changing(), rows))
    with store.read() as connection:
        query = sa.select(tenants).where(tenants.c.tenant_id.like("t_____"))
        found = connection.execute(query.order_by(tenants.c.tenant_id))
        assert [dict(row._mapping) for row in found] == rows
