"""Recognising clients: a wallet proves a token once, and coupon information then applies by itself.

`client` is the merchant's own reference of a shopper (a loyalty card, a customer number). A proof
ties it to the pseudonym under which the hub tells of this shopper's tokens; the merchant learns
nothing that holds at another merchant.
"""

import secrets
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from sconto.base.clock import rfc3339
from sconto.base.documents import Document
from sconto.base.errors import InvalidInputError
from sconto.base.ids import normalise_handle
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.merchant.recognise import JwsText, Presented, ended, verify_presented
from sconto.store import coupons
from sconto.store.coupons import Client, Coupon
from sconto.store.writer import Tx
from sconto.tokens import is_nonce, make_nonce

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant


#: How long a link code can be used.
LINK_CODE_S = 600


class LinkCode(Document):
    """What a shopper who is signed in at the merchant hands to the wallet."""

    client: str
    nonce: str
    expires_in_s: int


class LinkProof(Document):
    """A token and a proof for this URL, this client and this nonce."""

    token: JwsText
    proof: JwsText
    nonce: Annotated[str, Meta(min_length=1, max_length=100)]


class LinkedClient(Document):
    """A client that this merchant recognises."""

    client: str
    hub: str
    #: The hub's pseudonym of this shopper at this merchant.
    subject: str


class CouponDocument(Document):
    """Coupon information: which client holds which token, as the hub told it."""

    token_id: str
    handle: str
    hub: str
    #: The client's pseudonym at this merchant.
    subject: str
    promotion_id: str
    terms_digest: str
    frame_id: str
    uses: int
    uses_left: int
    is_revoked: bool
    clipped_at: str
    expires_at: str
    title: str | None = None


class CouponList(Document):
    coupons: tuple[CouponDocument, ...]


@endpoint(
    "POST",
    "/v1/clients/{client:str}/link-codes",
    scope="checkout",
    summary="Let a shopper who is signed in here link a wallet: a nonce for its proof",
    returns=LinkCode,
    example=LinkCode(client="card-1234", nonce="AAABnx…", expires_in_s=600),
)
async def make_link_code(server: "Merchant", call: Call) -> LinkCode:
    """Only whoever may check out for a client may have it linked; nobody else can take it over."""
    client = _client(call.params["client"])
    nonce = make_nonce(
        server.base.home.secret,
        f"link:{client}",
        server.base.wall_clock(),
        secrets.token_bytes(8),
    )
    return LinkCode(client=client, nonce=nonce, expires_in_s=LINK_CODE_S)


@endpoint(
    "POST",
    "/v1/clients/{client:str}/proofs",
    scope="",
    summary="Prove that a shopper of this merchant holds a token",
    accepts=LinkProof,
    accepts_example={
        "token": "eyJ0eXAiOiJwcm9tby10b2tlbitqd3QifQ.eyJhdWQiOiIuLi4ifQ.c2lnbmF0dXJl",
        "proof": "eyJ0eXAiOiJkcG9wK2p3dCJ9.eyJodG0iOiJQT1NUIn0.c2lnbmF0dXJl",
        "nonce": "AAABnx-example",
    },
    returns=LinkedClient,
    is_about_document=True,
)
async def link_client(server: "Merchant", call: Call) -> LinkedClient:
    """The proof is the authentication: its nonce came from the merchant's signed-in shopper.

    A client that is linked to another pseudonym of the same hub is linked anew.
    """
    client_ref = _client(call.params["client"])
    now_ms = server.base.wall_clock()
    shown: LinkProof = call.document
    if not is_nonce(
        server.base.home.secret, f"link:{client_ref}", shown.nonce, now_ms, LINK_CODE_S
    ):
        raise InvalidInputError(
            "the nonce was not made for this client, or it is over",
            code="invalid_nonce",
            field="nonce",
            remedy="get a new one at /v1/clients/{client}/link-codes",
        )
    (claims,) = verify_presented(
        server,
        (Presented(token=shown.token, proof=shown.proof),),
        method="POST",
        path=call.raw_target,
        order=client_ref,
        at_ms=None,
        now_ms=now_ms,
        nonce=shown.nonce,
        field="",
    )
    subject = claims.sub or claims.cnf.jkt
    client = Client(client_ref, claims.iss, subject, claims.cnf.jkt, now_ms)

    def command(tx: Tx) -> None:
        coupon = coupons.get(tx.connection, claims.jti)
        if coupon is not None and coupon.is_revoked:
            raise ended(tx.connection, claims.jti, "token")
        known = coupons.clients_of(tx.connection, client_ref)
        if not any(one.hub == client.hub and one.subject == subject for one in known):
            coupons.recognise(tx, client)

    await server.base.store.write(command)
    return LinkedClient(client=client_ref, hub=claims.iss, subject=subject)


@endpoint(
    "GET",
    "/v1/coupon-information",
    scope="checkout",
    summary="Coupon information by client, token or handle",
    returns=CouponList,
    query={
        "client": "of this client",
        "token_id": "of this token",
        "handle": "of the token with this handle",
    },
)
async def coupon_information(server: "Merchant", call: Call) -> CouponList:
    query: dict[str, Any] = call.query
    with server.base.store.read() as connection:
        if "client" in query:
            found = coupons.of_client(connection, query["client"])
        elif "token_id" in query:
            one = coupons.get(connection, query["token_id"])
            found = [one] if one else []
        elif "handle" in query:
            one = coupons.by_handle(connection, normalise_handle(query["handle"]))
            found = [one] if one else []
            if one is None:
                who, now_ms = call.principal.name, server.base.wall_clock()
                server.code_guesses.failed(who, now_ms, field="handle")
        else:
            raise InvalidInputError(
                "say whose", field="client", remedy="give client, token_id or handle"
            )
    return CouponList(coupons=tuple(document(server, one) for one in found))


ENDPOINTS = (make_link_code, link_client, coupon_information)


def document(server: "Merchant", coupon: Coupon) -> CouponDocument:
    """Coupon information as it is shown."""
    terms = server.shelf.get(coupon.terms_digest)
    return CouponDocument(
        token_id=coupon.token_id,
        handle=coupon.handle,
        hub=coupon.hub,
        subject=coupon.subject,
        promotion_id=coupon.promotion_id,
        terms_digest=coupon.terms_digest,
        frame_id=coupon.frame_id,
        uses=coupon.uses,
        uses_left=coupon.uses_left,
        is_revoked=coupon.is_revoked,
        clipped_at=rfc3339(coupon.clipped_at_ms),
        expires_at=rfc3339(coupon.expires_at_ms),
        title=terms.terms.title if terms else None,
    )


def _client(text: str) -> str:
    if not 1 <= len(text) <= 100 or not text.isprintable():
        raise InvalidInputError("a client has 1 to 100 characters", field="client")
    return text
