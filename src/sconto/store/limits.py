"""Counters of limits at a merchant: what one shopper, store, code, … used in a period.

A redemption is counted in the transaction that takes its units, by guarded updates, and counted
back when it is released, expires or is reversed. What it is counted in is kept with it, and so are
the parts of counters that merchants share, which it is taken from as well.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.ledger import UNLIMITED, Amounts
from sconto.store.ledger import parts
from sconto.store.prepared import Prepared, insert_into
from sconto.store.schema import limit_counters, redemption_counters, redemption_parts
from sconto.store.writer import Tx
from sconto.terms.counting import Counter

#: Counters that one command forgets at most.
_FORGET_MAX = 100


def used(connection: sa.Connection, promotion_id: str, names: Iterable[str]) -> dict[str, Amounts]:
    """What counters of a promotion hold."""
    found = {}
    for name in names:
        row = _USED.first(connection, promotion_id=promotion_id, counter=name)
        found[name] = Amounts(0, 0) if row is None else Amounts(row[0], row[1])
    return found


def take(
    tx: Tx, promotion_id: str, redemption_id: str, amounts: Amounts, counters: Sequence[Counter]
) -> None:
    """Count a redemption where `used` has shown, in this transaction, that there is room."""
    for counter in counters:
        counted = _TAKE.run(
            tx.changing_apart(),
            promotion_id=promotion_id,
            counter=counter.name,
            uses=amounts.uses,
            minor=amounts.minor,
            ends_at_ms=counter.ends_at_ms,
            at_ms=tx.now_ms,
            uses_max=UNLIMITED if counter.uses is None else counter.uses,
            minor_max=UNLIMITED if counter.minor is None else counter.minor,
        )
        invariant(counted == 1, "a counter has the room that it showed in the same transaction")
    _REMEMBER.run_many(
        tx.changing_apart(),
        [
            {"redemption_id": redemption_id, "counter": one.name, "promotion_id": promotion_id}
            for one in counters
        ],
    )


def take_parts(tx: Tx, redemption_id: str, allotment_ids: Sequence[str]) -> None:
    """Keep which parts of shared counters a redemption is taken from."""
    rows = [{"redemption_id": redemption_id, "allotment_id": one} for one in allotment_ids]
    _TAKE_PARTS.run_many(tx.changing_apart(), rows)


def parts_of(connection: sa.Connection, redemption_id: str) -> list[str]:
    """The parts of shared counters that a redemption was taken from."""
    return [row[0] for row in _PARTS_OF.rows(connection, redemption_id=redemption_id)]


def forget_ended(tx: Tx, before_ms: int) -> int:
    """Forget some counters that ended, and were last changed, before an instant; gives how many."""
    query = (
        sa.select(limit_counters.c.promotion_id, limit_counters.c.counter)
        .where(limit_counters.c.ends_at_ms < before_ms, limit_counters.c.changed_at_ms < before_ms)
        .limit(_FORGET_MAX)
    )
    found = tx.read(query).all()
    for row in found:
        for table in (redemption_counters, limit_counters):
            tx.write(
                sa.delete(table).where(
                    table.c.promotion_id == row.promotion_id, table.c.counter == row.counter
                )
            )
    return len(found)


def give_back(tx: Tx, redemption_id: str, amounts: Amounts, *, is_complete: bool) -> None:
    """Count back all of a redemption or a part of it."""
    for allotment_id in parts_of(tx.apart, redemption_id):
        parts.give_back(tx, allotment_id, amounts)
    rows = _COUNTED.rows(tx.apart, redemption_id=redemption_id)
    for promotion_id, name in rows:
        changed = _GIVE_BACK.run(
            tx.changing_apart(),
            promotion=promotion_id,
            name=name,
            uses=amounts.uses,
            minor=amounts.minor,
        )
        invariant(changed == 1, "what was counted is in its counter")
    if rows and is_complete:
        tx.write(
            sa.delete(redemption_counters).where(
                redemption_counters.c.redemption_id == redemption_id
            )
        )


def _taking(insert: Any) -> sa.Executable:
    """The guard is in the update; a first use is within any limit, unless its money is not."""
    uses: sa.BindParameter[int] = sa.bindparam("uses", type_=sa.BigInteger)
    minor: sa.BindParameter[int] = sa.bindparam("minor", type_=sa.BigInteger)
    new = insert(limit_counters).values(
        promotion_id=sa.bindparam("promotion_id"),
        counter=sa.bindparam("counter"),
        uses=uses,
        minor=minor,
        ends_at_ms=sa.bindparam("ends_at_ms", type_=sa.BigInteger),
        changed_at_ms=sa.bindparam("at_ms", type_=sa.BigInteger),
    )
    taken: sa.Executable = new.on_conflict_do_update(
        index_elements=["promotion_id", "counter"],
        set_={
            "uses": limit_counters.c.uses + new.excluded.uses,
            "minor": limit_counters.c.minor + new.excluded.minor,
            "changed_at_ms": new.excluded.changed_at_ms,
        },
        where=sa.and_(
            limit_counters.c.uses + new.excluded.uses
            <= sa.bindparam("uses_max", type_=sa.BigInteger),
            limit_counters.c.minor + new.excluded.minor
            <= sa.bindparam("minor_max", type_=sa.BigInteger),
        ),
    )
    return taken


_USED = Prepared(
    sa.select(limit_counters.c.uses, limit_counters.c.minor).where(
        limit_counters.c.promotion_id == sa.bindparam("promotion_id"),
        limit_counters.c.counter == sa.bindparam("counter"),
    )
)
_TAKE = Prepared(_taking)
_REMEMBER = Prepared(insert_into(redemption_counters))
_COUNTED = Prepared(
    sa.select(redemption_counters.c.promotion_id, redemption_counters.c.counter).where(
        redemption_counters.c.redemption_id == sa.bindparam("redemption_id")
    )
)
_TAKE_PARTS = Prepared(insert_into(redemption_parts))
_PARTS_OF = Prepared(
    sa.select(redemption_parts.c.allotment_id)
    .where(redemption_parts.c.redemption_id == sa.bindparam("redemption_id"))
    .order_by(redemption_parts.c.allotment_id)
)
_GIVE_BACK = Prepared(
    sa.update(limit_counters)
    .where(
        limit_counters.c.promotion_id == sa.bindparam("promotion"),
        limit_counters.c.counter == sa.bindparam("name"),
    )
    .values(
        uses=limit_counters.c.uses - sa.bindparam("uses", type_=sa.BigInteger),
        minor=limit_counters.c.minor - sa.bindparam("minor", type_=sa.BigInteger),
    )
)
