"""Asking hubs for parts of their budgets: when one runs low, and before it is needed.

Parts of counters that merchants share are asked for ahead, for the period of now and the next one,
so that the first shopper after midnight needs no network. Those by an attribute are asked for when
a shopper first brings it, and then ahead too. Parts of periods that have ended are closed.
"""

from typing import TYPE_CHECKING

import sqlalchemy as sa

from sconto.ledger import Amounts
from sconto.servers.merchant import closing
from sconto.servers.merchant.shelf import Held
from sconto.store import ledger, promotions
from sconto.store.writer import Tx
from sconto.terms.counting import Counter, ahead, edge_ms

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant

REQUESTED = "sconto.allotment.requested.v1"
#: A part of a period that has ended is kept so long, for checkouts that began before.
ENDED_MS = 3_600_000
#: Promotions to one command.
_BATCH = 100


def ask(
    server: "Merchant", tx: Tx, hub: str, promotion_id: str, needed: Amounts, counter: str = ""
) -> None:
    """Ask the hub for another part, unless it was asked a moment ago."""
    asked = ("asked", promotion_id, counter)
    before = tx.seen.get(asked)
    if before is not None and needed.fits(before):
        return
    if server.asked_lately(promotion_id, counter, needed, tx.now_ms):
        return
    promotion = promotions.get(tx.apart, promotion_id)
    if promotion is None or not promotion.is_accepted:
        return  # declined in this batch: the shelf follows after the commit
    tx.seen[asked] = needed
    of = write_budget(promotion_id, counter)
    tx.announce("asked", f"{needed.uses} {needed.minor} {tx.now_ms} {of}")
    tx.send(
        hub,
        REQUESTED,
        promotion_id,
        {
            "promotion_id": promotion_id,
            "needed_uses": needed.uses,
            "needed_minor": needed.minor,
            **({"counter": counter} if counter else {}),
        },
    )


def write_budget(promotion_id: str, counter: str) -> str:
    """One text for both, as processes tell each other: there may be any character in them.

    >>> read_budget(write_budget("p 1", "day:2026-11-24"))
    ('p 1', 'day:2026-11-24')
    """
    return f"{len(counter)} {counter}{promotion_id}"


def read_budget(text: str) -> tuple[str, str]:
    """Promotion and counter in the text of `write_budget`."""
    length, _, rest = text.partition(" ")
    return rest[int(length) :], rest[: int(length)]


def ask_ahead(server: "Merchant", tx: Tx, held: Held) -> None:
    """Ask for a part of each counter of now and of next that this merchant has none of."""
    for counter in _lacking(server, tx.connection, held, tx.now_ms):
        if held.hub is not None:
            ask(server, tx, held.hub, held.promotion_id, Amounts(1, 1), counter.name)


async def provide(server: "Merchant") -> None:
    """Do so for each promotion at its first sight and at the edges of its periods."""
    now_ms = server.base.clock()
    due = [one for one in server.shelf.shared() if server.lacks_ahead(one.promotion_id, now_ms)]
    for start in range(0, len(due), _BATCH):
        some = due[start : start + _BATCH]

        def command(tx: Tx, some: list[Held] = some) -> None:
            for held in some:
                closing.close_ended(server, tx, held, tx.now_ms - ENDED_MS)
                ask_ahead(server, tx, held)

        await server.base.store.write(command)
        for held in some:
            server.has_provided(held.promotion_id, edge_ms(held.terms, now_ms))


def _lacking(
    server: "Merchant", connection: sa.Connection, held: Held, now_ms: int
) -> list[Counter]:
    own = server.base.home.url
    names = ledger.counters_of(connection, own, held.promotion_id)
    return [one for one in ahead(held.terms, now_ms, names) if one.name not in names]
