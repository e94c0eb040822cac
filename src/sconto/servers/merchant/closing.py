"""Giving parts of hubs' budgets back: closed durably first, only then is the hub told.

A part from which something is reserved is spent no further and is closed when the last reservation
has ended; `finish` looks for such parts every second. A merchant closes

1. what a hub asks for and it has not needed of late (`sconto.allotment.close_requested.v1`);
2. rests that are too small for what it needs, when the hub has no more: it may get them as one;
3. everything of a promotion that has ended, or in which it takes part no longer;
4. parts of limits that merchants share, when their period has ended.
"""

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from sconto.base.documents import from_builtins
from sconto.base.fields import Identifier
from sconto.ledger import Amounts
from sconto.servers.merchant.shelf import Held
from sconto.store import exchange, ledger, orders
from sconto.store import promotions as store
from sconto.store.ledger import Allotment
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant

CLOSED = "sconto.allotment.closed.v1"
#: A promotion that was redeemed within this time is needed here.
IDLE_MS = 10_000


class _CloseRequested(Struct, kw_only=True):
    allotment_id: Identifier
    promotion_id: Identifier


class _Refused(Struct, kw_only=True):
    promotion_id: Identifier
    needed_uses: Annotated[int, Meta(ge=0)] = 0
    needed_minor: Annotated[int, Meta(ge=0)] = 0
    #: Of a limit that merchants share; empty: of the promotion itself.
    counter: str = ""


def close_requested(server: "Merchant", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """A hub would like a part back; it is kept where it is needed, and then nothing happens."""
    event = from_builtins(data, _CloseRequested, what="event")
    part = ledger.get(tx.connection, event.allotment_id)
    if part is None or part.state != "open" or _hub_of(tx, part.promotion_id) != source:
        return
    if _is_idle(server, tx, part):
        _close(tx, source, part)


def allotment_refused(server: "Merchant", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """The hub has not so much to grant just now. Rests may make it up: they are given back."""
    event = from_builtins(data, _Refused, what="event")
    if _hub_of(tx, event.promotion_id) != source:
        return
    needed = Amounts(event.needed_uses, event.needed_minor)
    for part in _held(server, tx, event.promotion_id, event.counter):
        if not needed.fits(part.left):
            _close(tx, source, part)


def close_all(server: "Merchant", tx: Tx, promotion_id: str, hub: str) -> None:
    """Give back everything of a promotion, and of its counters."""
    for part in ledger.open_of(tx.connection, server.base.home.url, promotion_id):
        _close(tx, hub, part)


def close_ended(server: "Merchant", tx: Tx, held: Held, before_ms: int) -> None:
    """Give back what is left of periods that ended before an instant and is not needed."""
    for part in ledger.open_of(tx.connection, server.base.home.url, held.promotion_id):
        has_ended = part.ends_at_ms is not None and part.ends_at_ms <= before_ms
        if held.hub is not None and has_ended and _is_idle(server, tx, part):
            _close(tx, held.hub, part)


async def finish(server: "Merchant") -> None:
    """Close the parts that only waited for reservations to end."""

    def command(tx: Tx) -> None:
        for part in ledger.closing(tx.connection):
            hub = _hub_of(tx, part.promotion_id)
            if hub is not None:
                _close(tx, hub, part)

    with server.base.store.read() as connection:
        waiting = [part.allotment_id for part in ledger.closing(connection)]
        is_any_free = not all(orders.is_reserved_from(connection, one) for one in waiting)
    if waiting and is_any_free:
        await server.base.store.write(command)


def _close(tx: Tx, hub: str, part: Allotment) -> None:
    if orders.is_reserved_from(tx.connection, part.allotment_id):
        if not part.is_closing:
            ledger.begin_closing(tx, part.allotment_id)
        return
    left = ledger.close(tx, part.allotment_id)
    spent = Amounts(part.granted.uses - left.uses, part.granted.minor - left.minor)
    before = sum(event.destination == hub for event in tx.events)
    tx.send(
        hub,
        CLOSED,
        part.promotion_id,
        {
            "allotment_id": part.allotment_id,
            "spent_uses": spent.uses,
            "spent_minor": spent.minor,
            "last_sequence": exchange.stream_to(tx.connection, hub).last_sequence + before,
        },
    )


def _held(server: "Merchant", tx: Tx, promotion_id: str, counter: str) -> list[Allotment]:
    """The parts that are spent from."""
    found = ledger.available(tx.connection, server.base.home.url, [promotion_id], counter)
    return found.get(promotion_id, [])


def _is_idle(server: "Merchant", tx: Tx, part: Allotment) -> bool:
    here = server.spent_at_ms.get((part.promotion_id, part.counter), 0)
    spent_at_ms = max(here, ledger.last_spent_at_ms(tx.connection, part.allotment_id))
    return spent_at_ms + IDLE_MS <= tx.now_ms


def _hub_of(tx: Tx, promotion_id: str) -> str | None:
    promotion = store.get(tx.connection, promotion_id)
    return None if promotion is None else promotion.hub
