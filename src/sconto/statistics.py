"""Statistics: a fold of the journal into counters per promotion, merchant and day.

In: journal entries. Out: counters, which merge by addition in any order, so that a recount from
the journal gives the same numbers. Unverified counts (`shown`) never mix with verified ones.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sconto.ledger.journal import Entry


class Cell(NamedTuple):
    """What the counters are kept by."""

    promotion_id: str
    merchant: str
    day: str


class Counters(NamedTuple):
    """Counts of one cell. `given_minor` is gross; what was taken back stands beside it."""

    shown: int = 0
    clipped: int = 0
    presented: int = 0
    applied: int = 0
    redeemed: int = 0
    reversed: int = 0
    given_minor: int = 0
    reversed_minor: int = 0

    def plus(self, other: "Counters") -> "Counters":
        return Counters(*map(int.__add__, self, other))


def count(entry: Entry) -> Counters:
    """What one entry adds to its cell.

    1. A checkout presents a promotion once: by its reservation, its refusal, or, without either,
       by its direct redemption.
    2. It is applied when it takes at least one minor unit off.
    3. A reversal counts once, when nothing of the redemption is left; its money counts at once.
    """
    match entry.kind:
        case "shown":
            return Counters(shown=1)
        case "clipped":
            return Counters(clipped=1)
        case "reserved":
            return Counters(presented=1, applied=int(entry.amount_minor > 0))
        case "refused":
            return Counters(presented=1)
        case "redeemed":
            direct = int(entry.is_direct)
            applied = direct if entry.amount_minor > 0 else 0
            return Counters(
                presented=direct, applied=applied, redeemed=1, given_minor=entry.amount_minor
            )
        case "reversed":
            return Counters(reversed=int(entry.is_complete), reversed_minor=entry.amount_minor)
        case "released" | "expired":
            return Counters()


def cell_of(entry: Entry) -> Cell:
    """The cell that an entry counts in."""
    return Cell(entry.promotion_id, entry.merchant, entry.day)


class Fold:
    """Counters by cell and refusals by cell and reason, while entries come in."""

    def __init__(self) -> None:
        self.cells: dict[Cell, Counters] = {}
        self.refusals: dict[tuple[Cell, str], int] = {}

    def add(self, entry: Entry) -> None:
        cell = cell_of(entry)
        counters = count(entry)
        known = self.cells.get(cell)
        self.cells[cell] = counters if known is None else known.plus(counters)
        if entry.kind == "refused":
            key = (cell, entry.reason)
            self.refusals[key] = self.refusals.get(key, 0) + 1


def fold(entries: Iterable[Entry]) -> Fold:
    """The statistics of entries, in one pass."""
    result = Fold()
    for entry in entries:
        result.add(entry)
    return result
