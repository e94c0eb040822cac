"""After a restore: a merchant comes back as a new incarnation, or the hub itself with a new epoch.

A merchant's new incarnation (`sconto.merchant.incarnation.v1`) fences the old one: its parts are
written off, late reports are honoured from there, and it is granted new ones. It is told first what
it may have forgotten: which of its tokens were used.

A hub that was restored starts an epoch in which nothing is free. It asks what merchants hold
(`sconto.hub.epoch.v1`); what they present with our signature under it (`sconto.allotment.presented
.v1`) is open again. Units of an older epoch never become free: they may have been granted again by
what we have forgotten. An operator who knows better tops the budget up.
"""

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from sconto.base.documents import from_builtins
from sconto.base.errors import ConflictError
from sconto.base.fields import Identifier
from sconto.ledger import UNLIMITED, Amounts
from sconto.servers.hub import allotments, counters, moves
from sconto.servers.hub.counters import CounterName
from sconto.servers.hub.proofs import check_proof
from sconto.servers.hub.reports import judge_again
from sconto.store import access, exchange, ledger, offers, reports
from sconto.store.ledger import Allotment
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.hub import Hub

EPOCH = "sconto.hub.epoch.v1"
USED = "sconto.token.used.v1"

MadeId = Annotated[str, Meta(pattern=r"^[0-9A-Z]{26}$(?!\n)")]
Units = Annotated[int, Meta(ge=0, le=UNLIMITED)]


class Incarnation(Struct, kw_only=True):
    """A merchant was restored from a backup."""

    incarnation: MadeId


class Presented(Struct, kw_only=True):
    """A part that a merchant holds, as it was granted."""

    allotment_id: MadeId
    promotion_id: Identifier
    uses: Units
    amount_minor: Units
    incarnation: Identifier
    epoch: Identifier
    #: What the hub signed with the grant.
    proof: Annotated[str, Meta(max_length=4096)]
    counter: CounterName = ""


def merchant_incarnation(hub: "Hub", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """Fence what an older incarnation holds, and grant to the new one."""
    allotments.check_merchant(hub, source)
    incarnation = from_builtins(data, Incarnation, what="data", field="data").incarnation
    if access.incarnation_of(tx.connection, source) == incarnation:
        return
    access.set_incarnation(tx, source, incarnation)
    for part in ledger.open_of(tx.connection, source):
        if part.incarnation != incarnation:
            ledger.write_off(tx, part.allotment_id)
    for token_id, uses in reports.uses_at(tx.connection, source, tx.now_ms).items():
        tx.send(source, USED, token_id, {"token_id": token_id, "uses": uses})
    moves.merchant_restored(hub, tx, source)
    for promotion_id in offers.of_merchant(tx.connection, source):
        promotion = offers.standing(tx.connection, [promotion_id])[promotion_id]
        if promotion.status != "ended":
            holders = len(offers.merchants_of(tx.connection, promotion_id))
            allotments.grant(hub, tx, promotion_id, source, Amounts(1, 1), holders)


def allotment_presented(hub: "Hub", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """A merchant holds a part of an older epoch: it is open, whether we remember it or not."""
    allotments.check_merchant(hub, source)
    shown = from_builtins(data, Presented, what="data", field="data")
    part = Allotment(
        shown.allotment_id,
        shown.promotion_id,
        source,
        shown.incarnation,
        Amounts(shown.uses, shown.amount_minor),
        Amounts(shown.uses, shown.amount_minor),
        "open",
        shown.epoch,
        counter=shown.counter,
    )
    check_proof(hub.base.home, part, shown.proof)
    if shown.incarnation != access.incarnation_of(tx.connection, source):
        raise ConflictError(
            "the part was granted to another incarnation",
            code="incarnation_mismatch",
            field="data.incarnation",
        )
    if shown.epoch == hub.base.home.incarnation:
        return
    known = ledger.get(tx.connection, shown.allotment_id)
    if known is None:
        _take_up(hub, tx, part)
    elif known.state == "written_off":
        ledger.reopen(tx, known)


def _take_up(hub: "Hub", tx: Tx, part: Allotment) -> None:
    """A grant that the backup did not have: its units are among those that were written off."""
    if part.counter:
        counters.open_budget(hub, tx, part.promotion_id, part.counter, was_granted=True)
    if not ledger.take_up(tx, part):
        raise ConflictError(
            "the budget has not so much that could have been granted",
            code="budget_exhausted",
            field="data.uses",
        )
    judge_again(hub, tx, part.allotment_id)


def begin_epoch(hub: "Hub", tx: Tx, before: str) -> dict[str, int]:
    """Put a restored hub's datastore into its new epoch, that of its home; offline.

    `before` is the epoch of the backup. Gives how many budgets and parts were written off.
    """
    home = hub.base.home
    counts = ledger.begin_epoch(tx, before, home.incarnation)
    peers = access.list_peers(tx.connection)
    exchange.restart(tx.changing(), home.incarnation, [peer.url for peer in peers])
    exchange.clear_alarms(tx.changing())
    for peer in peers:
        if peer.kind == "merchant":
            tx.send(peer.url, EPOCH, home.incarnation, {"epoch": home.incarnation})
    moves.hub_restored(hub, tx)
    return counts


EVENT_HANDLERS = {
    "sconto.merchant.incarnation.v1": merchant_incarnation,
    "sconto.allotment.presented.v1": allotment_presented,
}
