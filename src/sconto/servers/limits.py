"""Limits for whoever guesses (OWASP OAT-002): API keys, typed codes, addresses of offers.

Only failures are counted, and what is right is always let through: nobody can lock out a shop by
guessing in its name. A guess that is wrong once too often is answered 429 in place of its own no.
What keeps guessers out is the length of keys, codes and addresses (75 bits and more); the limits
keep them slow, few and seen. Memory is bounded, time is an argument.
"""

import ipaddress
import logging
import threading
from collections import OrderedDict
from typing import Any

from sconto.base.errors import UnavailableError

log = logging.getLogger("sconto.limits")

#: A guesser that was stopped is told of in the log, but not more often than this.
TELL_AGAIN_MS = 30_000
#: Everybody together.
_ALL = ""


class Buckets:
    """Token buckets by name, thread-safe: `burst` at once, then one every `every_ms`.

    A bucket is one number: the instant at which it is full again (GCRA). Of more than `names_max`
    names the one that was longest quiet is forgotten.
    """

    def __init__(self, *, burst: int, every_ms: int, names_max: int = 10_000) -> None:
        self._every_ms = every_ms
        self._span_ms = burst * every_ms
        self._names_max = names_max
        self._full_at_ms: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._full_at_ms)

    def take(self, name: str, now_ms: int, count: int = 1) -> int:
        """Take so many tokens; 0, or after how many milliseconds they would be there.

        Nothing is taken where there are too few.
        """
        with self._lock:
            # A clock that was set back must not close a bucket for longer than it takes to fill.
            full_at_ms = min(self._full_at_ms.get(name, 0), now_ms + self._span_ms)
            wanted_ms = max(full_at_ms, now_ms) + count * self._every_ms
            if wanted_ms > now_ms + self._span_ms:
                if name in self._full_at_ms:
                    self._full_at_ms[name] = full_at_ms
                return wanted_ms - now_ms - self._span_ms
            self._full_at_ms[name] = wanted_ms
            self._full_at_ms.move_to_end(name)
            if len(self._full_at_ms) > self._names_max:
                self._full_at_ms.popitem(last=False)
            return 0


class Guesses:
    """Wrong guesses of one kind: so many by one, so many by everybody together."""

    def __init__(
        self, what: str, *, burst: int, every_ms: int, burst_all: int, every_all_ms: int
    ) -> None:
        self._what = what
        self._of_one = Buckets(burst=burst, every_ms=every_ms)
        self._of_all = Buckets(burst=burst_all, every_ms=every_all_ms, names_max=1)
        self._told_at_ms = 0

    def failed(self, who: str, now_ms: int, count: int = 1, *, field: str | None = None) -> None:
        """Count wrong guesses. Raises UnavailableError (`rate_limited`) when they are too many."""
        # Whoever is out of guesses takes none of the others'.
        wait_ms = self._of_one.take(who, now_ms, count) or self._of_all.take(_ALL, now_ms, count)
        if not wait_ms:
            return
        if abs(now_ms - self._told_at_ms) >= TELL_AGAIN_MS:
            self._told_at_ms = now_ms
            log.warning("guessing", extra={"what": self._what, "who": who})
        raise UnavailableError(
            f"too many {self._what} were wrong",
            code="rate_limited",
            field=field,
            remedy="wait, or send only what is known to be right",
            retry_after_s=-(-wait_ms // 1000),
        )


def source_of(client: Any) -> str:
    """Whom to count a request against: the address of the ASGI scope, never a header of its own.

    Of IPv6 the first 64 bits, which is what one subscriber has at least.

    >>> source_of(("192.0.2.7", 4711)), source_of(("2001:db8:1:2:3::9", 1)), source_of(None)
    ('192.0.2.7', '2001:db8:1:2::/64', 'unknown')
    """
    try:
        address = ipaddress.ip_address(str(client[0]).partition("%")[0])
    except (TypeError, ValueError, IndexError):
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
