"""What the limits of a promotion count, worked out here once more, so that no server is believed.

In: terms as a document, and redemptions as they are in the files of merchants and of the wallet.
Out: for each redemption what it is counted in, and how much that may be. A redemption under "2 a
day for each region" is counted in `("promo1", "day", "2026-12-01", "north")`.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sconto.ledger import UNLIMITED

#: What is counted: its kind (`R`, `S`, `T`), then what tells it from others of the kind.
Key = tuple[str, ...]


class Used(NamedTuple):
    """A redemption that is held: reserved, or redeemed and not taken back."""

    promotion_id: str
    at_ms: int
    uses: int
    #: Net of what was brought back.
    minor: int
    token_id: str | None = None
    #: As the till told; of a token the wallet's account is asked instead.
    client: str | None = None
    region: str | None = None
    #: Known to a hub, or not forgotten by its merchant: nobody may do it again.
    is_known: bool = True


class Token(NamedTuple):
    """Whose a token is, and which one was clipped, that it took the place of."""

    account: str
    clipped: str


class Rules:
    """The limits of one promotion; `cap` grows when its budget is topped up."""

    def __init__(self, terms: Mapping[str, Any]) -> None:
        self.promotion_id = str(terms["promotion_id"])
        self.zone = ZoneInfo(terms.get("schedule", {}).get("time_zone", "UTC"))
        self.cap = (UNLIMITED, UNLIMITED)
        self.token_uses = 1
        #: Of all merchants together: like the cap, in a period, by region or by code.
        self.shared: list[Mapping[str, Any]] = []
        #: By shopper, over all merchants or at each.
        self.by_shopper: list[Mapping[str, Any]] = []
        for limit in terms["limits"]:
            per = set(limit.get("per", ["promotion"]))
            if per == {"promotion"} and "period" not in limit:
                self.cap = _most(limit)
            elif per == {"token"}:
                self.token_uses = limit["uses"]
            else:
                (self.by_shopper if "shopper" in per else self.shared).append(limit)

    def counter(self, name: str) -> tuple[int, int] | None:
        """What a hub's counter of this name may hold; None: there is no such limit."""
        head, *rest = name.split("/")
        for limit in self.shared:
            per = limit.get("per", ["promotion"])
            kinds = [kind for kind in ("code", "attribute") if kind in per]
            is_same = [one.partition(":")[0] for one in rest] == kinds
            if head.startswith(f"{limit.get('period', 'ever')}:") and is_same:
                return _most(limit)
        return None

    def keys(
        self, used: Used, merchant: str, token: Token | None
    ) -> Iterator[tuple[Key, tuple[int, int]]]:
        """What a redemption is counted in, each with the most uses and minor units."""
        of = self.promotion_id
        yield ("R", of), self.cap
        for limit in self.shared:
            by = (used.region or "") if "attribute" in limit.get("per", ()) else ""
            yield ("R", of, *self._period(limit, used.at_ms), by), _most(limit)
        if not used.is_known:
            return
        if token is not None:
            yield ("T", token.clipped), (self.token_uses, UNLIMITED)
        shopper = used.client if token is None else token.account
        for limit in self.by_shopper:
            where = merchant if "merchant" in limit["per"] else ""
            key = ("S", of, *self._period(limit, used.at_ms), where, shopper or "")
            yield key, _most(limit)

    def _period(self, limit: Mapping[str, Any], at_ms: int) -> tuple[str, str]:
        if limit.get("period", "ever") == "ever":
            return "ever", ""
        day = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(self.zone).date()
        return "day", day.isoformat()


def _most(limit: Mapping[str, Any]) -> tuple[int, int]:
    return limit.get("uses", UNLIMITED), limit.get("amount_minor", UNLIMITED)
