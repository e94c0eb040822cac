"""The outside observer: it believes only what it has written down itself.

In: every request before it is sent, every answer before anybody acts on it. Out: what was
acknowledged, what is still unknown, and what does not hold. A request without an answer may have
happened or not: it is sent again, under the same id, until there is an answer. The history lies on
another file system than the servers', and an answer counts once it is synced there.
"""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import msgspec

from sconto.base.errors import UnavailableError


class Request(msgspec.Struct, frozen=True):
    """One request under an id of ours, to the merchant with this number."""

    id: str
    shop: int
    path: str
    body: bytes
    #: The order that is reversed; empty: this is a redemption.
    reverses: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What a request was answered with."""

    status: int
    digest: str
    #: Redemptions that were made, or of which nothing is left.
    redemption_ids: tuple[str, ...]
    #: Promotions that were refused by name; strangers are not told which one a code stands for.
    refused: int
    #: What the merchant signed; the buyer keeps it.
    receipt: str | None = None


class Observer:
    """The history of one trial."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._lines: list[bytes] = []
        self._noted = 0
        self._synced = 0
        self._lock = asyncio.Lock()
        self.unknown: dict[str, Request] = {}
        self.acknowledged: dict[str, tuple[Request, Answer]] = {}
        #: Refused for good (4xx): nothing happened.
        self.refused: dict[str, tuple[Request, Answer]] = {}
        #: Orders that somebody tried to reverse, and whatever a lost disk knew of: another answer
        #: to the same request may be right.
        self.touched: set[str] = set()
        #: Answers by status, the temporary ones too.
        self.statuses: dict[int, int] = {}

    async def sends(self, request: Request) -> None:
        """Note a request that is about to be sent for the first time."""
        if request.reverses:
            self.touched.add(request.reverses)
        self.unknown[request.id] = request
        await self._note({"sends": request.id, "shop": request.shop, "path": request.path})

    async def hears(self, request: Request, status: int, body: bytes) -> bool:
        """Note an answer; False: it says nothing for good, so the request is sent again."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status >= 500 or status == 429:
            return False
        answer = read_answer(status, body)
        await self._note({"hears": request.id, **msgspec.to_builtins(answer)})
        del self.unknown[request.id]
        into = self.acknowledged if status < 300 else self.refused
        into[request.id] = (request, answer)
        return True

    def close(self) -> None:
        self._file.close()

    def orders(self, shop: int | None = None) -> set[str]:
        """Acknowledged orders."""
        return {
            request.id
            for request, _ in self.acknowledged.values()
            if not request.reverses and shop in (None, request.shop)
        }

    def reversals(self, shop: int | None = None) -> set[tuple[str, str]]:
        """Acknowledged reversals, as (order, reversal)."""
        return {
            (request.reverses, request.id)
            for request, _ in self.acknowledged.values()
            if request.reverses and shop in (None, request.shop)
        }

    def redemptions(self, shop: int | None = None) -> set[str]:
        """Acknowledged redemptions."""
        return {
            redemption_id
            for request, answer in self.acknowledged.values()
            if not request.reverses and shop in (None, request.shop)
            for redemption_id in answer.redemption_ids
        }

    def receipts(self, shop: int) -> dict[str, str]:
        """What a merchant signed, by acknowledged redemption."""
        return {
            redemption_id: answer.receipt
            for request, answer in self.acknowledged.values()
            if not request.reverses and shop == request.shop and answer.receipt
            for redemption_id in answer.redemption_ids
        }

    def reversed_redemptions(self) -> set[str]:
        """Those of them that were acknowledged as wholly reversed."""
        return {
            redemption_id
            for request, answer in self.acknowledged.values()
            if request.reverses
            for redemption_id in answer.redemption_ids
        }

    def refusals(self) -> int:
        """How many promotions acknowledged orders were refused."""
        return sum(
            answer.refused for request, answer in self.acknowledged.values() if not request.reverses
        )

    async def _note(self, record: Any) -> None:
        """Append a line and sync it; who comes while a sync is under way shares the next one."""
        self._lines.append(msgspec.json.encode(record) + b"\n")
        self._noted += 1
        mine = self._noted
        async with self._lock:
            if self._synced >= mine:
                return
            lines, self._lines = self._lines, []
            noted = self._noted
            await asyncio.to_thread(self._sync, b"".join(lines))
            self._synced = noted

    def _sync(self, text: bytes) -> None:
        self._file.write(text)
        os.fsync(self._file.fileno())


def read_answer(status: int, body: bytes) -> Answer:
    """What an answer says; a repeated request must get the same one, byte for byte."""
    document = msgspec.json.decode(body)
    evaluation = document.get("evaluation") or {}
    return Answer(
        status,
        hashlib.sha256(body).hexdigest(),
        tuple(
            one["redemption_id"]
            for one in document.get("redemptions", ())
            if one.get("is_complete", True)
        ),
        sum(bool(one.get("promotion_id")) for one in evaluation.get("refused", ())),
        document.get("receipt"),
    )


def lost(acknowledged: Iterable[Any], stored: Collection[Any]) -> list[Any]:
    """The checker of sets: what was acknowledged and is not there.

    >>> lost({"a", "b"}, {"b", "c"})
    ['a']
    """
    return sorted(one for one in acknowledged if one not in stored)


def overspent(redeemed: Collection[str], taken_back: Collection[str], cap: int) -> int:
    """The checker of caps: acknowledged redemptions net of reversals, above the cap.

    >>> overspent({"a", "b", "c"}, {"c"}, cap=2), overspent({"a", "b", "c"}, set(), cap=2)
    (0, 1)
    """
    return max(0, len(set(redeemed) - set(taken_back)) - cap)


def folder_elsewhere(servers: Path) -> Path:
    """A new folder on another file system than the servers' data.

    Raises UnavailableError where there is none.
    """
    device = servers.stat().st_dev
    candidates = (tempfile.gettempdir(), "/dev/shm", "/run", str(Path.home()))  # noqa: S108
    for parent in map(Path, candidates):
        if parent.is_dir() and os.access(parent, os.W_OK) and parent.stat().st_dev != device:
            return Path(tempfile.mkdtemp(prefix="sconto-history-", dir=parent))
    raise UnavailableError("there is no second file system for the observer's history")
