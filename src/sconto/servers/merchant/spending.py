"""A checkout's decision in the datastore: units, uses of tokens and codes, journal and reports.

In: a `Decision` and the request that it is about. Out: the order as it was kept, with its receipt.
What is told to hubs goes into the outbox by the same transaction.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from sconto.base.clock import MS_PER_SECOND, day_of
from sconto.base.errors import UnavailableError
from sconto.base.keys import sign_written
from sconto.cart import ReasonCode, Refusal, encode_evaluation
from sconto.ledger import Amounts, Entry, wants_more
from sconto.redemption import (
    RECEIPT_TYPE,
    Decision,
    Spend,
    encode_receipt,
    entry_of,
    receipt_of,
)
from sconto.servers.merchant.asking import ask
from sconto.servers.merchant.orders import OrderDocument, document_of
from sconto.servers.merchant.recognise import Holding
from sconto.store import codes, coupons, ledger, limits, orders
from sconto.store.orders import Order, Redemption
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant
    from sconto.servers.merchant.checkout import CheckoutRequest


def check_not_restored(server: "Merchant", terms_digests: list[str]) -> None:
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


def keep(
    server: "Merchant",
    tx: Tx,
    request: "CheckoutRequest",
    held: Holding,
    decision: Decision,
    cart_bytes: bytes,
    body_hash: bytes,
    state: Literal["reserved", "redeemed"],
    at_ms: int,
) -> OrderDocument:
    """Store a decision; nothing refuses from here on. `cart_bytes` is the cart's canonical form."""
    home = server.base.home
    evaluation = decision.evaluation
    receipt = None
    if decision.spends:
        said = receipt_of(
            merchant=home.url,
            order_id=request.order_id,
            cart=request.cart,
            cart_bytes=cart_bytes,
            decision=decision,
            at_ms=at_ms,
        )
        receipt = sign_written(home.key, RECEIPT_TYPE, encode_receipt(said))
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
        parts = [part for _, part in spend.shared] if is_direct else []
        record(server, tx, entry, receipt if is_direct else None, parts)
        if is_direct:
            settle_own(server, tx, one)
    for missing in decision.uncovered:
        if missing.code != ReasonCode.ALLOTMENT_EXHAUSTED:
            continue
        held_terms = server.shelf.get(missing.applied.terms_digest)
        if held_terms is None or held_terms.hub is None:
            continue
        for counter in missing.lacking:
            promotion_id = missing.applied.promotion_id
            ask(server, tx, held_terms.hub, promotion_id, missing.needed, counter)
    short = {one.applied.promotion_id for one in decision.uncovered}
    for refusal in evaluation.refused:
        _record_refusal(server, tx, request, held, refusal, at_ms, always=short)
    return document_of(tx.apart, order, used)


def _use(
    server: "Merchant",
    tx: Tx,
    held: Holding,
    spend: Spend,
    request: "CheckoutRequest",
    state: str,
    at_ms: int,
) -> Redemption:
    """Take the units and the token's use."""
    applied = spend.applied
    if spend.counters:
        limits.take(tx, applied.promotion_id, spend.redemption_id, spend.amounts, spend.counters)
    shared = [part for _, part in spend.shared]
    if shared:
        limits.take_parts(tx, spend.redemption_id, shared)
    terms = server.shelf.get(applied.terms_digest)
    for part in (spend.allotment_id, *shared):
        left = ledger.spend(tx, part, spend.amounts)
        server.spent_at_ms[applied.promotion_id, left.counter] = tx.now_ms
        if terms is not None and terms.hub is not None and wants_more(left.left, left.granted):
            ask(server, tx, terms.hub, applied.promotion_id, Amounts(1, 1), left.counter)
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


def settle_own(server: "Merchant", tx: Tx, used: Redemption) -> None:
    """A promotion of this merchant's own has its budget here."""
    terms = server.shelf.get(used.terms_digest)
    if terms is None or terms.hub is not None:
        return
    amounts = Amounts(1, used.amount_minor)
    ledger.settle_own(tx, used.promotion_id, used.merchant, amounts, used.redemption_id)


def record(
    server: "Merchant", tx: Tx, entry: Entry, receipt: str | None, parts: Sequence[str] = ()
) -> None:
    """Write an entry to the journal, and report it to the hub whose promotion it is about.

    With a redemption go its receipt and the `parts` of shared counters that it is taken from.
    """
    tx.record(entry)
    terms = server.shelf.get(entry.terms_digest)
    if terms is not None and terms.hub is not None:
        data: dict[str, Any] = {"entry": entry}
        if receipt is not None:
            data["receipt"] = receipt
        if parts:
            data["parts"] = parts
        tx.send(terms.hub, "sconto.journal.reported.v1", entry.promotion_id, data)


def _record_refusal(
    server: "Merchant",
    tx: Tx,
    request: "CheckoutRequest",
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
