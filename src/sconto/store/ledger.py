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
from sconto.ledger import UNLIMITED, Amounts, Budget, Refused, grant_size
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
    #: Incarnation of the server that granted it.
    epoch: str = ""
    #: Its holder spends no more of it, and closes it when nothing is reserved from it any more.
    is_closing: bool = False
    #: The promiser's signature under the grant, where another server holds it.
    proof: str | None = None


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
    epoch: str = "",
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
    allotment = Allotment(
        allotment_id, promotion_id, holder, incarnation, size, size, "open", epoch
    )
    insert(tx, allotment)
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
    """A holder spent from its part: open to spent. False when it claims more than it has left.

    A part that was written off still honours what its silent holder spent of it.
    """
    row = _take(tx, allotment_id, amounts)
    debit = Account.OPEN
    if row is None:
        row = _take(tx, allotment_id, amounts, _TAKE_WRITTEN_OFF)
        debit = Account.WRITTEN_OFF
    if row is None:
        return False
    move(tx, row, debit, Account.SPENT, amounts, "settle", reference)
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


def unsettle(tx: Tx, allotment_id: str, amounts: Amounts, reference: str, epoch: str = "") -> None:
    """A reported redemption was reversed: spent goes back to where its part is.

    To an open part, whose holder may spend it again. To one that was written off: its holder may
    do so too, unaware, so that nobody else may have it. Else to what is free in this `epoch`.
    """
    row = get(tx.connection, allotment_id)
    invariant(row is not None, "a reversed redemption was settled from a known allotment")
    if row is None:
        return
    credit = Account.OPEN
    if not give_back(tx, allotment_id, amounts):
        if _restore(tx, _GIVE_BACK_WRITTEN_OFF, allotment_id, amounts):
            credit = Account.WRITTEN_OFF
        else:
            credit = _freed_as(row, epoch)
    move(tx, row, Account.SPENT, credit, amounts, "reverse", reference)


def reclaim(tx: Tx, allotment_id: str, spent: Amounts | None = None, *, epoch: str = "") -> Amounts:
    """A holder has durably closed its part: what it has not spent of it is free again, once.

    `spent` is what it says that it spent. What we have not settled of that (a report that we could
    not read, or dispute) is written off, so that it is never given out twice. So is all of a part
    that was granted in another `epoch`. Gives what has become free.
    """
    row = get(tx.connection, allotment_id)
    if row is None or row.state != "open":
        return Amounts(0, 0)
    settled = Amounts(row.granted.uses - row.left.uses, row.granted.minor - row.left.minor)
    claimed = settled if spent is None else spent
    invariant(settled.fits(claimed), "a holder has spent what we have settled")
    invariant(claimed.fits(row.granted), "a holder has spent no more than it was granted")
    owed = Amounts(claimed.uses - settled.uses, claimed.minor - settled.minor)
    rest = Amounts(row.left.uses - owed.uses, row.left.minor - owed.minor)
    _end(tx, row, "closed", Amounts(0, 0))
    if any(owed):
        move(tx, row, Account.OPEN, Account.WRITTEN_OFF, owed, "unaccounted", allotment_id)
    credit = _freed_as(row, epoch)
    move(tx, row, Account.OPEN, credit, rest, "close", allotment_id)
    return rest if credit == Account.FREE else Amounts(0, 0)


def write_off(tx: Tx, allotment_id: str) -> Amounts:
    """A holder is silent: what is left of its part is nobody else's, for ever; gives how much.

    The row keeps it, since what the holder has spent of it may still be reported.
    """
    row = get(tx.connection, allotment_id)
    if row is None or row.state != "open":
        return Amounts(0, 0)
    _end(tx, row, "written_off", row.left)
    move(tx, row, Account.OPEN, Account.WRITTEN_OFF, row.left, "write_off", allotment_id)
    return row.left


def reopen(tx: Tx, part: Allotment) -> None:
    """The holder of a part that was written off is there after all, and spends it alone."""
    changed = tx.write(
        sa.update(allotments)
        .where(allotments.c.allotment_id == part.allotment_id, allotments.c.state == "written_off")
        .values(state="open")
    )
    invariant(changed.rowcount == 1, "a part that was shown to be written off is")
    move(tx, part, Account.WRITTEN_OFF, Account.OPEN, part.left, "present", part.allotment_id)


def begin_epoch(tx: Tx, before: str) -> dict[str, int]:
    """A restored backup: nothing of any budget is free, and nobody is known to hold a part.

    What was granted in the epoch `before` and since may be spent; all of it is written off.
    """
    tx.write(sa.update(allotments).where(allotments.c.epoch == "").values(epoch=before))
    query = sa.select(*_ALLOTMENT).where(allotments.c.state == "open")
    parts = [_allotment(tuple(row)) for row in tx.read(query)]
    for part in parts:
        write_off(tx, part.allotment_id)
    free = {}
    for row in tx.read(sa.select(budgets)).mappings():
        # Of what is not limited there is always more.
        uses, minor = (0 if row[f"cap_{u}"] >= UNLIMITED else row[f"free_{u}"] for u in _UNITS)
        free[row["promotion_id"]] = Amounts(uses, minor)
    for promotion_id, amounts in free.items():
        _move(tx, promotion_id, "free", "written_off", amounts)
        _transfer(
            tx, promotion_id, Account.FREE, Account.WRITTEN_OFF, amounts, "epoch", promotion_id
        )
    return {"budgets": len(free), "parts": len(parts)}


def take_up(tx: Tx, part: Allotment) -> bool:
    """Open a part that a backup did not know; False: there is not so much that may be it.

    Its units are among those that the epoch began by writing off; what is not limited is free.
    """
    budget = budget_of(tx.connection, part.promotion_id)
    if budget is None:
        return False
    dimensions = list(zip(part.granted, budget.cap, strict=True))
    lost = Amounts(*(0 if cap >= UNLIMITED else granted for granted, cap in dimensions))
    free = Amounts(*(granted if cap >= UNLIMITED else 0 for granted, cap in dimensions))
    if not lost.fits(budget.written_off) or not free.fits(budget.free):
        return False
    insert(tx, part)
    move(tx, part, Account.WRITTEN_OFF, Account.OPEN, lost, "present", part.allotment_id)
    move(tx, part, Account.FREE, Account.OPEN, free, "present", part.allotment_id)
    return True


def write_off_own(tx: Tx, part: Allotment) -> Amounts:
    """Nobody may spend what is left of this server's own budget, where that is limited."""
    budget = budget_of(tx.connection, part.promotion_id)
    invariant(budget is not None, "a budget is there for its own allotments")
    if budget is None:
        return Amounts(0, 0)
    caps = zip(part.left, budget.cap, strict=True)
    lost = Amounts(*(0 if cap >= UNLIMITED else left for left, cap in caps))
    invariant(_take(tx, part.allotment_id, lost) is not None, "an open part has what it showed")
    move(tx, part, Account.OPEN, Account.WRITTEN_OFF, lost, "write_off", part.allotment_id)
    return lost


def _end(tx: Tx, row: Allotment, state: str, left: Amounts) -> None:
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


def _freed_as(row: Allotment, epoch: str) -> Account:
    """Where units go that nobody holds any more: those of an old epoch may be granted again."""
    return Account.FREE if row.epoch in ("", epoch) else Account.WRITTEN_OFF


def move(
    tx: Tx,
    part: Allotment,
    debit: Account,
    credit: Account,
    amounts: Amounts,
    reason: str,
    reference: str,
) -> None:
    """Move units of a part between two accounts of its budget, by double entry."""
    _move(tx, part.promotion_id, str(debit), str(credit), amounts)
    opened = _open(part.holder)
    from_, to = (opened if one == Account.OPEN else str(one) for one in (debit, credit))
    _transfer(tx, part.promotion_id, from_, to, amounts, reason, reference)


# --- at the server that spends ----------------------------------------------------------------


def accept(tx: Tx, allotment: Allotment) -> bool:
    """Take a granted part into possession; False when it was here before (no effect)."""
    if get(tx.connection, allotment.allotment_id) is not None:
        return False
    insert(tx, allotment)
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
    return _restore(tx, _GIVE_BACK, allotment_id, amounts)


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
    tx.write(
        sa.update(allotments)
        .where(allotments.c.allotment_id == allotment_id)
        .values(state="closed", is_closing=False)
    )
    return row.left


def closing(connection: sa.Connection) -> list[Allotment]:
    """Open parts that are to be closed when nothing is reserved from them any more."""
    query = sa.select(*_ALLOTMENT).where(allotments.c.is_closing, allotments.c.state == "open")
    return [_allotment(tuple(row)) for row in connection.execute(query)]


# --- both -------------------------------------------------------------------------------------


def get(connection: sa.Connection, allotment_id: str) -> Allotment | None:
    """One allotment."""
    row = _GET.first(connection, allotment_id=allotment_id)
    return None if row is None else _allotment(row)


def open_of(connection: sa.Connection, holder: str) -> list[Allotment]:
    """All open parts of a holder."""
    query = (
        sa.select(*_ALLOTMENT)
        .where(allotments.c.holder == holder, allotments.c.state == "open")
        .order_by(allotments.c.promotion_id, allotments.c.created_at_ms, allotments.c.allotment_id)
    )
    return [_allotment(tuple(row)) for row in connection.execute(query)]


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
        "epoch",
        "is_closing",
        "proof",
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
        sa.not_(allotments.c.is_closing),
    )
    .order_by(allotments.c.created_at_ms, allotments.c.allotment_id)
)


def _taking(state: str) -> Prepared:
    return Prepared(
        sa.update(allotments)
        .where(
            allotments.c.allotment_id == sa.bindparam("allotment"),
            allotments.c.state == state,
            allotments.c.left_uses >= _USES,
            allotments.c.left_minor >= _MINOR,
        )
        .values(
            left_uses=allotments.c.left_uses - _USES,
            left_minor=allotments.c.left_minor - _MINOR,
        )
        .returning(*_ALLOTMENT)
    )


def _giving_back(state: str) -> Prepared:
    return Prepared(
        sa.update(allotments)
        .where(allotments.c.allotment_id == sa.bindparam("allotment"), allotments.c.state == state)
        .values(
            left_uses=allotments.c.left_uses + _USES,
            left_minor=allotments.c.left_minor + _MINOR,
        )
    )


_TAKE, _TAKE_WRITTEN_OFF = _taking("open"), _taking("written_off")
_GIVE_BACK, _GIVE_BACK_WRITTEN_OFF = _giving_back("open"), _giving_back("written_off")
_INSERT = Prepared(
    insert_into(allotments, *(one.name for one in _ALLOTMENT), "created_at_ms"),
)
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
        epoch=row[9],
        is_closing=row[10],
        proof=row[11],
    )


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
        created_at_ms=tx.now_ms,
    )


def _take(
    tx: Tx, allotment_id: str, amounts: Amounts, taking: Prepared = _TAKE
) -> Allotment | None:
    """What is left of a part after `amounts` were taken; None: it has less than that."""
    _invariant_not_negative(amounts)
    row = taking.first(
        tx.changing(), allotment=allotment_id, uses=amounts.uses, minor=amounts.minor
    )
    return None if row is None else _allotment(row)


def _restore(tx: Tx, giving_back: Prepared, allotment_id: str, amounts: Amounts) -> bool:
    _invariant_not_negative(amounts)
    changed = giving_back.run(
        tx.changing(), allotment=allotment_id, uses=amounts.uses, minor=amounts.minor
    )
    return changed == 1


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
