"""Checkout: evaluate, reserve, redeem, the last two once per order id.

A request is decided and stored in one transaction of the writer (`sconto.redemption.decide`): the
order, its redemptions, the allotments that they are taken from, the uses of tokens, the journal,
and the reports to the hubs (`spending`). The reply is built from what was stored (`orders`), so a
repeated request gets the same one.
"""

import hashlib
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from sconto.base.documents import Document
from sconto.base.errors import ConflictError
from sconto.cart import Cart, Evaluation, ucp
from sconto.cart.model import CART_BYTES_MAX
from sconto.redemption import Decision, Headroom, decide
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.merchant import limiting, spending
from sconto.servers.merchant.dry_run import DryRun, dry_run_ms, evaluate_dry
from sconto.servers.merchant.orders import OrderDocument, document_of
from sconto.servers.merchant.recognise import (
    Holding,
    Presented,
    anonymous,
    holding,
    verify_presented,
)
from sconto.store import ledger, orders
from sconto.store.orders import Order
from sconto.store.writer import Tx
from sconto.terms.codes import normalise_code
from sconto.tokens import TokenClaims

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant

#: Visible ASCII but the slash, since an order has an address.
OrderIdText = Annotated[str, Meta(pattern=r"^[!-.0-~]{1,100}$(?!\n)")]
ClientText = Annotated[str, Meta(min_length=1, max_length=100)]
RESERVATION_S = 900
_BODY_BYTES_MAX = CART_BYTES_MAX + 400_000


class EvaluationRequest(Document):
    """A cart to evaluate; nothing is spent."""

    cart: Cart
    #: The merchant's own reference of the shopper, where a wallet has linked it.
    client: ClientText | None = None
    presented: Annotated[tuple[Presented, ...], Meta(max_length=20)] = ()
    #: What the proofs of presented tokens are bound to.
    order_id: OrderIdText | None = None
    #: When it happens; needs the scope `replay`. The server's clock otherwise.
    at: datetime | None = None
    #: Whether to answer in the words of UCP too.
    ucp: bool = False


class DryRunRequest(EvaluationRequest):
    """A cart to evaluate, perhaps as it would be."""

    #: What to suppose, for whoever tries promotions out; needs the scope `promotions:read` too.
    dry_run: DryRun | None = None


class CheckoutRequest(Document):
    """A cart to reserve for, or to redeem at once, under an id that the shop has made."""

    order_id: OrderIdText
    cart: Cart
    client: ClientText | None = None
    presented: Annotated[tuple[Presented, ...], Meta(max_length=20)] = ()
    at: datetime | None = None
    #: How long a reservation holds.
    ttl_s: Annotated[int, Meta(ge=1, le=86_400)] = RESERVATION_S


class EvaluationReply(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What would be redeemed now."""

    evaluation: Evaluation
    #: The same as `currency`, `line_items`, `discounts`, `totals` and `messages` of a UCP response.
    ucp: dict[str, Any] | None = None


_EXAMPLE_CART = {
    "currency": "USD",
    "lines": [{"id": "1", "sku": "oaty-1l", "quantity": 2, "price_minor": 525, "brand": "oaty"}],
    "codes": [],
}


@endpoint(
    "POST",
    "/v1/evaluations",
    scope="evaluate",
    summary="Evaluate a cart: which promotions apply, how much each gives, and why others do not",
    accepts=DryRunRequest,
    accepts_usually=EvaluationRequest,
    accepts_example={"cart": _EXAMPLE_CART, "client": "card-1234"},
    returns=EvaluationReply,
    max_bytes=_BODY_BYTES_MAX,
    is_about_document=True,
)
async def evaluate_cart(server: "Merchant", call: Call) -> EvaluationReply:
    """Nothing is spent. Shortage of allotments is taken into account as it is just now.

    A dry run supposes another instant, other terms, drafts; it knows no shortage, records nothing,
    and tells every reason.
    """
    request: EvaluationRequest = call.document
    at_ms = call.at_ms(request.at)
    dry_run = request.dry_run if isinstance(request, DryRunRequest) else None
    if dry_run is not None:
        at_ms = dry_run_ms(call, dry_run)
    if request.client is None and not request.cart.codes and not request.presented:
        held = anonymous(request.cart)
    else:
        claims = _verified(server, call, request, request.order_id or "", at_ms)
        with server.base.store.read() as connection:
            held = _holding(server, connection, request, claims, at_ms)
        if dry_run is None:
            _count_guesses(server, call, held)
    if dry_run is not None:
        return _evaluated(request, evaluate_dry(server, call, dry_run, held, at_ms))

    def read(look: limiting.Look) -> list[Headroom]:
        with server.base.store.read() as connection:
            return look(connection)

    decision = _decide(server, held, server.stock.available, "", at_ms, read)
    return _evaluated(request, decision.evaluation)


def _evaluated(request: EvaluationRequest, evaluation: Evaluation) -> EvaluationReply:
    in_ucp = ucp.render(request.cart, evaluation) if request.ucp else None
    return EvaluationReply(evaluation=evaluation, ucp=in_ucp)


@endpoint(
    "POST",
    "/v1/reservations",
    scope="checkout",
    summary="Reserve what a cart gets, until it is redeemed, released or expires",
    accepts=CheckoutRequest,
    accepts_example={"order_id": "o-1001", "cart": _EXAMPLE_CART, "client": "card-1234"},
    returns=OrderDocument,
    status=201,
    max_bytes=_BODY_BYTES_MAX,
    is_about_document=True,
    is_refused_when_busy=True,
)
async def reserve(server: "Merchant", call: Call) -> OrderDocument:
    return await _check_out(server, call, "reserved")


@endpoint(
    "POST",
    "/v1/redemptions",
    scope="checkout",
    summary="Evaluate a cart and redeem what it gets, at once",
    accepts=CheckoutRequest,
    accepts_example={"order_id": "o-1002", "cart": _EXAMPLE_CART, "client": "card-1234"},
    returns=OrderDocument,
    status=201,
    max_bytes=_BODY_BYTES_MAX,
    is_about_document=True,
    is_refused_when_busy=True,
)
async def redeem(server: "Merchant", call: Call) -> OrderDocument:
    return await _check_out(server, call, "redeemed")


ENDPOINTS = (evaluate_cart, reserve, redeem)


# --- the decision ---------------------------------------------------------------------------------


def _verified(
    server: "Merchant",
    call: Call,
    request: EvaluationRequest | CheckoutRequest,
    order_id: str,
    at_ms: int,
) -> list[TokenClaims]:
    return verify_presented(
        server,
        request.presented,
        method=call.method,
        path=call.endpoint.path,
        order=order_id,
        at_ms=at_ms,
        now_ms=server.base.wall_clock(),
    )


def _holding(
    server: "Merchant",
    connection: sa.Connection,
    request: EvaluationRequest | CheckoutRequest,
    claims: list[TokenClaims],
    at_ms: int,
) -> Holding:
    if request.client is None and not request.cart.codes and not claims:
        return anonymous(request.cart)

    def holdout(terms_digest: str) -> int:
        known = server.shelf.get(terms_digest)
        return 0 if known is None else known.terms.holdout_basis_points

    return holding(
        connection, request.cart, request.client, claims, at_ms, server.mint.digest, holdout
    )


def _decide(
    server: "Merchant",
    held: Holding,
    available: limiting.Available,
    order_id: str,
    at_ms: int,
    read: limiting.Read,
) -> Decision:
    with server.shelf.lock:
        return decide(
            held.cart,
            server.shelf.index,
            held.holder,
            at_ms,
            merchant=server.base.home.url,
            order_id=order_id,
            available=available,
            headroom_of=limiting.headroom_of(server, held, at_ms, available, read),
        )


async def _check_out(
    server: "Merchant", call: Call, state: Literal["reserved", "redeemed"]
) -> OrderDocument:
    request: CheckoutRequest = call.document
    at_ms = call.at_ms(request.at)
    # The same bytes as RFC 8785 gives for these values, and far quicker.
    cart_bytes = msgspec.json.encode(request.cart, order="deterministic")
    body_hash = _content_hash(request, cart_bytes)
    claims: list[TokenClaims] = []
    if request.presented:
        with server.base.store.read() as connection:
            known = orders.get(connection, request.order_id)
        if known is None:  # a repeated request needs no fresh proof
            claims = _verified(server, call, request, request.order_id, at_ms)

    def command(tx: Tx) -> OrderDocument:
        known = orders.find(tx, request.order_id)
        if known is not None:
            return _repeated(tx.connection, known, body_hash, state)
        held = _holding(server, tx.apart, request, claims, at_ms)
        _count_guesses(server, call, held)
        available = partial(ledger.available_to, tx, server.base.home.url)
        decision = _decide(
            server, held, available, request.order_id, at_ms, lambda look: look(tx.apart)
        )
        spending.check_not_restored(server, [one.applied.terms_digest for one in decision.spends])
        return spending.keep(
            server, tx, request, held, decision, cart_bytes, body_hash, state, at_ms
        )

    done: OrderDocument = await server.base.store.write(
        command, is_beside=True, subject=request.order_id
    )
    return done


def _content_hash(request: CheckoutRequest, cart_bytes: bytes) -> bytes:
    """What makes two requests the same: all but the proofs, which are made anew each time."""
    content = (
        msgspec.Raw(cart_bytes),
        request.client,
        request.at,
        request.ttl_s,
        [one.token for one in request.presented],
    )
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).digest()


def _count_guesses(server: "Merchant", call: Call, held: Holding) -> None:
    """Codes that mean nothing here are somebody's mistake, or guesses: too many are refused.

    Raises UnavailableError (`rate_limited`). What is known is never refused, only used up or over.
    """
    if not held.unknown:
        return
    with server.shelf.lock:
        by_code = server.shelf.index.by_code
        number = sum(not by_code(normalise_code(code)) for code in held.unknown)
    if number:
        who, now_ms = call.principal.name, server.base.wall_clock()
        server.code_guesses.failed(who, now_ms, number, field="cart.codes")


def _repeated(
    connection: sa.Connection, known: Order, body_hash: bytes, state: str
) -> OrderDocument:
    """The same request again gets the same reply; another one under the same id is a conflict."""
    if known.body_hash != body_hash:
        raise ConflictError(
            f"the order {known.order_id} was checked out with other content",
            code="exists_with_different_content",
            field="order_id",
            remedy="use a new order id; release the old one if it is only reserved",
        )
    if state == "redeemed" and known.state != "redeemed":
        raise ConflictError(
            f"the order {known.order_id} is {known.state}",
            code="exists_with_different_state",
            field="order_id",
            remedy="redeem a reservation at /v1/reservations/{order_id}/redeem",
        )
    return document_of(connection, known)
