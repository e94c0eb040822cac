"""A budget and its parts, in two dimensions: uses and minor units.

    cap = free + open + spent + written off          (each at least zero)

A unit moves only along one of these, as a double-entry transfer, and never out of the sum:

    grant      free -> open        a holder may now spend it alone
    settle     open -> spent       the holder reported that it did
    close      open -> free        the holder durably gave up what was left
    reverse    spent -> open       a redemption was undone; spent -> free where the part is closed
    write off  open -> written off the holder is silent; nobody may spend it again
    top up     world -> free       the cap grows with it
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from sconto.base.errors import invariant
from sconto.base.money import AMOUNT_MINOR_MAX

#: The cap of a dimension that the terms do not limit. It is a number like any other, so that no
#: code path treats "no limit" apart. The dearest cart there can be takes a thousandth of it.
UNLIMITED = 1000 * AMOUNT_MINOR_MAX
#: More than this is granted only to who needs more at once.
SHARE_MAX = 10**10


class Account(StrEnum):
    """Where a unit of a budget can be."""

    WORLD = "world"
    FREE = "free"
    OPEN = "open"
    SPENT = "spent"
    WRITTEN_OFF = "written_off"


class Amounts(NamedTuple):
    """An amount in both dimensions."""

    uses: int
    minor: int

    def fits(self, into: "Amounts") -> bool:
        """Whether both dimensions are there."""
        return self.uses <= into.uses and self.minor <= into.minor


@dataclass(frozen=True, slots=True)
class Refused:
    """A holder cannot have what it wants: what was needed, what was there."""

    code: str
    needed: Amounts
    had: Amounts


@dataclass(frozen=True, slots=True)
class Budget:
    """The balances of one promotion at whoever promises it."""

    cap: Amounts
    free: Amounts
    open: Amounts
    spent: Amounts
    written_off: Amounts

    def __post_init__(self) -> None:
        for unit in ("uses", "minor"):
            parts = [getattr(account, unit) for account in self.accounts()]
            invariant(min(parts) >= 0, f"no account of a budget is below zero ({unit})")
            invariant(
                sum(parts) == getattr(self.cap, unit), f"the accounts sum to the cap ({unit})"
            )

    def accounts(self) -> tuple[Amounts, Amounts, Amounts, Amounts]:
        return self.free, self.open, self.spent, self.written_off


def grant_size(free: Amounts, needed: Amounts, holders: int) -> Amounts | Refused:
    """How much a holder gets: half of its fair share of what is free, and at least its need.

    Grants shrink as `free` shrinks, and the last units go out exactly as needed. A share is at most
    `SHARE_MAX`, so that a dimension without a limit lasts for as many grants as anybody makes.

    >>> grant_size(Amounts(1000, UNLIMITED), Amounts(1, 500), holders=2)
    Amounts(uses=250, minor=10000000000)
    >>> grant_size(Amounts(3, 900), Amounts(1, 100), holders=2)
    Amounts(uses=1, minor=225)
    >>> grant_size(Amounts(3, 99), Amounts(1, 100), holders=2).code
    'budget_exhausted'
    """
    if not needed.fits(free):
        return Refused("budget_exhausted", needed, free)
    share = Amounts(*(min(part // (2 * holders), SHARE_MAX) for part in free))
    return Amounts(max(needed.uses, share.uses), max(needed.minor, share.minor))


def wants_more(left: Amounts, granted: Amounts) -> bool:
    """A holder asks again when a quarter is left of either dimension."""
    return left.uses * 4 <= granted.uses or left.minor * 4 <= granted.minor
