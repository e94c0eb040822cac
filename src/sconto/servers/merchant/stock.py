"""The stock: what is left of this merchant's allotments, in memory, for whoever only asks.

An evaluation spends nothing, so it need not be in a transaction; but it must know of everything
that was acknowledged before it came. So what was read is kept until the next commit of the writer.
Where other processes may write to the same database, nothing is kept.
"""

from collections.abc import Collection

from sconto.store import ledger
from sconto.store.ledger import Allotment
from sconto.store.writer import Store


class Stock:
    """Open allotments by promotion. For one thread, that of the event loop."""

    def __init__(self, store: Store, holder: str) -> None:
        self._store = store
        self._holder = holder
        self._as_of = store.commits
        self._open: dict[tuple[str, str], list[Allotment]] = {}

    def available(
        self, promotion_ids: Collection[str], counter: str = ""
    ) -> dict[str, list[Allotment]]:
        """What `ledger.available` would give now."""
        commits = self._store.commits  # read first: what is read below is as new, or newer
        if commits != self._as_of or not self._store.is_alone:
            self._open = {}
            self._as_of = commits
        unknown = [one for one in promotion_ids if (one, counter) not in self._open]
        if unknown:
            with self._store.read() as connection:
                found = ledger.available(connection, self._holder, unknown, counter)
            self._open.update({(one, counter): found.get(one, []) for one in unknown})
        found = {one: self._open[one, counter] for one in promotion_ids}
        return {one: parts for one, parts in found.items() if parts}
