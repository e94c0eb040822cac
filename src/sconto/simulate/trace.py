"""What happened in a run, as a hash of everything and the last events of each host."""

import hashlib
from collections import deque
from collections.abc import Callable

#: Events of each host that a failing seed prints.
LAST_EVENTS = 40


class Trace:
    """Lines `kind|time|step|host|label`; never a repr, an address or the order of a set."""

    def __init__(self, when: Callable[[], tuple[int, int]]) -> None:
        self._when = when
        self._hash = hashlib.sha256()
        self.last: dict[str, deque[str]] = {}
        self.length = 0

    def add(self, kind: str, host: str, label: str) -> None:
        """One event of a host; the time is in microseconds."""
        time_us, step = self._when()
        line = f"{kind}|{time_us}|{step}|{host}|{label}"
        self._hash.update(line.encode() + b"\n")
        self.length += 1
        self.last.setdefault(host, deque(maxlen=LAST_EVENTS)).append(line)

    def digest(self) -> str:
        return self._hash.hexdigest()
