"""The journal in the database: in order, chained, and folded into the statistics as it grows."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from sconto.base.errors import ConflictError
from sconto.ledger import Entry
from sconto.statistics import Cell, Counters
from sconto.store import Store, journal
from sconto.store.schema import journal as table
from sconto.store.schema import refusal_statistics, statistics
from sconto.store.writer import Tx


def entry(kind: str = "shown", **fields: Any) -> Entry:
    given = {"promotion_id": "p", "merchant": "m", "at_ms": 1, "day": "2017-07-14"}
    return msgspec.convert({"kind": kind, "currency": "USD", **given, **fields}, Entry)


def record(store: Store, *entries: Entry) -> None:
    def command(tx: Tx) -> None:
        for one in entries:
            tx.record(one)

    store.write_now(command)


def kept(store: Store) -> list[tuple[int, Entry]]:
    with store.read() as connection:
        return list(journal.entries(connection))


def broken(store: Store) -> int | None:
    with store.read() as connection:
        return journal.first_broken(connection)


def change(store: Store, statement: str) -> None:
    store.write_now(lambda tx: tx.write(sa.text(statement)))


def check_statistics(store: Store) -> None:
    """The tables have what a recount of the journal gives."""
    with store.read() as connection:
        counted = journal.recount(connection)
        assert dict(journal.cells(connection)) == counted.cells
        rows = connection.execute(sa.select(refusal_statistics)).all()
    assert {
        (Cell(row.promotion_id, row.merchant, row.day), row.reason): row.refused for row in rows
    } == counted.refusals


# --- order and chain ------------------------------------------------------------------------------


def test_entries_come_back_in_order_and_numbered_from_one(store: Store) -> None:
    written = [entry(order_id=str(number)) for number in range(5)]
    record(store, *written[:2])
    record(store, *written[2:])
    assert kept(store) == list(enumerate(written, 1))
    with store.read() as connection:
        assert list(journal.entries(connection, after=3)) == [(4, written[3]), (5, written[4])]
    assert broken(store) is None


def test_an_empty_journal_is_whole(store: Store) -> None:
    assert kept(store) == []
    assert broken(store) is None
    check_statistics(store)


def test_a_refused_or_failed_command_leaves_no_gap(store: Store) -> None:
    """Goal: gapless, whatever happens beside it. Method: good, refused and failing ones mixed."""

    def refused(tx: Tx) -> None:
        raise ConflictError("no")

    def failed(tx: Tx) -> None:
        tx.record(entry(order_id="failed"))
        raise KeyError("our mistake")

    def good(name: str) -> Any:
        return lambda tx: tx.record(entry(order_id=name))

    async def all_of_them() -> None:
        commands = [good("1"), refused, good("2"), failed, good("3"), failed, good("4")]
        await asyncio.gather(*map(store.write, commands), return_exceptions=True)

    asyncio.run(all_of_them())
    assert [(n, one.order_id) for n, one in kept(store)] == [(n, str(n)) for n in range(1, 5)]
    assert broken(store) is None
    check_statistics(store)


def test_many_writers_leave_no_gap(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: record(store, entry(order_id=str(n)), entry("clipped")), range(60)))
    rows = kept(store)
    assert [number for number, _ in rows] == list(range(1, 121))
    assert sorted(int(one.order_id) for _, one in rows if one.order_id) == list(range(60))
    assert broken(store) is None
    check_statistics(store)


@pytest.mark.parametrize(
    ("statement", "first"),
    [
        ("DELETE FROM journal WHERE sequence = 1", 1),
        ("DELETE FROM journal WHERE sequence = 3", 3),
        ("UPDATE journal SET entry = (SELECT entry FROM journal WHERE sequence = 2) "
         "WHERE sequence = 4", 4),
        ("UPDATE journal SET hash = (SELECT hash FROM journal WHERE sequence = 1) "
         "WHERE sequence = 2", 2),
        ("UPDATE journal SET sequence = 7 WHERE sequence = 5", 5),
        ("UPDATE journal SET kind = 'clipped' WHERE sequence = 2", 2),
        ("UPDATE journal SET promotion_id = 'q' WHERE sequence = 2", 2),
        ("UPDATE journal SET merchant = 'n' WHERE sequence = 2", 2),
        ("UPDATE journal SET at_ms = 2 WHERE sequence = 2", 2),
    ],
)  # fmt: skip
def test_a_change_is_found_and_named(store: Store, statement: str, first: int) -> None:
    """Goal: nobody edits history unseen. Method: edit it by SQL; the first bad number is told."""
    record(store, *(entry(order_id=str(number)) for number in range(6)))
    assert broken(store) is None
    change(store, statement)
    assert broken(store) == first


def test_a_number_is_used_once(store: Store) -> None:
    record(store, entry())
    copy = "INSERT INTO journal SELECT * FROM journal"
    with pytest.raises(sa.exc.IntegrityError):
        change(store, copy)


# --- statistics -----------------------------------------------------------------------------------


def test_statistics_grow_with_the_journal_and_equal_a_recount(store: Store) -> None:
    """Goal: the counters are the fold. Method: several commits on the same and on other cells."""
    record(store, entry("shown"), entry("shown"), entry("clipped", merchant="n"))
    record(store, entry("refused", reason="expired"), entry("refused", reason="expired"))
    record(store, entry("redeemed", amount_minor=100, is_direct=True), entry("shown"))
    record(store, entry("reversed", amount_minor=100, is_complete=True))
    record(store, entry("refused", reason="not_started"), entry("shown", day="2017-07-15"))
    check_statistics(store)
    with store.read() as connection:
        cells = journal.cells(connection)
        assert [cell for cell, _ in cells] == [
            Cell("p", "m", "2017-07-14"),
            Cell("p", "m", "2017-07-15"),
            Cell("p", "n", "2017-07-14"),
        ]
        assert cells[0][1] == Counters(
            shown=3,
            presented=4,
            applied=1,
            redeemed=1,
            reversed=1,
            given_minor=100,
            reversed_minor=100,
        )
        assert journal.refusals(connection) == {"expired": 2, "not_started": 1}


def test_statistics_can_be_asked_by_promotion_and_merchant(store: Store) -> None:
    record(
        store,
        entry(promotion_id="p", merchant="m"),
        entry(promotion_id="p", merchant="n"),
        entry("refused", promotion_id="q", merchant="m", reason="expired"),
    )

    def asked(**by: Any) -> list[tuple[str, str]]:
        with store.read() as connection:
            return [
                (cell.promotion_id, cell.merchant) for cell, _ in journal.cells(connection, **by)
            ]

    assert asked() == [("p", "m"), ("p", "n"), ("q", "m")]
    assert asked(promotions=["p"]) == [("p", "m"), ("p", "n")]
    assert asked(merchants=["m"]) == [("p", "m"), ("q", "m")]
    assert asked(promotions=["p", "q"], merchants=["n"]) == [("p", "n")]
    assert asked(promotions=[]) == []
    with store.read() as connection:
        assert journal.refusals(connection, promotions=["p"]) == {}
        assert journal.refusals(connection, promotions=["q"]) == {"expired": 1}
        assert journal.refusals(connection, merchants=["n"]) == {}


def test_a_wrong_counter_is_seen_by_the_recount(store: Store) -> None:
    """Goal: the check above can fail. Method: add one to a counter by SQL."""
    record(store, entry())
    change(store, "UPDATE statistics SET shown = shown + 1")
    with pytest.raises(AssertionError):
        check_statistics(store)


def test_the_tables_have_a_column_for_each_counter() -> None:
    assert set(statistics.c.keys()) == {*Cell._fields, *Counters._fields}
    assert {"kind", "promotion_id", "merchant", "at_ms"} < set(table.c.keys())
