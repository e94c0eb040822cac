"""Units that nobody may spend: written off where a holder is silent or a server was restored.

Found again when the holder turns up: what it has spent is settled, what it holds it holds.
"""

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.ledger import UNLIMITED, Amounts
from sconto.ledger.budget import Account
from sconto.store.ledger.budgets import budget_of, move, move_units, transfer
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
from sconto.store.schema import allotments, budgets, epochs
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


def begin_epoch(tx: Tx, before: str, epoch: str) -> dict[str, int]:
    """A restored backup: nothing of any budget is free, and nobody is known to hold a part.

    What was granted in the epoch `before` and since may be spent; all of it is written off.
    """
    tx.write(sa.update(allotments).where(allotments.c.epoch == "").values(epoch=before))
    query = sa.select(*COLUMNS).where(allotments.c.state == "open")
    parts = [allotment_of(tuple(row)) for row in tx.read(query)]
    for part in parts:
        write_off(tx, part.allotment_id)
    keys = tx.read(sa.select(budgets.c.promotion_id, budgets.c.counter)).all()
    for key in keys:
        write_off_free(tx, key.promotion_id, key.counter)
    tx.write(sa.insert(epochs).values(epoch=epoch, began_at_ms=tx.now_ms))
    return {"budgets": len(keys), "parts": len(parts)}


def write_off_free(tx: Tx, promotion_id: str, counter: str) -> None:
    """What is free of a budget may have been granted, and that is forgotten."""
    budget = budget_of(tx.connection, promotion_id, counter)
    invariant(budget is not None, "a budget that is written off is there")
    if budget is None:
        return
    # Of what is not limited there is always more.
    parts = zip(budget.cap, budget.free, strict=True)
    amounts = Amounts(*(0 if cap >= UNLIMITED else free for cap, free in parts))
    move_units(tx, promotion_id, "free", "written_off", amounts, counter)
    transfer(
        tx,
        promotion_id,
        Account.FREE,
        Account.WRITTEN_OFF,
        amounts,
        "epoch",
        promotion_id,
        counter=counter,
    )


def restored_at_ms(connection: sa.Connection) -> int | None:
    """When this server last became another epoch; None: it is the first one."""
    found: int | None = connection.scalar(sa.select(sa.func.max(epochs.c.began_at_ms)))
    return found


def take_up(tx: Tx, part: Allotment) -> bool:
    """Open a part that a backup did not know; False: there is not so much that may be it.

    Its units are among those that the epoch began by writing off; what is not limited is free.
    """
    budget = budget_of(tx.connection, part.promotion_id, part.counter)
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
