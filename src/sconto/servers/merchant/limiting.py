"""The limits of a checkout: which counters each applied promotion is counted in, and what is left.

Counters are this merchant's own. A limit that names neither merchant nor store, of a hub's
promotion, is kept by each merchant for itself; uses for each shopper are, for tokens, kept by the
hub as well, over all merchants, by how many it issues.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from sconto.cart import Applied
from sconto.redemption import Headroom, HeadroomOf
from sconto.servers.merchant.recognise import Holding
from sconto.store import limits
from sconto.terms.counting import Occasion, counted, counters

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant


Look = Callable[[sa.Connection], list[Headroom]]
#: Gives a look at the datastore a connection.
Read = Callable[[Look], list[Headroom]]


def headroom_of(server: "Merchant", held: Holding, at_ms: int, read: Read) -> HeadroomOf:
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
        found = counters(known.terms, occasion)
        if found is None:
            return None

        def look(connection: sa.Connection) -> list[Headroom]:
            used = limits.used(connection, applied.promotion_id, [one.name for one in found])
            return [Headroom(one, used[one.name]) for one in found]

        return read(look)

    return headroom


def is_counted(server: "Merchant", terms_digest: str) -> bool:
    """Whether redemptions under these terms may be in counters."""
    known = server.shelf.get(terms_digest)
    return known is None or bool(counted(known.terms))
