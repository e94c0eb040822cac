"""Instants are integer milliseconds since 1970 UTC; on the wire they are RFC 3339 text.

Nothing here reads a clock: a server does that at its edge and hands the instant down.
"""

from datetime import UTC, date, datetime
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
    moment = from_ms(at_ms)
    spec = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=spec).replace("+00:00", "Z")


def day_of(at_ms: int, zone: str = "UTC") -> date:
    """Calendar day of an instant in a time zone."""
    return from_ms(at_ms, zone).date()
