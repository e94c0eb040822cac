"""Parts of budgets for merchants: granted when they take part or ask, freed when they close them.

Events from merchants, each applied in one transaction with its inbox row. An event that is wrong
raises before its first write and is parked by the exchange.
"""

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from sconto.base.documents import from_builtins
from sconto.base.errors import ConflictError, ForbiddenError, NotFoundError
from sconto.base.fields import Identifier
from sconto.base.ids import ID_RANDOM_BYTES, new_id
from sconto.base.money import AMOUNT_MINOR_MAX
from sconto.ledger import Amounts, Refused
from sconto.store import ledger, offers
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.hub import Hub

GRANTED = "sconto.allotment.granted.v1"
REFUSED = "sconto.allotment.refused.v1"

Amount = Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX)]


class Accepted(Struct, kw_only=True):
    """A merchant takes part in a promotion."""

    promotion_id: Identifier


class Requested(Struct, kw_only=True):
    """A merchant needs more; at least this much."""

    promotion_id: Identifier
    needed_uses: Amount
    needed_minor: Amount


class Closed(Struct, kw_only=True):
    """A merchant has given up what was left of a part, for good, before it said so."""

    allotment_id: Identifier
    spent_uses: Amount
    spent_minor: Amount
    #: Number of its last event about the part; the stream has no gap, so we have it.
    last_sequence: Amount


def promotion_accepted(hub: "Hub", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """Take note of it, and grant a first part."""
    check_merchant(hub, source)
    promotion_id = from_builtins(data, Accepted, what="data", field="data").promotion_id
    promotion = offers.standing(tx.connection, [promotion_id]).get(promotion_id)
    if promotion is None or promotion.status == "draft":
        raise NotFoundError(f"there is no promotion {promotion_id}", field="data.promotion_id")
    merchants = offers.merchants_of(tx.connection, promotion_id)
    if source in merchants:
        return
    offers.accept(tx, promotion_id, source)
    if promotion.status != "ended":
        grant(hub, tx, promotion_id, source, Amounts(1, 1), len(merchants) + 1)


def allotment_requested(hub: "Hub", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """Grant more, or say that there is none."""
    check_merchant(hub, source)
    asked = from_builtins(data, Requested, what="data", field="data")
    merchants = offers.merchants_of(tx.connection, asked.promotion_id)
    if source not in merchants:
        raise ForbiddenError(
            f"{source} does not take part in {asked.promotion_id}", field="data.promotion_id"
        )
    promotion = offers.standing(tx.connection, [asked.promotion_id])[asked.promotion_id]
    needed = Amounts(asked.needed_uses, asked.needed_minor)
    if promotion.status == "ended":
        _refuse(tx, asked.promotion_id, source)
    else:
        grant(hub, tx, asked.promotion_id, source, needed, len(merchants))


def allotment_closed(hub: "Hub", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """What is left of a closed part is free again, once.

    Only when the merchant's own count of what it spent is what it has reported: units of a report
    that was parked or disputed stay where they are, so that they are never given out twice.
    """
    check_merchant(hub, source)
    closed = from_builtins(data, Closed, what="data", field="data")
    allotment = ledger.get(tx.connection, closed.allotment_id)
    if allotment is None or allotment.holder != source:
        raise NotFoundError("there is no such allotment", field="data.allotment_id")
    spent = Amounts(
        allotment.granted.uses - allotment.left.uses,
        allotment.granted.minor - allotment.left.minor,
    )
    if allotment.state == "open" and spent != (closed.spent_uses, closed.spent_minor):
        raise ConflictError(
            "the part was spent otherwise than reported",
            code="closure_mismatch",
            field="data.spent_uses",
            reported_uses=spent.uses,
            reported_minor=spent.minor,
        )
    ledger.reclaim(tx, closed.allotment_id)


def promotion_opened(hub: "Hub", tx: Tx, promotion_id: str) -> None:
    """A budget was opened or topped up: every merchant that takes part gets a part of what is free.

    A merchant that was refused before would else not know that it may ask again.
    """
    merchants = offers.merchants_of(tx.connection, promotion_id)
    for merchant in merchants:
        grant(hub, tx, promotion_id, merchant, Amounts(1, 1), len(merchants))


def grant(
    hub: "Hub", tx: Tx, promotion_id: str, merchant: str, needed: Amounts, holders: int
) -> None:
    """Cut a part for a merchant and tell it, or tell it that nothing is free."""
    peer = hub.base.directory.get(merchant)
    granted = ledger.grant(
        tx,
        new_id(tx.now_ms, hub.random(ID_RANDOM_BYTES)),
        promotion_id,
        holder=merchant,
        incarnation=(peer.incarnation if peer else None) or "",
        needed=needed,
        holders=holders,
    )
    if isinstance(granted, Refused):
        _refuse(tx, promotion_id, merchant)
        return
    tx.send(
        merchant,
        GRANTED,
        promotion_id,
        {
            "allotment_id": granted.allotment_id,
            "promotion_id": promotion_id,
            "uses": granted.granted.uses,
            "amount_minor": granted.granted.minor,
            "incarnation": granted.incarnation,
            "epoch": hub.base.home.incarnation,
        },
    )


def check_merchant(hub: "Hub", source: str) -> None:
    """Only merchants send these events; ForbiddenError for other peers."""
    peer = hub.base.directory.get(source)
    if peer is None or peer.kind != "merchant":
        raise ForbiddenError(f"{source} is not a merchant", field="source")


def _refuse(tx: Tx, promotion_id: str, merchant: str) -> None:
    tx.send(merchant, REFUSED, promotion_id, {"promotion_id": promotion_id})


EVENT_HANDLERS = {
    "sconto.promotion.accepted.v1": promotion_accepted,
    "sconto.allotment.requested.v1": allotment_requested,
    "sconto.allotment.closed.v1": allotment_closed,
}
