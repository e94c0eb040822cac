"""At whoever grants: merchants that were refused, and holders that may have what they lack."""

from typing import Any, NamedTuple

import sqlalchemy as sa

from sconto.ledger import Amounts
from sconto.store.prepared import Prepared
from sconto.store.schema import allotment_requests, allotments
from sconto.store.writer import Tx


class Request(NamedTuple):
    """What a merchant asked for and did not get."""

    merchant: str
    needed: Amounts


def remember(tx: Tx, promotion_id: str, merchant: str, needed: Amounts, counter: str = "") -> None:
    """A merchant was refused; it keeps its place where it was refused before."""
    _REMEMBER.run(
        tx.changing(),
        promotion_id=promotion_id,
        merchant=merchant,
        needed_uses=needed.uses,
        needed_minor=needed.minor,
        at_ms=tx.now_ms,
        counter=counter,
    )


def _remembering(insert: Any) -> sa.Executable:
    names = ("promotion_id", "merchant", "needed_uses", "needed_minor", "at_ms", "counter")
    new = insert(allotment_requests).values({name: sa.bindparam(name) for name in names})
    kept: sa.Executable = new.on_conflict_do_update(
        index_elements=["promotion_id", "merchant", "counter"],
        set_={
            "needed_uses": new.excluded.needed_uses,
            "needed_minor": new.excluded.needed_minor,
        },
    )
    return kept


_REMEMBER = Prepared(_remembering)


def forget(tx: Tx, promotion_id: str, merchant: str, counter: str | None = None) -> None:
    """It has got something of the counter's budget; None: it does not take part any more."""
    statement = sa.delete(allotment_requests).where(
        allotment_requests.c.promotion_id == promotion_id,
        allotment_requests.c.merchant == merchant,
    )
    if counter is not None:
        statement = statement.where(allotment_requests.c.counter == counter)
    tx.write(statement)


def waiting(connection: sa.Connection, promotion_id: str, counter: str = "") -> list[Request]:
    """Who was refused, in the order of asking."""
    query = (
        sa.select(allotment_requests)
        .where(
            allotment_requests.c.promotion_id == promotion_id,
            allotment_requests.c.counter == counter,
        )
        .order_by(allotment_requests.c.at_ms, allotment_requests.c.merchant)
    )
    return [
        Request(row.merchant, Amounts(row.needed_uses, row.needed_minor))
        for row in connection.execute(query)
    ]


class Holding(NamedTuple):
    """An open part at a holder that may not need it."""

    allotment_id: str
    holder: str


def others(
    connection: sa.Connection,
    promotion_id: str,
    merchant: str,
    asked_before_ms: int,
    epoch: str,
    counter: str = "",
) -> list[Holding]:
    """Open parts of other merchants with something left, that were not asked for lately.

    Not those of an older epoch: what comes back of them is written off, and nobody could have it.
    """
    query = (
        sa.select(allotments.c.allotment_id, allotments.c.holder)
        .where(
            allotments.c.promotion_id == promotion_id,
            allotments.c.counter == counter,
            allotments.c.holder != merchant,
            allotments.c.state == "open",
            allotments.c.epoch.in_(("", epoch)),
            sa.or_(allotments.c.left_uses > 0, allotments.c.left_minor > 0),
            sa.or_(allotments.c.asked_at_ms.is_(None), allotments.c.asked_at_ms <= asked_before_ms),
        )
        .order_by(allotments.c.created_at_ms, allotments.c.allotment_id)
        .limit(1000)
    )
    return [Holding(*row) for row in connection.execute(query)]


def was_asked(connection: sa.Connection, allotment_id: str) -> bool:
    """Whether the holder was asked to close its part."""
    query = sa.select(allotments.c.asked_at_ms).where(allotments.c.allotment_id == allotment_id)
    return connection.execute(query).scalar() is not None


def asked(tx: Tx, allotment_id: str) -> None:
    """The holder is being asked to close its part."""
    tx.write(
        sa.update(allotments)
        .where(allotments.c.allotment_id == allotment_id)
        .values(asked_at_ms=tx.now_ms)
    )
