"""The proof with which a wallet asks for a token: OpenID4VCI 1.0, appendix F.1 (`jwt` proof).

A JWS of type `openid4vci-proof+jwt` that carries the wallet's public key, for one credential
issuer and one nonce of it. Other people's wallets make it too, so claims that we do not know are
passed over, as RFC 7519 says.
"""

from collections.abc import Callable

from sconto.base.clock import MS_PER_SECOND
from sconto.base.errors import InvalidInputError
from sconto.base.keys import PublicKey, SigningKey, sign_self, verify_self_signed
from sconto.tokens.proof import check_freshness

KEY_PROOF_TYP = "openid4vci-proof+jwt"


def make_key_proof(holder_key: SigningKey, *, audience: str, nonce: str, issued_at_ms: int) -> str:
    """Proof that the wallet holds the key; `audience` is the credential issuer."""
    claims = {"aud": audience, "iat": issued_at_ms // MS_PER_SECOND, "nonce": nonce}
    return sign_self(holder_key, KEY_PROOF_TYP, claims)


def verify_key_proof(
    proof: str,
    *,
    audience: str,
    nonce: str | Callable[[str], bool],
    now_ms: int,
    max_age_s: int = 300,
) -> PublicKey:
    """The key that the wallet has proven; its `kid` is what `cnf.jkt` of the token must say.

    `nonce` is the expected one, or a question that knows ours (`is_nonce`).
    """
    key, said = verify_self_signed(KEY_PROOF_TYP, proof, "proof")
    if said.get("aud") not in (audience, [audience]):
        raise InvalidInputError(
            f"the proof is not for {audience}", field="proof.aud", code="audience_mismatch"
        )
    given = said.get("nonce")
    if not isinstance(given, str) or not (nonce(given) if callable(nonce) else given == nonce):
        raise InvalidInputError(
            "the nonce is not ours, or too old",
            field="proof.nonce",
            code="invalid_nonce",
            remedy="ask the nonce endpoint for a new one",
        )
    check_freshness(said, now_ms, max_age_s, "proof")
    return key
