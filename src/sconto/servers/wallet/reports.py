"""Events from hubs: a token was used, taken back, or revoked.

A report about a token that this wallet does not hold of that hub is parked, not applied. Uses are
kept by the merchant's permanent redemption id, so that a report can never count twice.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from sconto.base.clock import day_of, to_ms
from sconto.base.errors import InvalidInputError, PeerError
from sconto.base.fields import Identifier
from sconto.base.keys import JWS_BYTES_MAX, verify_compact
from sconto.base.money import AMOUNT_MINOR_MAX
from sconto.ledger import Entry
from sconto.redemption import RECEIPT_TYPE
from sconto.servers.endpoint import INSTANT_MAX_MS
from sconto.store import tokens as token_store
from sconto.store import wallet as store
from sconto.store.tokens import Token
from sconto.store.wallet import Use
from sconto.store.writer import Tx
from sconto.wallet import claims_of

if TYPE_CHECKING:
    from sconto.servers.wallet import Wallet

T = TypeVar("T")
_Minor = Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX)]


# Unknown members are passed over, so that a newer hub can say more.


class _Redeemed(msgspec.Struct):
    token_id: str
    merchant: str
    amount_minor: _Minor
    at: str
    redemption_id: Annotated[Identifier, Meta(max_length=160)]
    order_id: Annotated[Identifier, Meta(max_length=100)]
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")]
    receipt: Annotated[str, Meta(max_length=JWS_BYTES_MAX)] | None = None


class _Reversed(msgspec.Struct):
    token_id: str
    merchant: str
    amount_minor: _Minor
    at: str
    redemption_id: str
    #: Nothing of the redemption is left.
    is_complete: bool = False


class _Revoked(msgspec.Struct):
    token_id: str
    reason: str = ""


def token_redeemed(wallet: "Wallet", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """A use of a token, with what it gave; the last use makes the token redeemed."""
    event = read_event(data, _Redeemed)
    token = held_of(tx, source, event.token_id, event.merchant)
    at_ms = _instant(event.at)
    if store.use(tx.connection, event.redemption_id) is not None:
        return
    used = store.uses_of(tx.connection, token.token_id)
    receipt_is_verified = _is_verified(wallet, event)
    entry = _entry(
        wallet,
        tx,
        token,
        kind="redeemed",
        at_ms=at_ms,
        order_id=event.order_id,
        redemption_id=event.redemption_id,
        amount_minor=event.amount_minor,
        currency=event.currency,
        is_direct=True,
    )
    store.add_use(
        tx,
        Use(
            redemption_id=event.redemption_id,
            order_id=event.order_id,
            merchant=event.merchant,
            promotion_id=token.promotion_id,
            terms_digest=token.terms_digest,
            token_id=token.token_id,
            use_number=len(used) + 1,
            amount_minor=event.amount_minor,
            reversed_minor=0,
            currency=event.currency,
            state="redeemed",
            at_ms=at_ms,
        ),
    )
    if event.receipt is not None:
        store.keep_receipt(
            tx, event.merchant, event.order_id, event.receipt, is_verified=receipt_is_verified
        )
    spent = 1 + sum(one.state == "redeemed" for one in used)
    if token.status == "issued" and spent >= claims_of(token.jws or "").uses:
        token_store.set_status(tx, token.token_id, "redeemed")
    tx.record(entry)


def token_reversed(wallet: "Wallet", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """A part of a use, or all of it, was taken back; with all of it the token can be used again."""
    event = read_event(data, _Reversed)
    token = held_of(tx, source, event.token_id, event.merchant)
    used = store.use(tx.connection, event.redemption_id)
    if used is None or used.token_id != token.token_id:
        raise PeerError("the use that is taken back is not known", field="redemption_id")
    if used.state == "reversed" or used.reversed_minor + event.amount_minor > used.amount_minor:
        raise PeerError("more is taken back than was given", field="amount_minor")
    entry = _entry(
        wallet,
        tx,
        token,
        kind="reversed",
        at_ms=_instant(event.at),
        order_id=used.order_id,
        redemption_id=used.redemption_id,
        amount_minor=event.amount_minor,
        currency=used.currency,
        is_complete=event.is_complete,
    )
    state = "reversed" if event.is_complete else "redeemed"
    store.reverse_use(tx, used.redemption_id, event.amount_minor, state)
    if event.is_complete and token.status == "redeemed":
        token_store.set_status(tx, token.token_id, "issued")
    tx.record(entry)


def token_revoked(wallet: "Wallet", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """The hub took the token back; what it was used for stays."""
    event = read_event(data, _Revoked)
    token = held_of(tx, source, event.token_id, None)
    if token.status == "issued":
        token_store.set_status(tx, token.token_id, "revoked")


EVENT_HANDLERS = {
    "sconto.token.redeemed.v1": token_redeemed,
    "sconto.token.reversed.v1": token_reversed,
    "sconto.token.revoked.v1": token_revoked,
}


def held_of(tx: Tx, source: str, token_id: str, merchant: str | None) -> Token:
    """The token that a hub speaks of, if it is one of its own that is held here."""
    token = token_store.get(tx.connection, token_id)
    if token is None or token.hub != source:
        raise PeerError("no such token of this hub is held here", field="token_id")
    if merchant is not None and token.merchant != merchant:
        raise PeerError("the token is for another merchant", field="merchant")
    return token


def _is_verified(wallet: "Wallet", event: _Redeemed) -> bool:
    """Whether the receipt is the merchant's and speaks of this use, where its keys are known."""
    keys = wallet.base.directory.known_keys(event.merchant)
    if event.receipt is None or not keys.keys:
        return False
    try:
        said = verify_compact(keys, RECEIPT_TYPE, event.receipt, "receipt")
    except InvalidInputError:
        return False
    expected = {
        "redemption_id": event.redemption_id,
        "token_id": event.token_id,
        "amount_minor": event.amount_minor,
    }
    listed = said.get("redemptions")
    return (
        said.get("iss") == event.merchant
        and said.get("order_id") == event.order_id
        and isinstance(listed, list)
        and any(isinstance(one, dict) and expected.items() <= one.items() for one in listed)
    )


def _entry(wallet: "Wallet", tx: Tx, token: Token, *, at_ms: int, **said: Any) -> Entry:
    terms = wallet.promises.of_token(tx.connection, token.terms_digest)
    return Entry(
        promotion_id=token.promotion_id,
        merchant=token.merchant,
        at_ms=at_ms,
        day=day_of(at_ms, terms.schedule.time_zone).isoformat(),
        terms_digest=token.terms_digest,
        frame_id=token.frame_id,
        token_id=token.token_id,
        **said,
    )


def read_event(data: dict[str, Any], kind: type[T]) -> T:
    """The data of an event; InvalidInputError (`malformed`) for what has not its form."""
    try:
        return msgspec.convert(data, kind, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"the event is malformed: {error}", code="malformed") from None


def _instant(text: str) -> int:
    try:
        at_ms = to_ms(datetime.fromisoformat(text))
    except ValueError:
        raise InvalidInputError("not an RFC 3339 instant", field="at") from None
    if not 0 <= at_ms <= INSTANT_MAX_MS:
        raise InvalidInputError("an instant of another age", field="at")
    return at_ms
