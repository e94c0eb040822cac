"""The end of a reservation: redeemed, released, or expired by its time.

The cart is not evaluated again: exactly what was reserved is used, or given back.
"""

from typing import TYPE_CHECKING, Literal

from sconto.base.clock import day_of
from sconto.base.errors import ConflictError
from sconto.ledger import Amounts, Entry
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.merchant import limiting
from sconto.servers.merchant.orders import OrderDocument, document_of, find_order
from sconto.servers.merchant.spending import check_not_restored, record, settle_own
from sconto.store import codes, coupons, ledger, limits, orders
from sconto.store.orders import Order, Redemption
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant


@endpoint(
    "POST",
    "/v1/reservations/{order_id:str}/redeem",
    scope="checkout",
    summary="Redeem what was reserved for an order",
    returns=OrderDocument,
)
async def redeem_reserved(server: "Merchant", call: Call) -> OrderDocument:
    """Exactly what was reserved is used; the cart is not evaluated again."""

    def command(tx: Tx) -> OrderDocument:
        order = find_order(tx.connection, call.params["order_id"])
        if order.state == "redeemed":
            return document_of(tx.connection, order)
        if order.state != "reserved" or _is_overdue(order, tx.now_ms):
            raise _not_reserved(order)
        used = orders.redemptions_of(tx.connection, order.order_id)
        check_not_restored(server, [one.terms_digest for one in used])
        orders.change_state(tx, order, "redeemed")
        for one in used:
            parts = limiting.parts_of(server, tx.connection, one)
            record(server, tx, _entry(server, one, "redeemed"), order.receipt, parts)
            settle_own(server, tx, one)
        return document_of(tx.connection, find_order(tx.connection, order.order_id))

    done: OrderDocument = await server.base.store.write(command, is_beside=True)
    return done


@endpoint(
    "POST",
    "/v1/reservations/{order_id:str}/release",
    scope="checkout",
    summary="Give back what was reserved for an order",
    returns=OrderDocument,
)
async def release(server: "Merchant", call: Call) -> OrderDocument:
    def command(tx: Tx) -> OrderDocument:
        order = find_order(tx.connection, call.params["order_id"])
        if order.state in ("released", "expired"):
            return document_of(tx.connection, order)
        if order.state != "reserved":
            raise _not_reserved(order)
        end_reservation(server, tx, order, "released")
        return document_of(tx.connection, find_order(tx.connection, order.order_id))

    done: OrderDocument = await server.base.store.write(command, is_beside=True)
    return done


ENDPOINTS = (redeem_reserved, release)


async def expire_overdue(server: "Merchant") -> None:
    """Give back what was reserved for orders whose time is over."""

    def command(tx: Tx) -> None:
        for order_id in orders.overdue(tx.connection, tx.now_ms):
            end_reservation(server, tx, find_order(tx.connection, order_id), "expired")

    with server.base.store.read() as connection:
        if not orders.overdue(connection, server.base.clock(), limit=1):
            return
    await server.base.store.write(command)


def end_reservation(
    server: "Merchant", tx: Tx, order: Order, state: Literal["released", "expired"]
) -> None:
    """Give back what is reserved for an order."""
    used = orders.redemptions_of(tx.connection, order.order_id)
    orders.change_state(tx, order, state)
    for one in used:
        amounts = Amounts(1, one.amount_minor)
        ledger.give_back(tx, one.allotment_id, amounts)
        if limiting.is_counted(server, one.terms_digest):
            limits.give_back(tx, one.redemption_id, amounts, is_complete=True)
        give_use_back(server, tx, one)
        record(server, tx, _entry(server, one, state), None)


def give_use_back(server: "Merchant", tx: Tx, used: Redemption) -> None:
    """The token or unique code of a redemption that was undone can be used again."""
    if used.token_id is None:
        return
    if used.code is None:
        coupons.give_use_back(tx, used.token_id)
    else:
        codes.give_use_back(tx, server.mint.digest(used.code))


def _entry(
    server: "Merchant", used: Redemption, kind: Literal["redeemed", "released", "expired"]
) -> Entry:
    """The entry of an act on a reservation: it happens on the day of the checkout."""
    terms = server.shelf.get(used.terms_digest)
    return Entry(
        kind=kind,
        promotion_id=used.promotion_id,
        merchant=used.merchant,
        at_ms=used.at_ms,
        day=day_of(used.at_ms, terms.zone if terms else "UTC").isoformat(),
        terms_digest=used.terms_digest,
        token_id=used.token_id or "",
        order_id=used.order_id,
        redemption_id=used.redemption_id,
        allotment_id=used.allotment_id,
        amount_minor=used.amount_minor,
        currency=used.currency,
    )


def _is_overdue(order: Order, now_ms: int) -> bool:
    return order.expires_at_ms is not None and order.expires_at_ms <= now_ms


def _not_reserved(order: Order) -> ConflictError:
    state = "expired" if order.state == "reserved" else order.state
    return ConflictError(
        f"the order {order.order_id} is {state}, not reserved",
        code="reservation_expired" if state == "expired" else "not_reserved",
        field="order_id",
        remedy="check out again under a new order id",
        state=state,
    )
