"""Canonical bytes, digests and strict JSON: everybody computes the same, or refuses."""

import base64
import contextlib
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconto.base.canonical import (
    JSON_DEPTH_MAX,
    JSON_INTEGER_MAX,
    JSON_VALUES_MAX,
    b64url,
    b64url_decode,
    canonical,
    digest,
    ni,
    parse_json,
)
from sconto.base.errors import InvalidInputError

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
scalars = st.none() | st.booleans() | st.integers(-JSON_INTEGER_MAX, JSON_INTEGER_MAX) | texts
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def parse(body: bytes | str, max_bytes: int = 10**6) -> Any:
    return parse_json(body if isinstance(body, bytes) else body.encode(), max_bytes=max_bytes)


@given(documents)
def test_what_is_printed_is_parsed_again(document: Any) -> None:
    assert parse(canonical(document)) == document


@given(documents)
def test_a_document_has_one_spelling(document: Any) -> None:
    """Whatever JSON text says the document, its canonical bytes are the same."""
    spelt = json.dumps(document, indent=1, ensure_ascii=True)
    assert canonical(parse(spelt)) == canonical(document)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(body: bytes) -> None:
    with contextlib.suppress(InvalidInputError):
        parse(body)


@given(st.text(alphabet='{}[]",:\\ud8ae0123456789-+.eEtrufalsn \n', max_size=60))
def test_almost_json_raises_nothing_else(body: str) -> None:
    """What passes can be written again, and says the same as the standard library reads."""
    try:
        value = parse(body)
    except InvalidInputError:
        return
    assert value == json.loads(body)
    assert parse(canonical(value)) == value


def test_rfc_8785_orders_keys_by_utf_16() -> None:
    """RFC 8785 section 3.2.3: the emoji sorts before U+FB33, as its surrogates are lower."""
    keys = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    assert [*json.loads(canonical(keys))] == [
        "\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"a":1,"a":1}', "stands twice"),
        (b'{"b":{"a":1,"a":2}}', "stands twice"),
        (b'{"a":NaN}', "not an integer"),
        (b"[Infinity]", "not an integer"),
        (b"[-Infinity]", "not an integer"),
        (b"[1.0]", "not an integer"),
        (b"[1e3]", "not an integer"),
        (b"[1e400]", "not an integer"),
        (b"[9007199254740992]", "2^53"),
        (b"[-9007199254740992]", "2^53"),
        (b"[" + b"9" * 5000 + b"]", "2^53"),
        (b'["\\ud800"]', "lone surrogate"),
        (b'{"\\udc00":1}', "lone surrogate"),
        (b'["a\\u0000b"]', "NUL"),
        (b'["\0"]', "not JSON"),
        (b'["\xff"]', "not UTF-8"),
        (b"\xef\xbb\xbf[]", "not JSON"),
        (b"\xff\xfe[\0]\0", "not UTF-8"),
        (b"", "not JSON"),
        (b"[1] 2", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b"[1,]", "not JSON"),
        (b'["\n"]', "not JSON"),
        (b"[" * (JSON_DEPTH_MAX + 1) + b"]" * (JSON_DEPTH_MAX + 1), "nested"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nested"),
        (b"[" * 200_000, "nested"),
    ],
)
def test_bad_json_is_refused_and_named(body: bytes, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says.replace("^", r"\^")) as caught:
        parse(body)
    assert caught.value.code == "invalid_json"


def test_the_limits_themselves_pass() -> None:
    assert parse(b"[9007199254740991,-9007199254740991]") == [2**53 - 1, -(2**53 - 1)]
    deepest = b"[" * JSON_DEPTH_MAX + b"]" * JSON_DEPTH_MAX
    assert parse(deepest)
    assert parse(b'["\\ud83d\\ude00"]') == ["\U0001f600"]
    assert parse(b"[1]", max_bytes=3) == [1]
    with pytest.raises(InvalidInputError) as caught:
        parse(b"[12]", max_bytes=3)
    assert caught.value.code == "too_large"


def test_a_wide_document_is_not_a_deep_one() -> None:
    assert parse(b"[" + b",".join([b"[]"] * 1000) + b"]") == [[]] * 1000


def test_a_document_of_very_many_values_is_refused_unparsed() -> None:
    some = b"[" + b"0," * JSON_VALUES_MAX + b"0]"
    assert len(parse(some)) == JSON_VALUES_MAX + 1
    for many in (b"[0," + some[1:], b"[[]," * 200_000):
        with pytest.raises(InvalidInputError) as caught:
            parse(many)
        assert caught.value.code == "too_large"


@pytest.mark.parametrize("document", [2**53, {"a": object()}, "\ud800", {"\ud800": 1}])
def test_what_has_no_canonical_form_is_refused(document: Any) -> None:
    with pytest.raises(InvalidInputError):
        canonical(document)


@given(st.binary(max_size=100))
def test_base64url_has_one_spelling(data: bytes) -> None:
    text = b64url(data)
    assert b64url_decode(text) == data
    for other in (text + "=", text + "\n", " " + text, text + "A==="):
        with pytest.raises(ValueError):
            b64url_decode(other)


def test_base64url_with_stray_bits_is_a_second_spelling() -> None:
    assert b64url_decode("AA") == b"\0"
    for text in ("AB", "A", "A+", "A/", "ÄA", "A A"):
        with pytest.raises(ValueError):
            b64url_decode(text)


def test_digests_are_the_ones_of_the_rfcs() -> None:
    """RFC 9530 appendix B.1 and RFC 6920 section 8.1."""
    body = b'{"hello": "world"}\n'
    assert digest(body) == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert ni(b"Hello World!") == "ni:///sha-256;f4OxZX_x_FO5LcGBSKHWXfwtSx-j1ncoSt3SABJtkGk"
    assert base64.b64encode(hashlib.sha256(b"").digest()).decode() in digest(b"")
