"""Orders as they are shown: what was used in them, and the receipt."""

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from sconto.base.clock import rfc3339
from sconto.base.documents import Document
from sconto.base.errors import NotFoundError
from sconto.servers.endpoint import Call, endpoint
from sconto.store import orders
from sconto.store.orders import Order, Redemption

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant


class RedemptionDocument(Document):
    """One use of one promotion."""

    redemption_id: str
    promotion_id: str
    terms_digest: str
    amount_minor: int
    state: str
    reversed_minor: int = 0
    token_id: str | None = None
    code: str | None = None


class OrderDocument(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An order as it stands."""

    order_id: str
    #: reserved, redeemed, released or expired
    state: str
    at: str
    currency: str
    subtotal_minor: int
    shipping_minor: int
    #: Off items and shipping together.
    discount_minor: int
    total_minor: int
    evaluation: Any
    redemptions: tuple[RedemptionDocument, ...]
    #: Compact JWS (`promo-receipt+jwt`) of this merchant over what was redeemed.
    receipt: str | None = None
    expires_at: str | None = None


@endpoint(
    "GET",
    "/v1/orders/{order_id:str}",
    scope="checkout",
    summary="An order, what was used in it, and its receipt",
    returns=OrderDocument,
)
async def show_order(server: "Merchant", call: Call) -> OrderDocument:
    with server.base.store.read() as connection:
        return document_of(connection, find_order(connection, call.params["order_id"]))


@endpoint(
    "GET",
    "/v1/orders",
    scope="checkout",
    summary="The newest orders, and how many there are",
    returns=dict[str, Any],
    query={"limit": "at most so many, 1 to 1000"},
)
async def list_orders(server: "Merchant", call: Call) -> dict[str, Any]:
    with server.base.store.read() as connection:
        found = orders.latest(connection, call.limit(20))
        total = orders.count(connection)
    return {
        "orders": [
            {
                "order_id": one.order_id,
                "state": one.state,
                "at": rfc3339(one.at_ms),
                "currency": one.currency,
                "subtotal_minor": one.subtotal_minor,
                "discount_minor": one.discount_minor,
            }
            for one in found
        ],
        "total": total,
    }


ENDPOINTS = (show_order, list_orders)


def find_order(connection: sa.Connection, order_id: str) -> Order:
    order = orders.get(connection, order_id)
    if order is None:
        raise NotFoundError(f"there is no order {order_id[:100]}", field="order_id")
    return order


def document_of(
    connection: sa.Connection,
    order: Order,
    used: list[Redemption] | None = None,
) -> OrderDocument:
    used = orders.redemptions_of(connection, order.order_id) if used is None else used
    return OrderDocument(
        order_id=order.order_id,
        state=order.state,
        at=rfc3339(order.at_ms),
        currency=order.currency,
        subtotal_minor=order.subtotal_minor,
        shipping_minor=order.shipping_minor,
        discount_minor=order.discount_minor,
        total_minor=order.subtotal_minor + order.shipping_minor - order.discount_minor,
        evaluation=msgspec.Raw(order.evaluation),
        redemptions=tuple(
            RedemptionDocument(
                redemption_id=one.redemption_id,
                promotion_id=one.promotion_id,
                terms_digest=one.terms_digest,
                amount_minor=one.amount_minor,
                state=one.state,
                reversed_minor=one.reversed_minor,
                token_id=one.token_id,
                code=one.code,
            )
            for one in sorted(used, key=lambda one: one.redemption_id)
        ),
        receipt=order.receipt if order.state == "redeemed" else None,
        expires_at=None if order.expires_at_ms is None else rfc3339(order.expires_at_ms),
    )
