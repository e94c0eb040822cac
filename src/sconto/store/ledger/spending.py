"""At the server that spends: parts are accepted, spent by batches of checkouts, and closed."""

from collections.abc import Iterable

import sqlalchemy as sa

from sconto.base.errors import InvariantError, invariant
from sconto.ledger import Amounts
from sconto.ledger.budget import Account
from sconto.store.ledger.budgets import NEW_TRANSFERS, Transfer, move_units, opened
from sconto.store.ledger.parts import (
    COLUMNS,
    Allotment,
    allotment_of,
    check_not_negative,
    gather,
    get,
    insert,
    take,
)
from sconto.store.ledger.portions import take_portion
from sconto.store.prepared import Prepared
from sconto.store.schema import allotments
from sconto.store.writer import Tx

#: Plain text: a member of an enum goes to the database more slowly.
_SPENT = str(Account.SPENT)


def counters_of(connection: sa.Connection, holder: str, promotion_id: str) -> set[str]:
    """The counters of a promotion that a holder has open parts of."""
    query = sa.select(allotments.c.counter).where(
        allotments.c.promotion_id == promotion_id,
        allotments.c.holder == holder,
        allotments.c.state == "open",
        allotments.c.counter != "",
    )
    return set(connection.execute(query.distinct()).scalars())


def accept(tx: Tx, allotment: Allotment) -> bool:
    """Take a granted part into possession; False when it was here before (no effect)."""
    if get(tx.connection, allotment.allotment_id) is not None:
        return False
    insert(tx, allotment)
    return True


def available(
    connection: sa.Connection, holder: str, promotion_ids: Iterable[str], counter: str = ""
) -> dict[str, list[Allotment]]:
    """The open parts of a holder by promotion, oldest first; of that counter of it, where named."""
    result = {}
    for promotion_id in promotion_ids:
        rows = _AVAILABLE.rows(connection, promotion_id=promotion_id, name=counter, holder=holder)
        if rows:
            result[promotion_id] = [allotment_of(row) for row in rows]
    return result


class _Spent:
    """What a batch of checkouts takes: one guarded update of each part and of each budget."""

    def __init__(self) -> None:
        #: Ids of the open parts by holder, promotion and counter, and the parts as the batch
        #: leaves them.
        self.ids: dict[tuple[str, str, str], list[str]] = {}
        self.parts: dict[str, Allotment] = {}
        self.taken: dict[str, Amounts] = {}
        self.settled: dict[str, Amounts] = {}
        self.transfers: list[Transfer] = []

    def do(self, tx: Tx) -> None:
        # In one order, so that processes do not wait for each other in a circle.
        for allotment_id, amounts in sorted(self.taken.items()):
            invariant(_take(tx, allotment_id, amounts), "a part has what it showed to the batch")
        for promotion_id, amounts in sorted(self.settled.items()):
            move_units(tx, promotion_id, "open", "spent", amounts)
        if self.transfers:
            NEW_TRANSFERS.add(tx.apart, self.transfers)


def available_to(
    tx: Tx, holder: str, promotion_ids: Iterable[str], counter: str = ""
) -> dict[str, list[Allotment]]:
    """`available` in a transaction, after what the batch has spent so far."""
    late = tx.late(_Spent)
    wanted = [(holder, promotion_id, counter) for promotion_id in promotion_ids]
    unknown = [key[1] for key in wanted if key not in late.ids]
    if unknown:
        # Nothing of these promotions was put off, so the table is right about them.
        found = available(tx.apart, holder, unknown, counter)
        for promotion_id in unknown:
            parts = found.get(promotion_id, [])
            late.ids[holder, promotion_id, counter] = [part.allotment_id for part in parts]
            late.parts.update({part.allotment_id: part for part in parts})
    return {key[1]: [late.parts[i] for i in late.ids[key]] for key in wanted if late.ids[key]}


def spend(tx: Tx, allotment_id: str, amounts: Amounts) -> Allotment:
    """Take units that `available_to` has shown in this transaction; gives what is left then."""
    check_not_negative(amounts)
    late = tx.late(_Spent)
    part = late.parts.get(allotment_id)
    if part is None and _take(tx, allotment_id, amounts):
        part = get(tx.connection, allotment_id)
        if part is not None:
            return part
    if part is None or part.state != "open" or not amounts.fits(part.left):
        raise InvariantError("an allotment has what it showed in the same transaction")
    tx.is_dirty = True
    left = Amounts(part.left.uses - amounts.uses, part.left.minor - amounts.minor)
    late.parts[allotment_id] = part = part._replace(left=left)
    late.taken[allotment_id] = _sum(late.taken.get(allotment_id), amounts)
    return part


def settle_own(tx: Tx, promotion_id: str, holder: str, amounts: Amounts, reference: str) -> None:
    """Spent from a part of this server's own budget: `spend` has taken it from the row already."""
    check_not_negative(amounts)
    tx.is_dirty = True
    late = tx.late(_Spent)
    late.settled[promotion_id] = _sum(late.settled.get(promotion_id), amounts)
    late.transfers.append(
        Transfer(promotion_id, opened(holder), _SPENT, *amounts, "settle", reference, tx.now_ms)
    )


def _take(tx: Tx, allotment_id: str, amounts: Amounts) -> bool:
    """Take units of a part: for this process, where there are several."""
    if tx.process is not None:
        return take_portion(tx, tx.process, allotment_id, amounts)
    if take(tx, allotment_id, amounts) is not None:
        return True
    gather(tx, allotment_id)  # there were several processes once
    return take(tx, allotment_id, amounts) is not None


def _sum(known: Amounts | None, added: Amounts) -> Amounts:
    if known is None:
        return added
    return Amounts(known.uses + added.uses, known.minor + added.minor)


def begin_closing(tx: Tx, allotment_id: str) -> None:
    """Spend no more of an open part; what is reserved from it may still be used or given back."""
    tx.write(
        sa.update(allotments)
        .where(allotments.c.allotment_id == allotment_id, allotments.c.state == "open")
        .values(is_closing=True)
    )


def close(tx: Tx, allotment_id: str) -> Amounts:
    """Give up a part for good; gives what was left of it. Only then may the promiser be told.

    For a part of another server's budget; of its own, this server `reclaim`s it.
    """
    row = get(tx.connection, allotment_id)
    if row is None or row.state != "open":
        return Amounts(0, 0)
    gather(tx, allotment_id)
    tx.write(
        sa.update(allotments)
        .where(allotments.c.allotment_id == allotment_id)
        .values(state="closed", is_closing=False)
    )
    return row.left


def closing(connection: sa.Connection) -> list[Allotment]:
    """Open parts that are to be closed when nothing is reserved from them any more."""
    return [allotment_of(row) for row in _CLOSING.rows(connection)]


_CLOSING = Prepared(
    sa.select(*COLUMNS).where(allotments.c.is_closing, allotments.c.state == "open")
)


_AVAILABLE = Prepared(
    sa.select(*COLUMNS)
    .where(
        allotments.c.promotion_id == sa.bindparam("promotion_id"),
        allotments.c.counter == sa.bindparam("name"),
        allotments.c.holder == sa.bindparam("holder"),
        allotments.c.state == "open",
        sa.not_(allotments.c.is_closing),
    )
    .order_by(allotments.c.created_at_ms, allotments.c.allotment_id)
)
