"""Shared field types and strict decoding: what is outside the form is named by its field."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconto.base.canonical import canonical, digest, ni
from sconto.base.documents import Document, decode, from_builtins, to_builtins
from sconto.base.errors import InvalidInputError
from sconto.base.fields import Digest, Identifier, NamedDigest, Seconds, ServerUrl, Thumbprint

GOOD: dict[str, tuple[Any, list[Any]]] = {
    "server": (
        ServerUrl,
        ["https://shop.example", "http://127.0.0.1:8080", "https://x.example/a/b"],
    ),
    "digest": (Digest, [digest(b""), digest(b"x")]),
    "name": (NamedDigest, [ni(b""), ni(b"x")]),
    "thumbprint": (Thumbprint, ["kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"]),
    "identifier": (Identifier, ["promo_88", "a" * 200, "!"]),
    "seconds": (Seconds, [0, 253_402_300_799]),
}
BAD: dict[str, list[Any]] = {
    "server": [
        "https://shop.example/", "https://Shop.example", "ftp://shop.example", "shop.example",
        "https://shop.example?x", "https://shop.example#x", "https://u:p@shop.example",
        "https://shop.example\n", " https://shop.example", "https://", "javascript:alert(1)",
        "https://shop.example/a//b", "https://shop.example/%2e", "https://" + "a" * 200,
    ],
    "digest": [
        digest(b"")[:-1], digest(b"") + "\n", digest(b"").upper(), "sha-512=:AA==:", "",
        "sha-256=:" + "A" * 43 + ":", "sha-256=:" + "A" * 42 + "B=:",
    ],
    "name": [ni(b"") + "=", ni(b"") + "\n", "ni:///sha-256;" + "A" * 42 + "B", ni(b"")[:-1], ""],
    "thumbprint": ["A" * 42 + "B", "A" * 42, "A" * 44, ""],
    "identifier": ["", " ", "a b", "ü", "a\n", "a" * 201, "a\0"],
    "seconds": [-1, 253_402_300_800, True, "0", None],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), [(k, v) for k, (_, vs) in GOOD.items() for v in vs])
def test_good_fields(kind: str, value: Any) -> None:
    assert msgspec.convert(value, GOOD[kind][0], strict=True) == value


@pytest.mark.parametrize(("kind", "value"), [(k, v) for k, vs in BAD.items() for v in vs])
def test_bad_fields(kind: str, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(value, GOOD[kind][0], strict=True)


class Inner(Document, frozen=True):
    quantity: int
    promotion_id: str = ""


class Outer(Document, frozen=True):
    lines: tuple[Inner, ...]
    title: str | None = None


def test_a_document_survives_being_written() -> None:
    outer = Outer(lines=(Inner(quantity=1), Inner(quantity=2, promotion_id="p")))
    assert canonical(to_builtins(outer)) == (
        b'{"lines":[{"quantity":1},{"promotion_id":"p","quantity":2}]}'
    )
    assert decode(msgspec.json.encode(outer), Outer) == outer


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"lines":[{"quantity":"1"}]}', "lines[0].quantity"),
        (b'{"lines":[{"quantity":true}]}', "lines[0].quantity"),
        (b'{"lines":[{"quantity":1},{}]}', "lines[1].quantity"),
        (b'{"lines":[{"quantity":1,"promotion":"x"}]}', "lines[0].promotion"),
        (b'{"lines":{}}', "lines"),
        (b"{}", "lines"),
        (b'{"lines":[],"titel":"x"}', "titel"),
        (b"[]", None),
        (b"null", None),
    ],
)
def test_the_field_at_fault_is_named(body: bytes, field: str | None) -> None:
    with pytest.raises(InvalidInputError) as caught:
        decode(body, Outer)
    assert caught.value.field == field


def test_a_misspelt_field_is_suggested() -> None:
    with pytest.raises(InvalidInputError) as caught:
        decode(b'{"lines":[{"quantity":1,"promotion_di":"x"}]}', Outer)
    assert caught.value.remedy == "did you mean 'promotion_id'?"


names = st.sampled_from(["lines", "title", "quantity", "x"]) | st.text()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
)


@given(values)
def test_any_value_raises_nothing_else(value: Any) -> None:
    try:
        assert isinstance(from_builtins(value, Outer), Outer)
    except InvalidInputError as error:
        assert error.message
