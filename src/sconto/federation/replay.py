"""Remember what was seen, for as long as it could come again, in bounded memory."""

from sconto.base.clock import MS_PER_SECOND
from sconto.base.errors import UnavailableError


class ReplayGuard:
    """Ids of signatures and proofs that were accepted within the last `ttl_s` seconds.

    The time to live covers the whole window of the thing guarded: its age and the clock skew on
    both sides (300 s and twice 60 s, by default). When the memory is full of ids that could still
    come again, the guard refuses new ones: forgetting one early would let it in twice. Put only
    verified ids in, so that no stranger can fill it.

    It lives in one process: what must not happen twice in several is guarded in the store as well
    (idempotency keys, the inbox, the order of a redemption).
    """

    def __init__(self, *, ttl_s: int = 420, entries_max: int = 1_000_000) -> None:
        self._ttl_ms = ttl_s * MS_PER_SECOND
        self._entries_max = entries_max
        self._until_ms: dict[str, int] = {}

    def is_new(self, replay_id: str, now_ms: int) -> bool:
        """Remember an id; False when it is a replay. UnavailableError when the memory is full."""
        self._forget(now_ms)
        until_ms = self._until_ms.get(replay_id)
        if until_ms is not None and until_ms > now_ms:
            return False
        if len(self._until_ms) >= self._entries_max:
            raise UnavailableError("too many signed requests within a few minutes")
        self._until_ms.pop(replay_id, None)  # stands again at the end
        self._until_ms[replay_id] = now_ms + self._ttl_ms
        return True

    def __len__(self) -> int:
        return len(self._until_ms)

    def _forget(self, now_ms: int) -> None:
        """Drop what is over: entries stand in the order in which they came, and so end."""
        while self._until_ms:
            oldest = next(iter(self._until_ms))
            if self._until_ms[oldest] > now_ms:
                return
            del self._until_ms[oldest]
