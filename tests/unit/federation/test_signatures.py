"""HTTP message signatures: what was signed is what arrived, here, now, and only once.

`http-message-signatures` is the oracle for our own reading and writing of the plain spelling.
"""

import base64
import contextlib
import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from http_message_signatures import HTTPMessageSigner, algorithms
from http_message_signatures.resolvers import MappingKeyResolver
from hypothesis import given, settings
from hypothesis import strategies as st

from sconto.base.canonical import digest
from sconto.base.errors import InvalidInputError
from sconto.base.keys import PublicKey, SigningKey
from sconto.federation import (
    PROFILE_PATH,
    ReplayGuard,
    SignedBy,
    sign_request,
    signatures,
    verify_request,
)

SHOP, HUB = "https://shop.example", "https://hub.example"
PROFILE = SHOP + PROFILE_PATH
KEY, OTHER = SigningKey.from_seed(b"\x01" * 32), SigningKey.from_seed(b"\x02" * 32)
NOW_S = 1_795_000_000
TARGET = "/v1/events?from=7"
BODY = b'[{"a":1}]'
CONTENT = {"Content-Type": "application/json"}


def keys(profile_url: str, kid: str) -> PublicKey | None:
    return KEY.public if (profile_url, kid) == (PROFILE, KEY.kid) else None


def sign(
    method: str = "POST",
    url: str = HUB + TARGET,
    headers: dict[str, str] = CONTENT,
    body: bytes = BODY,
    **changed: Any,
) -> dict[str, str]:
    arguments = {"profile_url": PROFILE, "created_s": NOW_S, "idempotency_key": "k-1", **changed}
    return sign_request(arguments.pop("key", KEY), method, url, headers, body, **arguments)


def verify(headers: Any, **changed: Any) -> SignedBy:
    arguments = {
        "method": "POST", "public_base_url": HUB, "raw_path_and_query": TARGET, "headers": headers,
        "body": BODY, "keys": keys, "now_s": NOW_S, **changed,
    }  # fmt: skip
    return verify_request(**arguments)


def refused(act: Callable[[], object]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        act()
    return caught.value


SIGNED = sign()
SHA512 = f"sha-512=:{base64.b64encode(hashlib.sha512(BODY).digest()).decode()}:"


def unsigned(headers: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in headers.items() if k not in {"Signature", "Signature-Input"}}


def by_the_library(
    components: list[str],
    headers: dict[str, str] | None = None,
    method: str = "POST",
    url: str = HUB + TARGET,
    **changed: Any,
) -> dict[str, str]:
    """A request signed by `http-message-signatures`, in the spelling of its choice."""
    signed = unsigned(SIGNED if headers is None else headers)
    signer = HTTPMessageSigner(
        signature_algorithm=algorithms.ED25519,
        key_resolver=MappingKeyResolver(private_keys={KEY.kid: KEY.private}, public_keys={}),
    )
    arguments: dict[str, Any] = {
        "key_id": KEY.kid, "created": datetime.fromtimestamp(NOW_S, UTC), "label": "sig1",
        "include_alg": False, "use_existing_digest": "Content-Digest" in signed, **changed,
    }  # fmt: skip
    message = SimpleNamespace(method=method, url=url, headers=signed)
    signer.sign(message, covered_component_ids=tuple(components), **arguments)
    return signed


def by_hand(
    content_digest: str, parameters: str = f';created={NOW_S};keyid="{KEY.kid}"'
) -> dict[str, str]:
    """The request with any digest, its base put down as RFC 9421 section 2.5 says."""
    covered = " ".join(f'"{name}"' for name in ALL)
    params = f"({covered}){parameters}"
    base = (
        '"@method": POST\n'
        '"@authority": hub.example\n'
        '"@path": /v1/events\n'
        '"@query": ?from=7\n'
        '"ucp-agent": profile="https://shop.example/.well-known/ucp"\n'
        '"idempotency-key": k-1\n'
        f'"content-digest": {content_digest}\n'
        '"content-type": application/json\n'
        f'"@signature-params": {params}'
    )
    signature = base64.b64encode(KEY.sign(base.encode())).decode()
    return SIGNED | {
        "Content-Digest": content_digest,
        "Signature-Input": f"sig1={params}",
        "Signature": f"sig1=:{signature}:",
    }


ALL = [
    "@method", "@authority", "@path", "@query", "ucp-agent", "idempotency-key", "content-digest",
    "content-type",
]  # fmt: skip


def test_what_is_signed_is_verified() -> None:
    signed = verify(SIGNED)
    assert (signed.profile_url, signed.kid, signed.created_s) == (PROFILE, KEY.kid, NOW_S)
    assert signed.peer_url == SHOP
    assert verify([*SIGNED.items(), ("Host", "evil.example"), ("X-A", "1"), ("X-A", "2")]) == signed
    assert verify({k.upper(): f" {v} " for k, v in SIGNED.items()}) == signed


def test_the_library_signs_the_same_bytes() -> None:
    assert by_the_library(ALL) == SIGNED


def test_the_base_is_the_one_of_the_standard() -> None:
    assert by_hand(digest(BODY)) == SIGNED


@pytest.mark.parametrize(
    "headers",
    [
        by_the_library(ALL[::-1]),
        by_the_library([*ALL, "@scheme", "@target-uri"]),
        by_the_library(ALL, label="other"),
        by_the_library(ALL, nonce="x", tag="ucp"),
        by_the_library(ALL, expires=datetime.fromtimestamp(NOW_S + 1, UTC)),
        {**SIGNED, "Signature": "  " + SIGNED["Signature"] + "  "},
        {**SIGNED, "Signature": SIGNED["Signature"].replace("sig1=", "x=")}
        | {"Signature-Input": SIGNED["Signature-Input"].replace("sig1=", "x=")},
    ],
    ids=["order", "more", "label", "nonce and tag", "expires", "spaces", "relabelled"],
)
def test_other_spellings_of_rfc_9421_are_read(headers: dict[str, str]) -> None:
    assert verify(headers).peer_url == SHOP


def test_a_signature_has_one_id_however_it_is_spelt() -> None:
    """A label is not signed: a replay under another label is still a replay."""
    relabelled = {
        **SIGNED,
        "Signature": SIGNED["Signature"].replace("sig1=", "x="),
        "Signature-Input": SIGNED["Signature-Input"].replace("sig1=", "x="),
    }
    spaced = {**SIGNED, "Signature": SIGNED["Signature"] + " ", "UCP-Agent": SIGNED["UCP-Agent"]}
    ids = {verify(headers).signature_id for headers in (SIGNED, relabelled, spaced)}
    assert len(ids) == 1
    assert verify(sign(idempotency_key="k-2")).signature_id not in ids


methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
path_text = st.text("abcXYZ019._~!$&'()*+,;=:@/-", max_size=20)
targets = st.builds(
    lambda path, query: "/" + path + ("" if query is None else "?" + query),
    path_text | path_text.map(lambda text: text + "%2F%c3%A4"),
    st.none() | st.text("abc019=&?/", max_size=15) | st.just("a=%20%C3"),
)
bases = st.sampled_from(
    [HUB, "http://127.0.0.1:8080", "https://hub.example:443", "http://hub.example:80",
     "https://hub.example:8443", "https://hub.example/base/path", "http://[::1]:99"]
)  # fmt: skip
field_text = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)


@given(methods, bases, targets, st.binary(max_size=20), field_text, field_text)
@settings(max_examples=200)
def test_any_request_agrees_with_the_library(
    method: str, base_url: str, target: str, body: bytes, idempotency_key: str, kind: str
) -> None:
    """Both make the same signature, and both read it."""
    ours = sign(
        method, base_url + target, {"Content-Type": kind}, body, idempotency_key=idempotency_key
    )
    changed: dict[str, Any] = {
        "method": method, "public_base_url": base_url, "raw_path_and_query": target, "body": body,
    }  # fmt: skip
    signed = verify(ours, **changed)
    components = re.findall('"([a-z@-]+)"', ours["Signature-Input"])
    assert by_the_library(components, ours, method, base_url + target) == ours
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signatures, "_verify_plain", lambda *arguments: None)
        assert verify(ours, **changed) == signed


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"method": "PUT"}, "signature_invalid"),
        ({"method": "post"}, "signature_invalid"),
        ({"method": "GET"}, "signature_invalid"),
        ({"public_base_url": "https://hub2.example"}, "signature_invalid"),
        ({"public_base_url": "https://hub.example:8443"}, "signature_invalid"),
        ({"public_base_url": "https://hub.example/v0"}, "signature_invalid"),
        ({"raw_path_and_query": "/v1/events"}, "signature_invalid"),
        ({"raw_path_and_query": "/v1/events?"}, "signature_invalid"),
        ({"raw_path_and_query": "/v1/events?from=8"}, "signature_invalid"),
        ({"raw_path_and_query": "/v1/tokens?from=7"}, "signature_invalid"),
        ({"raw_path_and_query": "/v1//events?from=7"}, "signature_invalid"),
        ({"raw_path_and_query": "/v1/%65vents?from=7"}, "signature_invalid"),
        ({"raw_path_and_query": "/v1/events%3Ffrom=7"}, "signature_invalid"),
        ({"raw_path_and_query": "/v1/./events?from=7"}, "signature_invalid"),
        ({"raw_path_and_query": "@evil.example/v1/events?from=7"}, "signature_invalid"),
        ({"raw_path_and_query": "https://hub.example/v1/events?from=7"}, "signature_invalid"),
        ({"raw_path_and_query": "//evil.example/v1/events?from=7"}, "signature_invalid"),
        ({"raw_path_and_query": ""}, "signature_invalid"),
        ({"raw_path_and_query": "*"}, "signature_invalid"),
        ({"raw_path_and_query": "/ä?from=7"}, "signature_invalid"),
        ({"raw_path_and_query": "/a\r\nb?from=7"}, "signature_invalid"),
        ({"body": BODY + b" "}, "digest_mismatch"),
        ({"body": b""}, "digest_mismatch"),
        ({"now_s": NOW_S + 301}, "signature_expired"),
        ({"now_s": NOW_S - 61}, "signature_expired"),
        ({"now_s": NOW_S + 11, "max_age_s": 10}, "signature_expired"),
        ({"keys": lambda profile_url, kid: None}, "key_not_found"),
        ({"keys": lambda profile_url, kid: OTHER.public}, "signature_invalid"),
    ],
)
def test_a_signature_is_for_one_request_at_one_server(changed: dict[str, Any], code: str) -> None:
    assert refused(lambda: verify(SIGNED, **changed)).code == code


def test_the_ends_of_freshness() -> None:
    assert verify(SIGNED, now_s=NOW_S + 300)
    assert verify(SIGNED, now_s=NOW_S - 60)
    headers = by_the_library(ALL, expires=datetime.fromtimestamp(NOW_S + 10, UTC))
    assert verify(headers, now_s=NOW_S + 10)
    assert refused(lambda: verify(headers, now_s=NOW_S + 11)).code == "signature_expired"


def test_a_poisoned_host_changes_nothing() -> None:
    """The authority is the configured one: neither `Host` nor `X-Forwarded-Host` is read."""
    for name in ("Host", "X-Forwarded-Host", ":authority", "Forwarded"):
        assert verify([*SIGNED.items(), (name, "evil.example")]).peer_url == SHOP
    for_evil = sign(url="https://evil.example" + TARGET)
    for extra in ([], [("Host", "evil.example")], [("X-Forwarded-Host", "evil.example")]):
        pairs = [*for_evil.items(), *extra]
        assert refused(lambda pairs=pairs: verify(pairs)).code == "signature_invalid"


@pytest.mark.parametrize("name", ["Signature", "Signature-Input", "UCP-Agent"])
def test_an_unsigned_request_is_told_so(name: str) -> None:
    headers = {k: v for k, v in SIGNED.items() if k != name}
    error = refused(lambda: verify(headers))
    assert (error.code, error.field) == ("signature_missing", name)


@pytest.mark.parametrize("name", ["Idempotency-Key", "Content-Digest", "Content-Type"])
def test_a_covered_field_cannot_be_taken_away_or_changed(name: str) -> None:
    without = {k: v for k, v in SIGNED.items() if k != name}
    assert refused(lambda: verify(without)).code == "signature_invalid"
    changed = {**SIGNED, name: SIGNED[name] + "x"}
    assert refused(lambda: verify(changed)).code == "signature_invalid"
    twice = [*SIGNED.items(), (name.lower(), SIGNED[name])]
    assert refused(lambda: verify(twice)).code == "signature_invalid"


@pytest.mark.parametrize("missing", ALL)
def test_a_signature_must_cover_everything(missing: str) -> None:
    headers = by_the_library([name for name in ALL if name != missing])
    assert refused(lambda: verify(headers)).code == "signature_invalid"


@pytest.mark.parametrize("name", ["Signature", "Signature-Input", "UCP-Agent", "Content-Digest"])
def test_every_changed_byte_of_a_header_is_refused(name: str) -> None:
    """Save the spare bits of base64, which make no other signature (see below)."""
    value = SIGNED[name]
    spare = len(value) - 4 if name == "Signature" else -1
    for place in range(len(value)):
        for mask in (0x01, 0x02, 0x10, 0x20, 0x80):
            other = value[:place] + chr(ord(value[place]) ^ mask) + value[place + 1 :]
            if place != spare:
                refused(lambda other=other: verify({**SIGNED, name: other}))


def test_spare_bits_of_base64_make_no_second_signature() -> None:
    value = SIGNED["Signature"]
    for bits in range(1, 16):
        other = value[:-4] + chr(ord(value[-4]) + bits) + value[-3:]
        with contextlib.suppress(InvalidInputError):
            signed = verify({**SIGNED, "Signature": other})
            assert signed.signature_id == verify(SIGNED).signature_id


@given(
    st.sampled_from(["Signature", "Signature-Input", "UCP-Agent", "Content-Digest"]),
    st.text(max_size=40)
    | st.text("sig1=(\"@method\" \"@path\");created=1;keyid=\"x\":?*,@%", max_size=60)
    | st.from_regex(r'sig1=\("@method"\);(created|expires|alg)=@?-?[0-9]{1,20}', fullmatch=True),
)  # fmt: skip
@settings(max_examples=500)
def test_any_header_raises_nothing_else(name: str, value: str) -> None:
    with contextlib.suppress(InvalidInputError):
        verify({**SIGNED, name: value})


@given(st.text(max_size=30), st.text(max_size=30), st.binary(max_size=30))
def test_any_request_raises_nothing_else(method: str, target: str, body: bytes) -> None:
    refused(lambda: verify(SIGNED, method=method, raw_path_and_query=target, body=body))


@pytest.mark.parametrize(
    ("agent", "says"),
    [
        ('profile="ftp://shop.example/.well-known/ucp"', "profile"),
        ('profile="https://shop.example/profile"', "must end"),
        ("profile=https://shop.example/.well-known/ucp", "profile"),
        ("profile", "profile"),
        ("profile=1", "profile"),
        ("", "profile"),
        ("Mozilla/5.0", "structured"),
        ('profile="' + "a" * 5000 + '"', "too long"),
        ('profile="https://ä.example/.well-known/ucp"', "ASCII"),
    ],
)
def test_the_profile_s_address(agent: str, says: str) -> None:
    error = refused(lambda: verify({**SIGNED, "UCP-Agent": agent}))
    assert error.code == "signature_invalid"
    assert says in error.message


def test_an_algorithm_in_the_message_is_refused() -> None:
    headers = by_the_library(ALL, include_alg=True)
    assert refused(lambda: verify(headers)).code == "algorithm_unsupported"


@pytest.mark.parametrize(
    "parameters",
    [
        f';keyid="{KEY.kid}"',
        f";created={NOW_S}",
        f';created="{NOW_S}";keyid="{KEY.kid}"',
        f';created={NOW_S}.0;keyid="{KEY.kid}"',
        f';created=@{NOW_S};keyid="{KEY.kid}"',
        f";created={NOW_S};keyid={KEY.kid}",
        f';created={NOW_S};keyid="{KEY.kid}";expires="never"',
        f';created={NOW_S};keyid="{KEY.kid}";unknown=1',
    ],
)
def test_a_signature_has_its_parameters_in_the_right_form(parameters: str) -> None:
    """Each is signed by the right key, so only the form of its parameters is at fault."""
    assert refused(lambda: verify(by_hand(digest(BODY), parameters))).code == "signature_invalid"


@pytest.mark.parametrize("target", ["@evil.example", ".evil.example", ":1@evil.example"])
def test_a_request_target_cannot_move_the_authority(target: str) -> None:
    """Signed for another host, and sent here with a target that would complete its name."""
    headers = sign(url=f"https://{(HUB + target).rpartition('/')[2].rpartition('@')[2]}{TARGET}")
    error = refused(lambda: verify(headers, raw_path_and_query=target + TARGET))
    assert error.code == "signature_invalid"


def test_a_nonce_tells_two_equal_requests_of_one_second_apart() -> None:
    """Ed25519 is deterministic: without a nonce the second would be taken for a replay."""
    first, second = (verify(sign(nonce=nonce)).signature_id for nonce in ("AAAA", "AAAB"))
    assert len({first, second, verify(SIGNED).signature_id}) == 3
    assert by_the_library(ALL, nonce="AAAA") == sign(nonce="AAAA")
    changed = sign(nonce="AAAA")
    changed["Signature-Input"] = changed["Signature-Input"].replace("AAAA", "AAAB")
    assert refused(lambda: verify(changed)).code == "signature_invalid"


def test_two_signatures_are_refused() -> None:
    both = {
        **SIGNED,
        "Signature-Input": SIGNED["Signature-Input"] + ", b=();created=1",
        "Signature": SIGNED["Signature"] + ", b=:AAAA:",
    }
    assert refused(lambda: verify(both)).code == "signature_invalid"


def test_a_replay_in_another_place_or_time_or_here_again() -> None:
    guard = ReplayGuard()
    assert guard.is_new(verify(SIGNED).signature_id, NOW_S * 1000)
    assert not guard.is_new(verify(SIGNED).signature_id, NOW_S * 1000 + 1)
    assert guard.is_new(verify(sign(idempotency_key="k-2")).signature_id, NOW_S * 1000)


def test_a_get_needs_no_idempotency_key_and_an_empty_post_no_digest() -> None:
    headers = sign("GET", f"{HUB}/v1/frames", {}, b"", idempotency_key=None)
    assert "Content-Digest" not in headers
    assert verify(headers, method="GET", raw_path_and_query="/v1/frames", body=b"").peer_url == SHOP
    empty = sign("POST", f"{HUB}/v1/poke", {}, b"")
    assert verify(empty, raw_path_and_query="/v1/poke", body=b"").peer_url == SHOP
    error = refused(lambda: verify(empty, raw_path_and_query="/v1/poke", body=b"x"))
    assert error.code == "signature_invalid"


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "post"},
        {"method": "BREW"},
        {"url": "hub.example/v1"},
        {"url": "/v1"},
        {"url": "https://hub.example/v1#fragment"},
        {"url": "https://user:password@hub.example/v1"},
        {"url": "https://hub.example/ä"},
        {"url": "https://hub.example/a b"},
        {"url": "https://hub.example/%"},
        {"headers": {}},
        {"headers": {"Content-Type": "a", "content-type": "b"}},
        {"headers": {"Content-Type": "a\r\nX: b"}},
        {"idempotency_key": None},
        {"idempotency_key": "a\nb"},
        {"idempotency_key": ""},
        {"profile_url": "https://shop.example/\r\n"},
    ],
    ids=str,
)
def test_a_request_that_no_peer_would_accept_is_not_signed(changed: dict[str, Any]) -> None:
    refused(lambda: sign(**changed))


def test_signing_is_deterministic_and_leaves_its_arguments_alone() -> None:
    headers = dict(CONTENT)
    assert sign(headers=headers) == sign(headers=headers) == SIGNED
    assert headers == CONTENT


@pytest.mark.parametrize(
    ("content_digest", "ok"),
    [
        (SHA512, True),
        (f"{digest(BODY)}, {SHA512}", True),
        (f"{digest(b'x')}, {SHA512}", False),
        (f"{digest(BODY)}, md5=:AAAAAAAAAAAAAAAAAAAAAA==:", False),
        (f"{digest(BODY)}, {digest(BODY)}", False),
        ("sha-256=:AA==:", False),
        ("sha-256=x", False),
        ("x", False),
    ],
)
def test_several_digests_of_the_body(content_digest: str, ok: bool) -> None:
    """RFC 9530 allows more than one; each that is there must be right."""
    if ok:
        assert verify(by_hand(content_digest)).peer_url == SHOP
    else:
        assert refused(lambda: verify(by_hand(content_digest))).code == "digest_mismatch"


def test_a_nonce_makes_equal_requests_differ() -> None:
    """Goal: two equal requests in one second are no replay of each other, and the nonce is signed.

    Method: as we spell it, and under another label, which only the library's verifier reads.
    """
    ids = set()
    for nonce in ("n-1", "n-2"):
        headers = sign_request(
            KEY,
            "GET",
            f"{HUB}/v1/frames",
            {},
            b"",
            profile_url=PROFILE,
            created_s=NOW_S,
            nonce=nonce,
        )
        renamed = {
            n: headers[n].replace("sig1=", "mine=") for n in ("Signature", "Signature-Input")
        }
        for sent in (headers, headers | renamed):
            signed = verify_request(
                "GET", HUB, "/v1/frames", sent, b"", lambda url, kid: KEY.public, now_s=NOW_S
            )
            ids.add(signed.signature_id)
        forged = headers | {"Signature-Input": headers["Signature-Input"].replace("n-", "m-")}
        with pytest.raises(InvalidInputError):
            verify_request(
                "GET", HUB, "/v1/frames", forged, b"", lambda url, kid: KEY.public, now_s=NOW_S
            )
    assert len(ids) == 2
