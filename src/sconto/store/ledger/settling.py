"""Settling at the server that promises, many reports at a time: what they move is summed up.

Parts are read once; each report then sees what those before it have left; in the end there is one
guarded update of each part and of each budget, and a transfer for each report.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.ledger import Amounts
from sconto.ledger.budget import Account
from sconto.store.ledger.budgets import NEW_TRANSFERS, UNITS, opened
from sconto.store.ledger.grants import freed_as
from sconto.store.ledger.parts import Allotment, some
from sconto.store.prepared import Prepared, Row
from sconto.store.schema import allotments, budgets
from sconto.store.writer import Tx


class _Part:
    """A part, and what the reports have taken from it and given back to it."""

    __slots__ = ("allotment", "by_minor", "by_uses", "held", "home")

    def __init__(self, allotment: Allotment) -> None:
        self.allotment = allotment
        self.by_uses = self.by_minor = 0
        self.held = opened(allotment.holder)
        #: The account that its units are in; None: it is closed, and has none.
        self.home = {"open": Account.OPEN, "written_off": Account.WRITTEN_OFF}.get(allotment.state)

    def has(self, uses: int, minor: int) -> bool:
        left = self.allotment.left
        return uses <= left.uses + self.by_uses and minor <= left.minor + self.by_minor


class Settling:
    """Parts of budgets while reports are applied to them, and all that these move.

    `epoch` is the server's own: units of parts of another one do not become free.
    """

    def __init__(self, tx: Tx, allotment_ids: Sequence[str], epoch: str) -> None:
        self._tx = tx
        self._epoch = epoch
        self._parts = {one.allotment_id: _Part(one) for one in some(tx.connection, allotment_ids)}
        #: Sums in uses and minor units by promotion, counter, debit and credit.
        self._moved: dict[tuple[str, str, Account, Account], list[int]] = {}
        self._transfers: list[Row] = []

    def allotment(self, allotment_id: str) -> Allotment | None:
        """A part as it was before; None: there is none, or it was not asked for."""
        part = self._parts.get(allotment_id)
        return None if part is None else part.allotment

    def has(self, allotment_id: str, amounts: Amounts) -> bool:
        """Whether `settle` would do it."""
        part = self._parts.get(allotment_id)
        return part is not None and part.home is not None and part.has(*amounts)

    def settle(self, allotment_id: str, amounts: Amounts, reference: str) -> bool:
        """A holder spent from its part: open to spent. False when it claims more than it has left.

        A part that was written off still honours what its silent holder spent of it.
        """
        uses, minor = amounts
        part = self._parts.get(allotment_id)
        if part is None or part.home is None or not part.has(uses, minor):
            return False
        part.by_uses -= uses
        part.by_minor -= minor
        self._move(part, part.home, Account.SPENT, amounts, "settle", reference)
        return True

    def unsettle(self, allotment_id: str, amounts: Amounts, reference: str) -> None:
        """A reported redemption was reversed: spent goes back to where its part is.

        To an open part, whose holder may spend it again. To one that was written off: its holder
        may do so too, unaware, so that nobody else may have it. Else to what is free.
        """
        part = self._parts[allotment_id]
        if part.home is not None:
            part.by_uses += amounts.uses
            part.by_minor += amounts.minor
        credit = part.home or freed_as(part.allotment, self._epoch)
        self._move(part, Account.SPENT, credit, amounts, "reverse", reference)

    def write(self) -> None:
        """Make the changes."""
        if not self._transfers:
            return
        connection = self._tx.changing()
        for allotment_id, part in sorted(self._parts.items()):
            if part.by_uses or part.by_minor:
                count = _CHANGE.run(
                    connection,
                    allotment=allotment_id,
                    in_state=part.allotment.state,
                    uses=part.by_uses,
                    minor=part.by_minor,
                )
                invariant(count == 1, "a part has what it showed in the same transaction")
        for (promotion_id, counter), sums in sorted(self._sums().items()):
            count = _MOVE.run(connection, promotion=promotion_id, name=counter, **sums)
            invariant(count == 1, "a budget is there for its own allotments")
        NEW_TRANSFERS.add(connection, self._transfers)

    def _move(
        self,
        part: _Part,
        debit: Account,
        credit: Account,
        amounts: Amounts,
        reason: str,
        reference: str,
    ) -> None:
        uses, minor = amounts
        invariant(uses >= 0 and minor >= 0, "units move in the direction of their move's name")
        promotion_id, counter = part.allotment.promotion_id, part.allotment.counter
        moved = self._moved.setdefault((promotion_id, counter, debit, credit), [0, 0])
        moved[0] += uses
        moved[1] += minor
        from_ = part.held if debit is Account.OPEN else debit.value
        to = part.held if credit is Account.OPEN else credit.value
        now_ms = self._tx.now_ms
        self._transfers.append(
            (promotion_id, from_, to, uses, minor, reason, reference, now_ms, counter)
        )

    def _sums(self) -> dict[tuple[str, str], dict[str, int]]:
        """What is added to each account of each budget, by the names of `_MOVE`."""
        sums: dict[tuple[str, str], dict[str, int]] = {}
        for (promotion_id, counter, debit, credit), moved in self._moved.items():
            of_budget = sums.setdefault((promotion_id, counter), dict.fromkeys(_ADDED, 0))
            for unit, amount in zip(UNITS, moved, strict=True):
                of_budget[f"{debit}_by_{unit}"] -= amount
                of_budget[f"{credit}_by_{unit}"] += amount
        return sums


_ACCOUNTS = (Account.FREE, Account.OPEN, Account.SPENT, Account.WRITTEN_OFF)


_ADDED = [f"{account}_by_{unit}" for account in _ACCOUNTS for unit in UNITS]


def _by(name: str) -> "sa.BindParameter[int]":
    return sa.bindparam(name, type_=sa.BigInteger)


_CHANGE = Prepared(
    sa.update(allotments)
    .where(
        allotments.c.allotment_id == sa.bindparam("allotment"),
        allotments.c.state == sa.bindparam("in_state"),
        allotments.c.left_uses + _by("uses") >= 0,
        allotments.c.left_minor + _by("minor") >= 0,
    )
    .values(
        left_uses=allotments.c.left_uses + _by("uses"),
        left_minor=allotments.c.left_minor + _by("minor"),
    )
)
_MOVE = Prepared(
    sa.update(budgets)
    .where(
        budgets.c.promotion_id == sa.bindparam("promotion"),
        budgets.c.counter == sa.bindparam("name"),
    )
    .values(
        {
            f"{account}_{unit}": budgets.c[f"{account}_{unit}"] + _by(f"{account}_by_{unit}")
            for account in _ACCOUNTS
            for unit in UNITS
        }
    )
)
