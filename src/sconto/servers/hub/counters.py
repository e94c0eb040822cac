"""Limits that merchants share: a budget for each counter, cut into parts like the promotion's own.

A counter's budget is opened when a merchant first asks for a part of it, all of it free; its name
says what it counts (`sconto.terms.counting`). It is never deleted, so it is never opened twice.

1. Only the period of now and the next one, and earlier ones, are opened: so it is known after a
   restore of this hub which counters the backup may lack. Of those nothing is free. A merchant
   whose clock is a little ahead asks just before midnight for the day after tomorrow, and is given.
2. A reported redemption is settled from one part of each counter that the terms say it is in.
3. Terms with a limit that cannot be kept so are refused when they are published.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from sconto.base.clock import day_of
from sconto.base.errors import ConflictError, InvalidInputError, InvariantError, invariant
from sconto.ledger import UNLIMITED, Amounts, Entry
from sconto.store import ledger, promotions
from sconto.store.ledger import Allotment, Settling
from sconto.store.writer import Tx
from sconto.terms import Terms
from sconto.terms.counting import (
    are_counters_of,
    inexact,
    is_same_sharing,
    period_after,
    period_of,
    shared_counter,
    starts_at_ms,
)

if TYPE_CHECKING:
    from sconto.servers.hub import Hub

#: A merchant's clock may be ahead by so much, as signatures allow.
AHEAD_MS = 60_000

CounterName = Annotated[str, Meta(max_length=200)]


def open_budget(
    hub: "Hub", tx: Tx, promotion_id: str, name: str, *, was_granted: bool = False
) -> None:
    """See that a counter has its budget; with `was_granted` there is a part of it already.

    A writer command: refuses before its first write.

    Raises InvalidInputError where the terms have no such counter, ConflictError
    (`period_too_early`) for one of a period after the next.
    """
    if ledger.budget_of(tx.connection, promotion_id, name) is not None:
        return
    promotion = promotions.get(tx.connection, promotion_id)
    if promotion is None:
        raise InvariantError("whoever asks takes part in a promotion that is there")
    terms = hub.catalogue.promised(tx.connection, promotion.terms_digest)
    counter = shared_counter(terms, name)
    if counter is None:
        raise InvalidInputError(
            "the terms have no limit that is counted so",
            code="counter_unknown",
            field="data.counter",
        )
    if _is_later_than_next(terms, name, tx.now_ms):
        raise ConflictError(
            "the period is later than the next one", code="period_too_early", field="data.counter"
        )
    most = (counter.uses, counter.minor)
    cap = Amounts(*(UNLIMITED if part is None else part for part in most))
    ledger.open_budget(tx, promotion_id, cap, promotion.terms_digest, counter=name)
    restored_at_ms = ledger.restored_at_ms(tx.connection)
    may_be = restored_at_ms is not None and not _is_later_than_next(terms, name, restored_at_ms)
    if may_be or was_granted:
        ledger.write_off_free(tx, promotion_id, name)


def _is_later_than_next(terms: Terms, name: str, now_ms: int) -> bool:
    at_ms = now_ms + AHEAD_MS
    period, _, start = name.partition("/")[0].partition(":")
    if period == "ever":
        return False
    zone = terms.schedule.time_zone
    next_ = period_after(period, period_of(period, day_of(at_ms, zone)))
    return starts_at_ms(period, start, zone) > starts_at_ms(period, next_, zone)


def dispute(
    settling: Settling, entry: Entry, terms: Terms, allotment_ids: Sequence[str]
) -> str | None:
    """Why a redemption is not paid from these parts of counters; None: `settle` will do it.

    Only where there are such parts, or the terms have limits that merchants share.
    """
    parts = [settling.allotment(one) for one in allotment_ids]
    known = [part for part in parts if part is not None and _is_held(part, entry)]
    if len(known) < len(parts):
        return "allotment_unknown"
    if not are_counters_of(terms, entry.at_ms, [part.counter for part in known]):
        return "limits_mismatch"
    spent = Amounts(1, entry.amount_minor)
    is_there = all(settling.has(part.allotment_id, spent) for part in known)
    return None if is_there else "beyond_grant"


def settle(settling: Settling, entry: Entry, allotment_ids: Sequence[str]) -> None:
    """A redemption is paid: from these parts too, of which `dispute` has said nothing."""
    for one in allotment_ids:
        spent = Amounts(1, entry.amount_minor)
        is_settled = settling.settle(one, spent, entry.redemption_id)
        invariant(is_settled, "a part has what it showed in the same transaction")


def _is_held(part: Allotment, entry: Entry) -> bool:
    return (part.holder, part.promotion_id) == (entry.merchant, entry.promotion_id)


def check_exact(terms: Terms) -> None:
    """Raises InvalidInputError for a limit that merchants can keep neither together nor alone."""
    for place in inexact(terms):
        raise InvalidInputError(
            "merchants know a shopper by names of their own: they cannot keep this limit together",
            code="limit_not_exact",
            field=f"terms.limits[{place}].per",
            remedy="add `merchant` to `per`; or limit `uses` for `ever`, with the access `token`",
        )


def check_same(before: Terms, after: Terms) -> None:
    """Raises ConflictError where a new version changes what counters count, which are in use."""
    if not is_same_sharing(before, after):
        raise ConflictError(
            "a new version cannot change limits that merchants share, or their time zone or code",
            code="budget_changed",
            field="terms.limits",
            remedy="end this promotion and publish another",
        )
