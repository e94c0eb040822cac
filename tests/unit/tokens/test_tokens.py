"""Tokens: deterministic, for one merchant and one holder, and not one symbol may change."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sconto.base.canonical import b64url, b64url_decode, canonical, digest, ni
from sconto.base.documents import to_builtins
from sconto.base.errors import InvalidInputError
from sconto.base.keys import KeySet, SigningKey, sign_compact
from sconto.tokens import (
    TOKEN_TYP,
    Confirmation,
    Status,
    StatusReference,
    TokenClaims,
    issue_token,
    pairwise_subject,
    token_digest,
    verify_token,
)

SHOP, HUB = "https://shop.example", "https://hub.example"
KEY, OTHER, HOLDER = (SigningKey.from_seed(bytes([i]) * 32) for i in (1, 2, 3))
KEYS = {HUB: KeySet([KEY.public])}
FROM_S, UNTIL_S = 1_795_000_000, 1_797_600_000
AT_MS = FROM_S * 1000
CLAIMS = TokenClaims(
    iss=HUB,
    aud=SHOP,
    jti="01HZX",
    iat=FROM_S,
    nbf=FROM_S,
    exp=UNTIL_S,
    promotion_id="promo_88",
    terms_digest=digest(b"terms"),
    frame=ni(b"manifest"),
    cnf=Confirmation(jkt=HOLDER.kid),
    sub=pairwise_subject(b"secret", HOLDER.kid, SHOP),
    status=Status(status_list=StatusReference(idx=5, uri=f"{HUB}/status/1")),
)
TOKEN = issue_token(KEY, CLAIMS)


def verify(token: str, **changed: Any) -> TokenClaims:
    arguments: dict[str, Any] = {"audience": SHOP, "at_ms": AT_MS}
    return verify_token(token, changed.pop("keys", KEYS), **{**arguments, **changed})


def refused(act: Callable[[], object]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        act()
    return caught.value


def signed(**changed: Any) -> str:
    """A token that the hub signed, whose claims are wrong: None takes one away."""
    claims = {**to_builtins(CLAIMS), **changed}
    return sign_compact(KEY, TOKEN_TYP, {k: v for k, v in claims.items() if v is not None})


def test_what_is_issued_is_verified() -> None:
    assert verify(TOKEN) == CLAIMS
    assert verify(TOKEN, keys=KEYS.get) == CLAIMS
    assert len(TOKEN) < 1000


def test_issuing_twice_for_the_same_clip_gives_the_same_bytes() -> None:
    assert issue_token(KEY, CLAIMS) == TOKEN


claims_of_any_form = st.builds(
    TokenClaims,
    iss=st.just(HUB),
    aud=st.just(SHOP),
    jti=st.from_regex(r"[!-~]{1,200}", fullmatch=True),
    iat=st.integers(0, 2**32),
    nbf=st.integers(0, FROM_S),
    exp=st.integers(FROM_S + 1, 2**37),
    promotion_id=st.from_regex(r"[!-~]{1,200}", fullmatch=True),
    terms_digest=st.binary().map(digest),
    frame=st.binary().map(ni),
    cnf=st.just(Confirmation(jkt=HOLDER.kid)),
    sub=st.none() | st.from_regex(r"[!-~]{1,200}", fullmatch=True),
    uses=st.integers(1, 1000),
    status=st.none()
    | st.builds(
        Status,
        status_list=st.builds(
            StatusReference, idx=st.integers(0, 2**17 - 1), uri=st.just(f"{HUB}/status/2")
        ),
    ),
)


@given(claims_of_any_form)
def test_any_claims_survive(claims: TokenClaims) -> None:
    assert verify(issue_token(KEY, claims)) == claims


def test_every_changed_symbol_is_refused() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for place, symbol in enumerate(TOKEN):
        for step in (1, 2, 16, 32):
            other = alphabet[(alphabet.find(symbol) + step) % 64]
            changed = TOKEN[:place] + other + TOKEN[place + 1 :]
            refused(lambda changed=changed: verify(changed))
        refused(lambda place=place: verify(TOKEN[:place]))


@given(st.integers(0, len(TOKEN) - 1), st.integers(0, 255).map(chr))
@settings(max_examples=300)
def test_any_byte_in_any_place_raises_nothing_else(place: int, symbol: str) -> None:
    if TOKEN[place] != symbol:
        refused(lambda: verify(TOKEN[:place] + symbol + TOKEN[place + 1 :]))


@given(st.text(max_size=100) | st.binary(max_size=60).map(lambda b: f"{b64url(b)}.{b64url(b)}.AA"))
def test_arbitrary_text_raises_nothing_else(token: str) -> None:
    refused(lambda: verify(token))


@given(st.sampled_from([*to_builtins(CLAIMS), "x"]), st.recursive(
    st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["jkt", "status_list", "idx"]), inner, max_size=2),
))  # fmt: skip
@settings(max_examples=300)
def test_any_signed_claim_raises_nothing_else(name: str, value: Any) -> None:
    with contextlib.suppress(InvalidInputError):
        verify(signed(**{name: value}))


@pytest.mark.parametrize(
    ("token", "changed", "code", "field"),
    [
        (TOKEN, {"audience": "https://shop2.example"}, "audience_mismatch", "token.aud"),
        (TOKEN, {"audience": SHOP + "/"}, "audience_mismatch", "token.aud"),
        (TOKEN, {"audience": ""}, "audience_mismatch", "token.aud"),
        (TOKEN, {"at_ms": UNTIL_S * 1000}, "token_expired", "token.exp"),
        (TOKEN, {"at_ms": (FROM_S - 60) * 1000 - 1}, "token_not_yet_valid", "token.nbf"),
        (TOKEN, {"at_ms": AT_MS - 1, "leeway_s": 0}, "token_not_yet_valid", "token.nbf"),
        (TOKEN, {"keys": {}}, "issuer_unknown", "token.iss"),
        (TOKEN, {"keys": {HUB: KeySet([])}}, "key_not_found", "token.header.kid"),
        (TOKEN, {"keys": {HUB: KeySet([OTHER.public])}}, "key_not_found", "token.header.kid"),
        (issue_token(OTHER, CLAIMS), {}, "key_not_found", "token.header.kid"),
        (signed(aud=[SHOP]), {}, "invalid_input", "token.aud"),
        (signed(aud=None), {}, "invalid_input", "token.aud"),
        (signed(iss=None), {}, "malformed", "token.iss"),
        (signed(iss=[HUB]), {}, "malformed", "token.iss"),
        (signed(exp=None), {}, "invalid_input", "token.exp"),
        (signed(exp=str(UNTIL_S)), {}, "invalid_input", "token.exp"),
        (signed(exp=FROM_S), {}, "malformed", "token.exp"),
        (signed(nbf=True), {}, "invalid_input", "token.nbf"),
        (signed(cnf=None), {}, "invalid_input", "token.cnf"),
        (signed(cnf={}), {}, "invalid_input", "token.cnf.jkt"),
        (signed(cnf={"jwk": {}}), {}, "invalid_input", "token.cnf.jwk"),
        (signed(frame=None), {}, "invalid_input", "token.frame"),
        (signed(frame=digest(b"manifest")), {}, "invalid_input", "token.frame"),
        (signed(uses=0), {}, "invalid_input", "token.uses"),
        (signed(uses=1001), {}, "invalid_input", "token.uses"),
        (signed(uses=True), {}, "invalid_input", "token.uses"),
        (signed(amount=1), {}, "invalid_input", "token.amount"),
        (
            signed(status={"status_list": {"idx": -1, "uri": HUB}}),
            {},
            "invalid_input",
            "token.status.status_list.idx",
        ),
        (
            sign_compact(KEY, "JWT", to_builtins(CLAIMS)),
            {},
            "signature_invalid",
            "token.header.typ",
        ),
        (
            sign_compact(KEY, "openid4vci-proof+jwt", to_builtins(CLAIMS)),
            {},
            "signature_invalid",
            "token.header.typ",
        ),
        ("a.b", {}, "malformed", "token"),
        ("A" * 20_000, {}, "malformed", "token"),
    ],
)
def test_each_wrong_thing_has_its_code(
    token: str, changed: dict[str, Any], code: str, field: str
) -> None:
    error = refused(lambda: verify(token, **changed))
    assert (error.code, error.field) == (code, field)


def test_the_ends_of_validity() -> None:
    """From `nbf` with a minute's leeway, until `exp` exactly."""
    assert verify(TOKEN, at_ms=(FROM_S - 60) * 1000)
    assert verify(TOKEN, at_ms=AT_MS, leeway_s=0)
    assert verify(TOKEN, at_ms=UNTIL_S * 1000 - 1)


def test_without_an_instant_only_the_dates_are_passed_over() -> None:
    assert verify(signed(nbf=FROM_S - 9, exp=FROM_S - 8), at_ms=None)
    assert refused(lambda: verify(TOKEN, at_ms=None, audience=HUB)).code == "audience_mismatch"
    assert refused(lambda: verify(issue_token(OTHER, CLAIMS), at_ms=None)).code == "key_not_found"


def test_a_token_names_its_keys_only_through_a_hub_that_we_know() -> None:
    """Two hubs, each with its key: neither can issue in the other's name."""
    evil = "https://evil.example"
    keys = {HUB: KeySet([KEY.public]), evil: KeySet([OTHER.public])}
    assert refused(lambda: verify(issue_token(OTHER, CLAIMS), keys=keys)).code == "key_not_found"
    head, _, signature = TOKEN.split(".")
    claims = b64url(canonical({**to_builtins(CLAIMS), "iss": evil}))
    assert refused(lambda: verify(f"{head}.{claims}.{signature}", keys=keys)).code == (
        "key_not_found"
    )


@pytest.mark.parametrize(
    "extra",
    [
        {"alg": "none"}, {"alg": "HS256"}, {"alg": "EdDSA"}, {"jku": "https://evil.example"},
        {"x5u": "https://evil.example"}, {"x5c": []}, {"crit": ["exp"]}, {"b64": False},
        {"jwk": OTHER.public.jwk}, {"kid": "../../etc/passwd"}, {"kid": OTHER.kid}, {"typ": "JWT"},
    ],
    ids=str,
)  # fmt: skip
def test_header_attacks(extra: dict[str, Any]) -> None:
    header = {"alg": "Ed25519", "kid": KEY.kid, "typ": TOKEN_TYP, **extra}
    text = f"{b64url(json.dumps(header).encode())}.{TOKEN.split('.')[1]}"
    for signature in (KEY.sign(text.encode()), OTHER.sign(text.encode()), b""):
        token = f"{text}.{b64url(signature)}"
        refused(lambda token=token: verify(token))


def test_duplicate_claims_are_refused() -> None:
    head = TOKEN.split(".")[0]
    payload = b64url_decode(TOKEN.split(".")[1]).replace(b'{"aud"', b'{"aud":"x","aud"', 1)
    text = f"{head}.{b64url(payload)}"
    token = f"{text}.{b64url(KEY.sign(text.encode()))}"
    assert refused(lambda: verify(token)).code == "invalid_json"


def test_issuing_refuses_claims_that_no_merchant_would_accept() -> None:
    for name, value in {"exp": FROM_S, "uses": 0, "jti": "", "aud": "shop", "frame": "x"}.items():
        document = {**to_builtins(CLAIMS), name: value}
        wrong = TokenClaims(**{**document, "cnf": CLAIMS.cnf, "status": CLAIMS.status})
        assert refused(lambda wrong=wrong: issue_token(KEY, wrong)).field == f"token.{name}"


def test_the_digest_of_a_token_is_the_one_of_rfc_9449() -> None:
    """RFC 9449 section 7.1: access token and `ath` of the RFC's example."""
    token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
    assert token_digest(token) == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"


def test_a_pseudonym_means_nothing_elsewhere() -> None:
    first = pairwise_subject(b"secret", "holder", SHOP)
    assert first == pairwise_subject(b"secret", "holder", SHOP)
    others = {
        pairwise_subject(b"secret", "holder", "https://shop2.example"),
        pairwise_subject(b"secret", "holder2", SHOP),
        pairwise_subject(b"secret2", "holder", SHOP),
        pairwise_subject(b"secret", "holder" + SHOP, ""),
        pairwise_subject(b"secret", "", "holder" + SHOP),
    }
    assert len(others) == 5
    assert first not in others
    assert len(first) == 43
