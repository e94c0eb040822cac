"""Keys and JWS: one spelling, one algorithm, and nothing in a header that steers us."""

import contextlib
import json
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws as jose
from joserfc.jwk import OctKey

from sconto.base.canonical import b64url, b64url_decode, canonical
from sconto.base.errors import InvalidInputError
from sconto.base.keys import (
    KeySet,
    PublicKey,
    SigningKey,
    sign_compact,
    sign_detached,
    sign_self,
    thumbprint,
    verify_compact,
    verify_detached,
    verify_self_signed,
)

KEY = SigningKey.from_seed(bytes(range(32)))
OTHER = SigningKey.from_seed(bytes(32))
KEYS = KeySet([KEY.public])
CLAIMS = {"b": [1, "ü"], "a": None}
TYP = "test+jwt"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def signed(header: dict[str, Any] | bytes, payload: bytes = canonical(CLAIMS)) -> str:
    """A JWS with any header, correctly signed by KEY: only the header is at fault."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    text = f"{b64url(head)}.{b64url(payload)}"
    return f"{text}.{b64url(KEY.sign(text.encode()))}"


def refused(jws: str) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        verify_compact(KEYS, TYP, jws, "token")
    return caught.value


def test_rfc_8037_key_and_thumbprint() -> None:
    """RFC 8037 appendix A.1 to A.3."""
    key = SigningKey.from_seed(b64url_decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"))
    assert key.public.jwk["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert key.kid == thumbprint(key.public.jwk) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_rfc_8037_signature() -> None:
    """RFC 8037 appendix A.4: our key makes the signature of the RFC's example."""
    key = SigningKey.from_seed(b64url_decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"))
    text = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    assert b64url(key.sign(text)) == (
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )


def test_signing_twice_gives_the_same_bytes() -> None:
    assert sign_compact(KEY, TYP, CLAIMS) == sign_compact(KEY, TYP, dict(reversed(CLAIMS.items())))
    assert sign_detached(KEY, TYP, b"{}") == sign_detached(KEY, TYP, b"{}")
    assert sign_self(KEY, TYP, CLAIMS) == sign_self(KEY, TYP, CLAIMS)


def test_what_is_signed_is_verified() -> None:
    assert verify_compact(KEYS, TYP, sign_compact(KEY, TYP, CLAIMS), "token") == CLAIMS
    key, claims = verify_self_signed(TYP, sign_self(KEY, TYP, CLAIMS), "proof")
    assert (key.kid, claims) == (KEY.kid, CLAIMS)
    assert verify_detached(KEYS, TYP, sign_detached(KEY, TYP, b"{}"), b"{}", "frame") == KEY.kid


def test_every_changed_symbol_is_refused() -> None:
    """Also the spare bits of the last symbol of a part, which decoders like to pass over."""
    jws = sign_compact(KEY, TYP, CLAIMS)
    for place in range(len(jws)):
        for symbol in {ALPHABET[(ALPHABET.find(jws[place]) + step) % 64] for step in (1, 2, 32)}:
            if symbol != jws[place]:
                refused(jws[:place] + symbol + jws[place + 1 :])
        refused(jws[:place])
        refused(jws[:place] + jws[place + 1 :])


HEADER = {"alg": "Ed25519", "kid": KEY.kid, "typ": TYP}
PUBLIC = KEY.public.jwk


@pytest.mark.parametrize(
    "header",
    [
        {**HEADER, "alg": "none"},
        {**HEADER, "alg": "None"},
        {**HEADER, "alg": "nOnE"},
        {**HEADER, "alg": ""},
        {**HEADER, "alg": None},
        {**HEADER, "alg": ["Ed25519"]},
        {**HEADER, "alg": "EdDSA"},
        {**HEADER, "alg": "Ed448"},
        {**HEADER, "alg": "ed25519"},
        {**HEADER, "alg": "Ed25519 "},
        {**HEADER, "alg": "HS256"},
        {**HEADER, "alg": "HS512"},
        {**HEADER, "alg": "RS256"},
        {**HEADER, "alg": "PS256"},
        {**HEADER, "alg": "ES256"},
        {**HEADER, "alg": "ES256K"},
        {**HEADER, "alg": "dir"},
        {"kid": KEY.kid, "typ": TYP},
        {**HEADER, "jku": "https://evil.example/keys"},
        {**HEADER, "jku": ""},
        {**HEADER, "jwk": PUBLIC},
        {**HEADER, "jwk": OTHER.public.jwk},
        {**HEADER, "x5u": "https://evil.example/cert"},
        {**HEADER, "x5c": ["MIIB"]},
        {**HEADER, "x5t": "AA"},
        {**HEADER, "x5t#S256": "AA"},
        {**HEADER, "crit": []},
        {**HEADER, "crit": ["b64"], "b64": False},
        {**HEADER, "crit": ["exp"], "exp": 1},
        {**HEADER, "crit": ["alg"]},
        {**HEADER, "b64": False},
        {**HEADER, "b64": True},
        {**HEADER, "cty": "JWT"},
        {**HEADER, "zip": "DEF"},
        {**HEADER, "enc": "A128GCM"},
        {**HEADER, "nonce": "x"},
        {**HEADER, "url": "https://evil.example"},
        {**HEADER, "iss": "https://hub.example"},
        {**HEADER, "kid": "../../../../dev/null"},
        {**HEADER, "kid": "/etc/passwd"},
        {**HEADER, "kid": "file:///etc/passwd"},
        {**HEADER, "kid": "https://evil.example/key"},
        {**HEADER, "kid": "' OR 1=1 --"},
        {**HEADER, "kid": KEY.kid + "\0"},
        {**HEADER, "kid": KEY.kid + "\n"},
        {**HEADER, "kid": " " + KEY.kid},
        {**HEADER, "kid": KEY.kid.lower()},
        {**HEADER, "kid": KEY.kid[:-1]},
        {**HEADER, "kid": ""},
        {**HEADER, "kid": None},
        {**HEADER, "kid": 0},
        {**HEADER, "kid": [KEY.kid]},
        {**HEADER, "kid": {"kid": KEY.kid}},
        {**HEADER, "kid": "__proto__"},
        {**HEADER, "kid": OTHER.kid},
        {"alg": "Ed25519", "typ": TYP},
        {**HEADER, "typ": "JWT"},
        {**HEADER, "typ": "jwt"},
        {**HEADER, "typ": TYP.upper()},
        {**HEADER, "typ": "application/" + TYP},
        {**HEADER, "typ": None},
        {**HEADER, "typ": [TYP]},
        {"alg": "Ed25519", "kid": KEY.kid},
        {},
    ],
    ids=lambda header: json.dumps(header)[:60],
)
def test_header_attacks(header: dict[str, Any]) -> None:
    """Each is correctly signed by the right key over just this header, and refused all the same."""
    codes = {"signature_invalid", "algorithm_unsupported", "key_not_found", "invalid_json"}
    assert refused(signed(header)).code in codes


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none","alg":"Ed25519","kid":"%b","typ":"test+jwt"}' % KEY.kid.encode(),
        b'{"alg":"Ed25519","kid":"x","typ":"test+jwt","kid":"%b"}' % KEY.kid.encode(),
        b'["Ed25519"]',
        b'"Ed25519"',
        b"null",
        b"",
        b"{",
        b"\xff\xfe",
        b'{"alg":"Ed25519","kid":1e400}',
        b'{"alg":"Ed25519","kid":"\\ud800"}',
        b'{"a":' * 50 + b"1" + b"}" * 50,
    ],
)
def test_headers_that_are_no_header(header: bytes) -> None:
    refused(signed(header))


def test_a_public_key_is_never_a_shared_secret() -> None:
    """HS256 keyed with the public key: the oldest confusion of all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        secret = OctKey.import_key(PUBLIC["x"])
        jws = jose.serialize_compact({**HEADER, "alg": "HS256"}, b"{}", secret)
    assert refused(jws).code == "algorithm_unsupported"


@pytest.mark.parametrize(
    "jws",
    [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c.d",
        "a.b.c",
        "=.=.=",
        "ü.ü.ü",
        "{}",
        "\0.\0.\0",
        "A" * 10**6,
    ],
    ids=range(12),
)
def test_what_is_no_jws(jws: str) -> None:
    refused(jws)


@given(st.text(max_size=100) | st.text(ALPHABET + ".", max_size=300))
@settings(max_examples=300)
def test_any_text_raises_nothing_else(jws: str) -> None:
    for verify in (
        lambda: verify_compact(KEYS, TYP, jws, "token"),
        lambda: verify_self_signed(TYP, jws, "proof"),
        lambda: verify_detached(KEYS, TYP, jws, b"{}", "frame"),
    ):
        with pytest.raises(InvalidInputError):
            verify()


@given(st.binary(max_size=80))
def test_a_signed_payload_that_is_no_object_raises_nothing_else(payload: bytes) -> None:
    jws = signed(HEADER, payload)
    with contextlib.suppress(InvalidInputError):
        assert isinstance(verify_compact(KEYS, TYP, jws, "token"), dict)


@pytest.mark.parametrize("payload", [b"[]", b"1", b'"x"', b"null", b"", b'{"a":1,"a":1}'])
def test_claims_are_one_object(payload: bytes) -> None:
    assert refused(signed(HEADER, payload)).code in {"malformed", "invalid_json"}


def test_a_stripped_or_foreign_signature_is_refused() -> None:
    head, payload, _ = sign_compact(KEY, TYP, CLAIMS).split(".")
    text = f"{head}.{payload}"
    assert refused(text + ".").code == "signature_invalid"
    assert refused(f"{text}.{b64url(bytes(64))}").code == "signature_invalid"
    assert refused(f"{text}.{b64url(OTHER.sign(text.encode()))}").code == "signature_invalid"


def test_a_signature_has_no_second_spelling() -> None:
    """S + L verifies where S is not checked to be below the order (RFC 8032 section 5.1.7)."""
    head, payload, signature = sign_compact(KEY, TYP, CLAIMS).split(".")
    raw = b64url_decode(signature)
    order = 2**252 + 27742317777372353535851937790883648493
    twin = int.from_bytes(raw[32:], "little") + order
    if twin < 2**256:
        again = raw[:32] + twin.to_bytes(32, "little")
        assert refused(f"{head}.{payload}.{b64url(again)}").code == "signature_invalid"


@pytest.mark.parametrize(
    "jwk",
    [
        None,
        [],
        "Ed25519",
        {},
        {"kty": "OKP"},
        {"kty": "OKP", "crv": "Ed25519"},
        {"kty": "OKP", "crv": "Ed25519", "x": 1},
        {"kty": "OKP", "crv": "Ed25519", "x": ""},
        {"kty": "OKP", "crv": "Ed25519", "x": PUBLIC["x"] + "="},
        {"kty": "OKP", "crv": "Ed25519", "x": PUBLIC["x"][:-2]},
        {"kty": "OKP", "crv": "X25519", "x": PUBLIC["x"]},
        {"kty": "EC", "crv": "Ed25519", "x": PUBLIC["x"]},
        {"kty": "oct", "k": "AAAA"},
        {**PUBLIC, "d": b64url(KEY.seed)},
        {**PUBLIC, "d": ""},
    ],
    ids=str,
)
def test_only_public_ed25519_keys_are_read(jwk: Any) -> None:
    with pytest.raises(InvalidInputError):
        PublicKey.from_jwk(jwk)


@pytest.mark.parametrize(
    "raw",
    [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ],
)
def test_weak_keys_are_refused(raw: str) -> None:
    """Points of small order: under such a key anybody signs anything. And second spellings."""
    with pytest.raises(InvalidInputError):
        PublicKey.from_jwk({"kty": "OKP", "crv": "Ed25519", "x": b64url(bytes.fromhex(raw))})


def test_a_key_set_skips_other_kinds_and_keeps_ours() -> None:
    jwks = [
        {"kty": "EC", "crv": "P-256"},
        {"kty": "new"},
        "x",
        {**PUBLIC, "use": "sig", "kid": "z"},
    ]
    keys = KeySet.from_jwks(jwks)
    assert [*keys.keys] == [KEY.kid]
    assert keys.get("z") is None
    with pytest.raises(InvalidInputError) as caught:
        KeySet.from_jwks({"keys": jwks})
    assert caught.value.field == "keys"
    with pytest.raises(InvalidInputError) as caught:
        KeySet.from_jwks([PUBLIC, {**PUBLIC, "x": "AA"}])
    assert caught.value.field == "keys[1].x"


def test_a_detached_signature_is_for_its_payload_only() -> None:
    jws = sign_detached(KEY, TYP, b'{"a":1}')
    head, _, signature = jws.split(".")
    for payload in (b'{"a":2}', b'{"a":1} ', b"", b'{"a":1}\n'):
        with pytest.raises(InvalidInputError) as caught:
            verify_detached(KEYS, TYP, jws, payload, "frame")
        assert caught.value.code == "signature_invalid"
    attached = f"{head}.{b64url(b'{}')}.{signature}"
    with pytest.raises(InvalidInputError) as caught:
        verify_detached(KEYS, TYP, attached, b"{}", "frame")
    assert caught.value.code == "malformed"
    refused(jws)


def test_a_proof_by_a_weak_or_private_key_is_refused() -> None:
    for jwk in ({**PUBLIC, "d": b64url(KEY.seed)}, {**PUBLIC, "x": b64url(bytes(32))}):
        with pytest.raises(InvalidInputError):
            verify_self_signed(TYP, signed({"alg": "Ed25519", "jwk": jwk, "typ": TYP}), "proof")


def test_a_signing_key_does_not_show_its_seed() -> None:
    assert repr(KEY) == f"SigningKey({KEY.kid})"
    assert KEY.seed.hex() not in f"{KEY!r} {KEY}"
