"""A budget's balances, and every move between its accounts, by double entry."""

from functools import cache, lru_cache
from typing import NamedTuple

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.ledger import Amounts, Budget
from sconto.ledger.budget import Account
from sconto.store.ledger.parts import MINOR, USES, Allotment, check_not_negative
from sconto.store.prepared import NewRows, Prepared, insert_into
from sconto.store.schema import budgets, transfers
from sconto.store.writer import Tx

UNITS = ("uses", "minor")


def open_budget(tx: Tx, promotion_id: str, cap: Amounts, reference: str, counter: str = "") -> None:
    """The budget of a new promotion, or of a counter that its merchants share: all is free."""
    zero = dict.fromkeys(
        (f"{account}_{unit}" for account in ("open", "spent", "written_off") for unit in UNITS), 0
    )
    tx.write(
        sa.insert(budgets).values(
            promotion_id=promotion_id,
            counter=counter,
            cap_uses=cap.uses,
            free_uses=cap.uses,
            cap_minor=cap.minor,
            free_minor=cap.minor,
            **zero,
        )
    )
    transfer(tx, promotion_id, Account.WORLD, Account.FREE, cap, "open", reference, counter=counter)


def top_up(tx: Tx, promotion_id: str, added: Amounts, reference: str) -> None:
    """The cap grows, and what is free with it. Terms stay as they are."""
    changed = tx.write(
        sa.update(budgets)
        .where(budgets.c.promotion_id == promotion_id, budgets.c.counter == "")
        .values(
            cap_uses=budgets.c.cap_uses + added.uses,
            free_uses=budgets.c.free_uses + added.uses,
            cap_minor=budgets.c.cap_minor + added.minor,
            free_minor=budgets.c.free_minor + added.minor,
        )
    )
    invariant(changed.rowcount == 1, "a budget that is topped up is there")
    transfer(tx, promotion_id, Account.WORLD, Account.FREE, added, "top_up", reference)


def budget_of(connection: sa.Connection, promotion_id: str, counter: str = "") -> Budget | None:
    """The balances of a promotion that this server promises, or of a counter of its."""
    row = _BUDGET.first(connection, promotion_id=promotion_id, counter=counter)
    if row is None:
        return None
    return Budget(*(Amounts(*row[place : place + 2]) for place in range(0, len(row), 2)))


_BUDGET = Prepared(
    sa.select(
        *(
            budgets.c[f"{account}_{unit}"]
            for account in ("cap", "free", "open", "spent", "written_off")
            for unit in UNITS
        )
    ).where(
        budgets.c.promotion_id == sa.bindparam("promotion_id"),
        budgets.c.counter == sa.bindparam("counter"),
    )
)


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
    move_units(tx, part.promotion_id, str(debit), str(credit), amounts, part.counter)
    held = opened(part.holder)
    from_, to = (held if one == Account.OPEN else str(one) for one in (debit, credit))
    transfer(tx, part.promotion_id, from_, to, amounts, reason, reference, counter=part.counter)


def move_units(
    tx: Tx, promotion_id: str, debit: str, credit: str, amounts: Amounts, counter: str = ""
) -> None:
    check_not_negative(amounts)
    changed = _move_between(debit, credit).run(
        tx.changing(),
        promotion=promotion_id,
        name=counter,
        uses=amounts.uses,
        minor=amounts.minor,
    )
    invariant(changed == 1, "a budget is there for its own allotments")


def transfer(
    tx: Tx,
    promotion_id: str,
    debit: str,
    credit: str,
    amounts: Amounts,
    reason: str,
    reference: str,
    *,
    counter: str = "",
) -> None:
    row = Transfer(
        promotion_id, str(debit), str(credit), *amounts, reason, reference, tx.now_ms, counter
    )
    INSERT_TRANSFER.run(tx.changing(), **row._asdict())


class Transfer(NamedTuple):
    """A row of the books."""

    promotion_id: str
    debit: str
    credit: str
    uses: int
    minor: int
    reason: str
    reference: str
    at_ms: int
    counter: str = ""


@lru_cache(64)
def opened(holder: str) -> str:
    return f"{Account.OPEN}:{holder}"


INSERT_TRANSFER = Prepared(insert_into(transfers, *Transfer._fields))
NEW_TRANSFERS = NewRows(transfers, *Transfer._fields)


@cache
def _move_between(debit: str, credit: str) -> Prepared:
    values = {}
    for unit, change in zip(UNITS, (USES, MINOR), strict=True):
        values[f"{debit}_{unit}"] = budgets.c[f"{debit}_{unit}"] - change
        values[f"{credit}_{unit}"] = budgets.c[f"{credit}_{unit}"] + change
    return Prepared(
        sa.update(budgets)
        .where(
            budgets.c.promotion_id == sa.bindparam("promotion"),
            budgets.c.counter == sa.bindparam("name"),
        )
        .values(**values)
    )
