"""After a restore from a backup: this merchant, or a hub of its.

A restored merchant has forgotten what it redeemed since the backup. It becomes another incarnation
before it serves: everything that it holds is closed, every reservation is given back, its hubs are
told, and they grant to the new incarnation (`sconto merchant restore`, offline). Until a hub has
heard of it there is nothing of that hub's promotions to spend.

A hub that was restored has forgotten grants. It asks, and is shown what is held, with its own
signature under it. A grant of an epoch that has ended is refused from then on.
"""

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sconto.base.documents import from_builtins
from sconto.base.errors import PeerError
from sconto.base.fields import Identifier
from sconto.servers.merchant.orders import find_order
from sconto.servers.merchant.reservations import end_reservation
from sconto.store import access, coupons, exchange, ledger, orders
from sconto.store import promotions as store
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant

INCARNATION = "sconto.merchant.incarnation.v1"
PRESENTED = "sconto.allotment.presented.v1"


class _Epoch(Struct, kw_only=True):
    #: The hub's new incarnation.
    epoch: Identifier


class _TokenUsed(Struct, kw_only=True):
    token_id: Identifier
    uses: int


def hub_epoch(server: "Merchant", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """The hub was restored: show it what we hold of its promotions."""
    epoch = from_builtins(data, _Epoch, what="event").epoch
    access.set_incarnation(tx, source, epoch)
    for part in ledger.open_of(tx.connection, server.base.home.url):
        promotion = store.get(tx.connection, part.promotion_id)
        if promotion is None or promotion.hub != source or part.proof is None:
            continue
        tx.send(
            source,
            PRESENTED,
            part.promotion_id,
            {
                "allotment_id": part.allotment_id,
                "promotion_id": part.promotion_id,
                "uses": part.granted.uses,
                "amount_minor": part.granted.minor,
                "incarnation": part.incarnation,
                "epoch": part.epoch,
                "proof": part.proof,
                **({"counter": part.counter} if part.counter else {}),
            },
        )


def token_used(server: "Merchant", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """The hub knows of uses of a token that this copy of the datastore may have forgotten."""
    event = from_builtins(data, _TokenUsed, what="event")
    coupon = coupons.get(tx.connection, event.token_id)
    if coupon is None or coupon.hub != source:
        raise PeerError("there is no such coupon information", field="token_id")
    coupons.lower(tx, event.token_id, coupon.uses - event.uses)


def renew(server: "Merchant") -> dict[str, int]:
    """Make a restored datastore that of the new incarnation, `home.incarnation`; offline.

    Parts of hubs' budgets are closed. Of this merchant's own, what is limited is written off, since
    nobody else knows what was redeemed of it: top up what was not. May be run again.
    """
    home = server.base.home

    def command(tx: Tx) -> dict[str, int]:
        counts = {"reservations": 0, "closed": 0, "written_off": 0}
        while overdue := orders.reserved(tx.connection):
            for order_id in overdue:
                order = find_order(tx.connection, order_id)
                end_reservation(server, tx, order, "expired")
                counts["reservations"] += 1
        for part in ledger.open_of(tx.connection, home.url):
            promotion = store.get(tx.connection, part.promotion_id)
            if promotion is not None and promotion.hub is not None:
                ledger.close(tx, part.allotment_id)
                counts["closed"] += 1
                continue
            counts["written_off"] += any(ledger.write_off_own(tx, part))
        hubs = [peer.url for peer in access.list_peers(tx.connection) if peer.kind == "hub"]
        exchange.restart(tx.changing(), home.incarnation, hubs)
        exchange.clear_alarms(tx.changing())
        for hub in hubs:
            tx.send(hub, INCARNATION, home.incarnation, {"incarnation": home.incarnation})
        return counts

    done: dict[str, int] = server.base.store.write_now(command)
    return done
