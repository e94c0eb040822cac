"""Instants are integer milliseconds since 1970 UTC; on the wire they are RFC 3339 text.

Nothing here reads a clock: a server does that at its edge and hands the instant down.
"""

from datetime import UTC, date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

MS_PER_SECOND = 1000
MS_PER_DAY = 86_400_000


def to_ms(moment: datetime) -> int:
    """Milliseconds of an aware datetime; a naive one is refused by its missing offset."""
    if moment.tzinfo is None:
        raise ValueError("an instant needs a UTC offset")
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return delta.days * MS_PER_DAY + delta.seconds * MS_PER_SECOND + delta.microseconds // 1000


def from_ms(at_ms: int, zone: str = "UTC") -> datetime:
    """Aware datetime of an instant, in an IANA time zone."""
    seconds, ms = divmod(at_ms, MS_PER_SECOND)
    return datetime.fromtimestamp(seconds, ZoneInfo(zone)).replace(microsecond=ms * 1000)


def rfc3339(at_ms: int) -> str:
    """`2017-10-30T00:00:00Z`, with milliseconds where there are any."""
    seconds, ms = divmod(at_ms, MS_PER_SECOND)
    return f"{_second(seconds)}.{ms:03}Z" if ms else f"{_second(seconds)}Z"


def day_of(at_ms: int, zone: str = "UTC") -> date:
    """Calendar day of an instant in a time zone."""
    return _day(at_ms // MS_PER_SECOND, zone)


# A till asks thousands of times a second, always about the same second.


@lru_cache(1024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


@lru_cache(4096)
def _day(seconds: int, zone: str) -> date:
    return datetime.fromtimestamp(seconds, ZoneInfo(zone)).date()
