"""Issuing a token: the one transaction in which an offer becomes somebody's right.

Holder, validity, place in the status list, bytes, journal entry and the coupon information for the
merchant are made together; asked again for the same holder, the same bytes come out.
"""

from typing import TYPE_CHECKING, Any

from sconto.base.clock import rfc3339
from sconto.base.ids import handle_of
from sconto.ledger import Entry
from sconto.servers.hub.catalogue import day_in, shopper_limits, uses_of
from sconto.servers.hub.clips import validity_s
from sconto.servers.hub.oauth import OAuthError
from sconto.servers.hub.status import free_place, list_uri
from sconto.store import offers, tokens
from sconto.store.tokens import Token
from sconto.store.writer import Tx
from sconto.tokens import (
    STATUS_LIST_SIZE,
    Confirmation,
    Status,
    StatusReference,
    TokenClaims,
    issue_token,
    pairwise_subject,
)
from sconto.tokens.holdout import is_control

if TYPE_CHECKING:
    from sconto.servers.hub import Hub

ISSUED = "sconto.token.issued.v1"


def issue(hub: "Hub", tx: Tx, token_id: str, holder_jkt: str, wallet: str | None) -> str:
    """The token's bytes for this holder; issued now, or the same as before.

    1. A token has one holder: another key is refused.
    2. It has one wallet server, where one has clipped it.
    3. The promotion is active still, and the shopper's limit leaves room.
    """
    token = tokens.get(tx.connection, token_id)
    if token is None or token.status in ("lapsed", "revoked", "deleted", "moved"):
        raise _denied("the offer is over")
    if token.jws is not None:
        if token.holder_jkt != holder_jkt:
            raise _denied("the token was issued to another key")
        return token.jws
    if wallet is not None and token.wallet not in (None, wallet):
        raise _denied("the offer was made to another wallet")
    promotion = offers.standing(tx.connection, [token.promotion_id])[token.promotion_id]
    if promotion.status != "active":
        raise _denied(f"the promotion is {promotion.status}")
    terms = hub.catalogue.promised(tx.connection, token.terms_digest)
    uses = uses_of(terms)
    for limit, is_per_merchant in shopper_limits(terms):
        if wallet is None:
            raise _denied("the promotion has a limit per shopper: a registered wallet must ask")
        merchant = token.merchant if is_per_merchant else None
        held = tokens.uses_of_holder(tx.connection, token.promotion_id, holder_jkt, uses, merchant)
        if held + uses > limit:
            raise _denied(f"shopper_limit_reached: tokens of {held} of {limit} uses were issued")
    return _issue_new(hub, tx, token._replace(wallet=token.wallet or wallet), holder_jkt, uses)


def _issue_new(hub: "Hub", tx: Tx, token: Token, holder_jkt: str, uses: int) -> str:
    terms = hub.catalogue.promised(tx.connection, token.terms_digest)
    issued = make(hub, tx, token, holder_jkt, uses)
    tokens.issue(tx, issued)
    tx.record(
        Entry(
            kind="clipped",
            promotion_id=token.promotion_id,
            merchant=token.merchant,
            at_ms=token.clipped_at_ms,
            day=day_in(terms, token.clipped_at_ms),
            terms_digest=token.terms_digest,
            frame_id=token.frame_id,
            token_id=token.token_id,
        )
    )
    tx.send(token.merchant, ISSUED, token.token_id, information(hub, tx, issued, uses))
    return issued.jws or ""


def make(hub: "Hub", tx: Tx, token: Token, holder_jkt: str, uses: int) -> Token:
    """A token with its holder, validity, place in a status list and bytes; nothing is written."""
    home = hub.base.home
    terms = hub.catalogue.promised(tx.connection, token.terms_digest)
    start_s, end_s = validity_s(terms, token.clipped_at_ms)
    place = free_place(hub, tx)
    shard, index = divmod(place, STATUS_LIST_SIZE)
    subject = pairwise_subject(home.secret, holder_jkt, token.merchant)
    claims = TokenClaims(
        iss=home.url,
        aud=token.merchant,
        jti=token.token_id,
        iat=token.clipped_at_ms // 1000,
        nbf=start_s,
        exp=end_s,
        promotion_id=token.promotion_id,
        terms_digest=token.terms_digest,
        frame=token.frame_id,
        cnf=Confirmation(jkt=holder_jkt),
        sub=subject,
        uses=uses,
        status=Status(status_list=StatusReference(idx=index, uri=list_uri(hub, shard))),
    )
    return token._replace(
        subject=subject,
        holder_jkt=holder_jkt,
        handle=handle_of(token.token_id),
        status="issued",
        status_index=place,
        jws=issue_token(home.key, claims),
        not_before_ms=start_s * 1000,
        expires_at_ms=end_s * 1000,
    )


def information(hub: "Hub", tx: Tx, token: Token, uses: int) -> dict[str, Any]:
    """The coupon information of an issued token, for its merchant."""
    terms = hub.catalogue.promised(tx.connection, token.terms_digest)
    subject = token.subject or ""
    return {
        "token_id": token.token_id,
        "promotion_id": token.promotion_id,
        "terms_digest": token.terms_digest,
        "frame_id": token.frame_id,
        "client": subject,
        "holder_jkt": token.holder_jkt,
        "uses": uses,
        "is_control": is_control(token.promotion_id, subject, terms.holdout_basis_points),
        "handle": token.handle,
        "clipped_at": rfc3339(token.clipped_at_ms),
        "expires_at": rfc3339(token.expires_at_ms or 0),
    }


def _denied(why: str) -> OAuthError:
    return OAuthError(why, code="credential_request_denied")
