"""Units that nobody may spend: written off where a holder is silent or a server was restored.

Found again when the holder turns up: what it has spent is settled, what it holds it holds.
"""

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.ledger import UNLIMITED, Amounts
from sconto.ledger.budget import Account
from sconto.store.ledger.budgets import UNITS, budget_of, move, move_units, transfer
from sconto.store.ledger.parts import (
    COLUMNS,
    Allotment,
    allotment_of,
    end,
    gather,
    get,
    insert,
    take,
)
from sconto.store.schema import allotments, budgets
from sconto.store.writer import Tx


def write_off(tx: Tx, allotment_id: str) -> Amounts:
    """A holder is silent: what is left of its part is nobody else's, for ever; gives how much.

    The row keeps it, since what the holder has spent of it may still be reported.
    """
    row = get(tx.connection, allotment_id)
    if row is None or row.state != "open":
        return Amounts(0, 0)
    end(tx, row, "written_off", row.left)
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
    query = sa.select(*COLUMNS).where(allotments.c.state == "open")
    parts = [allotment_of(tuple(row)) for row in tx.read(query)]
    for part in parts:
        write_off(tx, part.allotment_id)
    free = {}
    for row in tx.read(sa.select(budgets)).mappings():
        # Of what is not limited there is always more.
        uses, minor = (0 if row[f"cap_{u}"] >= UNLIMITED else row[f"free_{u}"] for u in UNITS)
        free[row["promotion_id"]] = Amounts(uses, minor)
    for promotion_id, amounts in free.items():
        move_units(tx, promotion_id, "free", "written_off", amounts)
        transfer(
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
    gather(tx, part.allotment_id)
    invariant(take(tx, part.allotment_id, lost) is not None, "an open part has what it showed")
    move(tx, part, Account.OPEN, Account.WRITTEN_OFF, lost, "write_off", part.allotment_id)
    return lost
