"""A holder's proof: made by the key that the token names, for one request about one order.

DPoP-shaped (RFC 9449): a JWS of type `dpop+jwt` that carries its public key, with the claims `jti
htm htu iat ath`, and besides them `order` (the order, or the client where there is no order yet)
and, where the merchant gave one, `nonce`. A stolen token is of no use without the key, and an
overheard proof of none for another order.

A proof can be sent again within its window. Let `ReplayGuard` remember its id for as long, or
make the act idempotent per order.
"""

from dataclasses import dataclass
from typing import Any

from sconto.base.clock import MS_PER_SECOND
from sconto.base.errors import InvalidInputError
from sconto.base.keys import SigningKey, sign_self, verify_self_signed
from sconto.tokens.issue import TokenClaims, token_digest

PROOF_TYP = "dpop+jwt"
#: How far a holder's clock may be ahead of ours.
SKEW_S = 60
_TEXT_MAX = 500


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that holds; `proof_id` with the holder's thumbprint is what must not come twice."""

    proof_id: str
    holder: str
    order: str
    issued_at_ms: int

    @property
    def replay_id(self) -> str:
        """Key for a ReplayGuard."""
        return f"{self.holder}:{self.proof_id}"


def make_proof(
    holder_key: SigningKey,
    token: str,
    *,
    method: str,
    url: str,
    order: str,
    nonce: str | None,
    issued_at_ms: int,
    proof_id: str,
) -> str:
    """Proof for presenting `token` in one request; `url` without query and fragment."""
    claims: dict[str, Any] = {
        "jti": proof_id,
        "htm": method,
        "htu": url,
        "iat": issued_at_ms // MS_PER_SECOND,
        "ath": token_digest(token),
        "order": order,
    }
    if nonce is not None:
        claims["nonce"] = nonce
    return sign_self(holder_key, PROOF_TYP, claims)


def verify_proof(
    proof: str,
    token: str,
    claims: TokenClaims,
    *,
    method: str,
    url: str,
    order: str,
    nonce: str | None,
    now_ms: int,
    max_age_s: int = 300,
) -> Proof:
    """The proof, if the token's holder made it for this very request (RFC 9449 section 4.3).

    `claims` are the verified ones of `token`; `url` is the public URL of the route, without query,
    built from the configured base URL and never from `Host`; `nonce` the one that we gave, None
    where we gave none. Uses the real clock: freshness is about the transport.
    """
    key, said = verify_self_signed(PROOF_TYP, proof, "proof")
    if key.kid != claims.cnf.jkt:
        raise InvalidInputError(
            "the proof was made with another key than the token's holder has",
            field="proof.header.jwk",
            code="holder_mismatch",
        )
    expected = {"htm": method, "htu": url, "ath": token_digest(token), "order": order}
    if nonce is not None:
        expected["nonce"] = nonce
    for name, value in expected.items():
        if said.get(name) != value:
            raise InvalidInputError(
                f"the proof is not for this request: {name} differs",
                field=f"proof.{name}",
                code="proof_mismatch",
                remedy="make a new proof for this method, URL, token, order and nonce",
            )
    if unknown := sorted(set(said) - {*expected, "jti", "iat", "nonce"}):
        raise InvalidInputError(
            f"the proof has the unknown claim {unknown[0][:50]!r}", field="proof", code="malformed"
        )
    issued_at_ms = check_freshness(said, now_ms, max_age_s, "proof")
    return Proof(_text(said, "jti"), key.kid, order, issued_at_ms)


def check_freshness(said: dict[str, Any], now_ms: int, max_age_s: int, what: str) -> int:
    """Instant of a proof's `iat`, if it is at most `max_age_s` old and not from the future."""
    issued_s = said.get("iat")
    if not isinstance(issued_s, int) or isinstance(issued_s, bool):
        raise InvalidInputError(
            "iat must be seconds since 1970 UTC", field=f"{what}.iat", code="malformed"
        )
    if issued_s * MS_PER_SECOND > now_ms + SKEW_S * MS_PER_SECOND:
        raise InvalidInputError(
            f"the {what} is from the future", field=f"{what}.iat", code="proof_not_yet_valid"
        )
    if issued_s * MS_PER_SECOND < now_ms - max_age_s * MS_PER_SECOND:
        raise InvalidInputError(
            f"the {what} is older than {max_age_s} seconds",
            field=f"{what}.iat",
            code="proof_expired",
            remedy="make a new one; check the clock",
        )
    return issued_s * MS_PER_SECOND


def _text(said: dict[str, Any], name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _TEXT_MAX:
        raise InvalidInputError(
            f"{name} must be a text of at most {_TEXT_MAX} symbols",
            field=f"proof.{name}",
            code="malformed",
        )
    return value
