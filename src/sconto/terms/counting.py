"""Limits that are kept by counters: by shopper, merchant, store, code, attribute and period.

In: terms, and what a checkout knows. Out: the counters that one redemption is counted in, each with
what it may hold. The limit of the whole promotion for ever is its budget, and a token's uses for
ever are in the token; neither has a counter.

A counter is *shared* when merchants of a hub count in it together: then it is a budget of its own
at the hub (ADR 0015), and its name says what it counts: `day:2026-11-24`, or
`month:2026-11/attribute:region=` and a digest of the region. All others are counted where the cart
is, and their names are digests, since shoppers are in them.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sconto.base.canonical import b64url, canonical
from sconto.base.clock import day_of, to_ms
from sconto.base.errors import invariant
from sconto.terms.codes import normalise_code
from sconto.terms.model import Access, Limit, Terms, TokenAccess, UniqueCodes
from sconto.terms.selectors import Scalar


class Counter(NamedTuple):
    """A name for one shopper, store, … in one period, and the most that it may count."""

    name: str
    uses: int | None
    minor: int | None
    #: First instant after its period; None: it counts for ever.
    ends_at_ms: int | None = None
    #: Merchants of a hub count in it together.
    is_shared: bool = False


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


def shared(terms: Terms) -> list[Limit]:
    """The limits of a hub's promotion that no merchant can keep alone.

    A store, a token and a unique code are of one merchant.

    >>> from sconto.terms.model import Limit
    >>> daily = Limit(uses=9, period="day")
    >>> store = Limit(per=frozenset({"store"}), uses=1, period="day")
    >>> shared(Terms(promotion_id="p", title="t", currency="USD", benefits=(),
    ...              limits=(store, daily))) == [daily]
    True
    """
    alone = {"merchant", "store", "token", "shopper"}
    if isinstance(terms.access, UniqueCodes):
        alone.add("code")
    return [limit for limit in counted(terms) if not limit.per & alone]


def inexact(terms: Terms) -> list[int]:
    """Places of the limits that a hub's merchants cannot keep together.

    They know a shopper by a name that only they know. Uses for ever are kept by how many tokens are
    issued; nothing else about a shopper can be.
    """
    found = []
    for place, limit in enumerate(terms.limits):
        is_issued = (
            isinstance(terms.access, TokenAccess)
            and limit.per <= {"shopper", "promotion"}
            and limit.period == "ever"
            and limit.uses is not None
        )
        is_alone = limit.per & {"merchant", "store", "token"}
        if "shopper" in limit.per and not is_alone and not is_issued:
            found.append(place)
    return found


def counters(terms: Terms, occasion: Occasion, *, is_of_hub: bool = False) -> list[Counter] | None:
    """The counters of one redemption; None: it is limited by shopper, and who that is is unknown.

    Limits of uses and of money by the same things in the same period share a counter.
    """
    found: dict[str, Counter] = {}
    together = shared(terms) if is_of_hub else []
    zone = terms.schedule.time_zone
    for limit in counted(terms):
        if "shopper" in limit.per and occasion.shopper is None:
            return None
        period = period_of(limit.period, day_of(occasion.at_ms, zone))
        is_shared = limit in together
        name = (
            _head(limit.period, period) + _tail(limit, occasion)
            if is_shared
            else _name(limit, occasion, period)
        )
        _put(found, Counter(name, None, None, _ends(limit.period, period, zone), is_shared), limit)
    return list(found.values())


def shared_counter(terms: Terms, name: str) -> Counter | None:
    """The shared counter of a name that a merchant says; None: these terms have no such counter."""
    head, slash, tail = name.partition("/")
    period, colon, start = head.partition(":")
    if not colon or not _is_period(period, start):
        return None
    found: dict[str, Counter] = {}
    ends_at_ms = _ends(period, start, terms.schedule.time_zone)
    for limit in shared(terms):
        if limit.period == period and _has_tail(limit, slash + tail):
            _put(found, Counter(name, None, None, ends_at_ms, is_shared=True), limit)
    return found.get(name)


def are_counters_of(terms: Terms, at_ms: int, names: Collection[str]) -> bool:
    """Whether a redemption at an instant is counted in just these shared counters.

    Values of attributes are taken as they are said.
    """
    day = day_of(at_ms, terms.schedule.time_zone)
    left = set(names)
    kinds = _kinds(terms)
    for limit in kinds:
        head = _head(limit.period, period_of(limit.period, day))
        fitting = [
            name for name in left if name.startswith(head) and _has_tail(limit, name[len(head) :])
        ]
        if len(fitting) != 1:
            return False
        left.remove(fitting[0])
    return not left and len(names) == len(kinds)


def is_same_sharing(one: Terms, other: Terms) -> bool:
    """Whether two versions of terms have the same shared counters, with the same limits."""
    return _sharing(one) == _sharing(other)


def ahead(terms: Terms, at_ms: int, names: Collection[str]) -> Iterator[Counter]:
    """The shared counters of the period of an instant and of the next one, as far as known.

    Those by attribute are known by the `names` of this period that somebody counts in.
    """
    day = day_of(at_ms, terms.schedule.time_zone)
    for limit in _kinds(terms):
        now = period_of(limit.period, day)
        head = _head(limit.period, now)
        tails = {name[len(head) :] for name in names if name.startswith(head)}
        if limit.attribute is None:
            tails.add(_prefix(limit))
        periods = [now] if limit.period == "ever" else [now, period_after(limit.period, now)]
        for period in periods:
            for tail in sorted(tails):
                if _has_tail(limit, tail):
                    found = shared_counter(terms, _head(limit.period, period) + tail)
                    invariant(found is not None, "a counter of a limit is found by its name")
                    if found is not None:
                        yield found


def edge_ms(terms: Terms, at_ms: int) -> int | None:
    """When the first of the periods ends that shared counters are in; None: there are none."""
    zone = terms.schedule.time_zone
    day = day_of(at_ms, zone)
    ends = (_ends(one.period, period_of(one.period, day), zone) for one in shared(terms))
    return min((end for end in ends if end is not None), default=None)


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


def first_day(period: str, text: str) -> date:
    """First day of a period that `period_of` has named; ValueError for any other text.

    >>> [str(first_day(p, t)) for p, t in (("week", "2026-W53"), ("month", "2027-02"))]
    ['2026-12-28', '2027-02-01']
    """
    if period == "week":
        year, _, week = text.partition("-W")
        return date.fromisocalendar(int(year), int(week), 1)
    return date.fromisoformat({"day": text, "month": f"{text}-01", "year": f"{text}-01-01"}[period])


def period_after(period: str, text: str) -> str:
    """The period that follows.

    >>> [period_after(p, t) for p, t in (
    ...     ("day", "2028-02-28"), ("week", "2026-W53"), ("month", "2026-12"), ("year", "2026"))]
    ['2028-02-29', '2027-W01', '2027-01', '2027']
    """
    # More than the period has left after its first day, and less than the next one has too.
    days = {"day": 1, "week": 7, "month": 31, "year": 366}[period]
    return period_of(period, first_day(period, text) + timedelta(days))


@lru_cache(1024)
def starts_at_ms(period: str, text: str, zone: str) -> int:
    """First instant of a period where the promotion is.

    >>> day = [starts_at_ms("day", f"2026-{text}", "Europe/Paris") for text in ("03-29", "03-30")]
    >>> (day[1] - day[0]) / 3_600_000
    23.0
    """
    day = first_day(period, text)
    return to_ms(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)))


def starts_of(counter: str, zone: str) -> int | None:
    """First instant of the period of a shared counter; None: it counts for ever."""
    period, _, start = counter.partition("/")[0].partition(":")
    return None if period == "ever" else starts_at_ms(period, start, zone)


def _ends(period: str, text: str, zone: str) -> int | None:
    return None if period == "ever" else starts_at_ms(period, period_after(period, text), zone)


def _is_period(period: str, text: str) -> bool:
    if period == "ever":
        return text == ""
    try:
        return 1969 <= first_day(period, text).year <= 9000 and text == period_of(
            period, first_day(period, text)
        )
    except (ValueError, KeyError):
        return False


#: What a value is in a name: shoppers' data may be in it, and it may be long.
_VALUE = re.compile(r"[A-Za-z0-9_-]{22}")


def _kinds(terms: Terms) -> list[Limit]:
    """One of each group of shared limits that count in the same counters."""
    return list({(one.period, _prefix(one)): one for one in shared(terms)}.values())


def _head(period: str, text: str) -> str:
    return f"{period}:{text}"


def _tail(limit: Limit, occasion: Occasion) -> str:
    """What follows the period in the name of a shared counter."""
    if limit.attribute is None:
        return _prefix(limit)
    content = canonical(_attribute(limit, occasion))
    return _prefix(limit) + b64url(hashlib.sha256(content).digest()[:16])


def _has_tail(limit: Limit, tail: str) -> bool:
    prefix = _prefix(limit)
    if limit.attribute is None:
        return tail == prefix
    return tail.startswith(prefix) and _VALUE.fullmatch(tail[len(prefix) :]) is not None


def _prefix(limit: Limit) -> str:
    """A promotion has one public code, so that its counter need not say which."""
    code = "/code" if "code" in limit.per else ""
    return code + ("" if limit.attribute is None else f"/attribute:{limit.attribute}=")


def _sharing(terms: Terms) -> tuple[frozenset[Limit], str, Access | None]:
    limits = frozenset(shared(terms))
    zone = terms.schedule.time_zone if any(one.period != "ever" for one in limits) else ""
    return limits, zone, terms.access if any("code" in one.per for one in limits) else None


def _put(found: dict[str, Counter], new: Counter, limit: Limit) -> None:
    known = found.get(new.name, new)
    found[new.name] = known._replace(
        uses=_least(known.uses, limit.uses), minor=_least(known.minor, limit.amount_minor)
    )


def _name(limit: Limit, occasion: Occasion, period: str) -> str:
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
