"""Budgets and allotments in the database: every move of units is a guarded update and a transfer.

At the server that promises, `budgets` has the balances and each granted allotment a row whose
`left` is what is not settled yet. At the server that spends, the same row's `left` is what it may
still spend. Guards are in the WHERE clause and in CHECK constraints; a row count is always looked
at, so that nothing is given that is not there.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.ledger import Amounts, Budget, Refused, grant_size
from sconto.ledger.budget import Account
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
    tx.write(
        sa.update(budgets)
        .where(budgets.c.promotion_id == promotion_id)
        .values(
            cap_uses=budgets.c.cap_uses + added.uses,
            free_uses=budgets.c.free_uses + added.uses,
            cap_minor=budgets.c.cap_minor + added.minor,
            free_minor=budgets.c.free_minor + added.minor,
        )
    )
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


def settle(tx: Tx, allotment_id: str, amounts: Amounts, reference: str) -> bool:
    """A holder spent from its part: open to spent. False when it claims more than it has left."""
    row = _take(tx, allotments.c.allotment_id == allotment_id, amounts)
    if row is None:
        return False
    _move(tx, row.promotion_id, "open", "spent", amounts)
    _transfer(tx, row.promotion_id, _open(row.holder), Account.SPENT, amounts, "settle", reference)
    return True


def settle_own(tx: Tx, allotment: Allotment, amounts: Amounts, reference: str) -> None:
    """Spent from a part of this server's own budget: `spend` has taken it from the row already."""
    _move(tx, allotment.promotion_id, "open", "spent", amounts)
    debit = _open(allotment.holder)
    _transfer(tx, allotment.promotion_id, debit, Account.SPENT, amounts, "settle", reference)


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
    tx.write(
        sa.update(allotments)
        .where(allotments.c.allotment_id == allotment_id)
        .values(state=state, left_uses=0, left_minor=0)
    )
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
    query = (
        sa.select(allotments)
        .where(
            allotments.c.promotion_id.in_(sorted(promotion_ids)),
            allotments.c.holder == holder,
            allotments.c.state == "open",
        )
        .order_by(allotments.c.created_at_ms, allotments.c.allotment_id)
    )
    result: dict[str, list[Allotment]] = {}
    for row in connection.execute(query):
        result.setdefault(row.promotion_id, []).append(_allotment(row))
    return result


def spend(tx: Tx, allotment_id: str, amounts: Amounts) -> Allotment:
    """Take units that `available` has shown in this transaction; gives what is left then."""
    row = _take(tx, allotments.c.allotment_id == allotment_id, amounts)
    invariant(row is not None, "an allotment has what it showed in the same transaction")
    return _allotment(row)


def give_back(tx: Tx, allotment_id: str, amounts: Amounts) -> bool:
    """Return units to an open part; False when it is not open any more."""
    result = tx.write(
        sa.update(allotments)
        .where(allotments.c.allotment_id == allotment_id, allotments.c.state == "open")
        .values(
            left_uses=allotments.c.left_uses + amounts.uses,
            left_minor=allotments.c.left_minor + amounts.minor,
        )
    )
    return result.rowcount == 1


def close(tx: Tx, allotment_id: str) -> Amounts:
    """Give up a part for good; gives what was left of it. Only then may the promiser be told."""
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
    row = connection.execute(
        sa.select(allotments).where(allotments.c.allotment_id == allotment_id)
    ).first()
    return None if row is None else _allotment(row)


def of_promotion(connection: sa.Connection, promotion_id: str) -> list[Allotment]:
    """All allotments of a promotion, oldest first."""
    query = (
        sa.select(allotments)
        .where(allotments.c.promotion_id == promotion_id)
        .order_by(allotments.c.created_at_ms, allotments.c.allotment_id)
    )
    return [_allotment(row) for row in connection.execute(query)]


_UNITS = ("uses", "minor")


def _open(holder: str) -> str:
    return f"{Account.OPEN}:{holder}"


def _allotment(row: Any) -> Allotment:
    return Allotment(
        row.allotment_id,
        row.promotion_id,
        row.holder,
        row.incarnation,
        Amounts(row.granted_uses, row.granted_minor),
        Amounts(row.left_uses, row.left_minor),
        row.state,
    )


def _insert(tx: Tx, allotment: Allotment) -> None:
    tx.write(
        sa.insert(allotments).values(
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
    )


def _take(tx: Tx, which: sa.ColumnElement[bool], amounts: Amounts) -> Any:
    return tx.write(
        sa.update(allotments)
        .where(
            which,
            allotments.c.state == "open",
            allotments.c.left_uses >= amounts.uses,
            allotments.c.left_minor >= amounts.minor,
        )
        .values(
            left_uses=allotments.c.left_uses - amounts.uses,
            left_minor=allotments.c.left_minor - amounts.minor,
        )
        .returning(allotments)
    ).first()


def _move(tx: Tx, promotion_id: str, debit: str, credit: str, amounts: Amounts) -> None:
    values = {}
    for unit in _UNITS:
        change = getattr(amounts, unit)
        values[f"{debit}_{unit}"] = budgets.c[f"{debit}_{unit}"] - change
        values[f"{credit}_{unit}"] = budgets.c[f"{credit}_{unit}"] + change
    result = tx.write(
        sa.update(budgets).where(budgets.c.promotion_id == promotion_id).values(**values)
    )
    invariant(result.rowcount == 1, "a budget is there for its own allotments")


def _transfer(
    tx: Tx,
    promotion_id: str,
    debit: str,
    credit: str,
    amounts: Amounts,
    reason: str,
    reference: str,
) -> None:
    tx.write(
        sa.insert(transfers).values(
            promotion_id=promotion_id,
            debit=debit,
            credit=credit,
            uses=amounts.uses,
            minor=amounts.minor,
            reason=reason,
            reference=reference,
            at_ms=tx.now_ms,
        )
    )
