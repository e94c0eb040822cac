"""When a promotion holds: windows, weekly hours, days counted from the clip; in its own time zone.

Instants are written as RFC 3339 text with an offset (`2017-10-30T00:00:00Z`), or as local time of
the promotion's zone without one (`2017-10-30T00:00` or `2017-10-30`, its first moment). All windows
are half-open: `from` belongs to them, `until` does not. A local time that a change of the clock
repeats means the earlier moment; one that it skips means the moment it would have been.
"""

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from msgspec import Meta, field

from sconto.base.clock import from_ms, to_ms
from sconto.base.documents import Document

Instant = Annotated[str, Meta(min_length=10, max_length=40)]
TimeOfDay = Annotated[str, Meta(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$(?!\n)")]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_PER_DAY = 1440

_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(?P<offset>Z|[+-]\d\d:\d\d)?)?$"
)


class WeeklyHours(Document):
    """Hours of the week; `until` at or before `from` means on the next day (22:00 to 02:00)."""

    #: None given: every day.
    days: frozenset[Weekday] = frozenset()
    from_: TimeOfDay = field(default="00:00", name="from")
    until: TimeOfDay = "24:00"

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Half-open spans in minutes since Monday 00:00, none beyond the week's end."""
        start, end = _minutes(self.from_), _minutes(self.until)
        length = (end - start) % MINUTES_PER_DAY or MINUTES_PER_DAY
        week = 7 * MINUTES_PER_DAY
        spans = []
        for number, day in enumerate(WEEKDAYS):
            if not self.days or day in self.days:
                first = number * MINUTES_PER_DAY + start
                spans.append((first, min(first + length, week)))
                if first + length > week:
                    spans.append((0, first + length - week))
        return tuple(spans)


class Schedule(Document):
    """The campaign's window, the window of redemption where it differs, and recurring hours.

    >>> s = Schedule(from_="2017-10-30", until="2017-12-25", time_zone="America/Chicago")
    >>> s.from_ms, s.until_ms
    (1509339600000, 1514181600000)
    """

    time_zone: str = "UTC"
    #: The promotion is offered, clipped and, unless stated below, redeemed from here on.
    from_: Instant | None = field(default=None, name="from")
    until: Instant | None = None
    redeem_from: Instant | None = None
    redeem_until: Instant | None = None
    #: Any of these; none given: always.
    weekly: tuple[WeeklyHours, ...] = ()
    #: Ends with the n-th day after the day of the clip, in the promotion's zone; 0: the same day.
    days_after_clip: Annotated[int, Meta(ge=0, le=3660)] | None = None

    def __post_init__(self) -> None:
        if not _is_zone(self.time_zone):
            raise ValueError(f"{self.time_zone!r} is not an IANA time zone")
        for name in ("from", "until", "redeem_from", "redeem_until"):
            text = getattr(self, "from_" if name == "from" else name)
            if text is not None:
                try:
                    instant_ms(text, self.time_zone)
                except ValueError as error:
                    raise ValueError(f"`{name}`: {error}") from None

    @property
    def from_ms(self) -> int | None:
        """First instant of the campaign."""
        return self._ms(self.from_)

    @property
    def until_ms(self) -> int | None:
        """First instant after the campaign."""
        return self._ms(self.until)

    @property
    def redeem_from_ms(self) -> int | None:
        return self._ms(self.redeem_from if self.redeem_from is not None else self.from_)

    @property
    def redeem_until_ms(self) -> int | None:
        return self._ms(self.redeem_until if self.redeem_until is not None else self.until)

    def can_clip(self, at_ms: int) -> bool:
        """Whether the campaign is open: half-open, in UTC instants."""
        return _within(at_ms, self.from_ms, self.until_ms)

    def can_redeem(self, at_ms: int, clipped_at_ms: int | None = None) -> bool:
        """Whether a redemption may happen now, weekly hours included."""
        start, end = self.redeem_from_ms, self.token_until_ms(clipped_at_ms)
        return _within(at_ms, start, end) and self.is_open_hour(at_ms)

    def token_until_ms(self, clipped_at_ms: int | None) -> int | None:
        """When a token clipped at this instant ends; None: never.

        >>> s = Schedule(days_after_clip=7, time_zone="America/Chicago")
        >>> from sconto.base.clock import rfc3339
        >>> rfc3339(s.token_until_ms(instant_ms("2017-05-03T23:59", "America/Chicago")))
        '2017-05-11T05:00:00Z'
        """
        ends = [self.redeem_until_ms]
        if self.days_after_clip is not None and clipped_at_ms is not None:
            ends.append(_end_of_day(clipped_at_ms, self.days_after_clip, self.time_zone))
        return min((end for end in ends if end is not None), default=None)

    def is_open_hour(self, at_ms: int) -> bool:
        """Whether one of the weekly hours is now."""
        return not self.weekly or in_weekly_hours(
            self.weekly, minute_of_week(at_ms, self.time_zone)
        )

    def _ms(self, text: str | None) -> int | None:
        return None if text is None else instant_ms(text, self.time_zone)


@lru_cache(maxsize=4096)
def instant_ms(text: str, zone: str) -> int:
    """Milliseconds of RFC 3339 text, or of local time in `zone` where there is no offset."""
    found = _INSTANT.match(text)
    if not found:
        raise ValueError(f"{text!r} is not a date and time like 2017-10-30T00:00:00Z")
    moment = datetime.fromisoformat(text)
    if not 1970 <= moment.year <= 9000:  # what follows from it must have a date too
        raise ValueError(f"{text!r} is not between the years 1970 and 9000")
    return to_ms(moment if found["offset"] else moment.replace(tzinfo=ZoneInfo(zone)))


def minute_of_week(at_ms: int, zone: str) -> int:
    """Minutes on the wall clock of `zone` since Monday 00:00."""
    local = from_ms(at_ms, zone)
    return local.weekday() * MINUTES_PER_DAY + local.hour * 60 + local.minute


def in_weekly_hours(weekly: tuple[WeeklyHours, ...], minute: int) -> bool:
    """Whether a minute of the week lies in any of the hours.

    >>> night = (WeeklyHours(days=frozenset(["sun"]), from_="22:00", until="02:00"),)
    >>> [in_weekly_hours(night, m) for m in (0, 119, 120, 7 * 1440 - 121, 7 * 1440 - 120)]
    [True, True, False, False, True]
    """
    return any(start <= minute < end for hours in weekly for start, end in hours.spans)


def _within(at_ms: int, start: int | None, end: int | None) -> bool:
    return (start is None or start <= at_ms) and (end is None or at_ms < end)


def _end_of_day(at_ms: int, days: int, zone: str) -> int:
    day = from_ms(at_ms, zone).date() + timedelta(days=days + 1)
    return to_ms(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)))


def _minutes(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


@lru_cache(maxsize=1024)
def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
