"""Checkout: evaluate, reserve, redeem, release, each of the last three once per order id.

A request is decided and stored in one transaction of the writer (`sconto.redemption.decide`): the
order, its redemptions, the allotments that they are taken from, the uses of tokens, the journal,
and the reports to the hubs. The reply is built from what was stored, so a repeated request gets the
same one.
"""

import hashlib
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from sconto.base.clock import MS_PER_SECOND, day_of, rfc3339
from sconto.base.documents import Document
from sconto.base.errors import ConflictError, NotFoundError, UnavailableError
from sconto.base.keys import sign_compact
from sconto.cart import Cart, Evaluation, ReasonCode, Refusal, encode_evaluation
from sconto.cart.model import CART_BYTES_MAX
from sconto.ledger import Amounts, Entry, wants_more
from sconto.redemption import (
    RECEIPT_TYPE,
    Available,
    Decision,
    Headroom,
    Spend,
    decide,
    entry_of,
    receipt_claims,
)
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.merchant import limiting
from sconto.servers.merchant.dry_run import DryRun, dry_run_ms, evaluate_dry
from sconto.servers.merchant.recognise import (
    Holding,
    Presented,
    anonymous,
    holding,
    verify_presented,
)
from sconto.store import codes, coupons, ledger, limits, orders
from sconto.store.orders import Order, Redemption
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


class EvaluationReply(msgspec.Struct, kw_only=True):
    """What would be redeemed now."""

    evaluation: Evaluation


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
        return EvaluationReply(evaluation=evaluate_dry(server, call, dry_run, held, at_ms))

    def read(look: limiting.Look) -> list[Headroom]:
        with server.base.store.read() as connection:
            return look(connection)

    decision = _decide(server, held, server.stock.available, "", at_ms, read)
    return EvaluationReply(evaluation=decision.evaluation)


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
)
async def redeem(server: "Merchant", call: Call) -> OrderDocument:
    return await _check_out(server, call, "redeemed")


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
            return _document(tx.connection, order)
        if order.state != "reserved" or _is_overdue(order, tx.now_ms):
            raise _not_reserved(order)
        used = orders.redemptions_of(tx.connection, order.order_id)
        _check_not_restored(server, [one.terms_digest for one in used])
        orders.change_state(tx, order, "redeemed")
        for one in used:
            record(server, tx, _entry(server, one, "redeemed"), order.receipt)
            _settle_own(server, tx, one)
        return _document(tx.connection, find_order(tx.connection, order.order_id))

    done: OrderDocument = await server.base.store.write(command)
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
            return _document(tx.connection, order)
        if order.state != "reserved":
            raise _not_reserved(order)
        end_reservation(server, tx, order, "released")
        return _document(tx.connection, find_order(tx.connection, order.order_id))

    done: OrderDocument = await server.base.store.write(command)
    return done


@endpoint(
    "GET",
    "/v1/orders/{order_id:str}",
    scope="checkout",
    summary="An order, what was used in it, and its receipt",
    returns=OrderDocument,
)
async def show_order(server: "Merchant", call: Call) -> OrderDocument:
    with server.base.store.read() as connection:
        return _document(connection, find_order(connection, call.params["order_id"]))


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


ENDPOINTS = (
    evaluate_cart,
    reserve,
    redeem,
    redeem_reserved,
    release,
    show_order,
    list_orders,
)


async def expire_overdue(server: "Merchant") -> None:
    """Give back what was reserved for orders whose time is over."""

    def command(tx: Tx) -> None:
        for order_id in orders.overdue(tx.connection, tx.now_ms):
            end_reservation(server, tx, find_order(tx.connection, order_id), "expired")

    with server.base.store.read() as connection:
        if not orders.overdue(connection, server.base.clock(), limit=1):
            return
    await server.base.store.write(command)


# --- the decision and its storing -----------------------------------------------------------------


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

    def holdout(terms_digest: str) -> int:
        known = server.shelf.get(terms_digest)
        return 0 if known is None else known.terms.holdout_basis_points

    return holding(
        connection, request.cart, request.client, claims, at_ms, server.mint.digest, holdout
    )


def _decide(
    server: "Merchant",
    held: Holding,
    available: Available,
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
            headroom_of=limiting.headroom_of(server, held, at_ms, read),
        )


async def _check_out(
    server: "Merchant", call: Call, state: Literal["reserved", "redeemed"]
) -> OrderDocument:
    request: CheckoutRequest = call.document
    at_ms = call.at_ms(request.at)
    body_hash = _content_hash(request)
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
        _check_not_restored(server, [one.applied.terms_digest for one in decision.spends])
        return _keep(server, tx, request, held, decision, body_hash, state, at_ms)

    done: OrderDocument = await server.base.store.write(command)
    return done


def _content_hash(request: CheckoutRequest) -> bytes:
    """What makes two requests the same: all but the proofs, which are made anew each time."""
    content = (
        request.cart,
        request.client,
        request.at,
        request.ttl_s,
        [one.token for one in request.presented],
    )
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).digest()


def _check_not_restored(server: "Merchant", terms_digests: list[str]) -> None:
    """An old copy of this datastore may have spent these units: nobody may spend them again.

    Raises UnavailableError (`restored_from_backup`).
    """
    alarms = server.base.deliverer.alarms
    if not alarms:
        return
    for terms_digest in terms_digests:
        held = server.shelf.get(terms_digest)
        if held is not None and held.hub in alarms:
            raise UnavailableError(
                f"{held.hub} has events of this merchant that this merchant does not know",
                code="restored_from_backup",
                remedy="stop this server, and run `sconto merchant restore`",
                retry_after_s=60,
            )


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
    return _document(connection, known)


def _keep(
    server: "Merchant",
    tx: Tx,
    request: CheckoutRequest,
    held: Holding,
    decision: Decision,
    body_hash: bytes,
    state: Literal["reserved", "redeemed"],
    at_ms: int,
) -> OrderDocument:
    """Store a decision; nothing refuses from here on."""
    home = server.base.home
    evaluation = decision.evaluation
    # The same bytes as RFC 8785 gives for these values, and far quicker.
    cart_bytes = msgspec.json.encode(request.cart, order="deterministic")
    receipt = None
    if decision.spends:
        claims = receipt_claims(
            merchant=home.url,
            order_id=request.order_id,
            cart=request.cart,
            cart_bytes=cart_bytes,
            decision=decision,
            at_ms=at_ms,
        )
        receipt = sign_compact(home.key, RECEIPT_TYPE, claims)
    for coupon in held.learned:
        if server.shelf.get(coupon.terms_digest) is not None:
            coupons.add(tx, coupon)
    used = [_use(server, tx, held, spend, request, state, at_ms) for spend in decision.spends]
    order = Order(
        order_id=request.order_id,
        body_hash=body_hash,
        state=state,
        client_ref=request.client,
        currency=evaluation.currency,
        subtotal_minor=evaluation.totals.subtotal_minor,
        shipping_minor=evaluation.totals.shipping_minor,
        discount_minor=evaluation.discount_minor,
        cart=cart_bytes,
        evaluation=encode_evaluation(evaluation),
        kept=None,
        receipt=receipt,
        at_ms=at_ms,
        expires_at_ms=tx.now_ms + request.ttl_s * MS_PER_SECOND if state == "reserved" else None,
    )
    orders.add(tx, order, used)
    is_direct = state == "redeemed"
    for spend, one in zip(decision.spends, used, strict=True):
        held_terms = server.shelf.get(one.terms_digest)
        zone = held_terms.zone if held_terms else "UTC"
        entry = entry_of(
            state,
            spend,
            merchant=home.url,
            order_id=request.order_id,
            currency=evaluation.currency,
            at_ms=at_ms,
            day=day_of(at_ms, zone).isoformat(),
            is_direct=is_direct,
        )
        if one.code is not None and one.token_id is not None:
            entry = msgspec.structs.replace(entry, token_id=one.token_id)
        record(server, tx, entry, receipt if is_direct else None)
        if is_direct:
            _settle_own(server, tx, one)
    for missing in decision.uncovered:
        if missing.code != ReasonCode.ALLOTMENT_EXHAUSTED:
            continue
        held_terms = server.shelf.get(missing.applied.terms_digest)
        if held_terms is not None and held_terms.hub is not None:
            _ask_for_more(server, tx, held_terms.hub, missing.applied.promotion_id, missing.needed)
    short = {one.applied.promotion_id for one in decision.uncovered}
    for refusal in evaluation.refused:
        _record_refusal(server, tx, request, held, refusal, at_ms, always=short)
    return _document(tx.apart, order, used)


def _use(
    server: "Merchant",
    tx: Tx,
    held: Holding,
    spend: Spend,
    request: CheckoutRequest,
    state: str,
    at_ms: int,
) -> Redemption:
    """Take the units and the token's use."""
    applied = spend.applied
    left = ledger.spend(tx, spend.allotment_id, spend.amounts)
    server.spent_at_ms[applied.promotion_id] = tx.now_ms
    if spend.counters:
        limits.take(tx, applied.promotion_id, spend.redemption_id, spend.amounts, spend.counters)
    terms = server.shelf.get(applied.terms_digest)
    if terms is not None and terms.hub is not None and wants_more(left.left, left.granted):
        _ask_for_more(server, tx, terms.hub, applied.promotion_id, Amounts(1, 1))
    token_id, use_number = applied.token_id, None
    code = held.codes.get(applied.code or "")
    if token_id is not None:
        use_number = coupons.take_use(tx, token_id)
    elif code is not None and code.terms_digest == applied.terms_digest:
        codes.take_use(tx, code.code_hash)
        token_id, use_number = code.token_id, 1
    return Redemption(
        redemption_id=spend.redemption_id,
        order_id=request.order_id,
        merchant=server.base.home.url,
        promotion_id=applied.promotion_id,
        terms_digest=applied.terms_digest,
        token_id=token_id,
        use_number=use_number,
        code=applied.code,
        allotment_id=spend.allotment_id,
        amount_minor=applied.amount_minor,
        reversed_minor=0,
        currency=request.cart.currency,
        state=state,
        at_ms=at_ms,
    )


def _ask_for_more(server: "Merchant", tx: Tx, hub: str, promotion_id: str, needed: Amounts) -> None:
    """Ask the hub for another allotment, unless it was asked a moment ago."""
    asked = ("asked", promotion_id)
    before = tx.seen.get(asked)
    if before is not None and needed.fits(before):
        return
    if server.asked_lately(promotion_id, needed, tx.now_ms):
        return
    tx.seen[asked] = needed
    now_ms = tx.now_ms
    tx.after_commit(lambda: server.has_asked(promotion_id, needed, now_ms))
    tx.send(
        hub,
        "sconto.allotment.requested.v1",
        promotion_id,
        {
            "promotion_id": promotion_id,
            "needed_uses": needed.uses,
            "needed_minor": needed.minor,
        },
    )


def _settle_own(server: "Merchant", tx: Tx, used: Redemption) -> None:
    """A promotion of this merchant's own has its budget here."""
    terms = server.shelf.get(used.terms_digest)
    if terms is None or terms.hub is not None:
        return
    amounts = Amounts(1, used.amount_minor)
    ledger.settle_own(tx, used.promotion_id, used.merchant, amounts, used.redemption_id)


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


def record(server: "Merchant", tx: Tx, entry: Entry, receipt: str | None) -> None:
    """Write an entry to the journal, and report it to the hub whose promotion it is about."""
    tx.record(entry)
    terms = server.shelf.get(entry.terms_digest)
    if terms is not None and terms.hub is not None:
        data: dict[str, Any] = {"entry": entry}
        if receipt is not None:
            data["receipt"] = receipt
        tx.send(terms.hub, "sconto.journal.reported.v1", entry.promotion_id, data)


def _record_refusal(
    server: "Merchant",
    tx: Tx,
    request: CheckoutRequest,
    held: Holding,
    refusal: Refusal,
    at_ms: int,
    *,
    always: set[str],
) -> None:
    """Count refusals of what was shown on purpose; a coupon in the pocket is not refused.

    What only the ledger could not cover (`always`) is counted however it came into the cart.
    """
    known = held.coupons.get(refusal.token_id or "") or held.codes.get(refusal.presented_code or "")
    digest = known.terms_digest if known else refusal.terms_digest
    terms = server.shelf.get(digest) if digest else None
    is_shown = {refusal.token_id, refusal.presented_code} & held.shown
    if terms is None or digest is None:
        return
    if not is_shown and terms.promotion_id not in always:
        return
    entry = Entry(
        kind="refused",
        promotion_id=terms.promotion_id,
        merchant=server.base.home.url,
        at_ms=at_ms,
        day=day_of(at_ms, terms.zone).isoformat(),
        terms_digest=digest,
        token_id=refusal.token_id or "",
        order_id=request.order_id,
        reason=str(refusal.code),
    )
    record(server, tx, entry, None)


# --- replies --------------------------------------------------------------------------------------


def find_order(connection: sa.Connection, order_id: str) -> Order:
    order = orders.get(connection, order_id)
    if order is None:
        raise NotFoundError(f"there is no order {order_id[:100]}", field="order_id")
    return order


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


def _document(
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
