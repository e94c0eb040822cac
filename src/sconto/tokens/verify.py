"""Verify a token offline, with the issuer's cached keys.

What is checked, in this order: size and form; that we know the issuer; type, algorithm, header,
key and signature; form of the claims; audience; time. Not checked, because it needs a store or
another document: holder (`verify_proof`), revocation (`StatusList`), uses left, and that the terms
and the frame are known.
"""

from collections.abc import Callable, Mapping

from sconto.base.canonical import b64url_decode, parse_json
from sconto.base.clock import MS_PER_SECOND
from sconto.base.errors import InvalidInputError
from sconto.base.keys import JWS_BYTES_MAX, KeySet, verify_compact
from sconto.tokens.issue import TOKEN_TYP, TokenClaims, read_claims

KeysOfIssuer = Callable[[str], KeySet | None] | Mapping[str, KeySet]


def verify_token(
    token: str,
    keys_of_issuer: KeysOfIssuer,
    *,
    audience: str,
    at_ms: int | None,
    leeway_s: int = 60,
) -> TokenClaims:
    """Claims of a token that holds at the instant `at_ms` for the merchant `audience`.

    With `at_ms` None its dates are not looked at: it then only tells who its holder is.

    `keys_of_issuer` gives the pinned keys of a hub, or None for a stranger: the issuer named in
    the token only chooses among them. The leeway forgives a hub whose clock is ahead (`nbf`); the
    end is exact, because a promotion's end is a promise.
    """
    issuer = _issuer(token)
    keys = keys_of_issuer(issuer) if callable(keys_of_issuer) else keys_of_issuer.get(issuer)
    if keys is None:
        raise InvalidInputError(
            "the token's issuer is not a hub that we know", field="token.iss", code="issuer_unknown"
        )
    claims = read_claims(verify_compact(keys, TOKEN_TYP, token, "token"))
    if claims.aud != audience:
        raise InvalidInputError(
            f"the token is for {claims.aud}, not for {audience}",
            field="token.aud",
            code="audience_mismatch",
            remedy="present it at the merchant that it names",
        )
    if at_ms is None:
        return claims
    if at_ms >= claims.exp * MS_PER_SECOND:
        raise InvalidInputError("the token has expired", field="token.exp", code="token_expired")
    if at_ms < (claims.nbf - leeway_s) * MS_PER_SECOND:
        raise InvalidInputError(
            "the token is not valid yet", field="token.nbf", code="token_not_yet_valid"
        )
    return claims


def _issuer(token: str) -> str:
    """The claimed issuer, unverified: it only says which keys to try."""
    parts = token.split(".") if len(token) <= JWS_BYTES_MAX else []
    try:
        payload = b64url_decode(parts[1])
    except (IndexError, ValueError):
        raise InvalidInputError(
            "the token is not a JWS of header, payload and signature",
            field="token",
            code="malformed",
        ) from None
    claims = parse_json(payload, max_bytes=JWS_BYTES_MAX, what="token")
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    if not isinstance(issuer, str):
        raise InvalidInputError("the token names no issuer", field="token.iss", code="malformed")
    return issuer
