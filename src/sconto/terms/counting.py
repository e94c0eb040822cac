"""Limits that are kept by counters: by shopper, merchant, store, code, attribute and period.

In: terms, and what a checkout knows. Out: the counters that one redemption is counted in, each with
what it may hold. The limit of the whole promotion for ever is its budget, and a token's uses for
ever are in the token; neither has a counter.
"""

import hashlib
from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

from sconto.base.canonical import b64url, canonical
from sconto.base.clock import day_of
from sconto.terms.codes import normalise_code
from sconto.terms.model import Limit, Terms
from sconto.terms.selectors import Scalar


class Counter(NamedTuple):
    """A name for one shopper, store, … in one period, and the most that it may count."""

    name: str
    uses: int | None
    minor: int | None


class Occasion(NamedTuple):
    """What a redemption is counted by."""

    at_ms: int
    merchant: str
    store: str | None = None
    #: The shopper's pseudonym or the merchant's reference; None: a stranger.
    shopper: str | None = None
    code: str | None = None
    token_id: str | None = None
    attributes: Mapping[str, Scalar] = {}


def counted(terms: Terms) -> list[Limit]:
    """The limits of a promotion that need counters.

    >>> from sconto.terms.model import Limit
    >>> whole, daily = Limit(uses=10), Limit(per=frozenset({"shopper"}), uses=1, period="day")
    >>> counted(Terms(promotion_id="p", title="t", currency="USD", benefits=(),
    ...               limits=(whole, daily))) == [daily]
    True
    """
    return [limit for limit in terms.limits if not _is_kept_elsewhere(limit)]


def _is_kept_elsewhere(limit: Limit) -> bool:
    if limit.period != "ever":
        return False
    return limit.per == {"promotion"} or (limit.per == {"token"} and limit.uses is not None)


def counters(terms: Terms, occasion: Occasion) -> list[Counter] | None:
    """The counters of one redemption; None: it is limited by shopper, and who that is is unknown.

    Limits of uses and of money by the same things in the same period share a counter.
    """
    found: dict[str, Counter] = {}
    for limit in counted(terms):
        if "shopper" in limit.per and occasion.shopper is None:
            return None
        name = _name(limit, occasion, terms.schedule.time_zone)
        known = found.get(name, Counter(name, None, None))
        found[name] = Counter(
            name, _least(known.uses, limit.uses), _least(known.minor, limit.amount_minor)
        )
    return list(found.values())


def period_of(period: str, day: date) -> str:
    """The calendar period that a day is in; weeks start on Monday.

    >>> [period_of(p, date(2027, 1, 3)) for p in ("ever", "day", "week", "month", "year")]
    ['', '2027-01-03', '2026-W53', '2027-01', '2027']
    """
    if period == "week":
        year, week, _ = day.isocalendar()
        return f"{year}-W{week:02}"
    return {
        "ever": "",
        "day": day.isoformat(),
        "month": day.isoformat()[:7],
        "year": day.isoformat()[:4],
    }[period]


def _name(limit: Limit, occasion: Occasion, zone: str) -> str:
    values = {
        "promotion": "",
        "merchant": occasion.merchant,
        "store": occasion.store,
        "shopper": occasion.shopper,
        "code": None if occasion.code is None else normalise_code(occasion.code),
        "token": occasion.token_id,
        "attribute": _attribute(limit, occasion),
    }
    parts = [[key, values[key]] for key in sorted(limit.per)]
    period = period_of(limit.period, day_of(occasion.at_ms, zone))
    content = canonical([limit.period, period, limit.attribute, parts])
    return b64url(hashlib.sha256(content).digest())


def _attribute(limit: Limit, occasion: Occasion) -> str | None:
    """Its value as text; carts without the attribute are counted together."""
    value = occasion.attributes.get(limit.attribute or "")
    return None if value is None else f"{type(value).__name__}:{value}"


def _least(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
