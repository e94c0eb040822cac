"""Several writers over one PostgreSQL: as exact as one, and none waits in vain for another."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import sqlalchemy as sa

from sconto.base.errors import ConflictError, UnavailableError
from sconto.ledger import Amounts, Entry
from sconto.store import Store, books, journal, ledger, limits, orders, promotions
from sconto.store.access import add_tenant
from sconto.store.orders import Order, Redemption
from sconto.store.processes import ANYTHING, Change
from sconto.store.schema import outbox, portions
from sconto.store.writer import Tx, _Job
from sconto.terms.counting import Counter

HERE = "https://shop.example"
HUB = "https://hub.example"
PROMOTIONS = ("a", "b")
NUMBER = 3
#: No test waits longer for a thread that does its part.
SOON_S = 30


@pytest.fixture
def stores(postgres_store: Store, migrated_postgres: str) -> Iterator[list[Store]]:
    """One store for each process, on an empty database with two promotions."""
    postgres_store.write_now(launch)
    opened = [
        Store(migrated_postgres, source=HERE, clock=postgres_store.clock, process=number)
        for number in range(NUMBER)
    ]
    yield opened
    for store in opened:
        store.close()


def launch(tx: Tx) -> None:
    add_tenant(tx, "acme", "brand", "Acme")
    for promotion_id in PROMOTIONS:
        version = promotions.Version(promotion_id, 1, f"digest {promotion_id}", b"{}", "jws")
        promotions.save(tx, version, tenant_id="acme", hub=None, status="active", is_accepted=True)


def promise(store: Store, uses: int) -> None:
    """Each promotion has one part that holds so many uses, and 100 minor units for each."""
    cap = Amounts(uses, 100 * uses)

    def command(tx: Tx) -> None:
        for promotion_id in PROMOTIONS:
            ledger.open_budget(tx, promotion_id, cap, "digest")
            ledger.grant(
                tx, f"part-{promotion_id}", promotion_id,
                holder=HERE, incarnation="i", needed=cap, holders=1,
            )  # fmt: skip

    store.write_now(command)


def check_out(order_id: str, wanted: dict[str, int]) -> Callable[[Tx], int]:
    """A checkout as a merchant does it: how much of what is wanted there was."""

    def command(tx: Tx) -> int:
        known = orders.find(tx, order_id)
        if known is not None:
            return len(orders.redemptions_of(tx.connection, order_id))
        parts = ledger.available_to(tx, HERE, wanted)
        used = []
        for promotion_id, minor in wanted.items():
            amounts = Amounts(1, minor)
            part = next((p for p in parts.get(promotion_id, []) if amounts.fits(p.left)), None)
            if part is None:
                continue
            ledger.spend(tx, part.allotment_id, amounts)
            one = redemption(order_id, promotion_id, part.allotment_id, minor)
            used.append(one)
            ledger.settle_own(tx, promotion_id, HERE, amounts, one.redemption_id)
            tx.record(entry(one))
            tx.send(HUB, "redeemed", promotion_id, {"redemption_id": one.redemption_id})
        orders.add(tx, order(order_id), used)
        return len(used)

    return command


def order(order_id: str) -> Order:
    return Order(
        order_id, b"hash", "redeemed", None, "USD", 100, 0, 1, b"{}", b"{}", None, "jws", 1, None
    )


def redemption(order_id: str, promotion_id: str, allotment_id: str, minor: int) -> Redemption:
    return Redemption(
        f"{order_id}.{promotion_id}", order_id, HERE, promotion_id, "digest", None, None, None,
        allotment_id, minor, 0, "USD", "redeemed", 1,
    )  # fmt: skip


def entry(one: Redemption) -> Entry:
    return Entry(
        kind="redeemed", promotion_id=one.promotion_id, merchant=HERE, at_ms=1, day="2026-11-24",
        terms_digest="digest", order_id=one.order_id, redemption_id=one.redemption_id,
        allotment_id=one.allotment_id, amount_minor=one.amount_minor, currency="USD",
    )  # fmt: skip


def beside(store: Store, command: Callable[[Tx], Any]) -> Future[Any]:
    """Queue a command that may run beside those of other processes."""
    future: Future[Any] = Future()
    store._put(_Job(command, future, is_beside=True))
    return future


def balance(store: Store) -> None:
    with store.read() as connection:
        assert books.check(connection).faults == []
        assert journal.first_broken(connection) is None
        assert journal.recount(connection).cells == dict(journal.cells(connection))
        query = sa.select(outbox.c.sequence).order_by(outbox.c.sequence)
        numbers = list(connection.execute(query).scalars())
        assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("seed", range(3))
def test_no_cap_is_exceeded_and_every_unit_is_used(stores: list[Store], seed: int) -> None:
    """pain 4, oscar #4612: Goal: exact under any interleaving. Method: three writers are asked for
    more than there is, in random order and money; then what is left is less than anything that was
    asked for."""
    rng = random.Random(seed)
    promise(stores[0], 40)
    asked = []
    for number in range(90):
        wanted = {p: rng.choice((60, 100)) for p in PROMOTIONS if rng.random() < 0.8}
        asked.append(beside(rng.choice(stores), check_out(f"o-{number}", wanted)))
    for one in asked:
        one.result(SOON_S)
    balance(stores[0])
    with stores[0].read() as connection:
        for promotion_id in PROMOTIONS:
            (part,) = ledger.of_promotion(connection, promotion_id)
            assert part.left.uses == 0 or part.left.minor < 100
        assert connection.execute(sa.select(sa.func.count()).select_from(portions)).scalar()


def test_what_a_dead_process_took_is_in_reach(stores: list[Store]) -> None:
    """Exactly the units of the cap are spent, the last ones out of a portion of who is gone."""
    promise(stores[0], 10)
    assert beside(stores[0], check_out("first", {"a": 100})).result(SOON_S) == 1
    with stores[0].read() as connection:
        left = connection.execute(sa.select(portions.c.left_uses, portions.c.left_minor)).one()
    assert tuple(left) == (0, 25)  # half of a fair share of the money, no whole use
    stores[0].close()
    got = [beside(stores[1], check_out(f"o-{n}", {"a": 100})).result(SOON_S) for n in range(10)]
    assert got == [1] * 9 + [0]
    balance(stores[1])


def test_a_part_is_closed_with_what_processes_took_of_it(stores: list[Store]) -> None:
    promise(stores[0], 100)
    for store in stores:
        assert beside(store, check_out(f"o-{store.process}", {"a": 50})).result(SOON_S) == 1
    closed = stores[1].write_now(lambda tx: ledger.reclaim(tx, "part-a"))
    assert closed == Amounts(100 - NUMBER, 10_000 - 50 * NUMBER)
    assert beside(stores[0], check_out("late", {"a": 50})).result(SOON_S) == 0
    balance(stores[2])


def test_one_process_alone_spends_what_several_had(
    stores: list[Store], postgres_store: Store
) -> None:
    """Goal: `--processes` may be left out again. Method: the rest is spent without a number."""
    promise(stores[0], 20)
    for store in stores:
        beside(store, check_out(f"o-{store.process}", {"b": 100})).result(SOON_S)
    for store in stores:
        store.close()
    got = [postgres_store.write_now(check_out(f"p-{n}", {"b": 100})) for n in range(20)]
    assert got == [1] * (20 - NUMBER) + [0] * NUMBER
    balance(postgres_store)


def test_an_order_at_all_processes_at_once_is_made_once(stores: list[Store]) -> None:
    promise(stores[0], 50)
    for number in range(20):
        same = [beside(store, check_out(f"o-{number}", {"a": 1})) for store in stores]
        assert [one.result(SOON_S) for one in same] == [1] * NUMBER
    balance(stores[0])
    with stores[0].read() as connection:
        assert orders.count(connection) == 20


def test_two_that_wait_for_each_other_both_come_through(stores: list[Store]) -> None:
    """Goal: a circle of locks is an answer a second later. Method: two commands take two counters
    in opposite orders, and the first one only when both have theirs."""
    both, met = threading.Barrier(2), set()

    def take(first: str, second: str, who: str) -> Callable[[Tx], str]:
        def command(tx: Tx) -> str:
            counters = [Counter(name, 10, None) for name in (first, second)]
            limits.take(tx, "a", f"{who}-1", Amounts(1, 1), counters[:1])
            if who not in met:  # the second time it runs alone
                met.add(who)
                both.wait(SOON_S)
            limits.take(tx, "a", f"{who}-2", Amounts(1, 1), counters[1:])
            return who

        return command

    x = beside(stores[0], take("x", "y", "one"))
    y = beside(stores[1], take("y", "x", "two"))
    assert (x.result(SOON_S), y.result(SOON_S)) == ("one", "two")
    with stores[0].read() as connection:
        assert limits.used(connection, "a", ["x", "y"]) == {"x": Amounts(2, 2), "y": Amounts(2, 2)}


def test_a_command_that_is_not_beside_others_runs_alone(stores: list[Store]) -> None:
    """What it has read stays so until it commits: others that came before it are done by then."""
    is_begun, may_end = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        add_tenant(tx, "slow", "brand", "Slow")
        is_begun.set()
        may_end.wait(SOON_S)

    def look(tx: Tx) -> bool:
        found = tx.read(sa.text("SELECT count(*) FROM tenants WHERE tenant_id = 'slow'")).scalar()
        return bool(found)

    first = beside(stores[0], slow)
    is_begun.wait(SOON_S)
    alone: Future[Any] = Future()
    stores[1]._put(_Job(look, alone))
    assert not beside(stores[2], look).done() and not alone.done()
    may_end.set()
    first.result(SOON_S)
    assert alone.result(SOON_S) is True


def test_a_refusal_is_no_reason_to_run_again(stores: list[Store]) -> None:
    runs = []

    def refuse(tx: Tx) -> None:
        runs.append(1)
        raise ConflictError("no", code="no")

    with pytest.raises(ConflictError):
        beside(stores[0], refuse).result(SOON_S)
    assert len(runs) == 1


def test_what_is_announced_is_heard_by_the_others_after_the_commit(stores: list[Store]) -> None:
    heard: list[tuple[int, Change]] = []
    is_heard = threading.Semaphore(0)

    def listen(number: int) -> Callable[[Change], None]:
        def on_change(change: Change) -> None:
            heard.append((number, change))
            is_heard.release()

        return on_change

    for number, store in enumerate(stores):
        store.on_change = listen(number)
    stores[1].write_now(lambda tx: tx.announce("promotion", "a b c"))
    for _ in stores:
        assert is_heard.acquire(timeout=SOON_S)
    assert sorted(heard) == [(number, Change("promotion", "a b c")) for number in range(NUMBER)]

    # A listener that was cut off cannot know what it has missed.
    heard.clear()
    stores[0].write_now(
        lambda tx: tx.read(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
            )
        )
    )
    for _ in stores:
        assert is_heard.acquire(timeout=SOON_S)
    assert sorted(heard) == [(number, ANYTHING) for number in range(NUMBER)]


def test_what_could_not_be_taken_up_is_read_again(
    stores: list[Store], caplog: pytest.LogCaptureFixture
) -> None:
    """Goal: a failure in between leaves nothing old for ever. Method: taking up fails twice."""
    heard: list[Change] = []
    is_taken_up = threading.Event()

    def take_up(change: Change) -> None:
        heard.append(change)
        if len(heard) < 3:
            raise UnavailableError("the database does not answer", code="storage_unavailable")
        is_taken_up.set()

    stores[0].on_change = take_up
    stores[1].write_now(lambda tx: tx.announce("promotion", "a"))
    assert is_taken_up.wait(SOON_S)
    assert heard == [Change("promotion", "a"), ANYTHING, ANYTHING]
    said = [record for record in caplog.records if "not taken up" in record.message]
    assert [record.exc_info for record in said] == [None, None]
