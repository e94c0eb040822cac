"""Returns: what a redemption gave is taken back, whole or line by line, by an opposite entry.

The units go back to the allotment that they came from, while it is open. When nothing of a
redemption is left, its use goes back too and its token's use revives.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from sconto.base.clock import day_of
from sconto.base.documents import Document, decode
from sconto.base.errors import ConflictError, InvalidInputError
from sconto.base.fields import Identifier
from sconto.cart import Evaluation, HeldCode, HeldToken, Holder
from sconto.cart.model import LINE_QUANTITY_MAX, decode_cart
from sconto.cart.returns import Kept, bring_back, keep_all
from sconto.ledger import Amounts, Entry
from sconto.redemption import redemption_id
from sconto.servers.endpoint import Answer, Call, endpoint
from sconto.servers.merchant import limiting
from sconto.servers.merchant.orders import find_order
from sconto.servers.merchant.reservations import give_use_back
from sconto.servers.merchant.spending import record
from sconto.store import coupons, ledger, limits, orders
from sconto.store.orders import Order, Redemption
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant


class ReturnedLine(Document):
    """Units of a line that come back."""

    line_id: Annotated[str, Meta(min_length=1, max_length=200)]
    quantity: Annotated[int, Meta(ge=1, le=LINE_QUANTITY_MAX)]


class ReversalRequest(Document):
    """What comes back, under an id that the shop has made. No lines: everything that is left."""

    reversal_id: Annotated[Identifier, Meta(max_length=100)]
    lines: Annotated[tuple[ReturnedLine, ...], Meta(max_length=5000)] = ()
    at: datetime | None = None


class ReversedRedemption(Document):
    """What a reversal took back of one redemption."""

    redemption_id: str
    promotion_id: str
    amount_minor: int
    #: Whether nothing of the redemption is left.
    is_complete: bool


class ReversalDocument(Document):
    """A reversal, as the return policies in the terms have it (sconto.cart.returns)."""

    reversal_id: str
    order_id: str
    #: What the shopper gets back.
    refund_minor: int
    #: What goes back to the promotions.
    discount_reversed_minor: int
    redemptions: tuple[ReversedRedemption, ...]
    lines: tuple[ReturnedLine, ...]


@endpoint(
    "POST",
    "/v1/orders/{order_id:str}/reversals",
    scope="reverse",
    summary="Reverse what was redeemed in an order, whole or for returned units",
    accepts=ReversalRequest,
    accepts_example={"reversal_id": "r-1", "lines": [{"line_id": "1", "quantity": 1}]},
    returns=ReversalDocument,
    status=201,
)
async def reverse(server: "Merchant", call: Call) -> Any:
    """Once per `reversal_id`; more units than an order has left cannot come back."""
    request: ReversalRequest = call.document
    body_hash = call.body_hash()
    at_ms = call.at_ms(request.at)

    def command(tx: Tx) -> Answer:
        order = find_order(tx.connection, call.params["order_id"])
        known = orders.reversal(tx.connection, order.order_id, request.reversal_id)
        if known is not None:
            if known[0] != body_hash:
                raise ConflictError(
                    "this reversal was made with other content",
                    code="exists_with_different_content",
                    field="reversal_id",
                    remedy="use a new reversal id",
                )
            return Answer(known[1], 201)
        if order.state != "redeemed":
            raise ConflictError(
                f"the order {order.order_id} is {order.state}, not redeemed",
                code="not_redeemed",
                field="order_id",
            )
        document, kept = _reverse(server, tx, order, request, at_ms)
        reply = msgspec.json.encode(document)
        orders.add_reversal(tx, order.order_id, request.reversal_id, body_hash, reply)
        orders.keep_rest(tx, order.order_id, msgspec.json.encode(kept))
        return Answer(reply, 201)

    return await server.base.store.write(command)


ENDPOINTS = (reverse,)


def _reverse(
    server: "Merchant", tx: Tx, order: Order, request: ReversalRequest, at_ms: int
) -> tuple[ReversalDocument, Kept]:
    cart = decode_cart(order.cart)
    evaluation = msgspec.json.decode(order.evaluation, type=Evaluation)
    kept = keep_all(cart, evaluation) if order.kept is None else decode(order.kept, Kept)
    coming = _coming(kept, request)
    used = {one.redemption_id: one for one in orders.redemptions_of(tx.connection, order.order_id)}
    result = bring_back(
        cart,
        evaluation,
        kept,
        coming,
        {
            d: server.shelf.terms(tx.connection, d)
            for d in {a.terms_digest for a in evaluation.applied}
        },
        holder=_holder(tx, order, list(used.values())),
        at_ms=order.at_ms,
        lanes=server.shelf.index.lanes,
    )
    taken = []
    for reversal in result.reversals:
        applied = evaluation.applied[reversal.applied]
        one = used[redemption_id(server.base.home.url, order.order_id, applied)]
        _take_back(server, tx, one, reversal.amount_minor, at_ms, is_complete=reversal.is_whole)
        taken.append(
            ReversedRedemption(
                redemption_id=one.redemption_id,
                promotion_id=one.promotion_id,
                amount_minor=reversal.amount_minor,
                is_complete=reversal.is_whole,
            )
        )
    document = ReversalDocument(
        reversal_id=request.reversal_id,
        order_id=order.order_id,
        refund_minor=result.refund_minor,
        discount_reversed_minor=sum(one.amount_minor for one in taken),
        redemptions=tuple(taken),
        lines=tuple(ReturnedLine(line_id=k, quantity=v) for k, v in sorted(coming.items())),
    )
    return document, result.kept


def _holder(tx: Tx, order: Order, used: list[Redemption]) -> Holder:
    """Who bought, with the tokens and unique codes used, to evaluate again as it was then."""
    tokens = []
    for one in used:
        coupon = coupons.get(tx.connection, one.token_id) if one.token_id else None
        if coupon is not None:
            tokens.append(
                HeldToken(
                    token_id=coupon.token_id,
                    terms_digest=coupon.terms_digest,
                    clipped_at_ms=coupon.clipped_at_ms,
                )
            )
    codes = tuple(
        HeldCode(code=one.code, terms_digest=one.terms_digest)
        for one in used
        if one.code is not None and one.token_id is not None
    )
    return Holder(client=order.client_ref, proven=True, tokens=tuple(tokens), codes=codes)


def _coming(kept: Kept, request: ReversalRequest) -> dict[str, int]:
    """Units that come back now, by line; all that are left where the request names none."""
    if not request.lines:
        coming = {line_id: units for line_id, units in kept.quantities.items() if units}
        if not coming:
            raise ConflictError(
                "nothing of this order is left to come back",
                code="nothing_left",
                field="order_id",
            )
        return coming
    coming = {}
    for i, line in enumerate(request.lines):
        if line.line_id not in kept.quantities or line.line_id in coming:
            raise InvalidInputError(
                "the order has no such line, or it stands twice", field=f"lines[{i}].line_id"
            )
        if line.quantity > kept.quantities[line.line_id]:
            raise ConflictError(
                f"only {kept.quantities[line.line_id]} units of the line are left",
                code="too_many_returned",
                field=f"lines[{i}].quantity",
                left=kept.quantities[line.line_id],
            )
        coming[line.line_id] = line.quantity
    return coming


def _take_back(
    server: "Merchant",
    tx: Tx,
    used: Redemption,
    amount_minor: int,
    at_ms: int,
    *,
    is_complete: bool,
) -> None:
    orders.reverse(tx, used, amount_minor, is_complete=is_complete)
    amounts = Amounts(1 if is_complete else 0, amount_minor)
    if limiting.is_counted(server, used.terms_digest):
        limits.give_back(tx, used.redemption_id, amounts, is_complete=is_complete)
    terms = server.shelf.get(used.terms_digest)
    if terms is not None and terms.hub is None:
        ledger.unsettle(tx, used.allotment_id, amounts, used.redemption_id)
    else:
        ledger.give_back(tx, used.allotment_id, amounts)
    if is_complete:
        give_use_back(server, tx, used)
    entry = Entry(
        kind="reversed",
        promotion_id=used.promotion_id,
        merchant=used.merchant,
        at_ms=at_ms,
        day=day_of(at_ms, terms.zone if terms else "UTC").isoformat(),
        terms_digest=used.terms_digest,
        token_id=used.token_id or "",
        order_id=used.order_id,
        redemption_id=used.redemption_id,
        allotment_id=used.allotment_id,
        amount_minor=amount_minor,
        currency=used.currency,
        is_complete=is_complete,
    )
    record(server, tx, entry, None)
