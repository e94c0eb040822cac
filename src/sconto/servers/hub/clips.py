"""A wallet clips an offer in a frame, for one shopper.

A clip ends in a credential offer (OpenID4VCI 1.0) with a pre-authorized code; `openid4vci.py` gives
the token for it. The token's id and right are fixed here:
1. the same clip again gives the same token, with a new code where the old one is used or over;
2. a token counts against the circulation while its offer can be taken, and for ever once issued.
"""

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from sconto.base.clock import rfc3339, to_ms
from sconto.base.documents import Document
from sconto.base.errors import (
    ConflictError,
    InvariantError,
    NotFoundError,
)
from sconto.base.fields import Identifier, NamedDigest
from sconto.base.ids import ID_RANDOM_BYTES, new_id
from sconto.servers.endpoint import INSTANT_MAX_MS, Call, endpoint
from sconto.servers.hub import codes
from sconto.servers.hub.gallery import live_frame, not_active
from sconto.servers.hub.impressions import EXAMPLE_FRAME, Moment, not_offered, signing_wallet
from sconto.store import frames, moves, offers, tokens
from sconto.store.tokens import Token
from sconto.store.writer import Tx
from sconto.terms import Terms

if TYPE_CHECKING:
    from sconto.servers.hub import Hub

CONFIGURATION_ID = "promo-token"
GRANT = "urn:ietf:params:oauth:grant-type:pre-authorized_code"

#: The end of a token without one: no instant in this network is later.
LAST_SECOND = INSTANT_MAX_MS // 1000


class NewClip(Document):
    """A shopper takes an offer from a frame."""

    #: Made by the wallet server; the same id again is the same clip.
    clip_id: Annotated[str, Meta(pattern=r"^[!-~]{1,100}$(?!\n)")]
    frame_id: NamedDigest
    promotion_id: Identifier
    #: When, if not now; needs the scope `replay`.
    at: Moment | None = None


class ClipOffer(Document):
    """What the wallet continues with."""

    credential_offer_uri: str
    #: The same offer as a document (OpenID4VCI 1.0, section 4.1.1).
    credential_offer: dict[str, Any]


@endpoint(
    "POST",
    "/v1/clips",
    scope="wallet",
    summary="Clip an offer from a frame for one shopper of this wallet server",
    accepts=NewClip,
    accepts_example={
        "clip_id": "01JH3Z7Q",
        "frame_id": EXAMPLE_FRAME,
        "promotion_id": "oaty-10",
    },
    returns=ClipOffer,
    status=201,
)
async def clip_offer(hub: "Hub", call: Call) -> ClipOffer:
    """Answers with a credential offer; the token is issued for its code, once, to one holder key.

    Asked again after an interruption it gives an offer that works: the same one, or a new code for
    the same token.
    """
    wallet = signing_wallet(call)
    new: NewClip = call.document
    at_ms = call.at_ms(new.at)
    offer: ClipOffer = await hub.base.store.write(lambda tx: clip(hub, tx, wallet, new, at_ms))
    return offer


@endpoint(
    "GET",
    "/v1/credential-offers/{offer_id:str}",
    scope="",
    summary="The credential offer at an address that only its wallet knows",
    returns=dict[str, Any],
)
async def show_offer(hub: "Hub", call: Call) -> dict[str, Any]:
    text = call.params["offer_id"]
    token_id = codes.token_id_in(text)
    with hub.base.store.read() as connection:
        token = None if token_id is None else tokens.get(connection, token_id)
    end_ms = 0 if token is None else token.offer_expires_at_ms or 0
    expected = codes.offer_id(hub.base.home.secret, token_id or "", end_ms)
    if token is None or not codes.is_same(text, expected):
        hub.offer_guesses.failed(call.source, hub.base.wall_clock(), field="offer_id")
        raise NotFoundError("there is no such offer", field="offer_id")
    if not is_open(hub, token):
        raise ConflictError(
            "this offer was taken, or is over",
            code="gone",
            field="offer_id",
            remedy="clip again with the same clip_id",
        )
    return _credential_offer(hub, token)


ENDPOINTS = (clip_offer, show_offer)


def clip(hub: "Hub", tx: Tx, wallet: str | None, new: NewClip, at_ms: int) -> ClipOffer:
    """Offer the token of a clip; `wallet` is the server that keeps it, None: any that takes it.

    A writer command: refuses before its first write. Raises NotFoundError, ConflictError (codes
    gone, frame_not_live, promotion_not_active, schedule_closed, circulation_exhausted,
    exists_with_different_<field>) or InvalidInputError (not_offered).
    """
    known = tokens.by_clip(tx.connection, wallet, new.clip_id)
    while known is not None and known.status == "moved":
        known = _successor(tx, known)
    if known is None:
        token = _new_token(hub, tx, wallet, new, at_ms)
        given_back = _find_room(hub, tx, token)
        offered = _with_code(hub, token)
        _take_room(hub, tx, token, given_back)
        tokens.add(tx, offered)
        return _answer(hub, offered)
    _check_same(known, new)
    if known.status in ("revoked", "deleted"):
        raise ConflictError(
            f"the token of this clip was {known.status}", code="gone", field="clip_id"
        )
    if is_open(hub, known):
        return _answer(hub, known)
    given_back = 0
    if known.status in ("offered", "lapsed"):
        _check(hub, tx, known.frame_id, known.promotion_id, known.clipped_at_ms)
    if known.status == "lapsed":
        given_back = _find_room(hub, tx, known)
    offered = _with_code(hub, known)
    if known.status == "lapsed":
        _take_room(hub, tx, known, given_back)
    tokens.offer_again(tx, known, offered.offer_code_hash or b"", offered.offer_expires_at_ms or 0)
    return _answer(hub, offered)


def _successor(tx: Tx, token: Token) -> Token:
    """The token that took the place of one that was moved to another merchant."""
    move = moves.in_state(tx.connection, token.token_id, "moved")
    found = None if move is None else tokens.get(tx.connection, move.successor_id or "")
    if found is None:
        raise InvariantError("a token that was moved has a successor")
    return found


def is_open(hub: "Hub", token: Token) -> bool:
    """Whether the token's present code can still be used."""
    return (
        token.offer_code_hash is not None
        and token.status in ("offered", "issued", "redeemed")
        and hub.base.wall_clock() < (token.offer_expires_at_ms or 0)
    )


def _new_token(hub: "Hub", tx: Tx, wallet: str | None, new: NewClip, at_ms: int) -> Token:
    frame, offer, terms = _check(hub, tx, new.frame_id, new.promotion_id, at_ms)
    start, end = validity_s(terms, at_ms)
    if start >= end:
        raise _closed(terms, new.promotion_id)
    return Token(
        token_id=new_id(tx.now_ms, hub.random(ID_RANDOM_BYTES)),
        clip_id=new.clip_id,
        promotion_id=new.promotion_id,
        terms_digest=offer.terms_digest,
        frame_id=new.frame_id,
        hub=hub.base.home.url,
        merchant=frame.issuer,
        wallet=wallet,
        account_id=None,
        subject=None,
        holder_jkt=None,
        handle=None,
        status="offered",
        status_index=None,
        jws=None,
        offer_code_hash=None,
        offer_expires_at_ms=None,
        clipped_at_ms=at_ms,
        not_before_ms=None,
        expires_at_ms=None,
    )


def validity_s(terms: Terms, clipped_at_ms: int) -> tuple[int, int]:
    """First second in which a token of these terms holds, and the first in which it does not."""
    start_ms = max(clipped_at_ms, terms.schedule.redeem_from_ms or 0)
    end_ms = terms.schedule.token_until_ms(clipped_at_ms)
    return start_ms // 1000, LAST_SECOND if end_ms is None else end_ms // 1000


def _check(
    hub: "Hub", tx: Tx, frame_id: str, promotion_id: str, at_ms: int
) -> tuple[frames.StoredFrame, frames.StoredOffer, Terms]:
    """What must be true at the instant of a clip; the first thing that is not is named."""
    frame = live_frame(tx.connection, frame_id, at_ms)
    offer = frames.offer(tx.connection, frame_id, promotion_id)
    if offer is None:
        raise not_offered(promotion_id, "promotion_id")
    promotion = offers.standing(tx.connection, [promotion_id])[promotion_id]
    if promotion.status != "active":
        raise not_active(promotion, "promotion_id")
    terms = hub.catalogue.promised(tx.connection, offer.terms_digest)
    if not terms.schedule.can_clip(at_ms):
        raise _closed(terms, promotion_id)
    return frame, offer, terms


def _find_room(hub: "Hub", tx: Tx, token: Token) -> int:
    """How many lapsed offers make room in the circulation for one more; refuses where none do."""
    limit = hub.catalogue.promised(tx.connection, token.terms_digest).circulation
    promotion = offers.standing(tx.connection, [token.promotion_id])[token.promotion_id]
    if limit is None or promotion.circulation < limit:
        return 0
    lapsed = tokens.count_lapsed(tx.connection, token.promotion_id, _lapsed_before(hub))
    if promotion.circulation - lapsed >= limit:
        raise offers.circulation_exhausted(token.promotion_id, limit)
    return lapsed


def _take_room(hub: "Hub", tx: Tx, token: Token, given_back: int) -> None:
    if given_back:
        tokens.lapse(tx, token.promotion_id, _lapsed_before(hub))
    limit = hub.catalogue.promised(tx.connection, token.terms_digest).circulation
    offers.circulate(tx, token.promotion_id, limit, given_back=given_back)


def _lapsed_before(hub: "Hub") -> int:
    """Offers that ended before this cannot be taken any more, not even by an access token."""
    return hub.base.wall_clock() - codes.ACCESS_LIFE_MS


def _with_code(hub: "Hub", token: Token) -> Token:
    end_ms = hub.base.wall_clock() + codes.CODE_LIFE_MS
    code = codes.offer_code(hub.base.home.secret, token.token_id, end_ms)
    return token._replace(offer_code_hash=codes.code_hash(code), offer_expires_at_ms=end_ms)


def _answer(hub: "Hub", token: Token) -> ClipOffer:
    secret, end_ms = hub.base.home.secret, token.offer_expires_at_ms or 0
    offer_id = codes.offer_id(secret, token.token_id, end_ms)
    return ClipOffer(
        credential_offer_uri=f"{hub.base.home.url}/v1/credential-offers/{offer_id}",
        credential_offer=_credential_offer(hub, token),
    )


def _credential_offer(hub: "Hub", token: Token) -> dict[str, Any]:
    home = hub.base.home
    code = codes.offer_code(home.secret, token.token_id, token.offer_expires_at_ms or 0)
    return {
        "credential_issuer": home.url,
        "credential_configuration_ids": [CONFIGURATION_ID],
        "grants": {GRANT: {"pre-authorized_code": code}},
    }


def _check_same(known: Token, new: NewClip) -> None:
    at_ms = known.clipped_at_ms if new.at is None else to_ms(new.at)
    for field, before, now in (
        ("frame_id", known.frame_id, new.frame_id),
        ("promotion_id", known.promotion_id, new.promotion_id),
        ("at", known.clipped_at_ms, at_ms),
    ):
        if before != now:
            raise ConflictError(
                f"this clip was made with another {field}",
                code=f"exists_with_different_{field}",
                field=field,
                remedy="make a new clip_id for a new clip",
            )


def _closed(terms: Terms, promotion_id: str) -> ConflictError:
    schedule = terms.schedule
    return ConflictError(
        f"{promotion_id} cannot be clipped at this time",
        code="schedule_closed",
        field="promotion_id",
        **{
            name: rfc3339(at_ms)
            for name, at_ms in (("from", schedule.from_ms), ("until", schedule.until_ms))
            if at_ms is not None
        },
    )
