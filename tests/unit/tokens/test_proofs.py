"""Proofs: by the holder, for this request, now; and nonces that need no store."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconto.base.canonical import b64url, digest, ni
from sconto.base.errors import InvalidInputError
from sconto.base.keys import SigningKey, sign_compact, sign_self
from sconto.tokens import (
    KEY_PROOF_TYP,
    PROOF_TYP,
    Confirmation,
    Proof,
    TokenClaims,
    is_nonce,
    issue_token,
    make_key_proof,
    make_nonce,
    make_proof,
    token_digest,
    verify_key_proof,
    verify_proof,
)

SHOP, HUB = "https://shop.example", "https://hub.example"
HUB_KEY, OTHER, HOLDER = (SigningKey.from_seed(bytes([i]) * 32) for i in (1, 2, 3))
NOW_S = 1_795_000_000
NOW_MS = NOW_S * 1000
URL = f"{SHOP}/v1/checkouts"
CLAIMS = TokenClaims(
    iss=HUB,
    aud=SHOP,
    jti="01HZX",
    iat=NOW_S,
    nbf=NOW_S,
    exp=NOW_S + 1000,
    promotion_id="promo_88",
    terms_digest=digest(b"terms"),
    frame=ni(b"manifest"),
    cnf=Confirmation(jkt=HOLDER.kid),
)
TOKEN = issue_token(HUB_KEY, CLAIMS)
REQUEST = {"method": "POST", "url": URL, "order": "order-1", "nonce": "n-1"}
PROOF = make_proof(HOLDER, TOKEN, issued_at_ms=NOW_MS, proof_id="p-1", **REQUEST)
SAID = {
    "jti": "p-1", "htm": "POST", "htu": URL, "iat": NOW_S, "ath": token_digest(TOKEN),
    "order": "order-1", "nonce": "n-1",
}  # fmt: skip


def verify(proof: str, **changed: Any) -> Proof:
    arguments = {"token": TOKEN, "claims": CLAIMS, "now_ms": NOW_MS, **REQUEST, **changed}
    return verify_proof(proof, arguments.pop("token"), arguments.pop("claims"), **arguments)


def refused(act: Callable[[], object]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        act()
    return caught.value


def said(**changed: Any) -> str:
    claims = {**SAID, **changed}
    return sign_self(HOLDER, PROOF_TYP, {k: v for k, v in claims.items() if v is not None})


def test_what_is_proven_is_verified() -> None:
    proof = verify(PROOF)
    assert proof == Proof("p-1", HOLDER.kid, "order-1", NOW_MS)
    assert proof.replay_id == f"{HOLDER.kid}:p-1"
    assert said() == PROOF


def test_a_proof_made_twice_has_the_same_bytes() -> None:
    assert make_proof(HOLDER, TOKEN, issued_at_ms=NOW_MS, proof_id="p-1", **REQUEST) == PROOF


def test_every_changed_symbol_is_refused() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for place, symbol in enumerate(PROOF):
        for step in (1, 16, 32):
            other = alphabet[(alphabet.find(symbol) + step) % 64]
            refused(lambda p=PROOF[:place] + other + PROOF[place + 1 :]: verify(p))
        refused(lambda p=PROOF[:place]: verify(p))


@pytest.mark.parametrize(
    ("proof", "changed", "code", "field"),
    [
        (PROOF, {"method": "GET"}, "proof_mismatch", "proof.htm"),
        (PROOF, {"method": "post"}, "proof_mismatch", "proof.htm"),
        (PROOF, {"url": "https://shop2.example/v1/checkouts"}, "proof_mismatch", "proof.htu"),
        (PROOF, {"url": URL + "/"}, "proof_mismatch", "proof.htu"),
        (PROOF, {"order": "order-2"}, "proof_mismatch", "proof.order"),
        (PROOF, {"nonce": "n-2"}, "proof_mismatch", "proof.nonce"),
        (PROOF, {"token": TOKEN + "x"}, "proof_mismatch", "proof.ath"),
        (PROOF, {"token": "ü"}, "proof_mismatch", "proof.ath"),
        (PROOF, {"now_ms": NOW_MS + 300_001}, "proof_expired", "proof.iat"),
        (PROOF, {"now_ms": NOW_MS - 60_001}, "proof_not_yet_valid", "proof.iat"),
        (said(nonce=None), {}, "proof_mismatch", "proof.nonce"),
        (said(jti=None), {}, "malformed", "proof.jti"),
        (said(jti=""), {}, "malformed", "proof.jti"),
        (said(jti=1), {}, "malformed", "proof.jti"),
        (said(jti="x" * 501), {}, "malformed", "proof.jti"),
        (said(iat=None), {}, "malformed", "proof.iat"),
        (said(iat=str(NOW_S)), {}, "malformed", "proof.iat"),
        (said(iat=True), {}, "malformed", "proof.iat"),
        (said(htm=["POST"]), {}, "proof_mismatch", "proof.htm"),
        (said(extra=1), {}, "malformed", "proof"),
        (sign_self(HOLDER, KEY_PROOF_TYP, SAID), {}, "signature_invalid", "proof.header.typ"),
        (sign_self(HOLDER, "JWT", SAID), {}, "signature_invalid", "proof.header.typ"),
        (sign_compact(HOLDER, PROOF_TYP, SAID), {}, "signature_invalid", "proof.header"),
        (sign_self(OTHER, PROOF_TYP, SAID), {}, "holder_mismatch", "proof.header.jwk"),
        (TOKEN, {}, "signature_invalid", "proof.header"),
    ],
)
def test_each_wrong_thing_has_its_code(
    proof: str, changed: dict[str, Any], code: str, field: str
) -> None:
    """A stolen token with the thief's key, an overheard proof for another order, an old one, …"""
    error = refused(lambda: verify(proof, **changed))
    assert (error.code, error.field) == (code, field)


def test_the_ends_of_freshness() -> None:
    assert verify(PROOF, now_ms=NOW_MS + 300_000)
    assert verify(PROOF, now_ms=NOW_MS - 60_000)


def test_a_nonce_that_nobody_asked_for_is_passed_over() -> None:
    assert verify(PROOF, nonce=None)
    without = make_proof(
        HOLDER, TOKEN, issued_at_ms=NOW_MS, proof_id="p", **{**REQUEST, "nonce": None}
    )
    assert verify(without, nonce=None)


@given(st.sampled_from([*SAID, "x"]), st.booleans() | st.integers(-9, 9) | st.text(max_size=5))
def test_any_said_thing_raises_nothing_else(name: str, value: Any) -> None:
    with contextlib.suppress(InvalidInputError):
        verify(said(**{name: value}))


# ---------------------------------------------------------------------------------- key proofs

KEY_PROOF = make_key_proof(HOLDER, audience=HUB, nonce="n-1", issued_at_ms=NOW_MS)


def verify_key(proof: str, **changed: Any) -> str:
    arguments: dict[str, Any] = {"audience": HUB, "nonce": "n-1", "now_ms": NOW_MS, **changed}
    return verify_key_proof(proof, **arguments).kid


def key_said(**changed: Any) -> str:
    claims = {"aud": HUB, "iat": NOW_S, "nonce": "n-1", **changed}
    return sign_self(HOLDER, KEY_PROOF_TYP, {k: v for k, v in claims.items() if v is not None})


def test_a_key_proof_gives_the_key_that_the_token_will_name() -> None:
    assert verify_key(KEY_PROOF) == HOLDER.kid
    assert verify_key(KEY_PROOF, nonce=lambda nonce: nonce == "n-1") == HOLDER.kid


def test_claims_of_other_people_s_wallets_are_passed_over() -> None:
    """OpenID4VCI allows `iss`, and an audience may be a list of one."""
    assert verify_key(key_said(iss="wallet", exp=1, aud=[HUB])) == HOLDER.kid


@pytest.mark.parametrize(
    ("proof", "changed", "code", "field"),
    [
        (KEY_PROOF, {"audience": SHOP}, "audience_mismatch", "proof.aud"),
        (key_said(aud=None), {}, "audience_mismatch", "proof.aud"),
        (key_said(aud=[HUB, SHOP]), {}, "audience_mismatch", "proof.aud"),
        (KEY_PROOF, {"nonce": "n-2"}, "invalid_nonce", "proof.nonce"),
        (KEY_PROOF, {"nonce": lambda nonce: False}, "invalid_nonce", "proof.nonce"),
        (key_said(nonce=None), {}, "invalid_nonce", "proof.nonce"),
        (key_said(nonce=[]), {}, "invalid_nonce", "proof.nonce"),
        (KEY_PROOF, {"now_ms": NOW_MS + 300_001}, "proof_expired", "proof.iat"),
        (KEY_PROOF, {"now_ms": NOW_MS - 60_001}, "proof_not_yet_valid", "proof.iat"),
        (PROOF, {}, "signature_invalid", "proof.header.typ"),
    ],
)
def test_a_wrong_key_proof_is_refused(
    proof: str, changed: dict[str, Any], code: str, field: str
) -> None:
    error = refused(lambda: verify_key(proof, **changed))
    assert (error.code, error.field) == (code, field)


# -------------------------------------------------------------------------------------- nonces

SECRET = b"\x07" * 32


@given(st.integers(0, 2**48), st.binary(max_size=12), st.text(max_size=10))
def test_a_nonce_is_known_again_for_its_time_and_purpose(
    at_ms: int, random: bytes, purpose: str
) -> None:
    nonce = make_nonce(SECRET, purpose, at_ms, random)
    assert is_nonce(SECRET, purpose, nonce, at_ms)
    assert is_nonce(SECRET, purpose, nonce, at_ms + 300_000)
    assert not is_nonce(SECRET, purpose, nonce, at_ms + 300_001)
    assert not is_nonce(SECRET, purpose, nonce, at_ms - 1)
    assert not is_nonce(SECRET, purpose + "x", nonce, at_ms)
    assert not is_nonce(SECRET[1:], purpose, nonce, at_ms)


def test_a_changed_nonce_is_not_ours() -> None:
    nonce = make_nonce(SECRET, "credential", NOW_MS, b"12345678")
    for place, symbol in enumerate(nonce):
        changed = nonce[:place] + ("A" if symbol != "A" else "B") + nonce[place + 1 :]
        assert not is_nonce(SECRET, "credential", changed, NOW_MS)
        assert not is_nonce(SECRET, "credential", nonce[:place], NOW_MS)
    assert make_nonce(SECRET, "credential", NOW_MS, b"12345679") != nonce


@given(st.text(max_size=120) | st.binary(max_size=60).map(b64url))
def test_any_text_is_only_not_a_nonce(text: str) -> None:
    assert not is_nonce(SECRET, "credential", text, NOW_MS)
