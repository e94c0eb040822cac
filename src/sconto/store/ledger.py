"""Budgets and allotments in the database: every move of units is a guarded update and a transfer.

At the server that promises, `budgets` has the balances and each granted allotment a row whose
`left` is what is not settled yet. At the server that spends, the same row's `left` is what it may
still spend. Guards are in the WHERE clause and in CHECK constraints; a row count is always looked
at, so that nothing is given that is not there.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from sconto.base.errors import InvariantError, invariant
from sconto.ledger import Amounts, Budget, Refused, grant_size
from sconto.ledger.budget import Account
from sconto.store.prepared import Prepared, Row, insert_into
from sconto.store.schema import allotments, budgets, transfers
from sconto.store.writer import Tx


class Allotment(NamedTuple):
    """A part of a budget that one holder may spend alone."""

    allotment_id: str
    promotion_id: str
    holder: str
    incarnation: str
    granted: Amounts
    left: Amounts
    state: str


# --- at the server that promises --------------------------------------------------------------


def open_budget(tx: Tx, promotion_id: str, cap: Amounts, reference: str) -> None:
    """A new promotion's budget: everything is free."""
    zero = dict.fromkeys(
        (f"{account}_{unit}" for account in ("open", "spent", "written_off") for unit in _UNITS), 0
    )
    tx.write(
        sa.insert(budgets).values(
            promotion_id=promotion_id,
            cap_uses=cap.uses,
            free_uses=cap.uses,
            cap_minor=cap.minor,
            free_minor=cap.minor,
            **zero,
        )
    )
    _transfer(tx, promotion_id, Account.WORLD, Account.FREE, cap, "open", reference)


def top_up(tx: Tx, promotion_id: str, added: Amounts, reference: str) -> None:
    """The cap grows, and what is free with it. Terms stay as they are."""
    changed = tx.write(
        sa.update(budgets)
        .where(budgets.c.promotion_id == promotion_id)
        .values(
            cap_uses=budgets.c.cap_uses + added.uses,
            free_uses=budgets.c.free_uses + added.uses,
            cap_minor=budgets.c.cap_minor + added.minor,
            free_minor=budgets.c.free_minor + added.minor,
        )
    )
    invariant(changed.rowcount == 1, "a budget that is topped up is there")
    _transfer(tx, promotion_id, Account.WORLD, Account.FREE, added, "top_up", reference)


def budget_of(connection: sa.Connection, promotion_id: str) -> Budget | None:
    """The balances of a promotion that this server promises."""
    row = connection.execute(
        sa.select(budgets).where(budgets.c.promotion_id == promotion_id)
    ).first()
    if row is None:
        return None
    return Budget(
        *(
            Amounts(*(row._mapping[f"{account}_{unit}"] for unit in _UNITS))
            for account in ("cap", "free", "open", "spent", "written_off")
        )
    )


def grant(
    tx: Tx,
    allotment_id: str,
    promotion_id: str,
    *,
    holder: str,
    incarnation: str,
    needed: Amounts,
    holders: int,
) -> Allotment | Refused:
    """Cut a part of what is free for one of `holders` holders; `needed` is the least it wants."""
    budget = budget_of(tx.connection, promotion_id)
    if budget is None:
        return Refused("budget_exhausted", needed, Amounts(0, 0))
    size = grant_size(budget.free, needed, holders)
    if isinstance(size, Refused):
        return size
    _move(tx, promotion_id, "free", "open", size)
    _transfer(tx, promotion_id, Account.FREE, _open(holder), size, "grant", allotment_id)
    allotment = Allotment(allotment_id, promotion_id, holder, incarnation, size, size, "open")
    _insert(tx, allotment)
    return allotment


def extend(tx: Tx, allotment: Allotment, added: Amounts) -> None:
    """Give an open part more of what is free; a redemption takes uses and money from one part."""
    _move(tx, allotment.promotion_id, "free", "open", added)
    _transfer(
        tx,
        allotment.promotion_id,
        Account.FREE,
        _open(allotment.holder),
        added,
        "grant",
        allotment.allotment_id,
    )
    grown = tx.write(
        sa.update(allotments)
        .where(allotments.c.allotment_id == allotment.allotment_id, allotments.c.state == "open")
        .values(
            granted_uses=allotments.c.granted_uses + added.uses,
            granted_minor=allotments.c.granted_minor + added.minor,
            left_uses=allotments.c.left_uses + added.uses,
            left_minor=allotments.c.left_minor + added.minor,
        )
    )
    invariant(grown.rowcount == 1, "a part that was shown to be open is open")


def settle(tx: Tx, allotment_id: str, amounts: Amounts, reference: str) -> bool:
    """A holder spent from its part: open to spent. False when it claims more than it has left."""
    row = _take(tx, allotment_id, amounts)
    if row is None:
        return False
    _move(tx, row.promotion_id, "open", "spent", amounts)
    _transfer(tx, row.promotion_id, _open(row.holder), Account.SPENT, amounts, "settle", reference)
    return True


def settle_own(tx: Tx, promotion_id: str, holder: str, amounts: Amounts, reference: str) -> None:
    """Spent from a part of this server's own budget: `spend` has taken it from the row already."""
    _invariant_not_negative(amounts)
    tx.is_dirty = True
    late = tx.late(_Spent)
    late.settled[promotion_id] = _sum(late.settled.get(promotion_id), amounts)
    late.transfers.append(
        _transfer_row(tx, promotion_id, _open(holder), Account.SPENT, amounts, "settle", reference)
    )


def unsettle(tx: Tx, allotment_id: str, amounts: Amounts, reference: str) -> None:
    """A reported redemption was reversed: spent goes back to the part, or to free if it closed."""
    row = get(tx.connection, allotment_id)
    invariant(row is not None, "a reversed redemption was settled from a known allotment")
    if row is None:
        return
    if give_back(tx, allotment_id, amounts):
        _move(tx, row.promotion_id, "spent", "open", amounts)
        credit = _open(row.holder)
    else:
        _move(tx, row.promotion_id, "spent", "free", amounts)
        credit = Account.FREE
    _transfer(tx, row.promotion_id, Account.SPENT, credit, amounts, "reverse", reference)


def reclaim(tx: Tx, allotment_id: str) -> Amounts:
    """A holder has durably closed its part: what is left of it is free again, once."""
    return _end(tx, allotment_id, "closed", "free", Account.FREE, "close")


def write_off(tx: Tx, allotment_id: str) -> Amounts:
    """A holder is silent: what is left of its part will not be spent by anybody else."""
    return _end(tx, allotment_id, "written_off", "written_off", Account.WRITTEN_OFF, "write_off")


def _end(tx: Tx, allotment_id: str, state: str, account: str, credit: str, reason: str) -> Amounts:
    row = get(tx.connection, allotment_id)
    if row is None or row.state != "open":
        return Amounts(0, 0)
    ended = tx.write(
        sa.update(allotments)
        .where(
            allotments.c.allotment_id == allotment_id,
            allotments.c.state == "open",
            allotments.c.left_uses == row.left.uses,
            allotments.c.left_minor == row.left.minor,
        )
        .values(state=state, left_uses=0, left_minor=0)
    )
    invariant(ended.rowcount == 1, "an allotment has what it showed in the same transaction")
    _move(tx, row.promotion_id, "open", account, row.left)
    _transfer(tx, row.promotion_id, _open(row.holder), credit, row.left, reason, allotment_id)
    return row.left


# --- at the server that spends ----------------------------------------------------------------


def accept(tx: Tx, allotment: Allotment) -> bool:
    """Take a granted part into possession; False when it was here before (no effect)."""
    if get(tx.connection, allotment.allotment_id) is not None:
        return False
    _insert(tx, allotment)
    return True


def available(
    connection: sa.Connection, holder: str, promotion_ids: Iterable[str]
) -> dict[str, list[Allotment]]:
    """The open parts of a holder by promotion, oldest first."""
    result = {}
    for promotion_id in promotion_ids:
        rows = _AVAILABLE.rows(connection, promotion_id=promotion_id, holder=holder)
        if rows:
            result[promotion_id] = [_allotment(row) for row in rows]
    return result


class _Spent:
    """What a batch of checkouts takes: one guarded update of each part and of each budget."""

    def __init__(self) -> None:
        #: Ids of the open parts by holder and promotion, and the parts as the batch leaves them.
        self.ids: dict[tuple[str, str], list[str]] = {}
        self.parts: dict[str, Allotment] = {}
        self.taken: dict[str, Amounts] = {}
        self.settled: dict[str, Amounts] = {}
        self.transfers: list[dict[str, Any]] = []

    def do(self, tx: Tx) -> None:
        for allotment_id, amounts in self.taken.items():
            left = _take(tx, allotment_id, amounts)
            invariant(left is not None, "a part has what it showed to the batch")
        for promotion_id, amounts in self.settled.items():
            _move(tx, promotion_id, "open", "spent", amounts)
        if self.transfers:
            _INSERT_TRANSFER.run_many(tx.apart, self.transfers)


def available_to(tx: Tx, holder: str, promotion_ids: Iterable[str]) -> dict[str, list[Allotment]]:
    """`available` in a transaction, after what the batch has spent so far."""
    late = tx.late(_Spent)
    wanted = [(holder, promotion_id) for promotion_id in promotion_ids]
    unknown = [promotion_id for _, promotion_id in wanted if (holder, promotion_id) not in late.ids]
    if unknown:
        # Nothing of these promotions was put off, so the table is right about them.
        found = available(tx.apart, holder, unknown)
        for promotion_id in unknown:
            parts = found.get(promotion_id, [])
            late.ids[holder, promotion_id] = [part.allotment_id for part in parts]
            late.parts.update({part.allotment_id: part for part in parts})
    return {key[1]: [late.parts[i] for i in late.ids[key]] for key in wanted if late.ids[key]}


def spend(tx: Tx, allotment_id: str, amounts: Amounts) -> Allotment:
    """Take units that `available_to` has shown in this transaction; gives what is left then."""
    _invariant_not_negative(amounts)
    late = tx.late(_Spent)
    part = late.parts.get(allotment_id)
    if part is None:
        part = _take(tx, allotment_id, amounts)
        if part is not None:
            return part
    if part is None or part.state != "open" or not amounts.fits(part.left):
        raise InvariantError("an allotment has what it showed in the same transaction")
    tx.is_dirty = True
    left = Amounts(part.left.uses - amounts.uses, part.left.minor - amounts.minor)
    late.parts[allotment_id] = part = part._replace(left=left)
    late.taken[allotment_id] = _sum(late.taken.get(allotment_id), amounts)
    return part


def _sum(known: Amounts | None, added: Amounts) -> Amounts:
    if known is None:
        return added
    return Amounts(known.uses + added.uses, known.minor + added.minor)


def give_back(tx: Tx, allotment_id: str, amounts: Amounts) -> bool:
    """Return units to an open part; False when it is not open any more."""
    _invariant_not_negative(amounts)
    changed = _GIVE_BACK.run(
        tx.changing(), allotment=allotment_id, uses=amounts.uses, minor=amounts.minor
    )
    return changed == 1


def close(tx: Tx, allotment_id: str) -> Amounts:
    """Give up a part for good; gives what was left of it. Only then may the promiser be told.

    For a part of another server's budget; of its own, this server `reclaim`s it.
    """
    row = get(tx.connection, allotment_id)
    if row is None or row.state != "open":
        return Amounts(0, 0)
    tx.write(
        sa.update(allotments)
        .where(allotments.c.allotment_id == allotment_id)
        .values(state="closed")
    )
    return row.left


# --- both -------------------------------------------------------------------------------------


def get(connection: sa.Connection, allotment_id: str) -> Allotment | None:
    """One allotment."""
    row = _GET.first(connection, allotment_id=allotment_id)
    return None if row is None else _allotment(row)


def of_promotion(connection: sa.Connection, promotion_id: str) -> list[Allotment]:
    """All allotments of a promotion, oldest first."""
    query = (
        sa.select(*_ALLOTMENT)
        .where(allotments.c.promotion_id == promotion_id)
        .order_by(allotments.c.created_at_ms, allotments.c.allotment_id)
    )
    return [_allotment(tuple(row)) for row in connection.execute(query)]


_UNITS = ("uses", "minor")
_ALLOTMENT = [
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
    )
]
_USES: sa.BindParameter[int] = sa.bindparam("uses", type_=sa.BigInteger)
_MINOR: sa.BindParameter[int] = sa.bindparam("minor", type_=sa.BigInteger)

_GET = Prepared(
    sa.select(*_ALLOTMENT).where(allotments.c.allotment_id == sa.bindparam("allotment_id"))
)
_AVAILABLE = Prepared(
    sa.select(*_ALLOTMENT)
    .where(
        allotments.c.promotion_id == sa.bindparam("promotion_id"),
        allotments.c.holder == sa.bindparam("holder"),
        allotments.c.state == "open",
    )
    .order_by(allotments.c.created_at_ms, allotments.c.allotment_id)
)
_TAKE = Prepared(
    sa.update(allotments)
    .where(
        allotments.c.allotment_id == sa.bindparam("allotment"),
        allotments.c.state == "open",
        allotments.c.left_uses >= _USES,
        allotments.c.left_minor >= _MINOR,
    )
    .values(
        left_uses=allotments.c.left_uses - _USES,
        left_minor=allotments.c.left_minor - _MINOR,
    )
    .returning(*_ALLOTMENT)
)
_GIVE_BACK = Prepared(
    sa.update(allotments)
    .where(allotments.c.allotment_id == sa.bindparam("allotment"), allotments.c.state == "open")
    .values(
        left_uses=allotments.c.left_uses + _USES,
        left_minor=allotments.c.left_minor + _MINOR,
    )
)
_INSERT = Prepared(insert_into(allotments))
_INSERT_TRANSFER = Prepared(
    insert_into(
        transfers,
        "promotion_id",
        "debit",
        "credit",
        "uses",
        "minor",
        "reason",
        "reference",
        "at_ms",
    )
)


@cache
def _move_between(debit: str, credit: str) -> Prepared:
    values = {}
    for unit, change in zip(_UNITS, (_USES, _MINOR), strict=True):
        values[f"{debit}_{unit}"] = budgets.c[f"{debit}_{unit}"] - change
        values[f"{credit}_{unit}"] = budgets.c[f"{credit}_{unit}"] + change
    return Prepared(
        sa.update(budgets)
        .where(budgets.c.promotion_id == sa.bindparam("promotion"))
        .values(**values)
    )


def _open(holder: str) -> str:
    return f"{Account.OPEN}:{holder}"


def _allotment(row: Row) -> Allotment:
    return Allotment(
        row[0],
        row[1],
        row[2],
        row[3],
        granted=Amounts(row[4], row[5]),
        left=Amounts(row[6], row[7]),
        state=row[8],
    )


def _insert(tx: Tx, allotment: Allotment) -> None:
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
        created_at_ms=tx.now_ms,
    )


def _take(tx: Tx, allotment_id: str, amounts: Amounts) -> Allotment | None:
    """What is left of an open part after `amounts` were taken; None: it has less than that."""
    _invariant_not_negative(amounts)
    row = _TAKE.first(tx.changing(), allotment=allotment_id, uses=amounts.uses, minor=amounts.minor)
    return None if row is None else _allotment(row)


def _invariant_not_negative(amounts: Amounts) -> None:
    invariant(min(amounts) >= 0, "units move in the direction that the move is named after")


def _move(tx: Tx, promotion_id: str, debit: str, credit: str, amounts: Amounts) -> None:
    _invariant_not_negative(amounts)
    changed = _move_between(debit, credit).run(
        tx.changing(), promotion=promotion_id, uses=amounts.uses, minor=amounts.minor
    )
    invariant(changed == 1, "a budget is there for its own allotments")


def _transfer(
    tx: Tx,
    promotion_id: str,
    debit: str,
    credit: str,
    amounts: Amounts,
    reason: str,
    reference: str,
) -> None:
    row = _transfer_row(tx, promotion_id, debit, credit, amounts, reason, reference)
    _INSERT_TRANSFER.run(tx.changing(), **row)


def _transfer_row(
    tx: Tx,
    promotion_id: str,
    debit: str,
    credit: str,
    amounts: Amounts,
    reason: str,
    reference: str,
) -> dict[str, Any]:
    return {
        "promotion_id": promotion_id,
        "debit": str(debit),
        "credit": str(credit),
        "uses": amounts.uses,
        "minor": amounts.minor,
        "reason": reason,
        "reference": reference,
        "at_ms": tx.now_ms,
    }
