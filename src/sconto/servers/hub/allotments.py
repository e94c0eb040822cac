"""Parts of budgets for merchants: granted when they take part or ask, freed when they close them.

When little is free, holders that do not need their parts are asked to close them. Only a closure
frees units; then those who were refused get what they asked for. The events come from merchants,
and each is applied in one transaction with its inbox row. One that is wrong raises before its first
write and is parked by the exchange.
"""

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from sconto.base.documents import from_builtins
from sconto.base.errors import ConflictError, ForbiddenError, NotFoundError
from sconto.base.fields import Identifier
from sconto.base.ids import ID_RANDOM_BYTES, new_id
from sconto.base.money import AMOUNT_MINOR_MAX
from sconto.ledger import Amounts, Refused
from sconto.servers.hub import counters
from sconto.servers.hub.counters import CounterName
from sconto.servers.hub.proofs import prove
from sconto.store import access, ledger, offers, requests
from sconto.store.ledger import Allotment
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.hub import Hub

GRANTED = "sconto.allotment.granted.v1"
REFUSED = "sconto.allotment.refused.v1"
CLOSE_REQUESTED = "sconto.allotment.close_requested.v1"
#: A holder that was asked for its part, and needs it, is not asked again for this long.
ASK_AGAIN_MS = 30_000

Amount = Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX)]


class Accepted(Struct, kw_only=True):
    """A merchant takes part in a promotion."""

    promotion_id: Identifier


class Declined(Struct, kw_only=True):
    """A merchant takes part no longer; it closes its parts itself."""

    promotion_id: Identifier


class Requested(Struct, kw_only=True):
    """A merchant needs more; at least this much."""

    promotion_id: Identifier
    needed_uses: Amount
    needed_minor: Amount
    #: Of a limit that merchants share; empty: of the promotion itself.
    counter: CounterName = ""


class Closed(Struct, kw_only=True):
    """A merchant has given up what was left of a part, for good, before it said so."""

    allotment_id: Identifier
    spent_uses: Amount
    spent_minor: Amount
    #: Number of its last event before this one: the stream has no gap, so everything is applied.
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


def promotion_declined(hub: "Hub", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """It gets nothing more; what it has, it closes, and says so by events of their own."""
    check_merchant(hub, source)
    promotion_id = from_builtins(data, Declined, what="data", field="data").promotion_id
    if source not in offers.merchants_of(tx.connection, promotion_id):
        return
    offers.decline(tx, promotion_id, source)
    requests.forget(tx, promotion_id, source)


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
        _refuse(tx, asked.promotion_id, source, needed, asked.counter)
        return
    if asked.counter:
        counters.open_budget(hub, tx, asked.promotion_id, asked.counter)
    grant(hub, tx, asked.promotion_id, source, needed, len(merchants), asked.counter)


def allotment_closed(hub: "Hub", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """What was not spent of a closed part is free again, once; then those who wait get some.

    The merchant's own count of what it spent decides: units of a report that was parked or
    disputed are written off, so that they are never given out twice.
    """
    check_merchant(hub, source)
    closed = from_builtins(data, Closed, what="data", field="data")
    part = ledger.get(tx.connection, closed.allotment_id)
    if part is None or part.holder != source:
        raise NotFoundError("there is no such allotment", field="data.allotment_id")
    if part.state != "open":
        return
    claimed = Amounts(closed.spent_uses, closed.spent_minor)
    settled = Amounts(part.granted.uses - part.left.uses, part.granted.minor - part.left.minor)
    if not settled.fits(claimed) or not claimed.fits(part.granted):
        raise ConflictError(
            "the part was spent otherwise than reported",
            code="closure_mismatch",
            field="data.spent_uses",
            reported_uses=settled.uses,
            reported_minor=settled.minor,
        )
    ledger.reclaim(tx, part.allotment_id, claimed, epoch=hub.base.home.incarnation)
    was_asked = requests.was_asked(tx.connection, part.allotment_id)
    _serve_waiting(hub, tx, part, source if was_asked else None)


def promotion_opened(hub: "Hub", tx: Tx, promotion_id: str) -> None:
    """A budget was opened or topped up: every merchant that takes part gets a part of what is free.

    A merchant that was refused before would else not know that it may ask again.
    """
    merchants = offers.merchants_of(tx.connection, promotion_id)
    needs = dict(requests.waiting(tx.connection, promotion_id))
    for merchant in merchants:
        needed = needs.get(merchant, Amounts(1, 1))
        grant(hub, tx, promotion_id, merchant, needed, len(merchants))


def _serve_waiting(hub: "Hub", tx: Tx, freed: Allotment, giver: str | None) -> None:
    """Something became free: who was refused first gets some first.

    When nobody waits any more, `giver`, who gave it up for others, gets a smaller part again, so
    that its next shopper is not refused.
    """
    promotion_id, counter = freed.promotion_id, freed.counter
    if offers.standing(tx.connection, [promotion_id])[promotion_id].status == "ended":
        return
    merchants = offers.merchants_of(tx.connection, promotion_id)

    def serve(merchant: str, needed: Amounts) -> bool:
        budget = ledger.budget_of(tx.connection, promotion_id, counter)
        is_there = budget is not None and needed.fits(budget.free)
        if is_there:
            grant(hub, tx, promotion_id, merchant, needed, len(merchants), counter)
        return is_there

    served = [serve(*request) for request in requests.waiting(tx.connection, promotion_id, counter)]
    if all(served) and giver is not None and giver in merchants:
        serve(giver, Amounts(1, 1))


def grant(
    hub: "Hub",
    tx: Tx,
    promotion_id: str,
    merchant: str,
    needed: Amounts,
    holders: int,
    counter: str = "",
) -> None:
    """Cut a part for a merchant and tell it, or tell it that nothing is free."""
    home = hub.base.home
    if hub.base.deliverer.alarms:  # an old copy of this hub: others may have been granted this
        _refuse(tx, promotion_id, merchant, needed, counter)
        return
    granted = ledger.grant(
        tx,
        new_id(tx.now_ms, hub.random(ID_RANDOM_BYTES)),
        promotion_id,
        holder=merchant,
        incarnation=access.incarnation_of(tx.connection, merchant) or "",
        needed=needed,
        holders=holders,
        epoch=home.incarnation,
        counter=counter,
    )
    if isinstance(granted, Refused):
        _refuse(tx, promotion_id, merchant, needed, counter)
        requests.remember(tx, promotion_id, merchant, needed, counter)
        _ask_others(tx, promotion_id, merchant, home.incarnation, counter)
        return
    requests.forget(tx, promotion_id, merchant, counter)
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
            "epoch": home.incarnation,
            "proof": prove(home, granted),
            **_of(counter),
        },
    )


def _ask_others(tx: Tx, promotion_id: str, merchant: str, epoch: str, counter: str) -> None:
    """Ask whoever else has something left of a promotion to close it, unless it needs it."""
    asked_before_ms = tx.now_ms - ASK_AGAIN_MS
    parts = requests.others(tx.connection, promotion_id, merchant, asked_before_ms, epoch, counter)
    for part in parts:
        requests.asked(tx, part.allotment_id)
        tx.send(
            part.holder,
            CLOSE_REQUESTED,
            promotion_id,
            {"allotment_id": part.allotment_id, "promotion_id": promotion_id},
        )


def check_merchant(hub: "Hub", source: str) -> None:
    """Only merchants send these events; ForbiddenError for other peers."""
    peer = hub.base.directory.get(source)
    if peer is None or peer.kind != "merchant":
        raise ForbiddenError(f"{source} is not a merchant", field="source")


def _refuse(tx: Tx, promotion_id: str, merchant: str, needed: Amounts, counter: str) -> None:
    data = {
        "promotion_id": promotion_id,
        "needed_uses": needed.uses,
        "needed_minor": needed.minor,
        **_of(counter),
    }
    tx.send(merchant, REFUSED, promotion_id, data)


def _of(counter: str) -> dict[str, str]:
    return {"counter": counter} if counter else {}


EVENT_HANDLERS = {
    "sconto.promotion.accepted.v1": promotion_accepted,
    "sconto.promotion.declined.v1": promotion_declined,
    "sconto.allotment.requested.v1": allotment_requested,
    "sconto.allotment.closed.v1": allotment_closed,
}
