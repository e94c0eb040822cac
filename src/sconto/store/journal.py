"""The journal table and the statistics that are folded from it, in one transaction."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from sconto.ledger.journal import GENESIS, Entry, chain, decode_entry, encode_entry
from sconto.statistics import Cell, Counters, Fold
from sconto.store.prepared import NewRows, Prepared, Row
from sconto.store.schema import journal, refusal_statistics, statistics


def append(connection: sa.Connection, entries: Sequence[Entry]) -> None:
    """Append entries to the chain and add what they count; gapless, in the order given."""
    if not entries:
        return
    sequence, previous = _LAST.first(connection) or (0, GENESIS)
    rows: list[Row] = []
    fold = Fold()
    for entry in entries:
        data = encode_entry(entry)
        sequence += 1
        previous = chain(previous, data)
        rows.append(
            (
                sequence,
                entry.kind,
                entry.promotion_id,
                entry.merchant,
                entry.at_ms,
                data,
                previous,
            )
        )
        fold.add(entry)
    _NEW.add(connection, rows)
    _add(connection, fold)


def _add(connection: sa.Connection, fold: Fold) -> None:
    _COUNT.run_many(
        connection,
        [{**cell._asdict(), **counters._asdict()} for cell, counters in sorted(fold.cells.items())],
    )
    if fold.refusals:
        _COUNT_REFUSALS.run_many(
            connection,
            [
                {**cell._asdict(), "reason": reason, "refused": number}
                for (cell, reason), number in sorted(fold.refusals.items())
            ],
        )


_LAST = Prepared(
    sa.select(journal.c.sequence, journal.c.hash).order_by(journal.c.sequence.desc()).limit(1)
)
_NEW = NewRows(journal, "sequence", "kind", "promotion_id", "merchant", "at_ms", "entry", "hash")


def _adding(table: sa.Table, key: Sequence[str], counts: Sequence[str]) -> Prepared:
    """Insert a row of counters, or add to those that are there."""

    def statement(insert: Any) -> sa.Executable:
        rows = insert(table).values({name: sa.bindparam(name) for name in (*key, *counts)})
        added: sa.Executable = rows.on_conflict_do_update(
            index_elements=key,
            set_={name: table.c[name] + rows.excluded[name] for name in counts},
        )
        return added

    return Prepared(statement)


_COUNT = _adding(statistics, Cell._fields, Counters._fields)
_COUNT_REFUSALS = _adding(refusal_statistics, (*Cell._fields, "reason"), ("refused",))


def entries(connection: sa.Connection, *, after: int = 0) -> Iterator[tuple[int, Entry]]:
    """Sequence number and entry, in order, after a sequence number."""
    with connection.execute(
        sa.select(journal.c.sequence, journal.c.entry)
        .where(journal.c.sequence > after)
        .order_by(journal.c.sequence),
        execution_options={"yield_per": 1000},
    ) as rows:
        for row in rows:
            yield row.sequence, decode_entry(row.entry)


def first_broken(connection: sa.Connection) -> int | None:
    """Sequence number of the first entry that is missing or was changed; None: the chain holds.

    That the newest entries are missing can only be seen by somebody who has kept a later hash.
    """
    previous = GENESIS
    expected = 1
    with connection.execute(
        sa.select(journal).order_by(journal.c.sequence), execution_options={"yield_per": 1000}
    ) as rows:
        for row in rows:
            previous = chain(previous, row.entry)
            if row.sequence != expected or row.hash != previous:
                return expected
            # The columns for queries repeat what the entry says.
            entry = decode_entry(row.entry)
            said = (entry.kind, entry.promotion_id, entry.merchant, entry.at_ms)
            if said != (row.kind, row.promotion_id, row.merchant, row.at_ms):
                return expected
            expected += 1
    return None


def cells(
    connection: sa.Connection,
    *,
    promotions: Iterable[str] | None = None,
    merchants: Iterable[str] | None = None,
) -> list[tuple[Cell, Counters]]:
    """Counters by promotion, merchant and day, in that order; None: of all of them."""
    query = sa.select(statistics).order_by(*(statistics.c[name] for name in Cell._fields))
    if promotions is not None:
        query = query.where(statistics.c.promotion_id.in_(list(promotions)))
    if merchants is not None:
        query = query.where(statistics.c.merchant.in_(list(merchants)))
    return [
        (_cell(row._mapping), Counters(*(row._mapping[name] for name in Counters._fields)))
        for row in connection.execute(query)
    ]


def refusals(
    connection: sa.Connection,
    *,
    promotions: Iterable[str] | None = None,
    merchants: Iterable[str] | None = None,
) -> dict[str, int]:
    """Refusals at checkout by reason code; None: of all promotions, of all merchants."""
    number = sa.func.sum(refusal_statistics.c.refused)
    query = sa.select(refusal_statistics.c.reason, number).group_by(refusal_statistics.c.reason)
    if promotions is not None:
        query = query.where(refusal_statistics.c.promotion_id.in_(list(promotions)))
    if merchants is not None:
        query = query.where(refusal_statistics.c.merchant.in_(list(merchants)))
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def recount(connection: sa.Connection) -> Fold:
    """The statistics as the journal has them, to compare with the tables."""
    fold = Fold()
    for _, entry in entries(connection):
        fold.add(entry)
    return fold


def _cell(row: Any) -> Cell:
    return Cell(*(row[name] for name in Cell._fields))
