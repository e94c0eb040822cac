"""An allotment's row: to find it, to take units from it, to give units back to it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.ledger import Amounts
from sconto.store.prepared import Prepared, Row, insert_into, one_of
from sconto.store.schema import allotments, portions
from sconto.store.writer import Tx


class Allotment(NamedTuple):
    """A part of a budget that one holder may spend alone."""

    allotment_id: str
    promotion_id: str
    holder: str
    incarnation: str
    granted: Amounts
    #: In its own row and in the portions of the holder's processes together.
    left: Amounts
    state: str
    #: Incarnation of the server that granted it.
    epoch: str = ""
    #: Its holder spends no more of it, and closes it when nothing is reserved from it any more.
    is_closing: bool = False
    #: The promiser's signature under the grant, where another server holds it.
    proof: str | None = None
    #: The shared counter whose budget it is a part of; empty: of the promotion's.
    counter: str = ""
    #: First instant after the counter's period, where it has one.
    ends_at_ms: int | None = None


def get(connection: sa.Connection, allotment_id: str) -> Allotment | None:
    """One allotment."""
    row = _GET.first(connection, allotment_id=allotment_id)
    return None if row is None else allotment_of(row)


def some(connection: sa.Connection, allotment_ids: Sequence[str]) -> list[Allotment]:
    """Several allotments, as far as there are such."""
    return [allotment_of(row) for row in _SOME.rows(connection, ids=allotment_ids)]


def open_of(
    connection: sa.Connection, holder: str, promotion_id: str | None = None
) -> list[Allotment]:
    """All open parts of a holder, of every counter; of one promotion, where named."""
    query = (
        sa.select(*COLUMNS)
        .where(allotments.c.holder == holder, allotments.c.state == "open")
        .order_by(
            allotments.c.promotion_id,
            allotments.c.counter,
            allotments.c.created_at_ms,
            allotments.c.allotment_id,
        )
    )
    if promotion_id is not None:
        query = query.where(allotments.c.promotion_id == promotion_id)
    return [allotment_of(tuple(row)) for row in connection.execute(query)]


def of_promotion(
    connection: sa.Connection, promotion_id: str, counter: str = ""
) -> list[Allotment]:
    """All parts of a promotion's budget, or of one of its counters', oldest first."""
    query = (
        sa.select(*COLUMNS)
        .where(allotments.c.promotion_id == promotion_id, allotments.c.counter == counter)
        .order_by(allotments.c.created_at_ms, allotments.c.allotment_id)
    )
    return [allotment_of(tuple(row)) for row in connection.execute(query)]


def insert(tx: Tx, allotment: Allotment) -> None:
    """Keep a new allotment, without any move of units."""
    _INSERT.run(
        tx.changing(),
        allotment_id=allotment.allotment_id,
        promotion_id=allotment.promotion_id,
        holder=allotment.holder,
        incarnation=allotment.incarnation,
        granted_uses=allotment.granted.uses,
        granted_minor=allotment.granted.minor,
        left_uses=allotment.left.uses,
        left_minor=allotment.left.minor,
        state=allotment.state,
        epoch=allotment.epoch,
        is_closing=allotment.is_closing,
        proof=allotment.proof,
        counter=allotment.counter,
        ends_at_ms=allotment.ends_at_ms,
        created_at_ms=tx.now_ms,
    )


def take(tx: Tx, allotment_id: str, amounts: Amounts, *, state: str = "open") -> Allotment | None:
    """What is left of a part after `amounts` were taken; None: it has less, or another state."""
    check_not_negative(amounts)
    row = _TAKE[state].first(
        tx.changing(), allotment=allotment_id, uses=amounts.uses, minor=amounts.minor
    )
    return None if row is None else allotment_of(row)


def give_back(tx: Tx, allotment_id: str, amounts: Amounts, *, state: str = "open") -> bool:
    """Return units to a part; False when it is in another state."""
    check_not_negative(amounts)
    changed = _GIVE_BACK[state].run(
        tx.changing(), allotment=allotment_id, uses=amounts.uses, minor=amounts.minor
    )
    return changed == 1


def end(tx: Tx, row: Allotment, state: str, left: Amounts) -> None:
    """An open part, as it was read in this transaction, is that no more; `left` stays in it."""
    gather(tx, row.allotment_id)
    ended = tx.write(
        sa.update(allotments)
        .where(
            allotments.c.allotment_id == row.allotment_id,
            allotments.c.state == "open",
            allotments.c.left_uses == row.left.uses,
            allotments.c.left_minor == row.left.minor,
        )
        .values(state=state, left_uses=left.uses, left_minor=left.minor)
    )
    invariant(ended.rowcount == 1, "an allotment has what it showed in the same transaction")


def gather(tx: Tx, allotment_id: str) -> None:
    """What processes have of a part goes back into its row; nobody may be spending beside us."""
    taken = _GATHER.rows(tx.changing(), allotment_id=allotment_id)
    if taken:
        whole = Amounts(sum(row[0] for row in taken), sum(row[1] for row in taken))
        invariant(give_back(tx, allotment_id, whole), "portions are of open parts")


def check_not_negative(amounts: Amounts) -> None:
    invariant(min(amounts) >= 0, "units move in the direction that the move is named after")


def allotment_of(row: Row) -> Allotment:
    return Allotment(
        row[0],
        row[1],
        row[2],
        row[3],
        granted=Amounts(row[4], row[5]),
        left=Amounts(row[6], row[7]),
        state=row[8],
        epoch=row[9],
        is_closing=row[10],
        proof=row[11],
        counter=row[12],
        ends_at_ms=row[13],
    )


_ROW = [
    allotments.c[name]
    for name in (
        "allotment_id",
        "promotion_id",
        "holder",
        "incarnation",
        "granted_uses",
        "granted_minor",
        "left_uses",
        "left_minor",
        "state",
        "epoch",
        "is_closing",
        "proof",
        "counter",
        "ends_at_ms",
    )
]


def _with_portions(column: sa.Column[int], of_process: sa.Column[int]) -> sa.ColumnElement[int]:
    taken = (
        sa.select(sa.cast(sa.func.sum(of_process), sa.BigInteger))
        .where(portions.c.allotment_id == allotments.c.allotment_id)
        .scalar_subquery()
    )
    return (column + sa.func.coalesce(taken, 0)).label(column.name)


#: An allotment with all that is left of it.
COLUMNS: list[sa.ColumnElement[Any]] = [
    _with_portions(one, portions.c[one.name]) if one.name.startswith("left_") else one
    for one in _ROW
]
USES: sa.BindParameter[int] = sa.bindparam("uses", type_=sa.BigInteger)
MINOR: sa.BindParameter[int] = sa.bindparam("minor", type_=sa.BigInteger)
_GET = Prepared(
    sa.select(*COLUMNS).where(allotments.c.allotment_id == sa.bindparam("allotment_id"))
)


_SOME = Prepared(sa.select(*COLUMNS).where(one_of(allotments.c.allotment_id, "ids")))


def _taking(state: str) -> Prepared:
    return Prepared(
        sa.update(allotments)
        .where(
            allotments.c.allotment_id == sa.bindparam("allotment"),
            allotments.c.state == state,
            allotments.c.left_uses >= USES,
            allotments.c.left_minor >= MINOR,
        )
        .values(
            left_uses=allotments.c.left_uses - USES,
            left_minor=allotments.c.left_minor - MINOR,
        )
        .returning(*_ROW)
    )


def _giving_back(state: str) -> Prepared:
    return Prepared(
        sa.update(allotments)
        .where(allotments.c.allotment_id == sa.bindparam("allotment"), allotments.c.state == state)
        .values(
            left_uses=allotments.c.left_uses + USES,
            left_minor=allotments.c.left_minor + MINOR,
        )
    )


_TAKE = {state: _taking(state) for state in ("open", "written_off")}
_GIVE_BACK = {state: _giving_back(state) for state in ("open", "written_off")}
_INSERT = Prepared(
    insert_into(allotments, *(one.name for one in _ROW), "created_at_ms"),
)
_GATHER = Prepared(
    sa.delete(portions)
    .where(portions.c.allotment_id == sa.bindparam("allotment_id"))
    .returning(portions.c.left_uses, portions.c.left_minor)
)
