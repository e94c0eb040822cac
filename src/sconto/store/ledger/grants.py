"""At the server that promises: parts are granted, what comes back of them is taken."""

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.ledger import Amounts, Refused, grant_size
from sconto.ledger.budget import Account
from sconto.store.ledger.budgets import budget_of, move
from sconto.store.ledger.parts import (
    Allotment,
    end,
    get,
    give_back,
    insert,
)
from sconto.store.schema import allotments
from sconto.store.writer import Tx


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
    counter: str = "",
) -> Allotment | Refused:
    """Cut a part of what is free for one of `holders` holders; `needed` is the least it wants."""
    budget = budget_of(tx.connection, promotion_id, counter)
    if budget is None:
        return Refused("budget_exhausted", needed, Amounts(0, 0))
    size = grant_size(budget.free, needed, holders)
    if isinstance(size, Refused):
        return size
    allotment = Allotment(
        allotment_id, promotion_id, holder, incarnation, size, size, "open", epoch, counter=counter
    )
    move(tx, allotment, Account.FREE, Account.OPEN, size, "grant", allotment_id)
    insert(tx, allotment)
    return allotment


def extend(tx: Tx, allotment: Allotment, added: Amounts) -> None:
    """Give an open part more of what is free; a redemption takes uses and money from one part."""
    move(tx, allotment, Account.FREE, Account.OPEN, added, "grant", allotment.allotment_id)
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
        if give_back(tx, allotment_id, amounts, state="written_off"):
            credit = Account.WRITTEN_OFF
        else:
            credit = freed_as(row, epoch)
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
    end(tx, row, "closed", Amounts(0, 0))
    if any(owed):
        move(tx, row, Account.OPEN, Account.WRITTEN_OFF, owed, "unaccounted", allotment_id)
    credit = freed_as(row, epoch)
    move(tx, row, Account.OPEN, credit, rest, "close", allotment_id)
    return rest if credit == Account.FREE else Amounts(0, 0)


def freed_as(row: Allotment, epoch: str) -> Account:
    """Where units go that nobody holds any more: those of an old epoch may be granted again."""
    return Account.FREE if row.epoch in ("", epoch) else Account.WRITTEN_OFF
