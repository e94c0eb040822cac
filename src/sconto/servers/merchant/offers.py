"""Hubs' promotions at this merchant: accepting them, and the events that hubs send."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sconto.base.clock import day_of, to_ms
from sconto.base.documents import Document, from_builtins
from sconto.base.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PeerError,
)
from sconto.base.fields import Digest, Identifier, NamedDigest, ServerUrl, Thumbprint
from sconto.base.keys import verify_detached
from sconto.base.money import AMOUNT_MINOR_MAX
from sconto.ledger import Amounts, Entry
from sconto.servers.endpoint import INSTANT_MAX_MS, Call, endpoint
from sconto.servers.merchant import asking, closing, restore
from sconto.servers.promotions import TERMS_TYPE
from sconto.store import access, coupons, ledger
from sconto.store import promotions as store
from sconto.store.coupons import Coupon
from sconto.store.writer import Tx
from sconto.terms import encode_terms, terms_digest, terms_from
from sconto.terms.counting import shared_counter
from sconto.tokens.issue import USES_MAX

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant


#: Kinds of tenants that speak for the merchant; a brand's `promotions:write` is for its own.
_ACCEPTING = ("operator", "merchant")


class Acceptance(Document):
    """Promotions of a hub that this merchant takes part in."""

    hub: ServerUrl
    promotion_ids: Annotated[tuple[Identifier, ...], Meta(max_length=10_000)] = ()
    #: All active ones of the hub that this merchant has heard of.
    all: bool = False
    #: False: take part no longer.
    accept: bool = True


class Accepted(Document):
    promotion_ids: tuple[str, ...]


@endpoint(
    "POST",
    "/v1/acceptances",
    scope="promotions:write",
    summary="Take part in promotions of a hub, or do so no longer",
    accepts=Acceptance,
    accepts_example={"hub": "https://hub.example", "promotion_ids": ["oaty-10"]},
    returns=Accepted,
)
async def accept(server: "Merchant", call: Call) -> Accepted:
    """The hub then grants an allotment; until it comes, redemptions are refused as exhausted."""
    request: Acceptance = call.document
    if not call.principal.is_operator and call.principal.tenant_kind not in _ACCEPTING:
        raise ForbiddenError(
            "only the merchant itself takes part in a hub's promotions",
            field="Authorization",
            remedy="use a key of the operator's tenant, or of one of the kind merchant",
        )
    if server.base.directory.get(request.hub) is None:
        raise NotFoundError(f"{request.hub} is not a hub of this merchant", field="hub")

    def command(tx: Tx) -> Accepted:
        if request.all:
            chosen = _all_of(tx, request.hub)
        else:
            chosen = []
            for i, promotion_id in enumerate(request.promotion_ids):
                promotion = store.get(tx.connection, promotion_id)
                if promotion is None or promotion.hub != request.hub:
                    raise NotFoundError(
                        f"the hub has not told of a promotion {promotion_id}",
                        field=f"promotion_ids[{i}]",
                    )
                chosen.append(promotion)
        for promotion in chosen:
            if promotion.is_accepted != request.accept:
                store.set_accepted(tx, promotion.promotion_id, request.accept)
                _tell(server, tx, promotion, is_accepted=request.accept)
        return Accepted(promotion_ids=tuple(one.promotion_id for one in chosen))

    done: Accepted = await server.base.store.write(call.once(command))
    return done


ENDPOINTS = (accept,)


def _all_of(tx: Tx, hub: str) -> list[store.Promotion]:
    found: list[store.Promotion] = []
    while True:
        after = found[-1].promotion_id if found else ""
        page = store.page(tx.connection, after=after, limit=1000, hub=hub, status="active")
        found += page
        if len(page) < 1000:
            return found


def _tell(server: "Merchant", tx: Tx, promotion: store.Promotion, *, is_accepted: bool) -> None:
    kind = "accepted" if is_accepted else "declined"
    data = {"promotion_id": promotion.promotion_id, "terms_digest": promotion.terms_digest}
    if promotion.hub is not None:
        tx.send(promotion.hub, f"sconto.promotion.{kind}.v1", promotion.promotion_id, data)
        held = server.shelf.find(tx.connection, promotion.terms_digest)
        if is_accepted and held is not None:
            asking.ask_ahead(server, tx, held)
        if not is_accepted:
            closing.close_all(server, tx, promotion.promotion_id, promotion.hub)
    tx.announce("promotion", promotion.promotion_id)


# --- events from hubs -----------------------------------------------------------------------------


#: The ids of servers and datastores are made by `new_id`.
MadeId = Annotated[Identifier, Meta(max_length=26)]
PromotionIdText = Annotated[Identifier, Meta(max_length=100)]
_Units = Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX)]


class _Data(msgspec.Struct, kw_only=True):
    """Data of an event; members that a newer hub adds are passed over (ADR 0009)."""


class _PromotionChanged(_Data):
    promotion_id: PromotionIdText
    terms: Any
    signature: str
    status: Literal["draft", "active", "paused", "ended"]


class _AllotmentGranted(_Data):
    allotment_id: MadeId
    promotion_id: PromotionIdText
    uses: _Units
    amount_minor: _Units
    incarnation: Identifier
    #: The hub's incarnation.
    epoch: Identifier
    #: The hub's signature under the grant.
    proof: Annotated[str, Meta(max_length=4096)] | None = None
    #: Of a limit that merchants share; empty: of the promotion itself.
    counter: Annotated[str, Meta(max_length=200)] = ""


class TokenIssued(_Data):
    """The coupon information."""

    token_id: MadeId
    promotion_id: PromotionIdText
    terms_digest: Digest
    frame_id: NamedDigest
    #: Pairwise pseudonym of the client at this merchant.
    client: Annotated[Identifier, Meta(max_length=64)]
    holder_jkt: Thumbprint
    uses: Annotated[int, Meta(ge=1, le=USES_MAX)]
    handle: Annotated[str, Meta(max_length=24)]
    clipped_at: str
    expires_at: str
    #: The shopper is in the control group: the token gives nothing.
    is_control: bool = False
    #: It takes the place of a token for another merchant: it is no clip of its own.
    is_moved: bool = False

    def coupon(self, hub: str, now_ms: int) -> Coupon:
        """What is kept of it. Raises InvalidInputError for what is no instant."""
        return Coupon(
            token_id=self.token_id,
            hub=hub,
            subject=self.client,
            holder_jkt=self.holder_jkt,
            promotion_id=self.promotion_id,
            terms_digest=self.terms_digest,
            frame_id=self.frame_id,
            handle=self.handle,
            uses=self.uses,
            uses_left=self.uses,
            is_revoked=False,
            clipped_at_ms=_instant(self.clipped_at, "clipped_at"),
            expires_at_ms=_instant(self.expires_at, "expires_at"),
            received_at_ms=now_ms,
            is_control=self.is_control,
        )


class _TokenRevoked(_Data):
    token_id: Identifier
    reason: str = ""


class _FrameShown(_Data):
    frame_id: NamedDigest
    promotion_id: Identifier
    at: str


def promotion_changed(server: "Merchant", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """A hub promises something, or something else, or no more; its signature must be right."""
    event = from_builtins(data, _PromotionChanged, what="event")
    terms = terms_from(event.terms, field="terms")
    document = encode_terms(terms)
    verify_detached(
        server.base.directory.known_keys(source), TERMS_TYPE, event.signature, document, "terms"
    )
    if terms.promotion_id != event.promotion_id:
        raise InvalidInputError("these are terms of another promotion", field="promotion_id")
    known = store.get(tx.connection, terms.promotion_id)
    if known is not None and known.hub != source:
        raise ConflictError(
            f"the promotion id {terms.promotion_id} is taken here", field="promotion_id"
        )
    peer = server.base.directory.trusted(source)
    version = store.Version(
        terms.promotion_id, terms.version, terms_digest(terms), document, event.signature
    )
    store.save(
        tx,
        version,
        tenant_id=peer.tenant_id,
        hub=source,
        status=event.status,
        is_accepted=known.is_accepted if known else False,
    )
    if event.status == "ended":
        closing.close_all(server, tx, terms.promotion_id, source)
    tx.announce("promotion", terms.promotion_id)


def allotment_granted(server: "Merchant", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """A part of a budget, to spend alone. A grant for another copy of this datastore is fenced."""
    event = from_builtins(data, _AllotmentGranted, what="event")
    home = server.base.home
    if event.incarnation != home.incarnation:
        raise PeerError(
            "the allotment was granted to another incarnation of this merchant",
            code="incarnation_mismatch",
            field="incarnation",
        )
    if event.epoch != (access.incarnation_of(tx.connection, source) or event.epoch):
        raise PeerError(
            "the hub was restored since it granted this", code="epoch_mismatch", field="epoch"
        )
    promotion = store.get(tx.connection, event.promotion_id)
    if promotion is None or promotion.hub != source:
        raise PeerError("the hub has not told of this promotion", field="promotion_id")
    granted = Amounts(event.uses, event.amount_minor)
    ledger.accept(
        tx,
        ledger.Allotment(
            event.allotment_id,
            event.promotion_id,
            home.url,
            event.incarnation,
            granted,
            granted,
            "open",
            event.epoch,
            proof=event.proof,
            counter=event.counter,
            ends_at_ms=_end_of(server, tx, promotion, event.counter),
        ),
    )
    if not promotion.is_accepted or promotion.status == "ended":
        closing.close_all(server, tx, event.promotion_id, source)  # it came too late
    tx.announce("granted", asking.write_budget(event.promotion_id, event.counter))


def _end_of(server: "Merchant", tx: Tx, promotion: store.Promotion, counter: str) -> int | None:
    """When the period of a counter ends; None: it has none, or newer terms than ours name it."""
    held = server.shelf.find(tx.connection, promotion.terms_digest)
    known = shared_counter(held.terms, counter) if held is not None and counter else None
    return None if known is None else known.ends_at_ms


def token_issued(server: "Merchant", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """Coupon information: a client clipped an offer in one of this merchant's frames.

    Or moved a token to this merchant, which was counted as clipped where that was done.
    """
    event = from_builtins(data, TokenIssued, what="event")
    terms = server.shelf.find(tx.connection, event.terms_digest)
    if terms is None or terms.hub != source or terms.promotion_id != event.promotion_id:
        raise PeerError("the hub has not told of these terms", field="terms_digest")
    coupon = event.coupon(source, tx.now_ms)
    coupons.add(tx, coupon)
    if event.is_moved:
        return
    tx.record(
        Entry(
            kind="clipped",
            promotion_id=event.promotion_id,
            merchant=server.base.home.url,
            at_ms=coupon.clipped_at_ms,
            day=day_of(coupon.clipped_at_ms, terms.zone).isoformat(),
            terms_digest=event.terms_digest,
            frame_id=event.frame_id,
            token_id=event.token_id,
        )
    )


def token_revoked(server: "Merchant", tx: Tx, source: str, data: dict[str, Any]) -> None:
    event = from_builtins(data, _TokenRevoked, what="event")
    coupon = coupons.get(tx.connection, event.token_id)
    if coupon is None or coupon.hub != source:
        raise PeerError("there is no such coupon information", field="token_id")
    coupons.revoke(tx, event.token_id)


def frame_shown(server: "Merchant", tx: Tx, source: str, data: dict[str, Any]) -> None:
    """Unverified: the hub says that one of this merchant's frames was shown."""
    event = from_builtins(data, _FrameShown, what="event")
    promotion = store.get(tx.connection, event.promotion_id)
    terms = server.shelf.find(tx.connection, promotion.terms_digest) if promotion else None
    if promotion is None or terms is None or promotion.hub != source:
        raise PeerError("the hub has not told of this promotion", field="promotion_id")
    at_ms = _instant(event.at, "at")
    tx.record(
        Entry(
            kind="shown",
            promotion_id=event.promotion_id,
            merchant=server.base.home.url,
            at_ms=at_ms,
            day=day_of(at_ms, terms.zone).isoformat(),
            frame_id=event.frame_id,
        )
    )


EVENT_HANDLERS = {
    "sconto.promotion.changed.v1": promotion_changed,
    "sconto.allotment.granted.v1": allotment_granted,
    "sconto.allotment.refused.v1": closing.allotment_refused,
    "sconto.allotment.close_requested.v1": closing.close_requested,
    "sconto.hub.epoch.v1": restore.hub_epoch,
    "sconto.token.used.v1": restore.token_used,
    "sconto.token.issued.v1": token_issued,
    "sconto.token.revoked.v1": token_revoked,
    "sconto.frame.shown.v1": frame_shown,
}


def _instant(text: str, field: str) -> int:
    try:
        at_ms = to_ms(datetime.fromisoformat(text))
    except ValueError:
        raise InvalidInputError("not an RFC 3339 instant", field=field) from None
    if not 0 <= at_ms <= INSTANT_MAX_MS:
        raise InvalidInputError("an instant of another age", field=field)
    return at_ms
