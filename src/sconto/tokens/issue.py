"""What a token says, and its one spelling.

A token is a compact JWS (RFC 7515) with the type `promo-token+jwt` whose payload is the canonical
JSON (RFC 8785) of the claims. Ed25519 is deterministic: issuing twice for the same clip gives the
same bytes, so a retry can never bring a second token into the world.
"""

import hashlib
from typing import Annotated, Any

from msgspec import Meta

from sconto.base.canonical import b64url
from sconto.base.documents import Document, from_builtins, to_builtins
from sconto.base.errors import InvalidInputError
from sconto.base.fields import Digest, Identifier, NamedDigest, Seconds, ServerUrl, Thumbprint
from sconto.base.keys import SigningKey, sign_compact

TOKEN_TYP = "promo-token+jwt"
#: Uses of one token at most; a promotion that allows more issues more tokens.
USES_MAX = 1000


class Confirmation(Document, frozen=True):
    """RFC 7800: who may present the token."""

    #: RFC 9449 thumbprint of the holder's key.
    jkt: Thumbprint


class StatusReference(Document, frozen=True):
    """Token Status List: where the hub says whether the token was revoked."""

    idx: Annotated[int, Meta(ge=0, lt=2**17)]
    uri: Annotated[str, Meta(pattern=r"^https?://[!-~]{1,500}$(?!\n)")]


class Status(Document, frozen=True):
    status_list: StatusReference


class TokenClaims(Document, frozen=True):
    """The claims (RFC 7519 names where it has them); times are seconds since 1970 UTC."""

    #: The hub.
    iss: ServerUrl
    #: The one merchant that redeems it.
    aud: ServerUrl
    #: Token id.
    jti: Identifier
    iat: Seconds
    #: Valid from, inclusive.
    nbf: Seconds
    #: Valid until, exclusive.
    exp: Seconds
    promotion_id: Identifier
    terms_digest: Digest
    #: Id of the frame that it was clipped in: the signature that it corresponds to.
    frame: NamedDigest
    cnf: Confirmation
    #: The holder's pseudonym at this merchant.
    sub: Identifier | None = None
    uses: Annotated[int, Meta(ge=1, le=USES_MAX)] = 1
    status: Status | None = None


def issue_token(key: SigningKey, claims: TokenClaims) -> str:
    """The token of these claims; the same claims and key give the same bytes."""
    document = to_builtins(claims)
    read_claims(document)
    return sign_compact(key, TOKEN_TYP, document)


def read_claims(document: dict[str, Any]) -> TokenClaims:
    """The claims of a well-formed token; InvalidInputError naming the claim that is not."""
    claims = from_builtins(document, TokenClaims, what="the token", field="token")
    if claims.nbf >= claims.exp:
        raise InvalidInputError(
            "the token ends before it begins", field="token.exp", code="malformed"
        )
    return claims


def token_digest(token: str) -> str:
    """RFC 9449 `ath`: base64url of the SHA-256 of the token's ASCII bytes."""
    return b64url(hashlib.sha256(token.encode("ascii", "replace")).digest())
