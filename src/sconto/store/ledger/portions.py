"""Portions: what one process of a merchant has taken of an allotment, to spend it alone.

An allotment is cut for processes as a budget is cut for merchants, by the same rule
(`grant_size`), so a checkout touches no row that another process changes. Units of an allotment
are in its own row and in its portions, and go from one to another by guarded updates only:

1. A process spends from its own portion.
2. What that has not is taken from the allotment's row: half of a fair share, at least the need.
3. What that has not is taken from the portions of other processes, exactly the need. So the last
   unit is in reach of every process, and one that is gone strands nothing.

Whoever moves units into a portion holds the lock of the allotment's row; only its own process
takes from a portion without it.
"""

from typing import Any

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.ledger import Amounts, Refused, grant_size
from sconto.store.ledger.parts import MINOR, USES, check_not_negative
from sconto.store.prepared import Prepared
from sconto.store.schema import allotments, portions
from sconto.store.writer import Tx

#: For how many processes the row of an allotment is cut.
SHARERS = 4


def take_portion(tx: Tx, process: int, allotment_id: str, amounts: Amounts) -> bool:
    """Take units for a process, from wherever they are; False: the open part has less by now."""
    check_not_negative(amounts)
    connection = tx.changing_apart()
    own = {"allotment": allotment_id, "process": process}
    if _TAKE.run(connection, **own, **amounts._asdict(), now_ms=tx.now_ms) == 1:
        return True
    part = _LOCK.first(connection, allotment_id=allotment_id)
    if part is None:
        return False
    had = {row[0]: Amounts(row[1], row[2]) for row in _HAD.rows(connection, allotment=allotment_id)}
    mine = had.pop(process, Amounts(0, 0))
    missing = _less(amounts, mine)
    drawn = _drawn(Amounts(*part), missing)
    _take_from_row(connection, allotment_id, drawn)
    missing = _less(missing, drawn)
    got = Amounts(mine.uses + drawn.uses, mine.minor + drawn.minor)
    for other, has in had.items():
        some = _least(has, missing)
        if any(some):
            taken = _TAKE.run(
                connection,
                allotment=allotment_id,
                process=other,
                **some._asdict(),
                now_ms=0,
            )
            invariant(taken == 1, "a portion that is locked has what it showed")
            missing = _less(missing, some)
            got = Amounts(got.uses + some.uses, got.minor + some.minor)
    if any(missing):
        return False
    left = Amounts(got.uses - amounts.uses, got.minor - amounts.minor)
    _SET.run(connection, **own, **left._asdict(), now_ms=tx.now_ms)
    return True


def last_spent_at_ms(connection: sa.Connection, allotment_id: str) -> int:
    """When a process last took units of an allotment; 0: none has."""
    query = sa.select(sa.func.max(portions.c.spent_at_ms)).where(
        portions.c.allotment_id == allotment_id
    )
    return connection.execute(query).scalar() or 0


def _drawn(left: Amounts, missing: Amounts) -> Amounts:
    size = grant_size(left, missing, SHARERS)
    return _least(left, missing) if isinstance(size, Refused) else size


def _take_from_row(connection: sa.Connection, allotment_id: str, amounts: Amounts) -> None:
    taken = _TAKE_FROM_ROW.run(connection, allotment=allotment_id, **amounts._asdict())
    invariant(taken == 1, "an allotment that is locked has what it showed")


def _less(some: Amounts, others: Amounts) -> Amounts:
    """What of some is not among the others."""
    return Amounts(max(some.uses - others.uses, 0), max(some.minor - others.minor, 0))


def _least(some: Amounts, others: Amounts) -> Amounts:
    return Amounts(min(some.uses, others.uses), min(some.minor, others.minor))


def _setting(insert: Any) -> sa.Executable:
    """Its process alone may write it so: nobody takes from it without the allotment's lock."""
    row = insert(portions).values(
        allotment_id=sa.bindparam("allotment"),
        process=sa.bindparam("process"),
        left_uses=USES,
        left_minor=MINOR,
        spent_at_ms=sa.bindparam("now_ms"),
    )
    names = ("left_uses", "left_minor", "spent_at_ms")
    put: sa.Executable = row.on_conflict_do_update(
        index_elements=["allotment_id", "process"],
        set_={name: row.excluded[name] for name in names},
    )
    return put


_NOW: sa.BindParameter[int] = sa.bindparam("now_ms", type_=sa.BigInteger)
_TAKE = Prepared(
    sa.update(portions)
    .where(
        portions.c.allotment_id == sa.bindparam("allotment"),
        portions.c.process == sa.bindparam("process"),
        portions.c.left_uses >= USES,
        portions.c.left_minor >= MINOR,
    )
    .values(
        left_uses=portions.c.left_uses - USES,
        left_minor=portions.c.left_minor - MINOR,
        spent_at_ms=sa.func.greatest(portions.c.spent_at_ms, _NOW),
    )
)
_SET = Prepared(_setting)
_LOCK = Prepared(
    sa.select(allotments.c.left_uses, allotments.c.left_minor)
    .where(
        allotments.c.allotment_id == sa.bindparam("allotment_id"),
        allotments.c.state == "open",
        sa.not_(allotments.c.is_closing),
    )
    .with_for_update()
)
_HAD = Prepared(
    sa.select(portions.c.process, portions.c.left_uses, portions.c.left_minor)
    .where(portions.c.allotment_id == sa.bindparam("allotment"))
    .order_by(portions.c.process)
    .with_for_update()
)
_TAKE_FROM_ROW = Prepared(
    sa.update(allotments)
    .where(
        allotments.c.allotment_id == sa.bindparam("allotment"),
        allotments.c.left_uses >= USES,
        allotments.c.left_minor >= MINOR,
    )
    .values(
        left_uses=allotments.c.left_uses - USES,
        left_minor=allotments.c.left_minor - MINOR,
    )
)
