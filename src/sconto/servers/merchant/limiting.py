"""The limits of a checkout: which counters each applied promotion is counted in, and what is left.

Most counters are this merchant's own. A limit that merchants share, of a hub's promotion, has a
budget at the hub; what is left of it here are parts, as of the promotion itself. Uses for each
shopper are, for tokens, kept by the hub over all merchants, by how many it issues.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import sqlalchemy as sa

from sconto.base.clock import MS_PER_DAY
from sconto.cart import Applied
from sconto.redemption import Headroom, HeadroomOf, Part
from sconto.servers.merchant.recognise import Holding
from sconto.store import limits
from sconto.store.orders import Redemption
from sconto.terms.counting import Occasion, counted, counters, shared

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant


#: How long counters are kept after the end of their period, and after their last change: what is
#: taken back later than that is not counted back, since nobody counts in them any more.
KEPT_MS = 100 * MS_PER_DAY
FORGET_EVERY_MS = 3_600_000

Look = Callable[[sa.Connection], list[Headroom]]
#: Gives a look at the datastore a connection.
Read = Callable[[Look], list[Headroom]]


class Available(Protocol):
    """The open parts of promotions, or of a counter of theirs."""

    def __call__(
        self, promotion_ids: Collection[str], counter: str = ...
    ) -> Mapping[str, Sequence[Part]]: ...


def headroom_of(
    server: "Merchant", held: Holding, at_ms: int, available: Available, read: Read
) -> HeadroomOf:
    """What `decide` asks for each applied promotion; `read` gives it a connection, where needed."""

    def headroom(applied: Applied) -> list[Headroom] | None:
        known = server.shelf.get(applied.terms_digest)
        if known is None or not counted(known.terms):
            return []
        coupon = held.coupons.get(applied.token_id or "")
        shopper = held.holder.client if coupon is None else f"{coupon.hub} {coupon.subject}"
        occasion = Occasion(
            at_ms,
            server.base.home.url,
            held.cart.store,
            shopper,
            applied.code,
            applied.token_id,
            held.cart.attributes,
        )
        found = counters(known.terms, occasion, is_of_hub=known.hub is not None)
        if found is None:
            return None
        promotion_id = applied.promotion_id
        shared = [one for one in found if one.is_shared]
        own = [one for one in found if not one.is_shared]
        rooms = [
            Headroom(one, parts=available([promotion_id], one.name).get(promotion_id, ()))
            for one in shared
        ]

        def look(connection: sa.Connection) -> list[Headroom]:
            used = limits.used(connection, promotion_id, [one.name for one in own])
            return [Headroom(one, used[one.name]) for one in own]

        return rooms + read(look) if own else rooms

    return headroom


def is_counted(server: "Merchant", terms_digest: str) -> bool:
    """Whether redemptions under these terms may be in counters."""
    known = server.shelf.get(terms_digest)
    return known is None or bool(counted(known.terms))


def parts_of(server: "Merchant", connection: sa.Connection, used: Redemption) -> list[str]:
    """The parts of shared counters that a redemption was taken from."""
    known = server.shelf.get(used.terms_digest)
    if known is not None and not shared(known.terms):
        return []
    return limits.parts_of(connection, used.redemption_id)


async def forget_ended(server: "Merchant") -> None:
    """Forget counters of periods that ended long ago, a few at a time."""
    now_ms = server.base.clock()
    if server.forgot_at_ms + FORGET_EVERY_MS > now_ms:
        return
    while await server.base.store.write(lambda tx: limits.forget_ended(tx, tx.now_ms - KEPT_MS)):
        pass
    server.forgot_at_ms = now_ms
