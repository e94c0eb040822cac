"""Every quick path has its slow twin as oracle: both accept the same and give the same."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc import jws as jose
from joserfc.jwk import OKPKey
from msgspec import Meta

from sconto.base.canonical import (
    JSON_DEPTH_MAX,
    JSON_INTEGER_MAX,
    b64url,
    canonical,
    is_plain,
    parse_json,
    parse_quickly,
)
from sconto.base.clock import day_of, from_ms, rfc3339
from sconto.base.documents import (
    Document,
    decode,
    decode_quickly,
    from_builtins,
    to_builtins,
)
from sconto.base.errors import InvalidInputError
from sconto.base.keys import SigningKey, sign_compact, sign_detached, sign_self
from sconto.cart.model import Cart
from sconto.servers.merchant.checkout import CheckoutRequest, EvaluationRequest
from sconto.terms import Terms, encode_terms


class Leaf(Document):
    number: int
    flag: bool = False
    word: Annotated[str, Meta(max_length=5)] = ""


class Tree(Document):
    """A kind with a field of each sort that can be read quickly."""

    leaves: tuple[Leaf, ...] = ()
    names: frozenset[str] = frozenset()
    scalar: str | int | bool | None = None
    attributes: dict[str, str | int | bool] = {}  # noqa: RUF012 (msgspec copies it)
    choice: Literal["a", "b"] = "a"
    at: datetime | None = None


def strictly(body: bytes, kind: Any) -> Any:
    return from_builtins(parse_json(body, max_bytes=10**7), kind)


def outcome(read: Any, body: bytes, kind: Any) -> tuple[str, Any]:
    try:
        return "value", read(body, kind)
    except InvalidInputError as error:
        return "error", (str(error), error.code, error.field, error.remedy)


def assert_equal_twins(body: bytes, kind: Any) -> None:
    """`decode` is `strictly`; and what the quick path gives is what the strict one gives."""
    assert outcome(decode, body, kind) == outcome(strictly, body, kind)
    quick = decode_quickly(body, kind)
    if quick is not None:
        assert quick == strictly(body, kind)
    plain = parse_quickly(body)
    if plain is not None:
        assert repr(plain) == repr(parse_json(body, max_bytes=10**7))


texts = st.text(max_size=6) | st.sampled_from(['"', "\\", "\0", "\x7f", "é", "{[", "1e5", "\n"])
numbers = (
    st.integers()
    | st.integers(-3, 3)
    | st.floats()
    | st.sampled_from(
        [
            JSON_INTEGER_MAX,
            JSON_INTEGER_MAX + 1,
            -JSON_INTEGER_MAX - 1,
            10**15,
            2**63,
            2**64,
            1.0,
            -0.0,
        ]
    )
)
scalars = st.none() | st.booleans() | numbers | texts
leaves = st.fixed_dictionaries(
    {"number": st.integers(-5, 5) | numbers},
    optional={"flag": st.booleans(), "word": texts, "odd": scalars},
)
trees = st.fixed_dictionaries(
    {},
    optional={
        "leaves": st.lists(leaves, max_size=3),
        "names": st.lists(texts, max_size=3),
        "scalar": scalars,
        "attributes": st.dictionaries(texts, scalars, max_size=3),
        "choice": st.sampled_from(["a", "b", "c"]),
        "at": st.sampled_from([None, "2017-10-30T00:00:00Z", "2017-10-30", 0]),
    },
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON in one of the ways in which it can be spelt, or nearly JSON."""
    import json

    spelt = json.dumps(
        draw(trees),
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 0, 1])),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", "\t: ")])),
    ).encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        at, end = sorted(draw(st.tuples(st.integers(0, len(spelt)), st.integers(0, len(spelt)))))
        inserted = draw(st.sampled_from([b"", b"0", b"-", b".0", b"e1", b",", b" ", b'"', b"\xff"]))
        twice = spelt[at : min(end, at + 12)] if draw(st.booleans()) else b""
        spelt = spelt[:at] + inserted + twice + spelt[at:]
    return spelt


@given(bodies())
@example(b'{"scalar":1,"scalar":1}')
@example(b'{"scalar":1 ,"scalar":2}')
@example(b'{"attributes":{"a":1,"a":1}}')
@example(b'{"leaves":[{"number":1,"number":1}]}')
@example(b'{"leaves":[{"number":1.0}]}')
@example(b'{"leaves":[{"number":-0}]}')
@example(b'{"leaves":[{"number":1e0}]}')
@example(b'{"scalar":9007199254740992}')
@example(b'{"scalar":9007199254740991}')
@example(b'{"scalar":"a\\u0000"}')
@example(b'{"scalar":"\\ud800"}')
@example(b'{"scalar":"\n"}')
@example(b'{"scalar":"\xed\xa0\x80"}')
@example(b"\xef\xbb\xbf{}")
@example(b"null")
@example(b"")
def test_a_document_is_read_quickly_as_it_is_strictly(body: bytes) -> None:
    assert_equal_twins(body, Tree)


@given(
    st.recursive(scalars, lambda x: st.lists(x, max_size=3) | st.dictionaries(texts, x, max_size=3))
)
def test_any_json_is_read_as_a_cart_by_both_or_neither(value: Any) -> None:
    import json

    assert_equal_twins(json.dumps(value).encode(), Cart)


CART = (
    b'{"currency":"USD","lines":[{"id":"1","sku":"a b","price_minor":525,"brand":"caf\xc3\xa9"}]}'
)


@pytest.mark.parametrize("spaced", [False, True])
def test_an_ordinary_checkout_takes_the_quick_path(spaced: bool) -> None:
    body = b'{"order_id":"o-1","cart":%s,"at":"2017-10-30T00:00:00Z"}' % CART
    if spaced:
        body = body.replace(b":", b": ").replace(b": 00", b":00").replace(b",", b",\n  ")
    assert decode_quickly(body, CheckoutRequest) == strictly(body, CheckoutRequest)
    assert decode_quickly(b'{"cart":%s}' % CART, EvaluationRequest) is not None


class Nested(Document):
    inner: "Nested | None" = None


class Free(Document):
    anything: Any = None
    number: float = 0.5


class Keyed(Document):
    by_number: dict[int, int] = {}  # noqa: RUF012 (msgspec copies it)


@pytest.mark.parametrize("kind", [Free, Keyed, msgspec.Raw, Any])
def test_a_loose_kind_is_left_to_the_strict_parser(kind: Any) -> None:
    assert decode_quickly(b"{}", kind) is None


def test_a_document_of_a_kind_that_may_be_deep_is_read_quickly_if_it_cannot_be() -> None:
    for depth in (1, JSON_DEPTH_MAX, JSON_DEPTH_MAX + 1, 2000):
        body = b'{"inner":' * (depth - 1) + b"{}" + b"}" * (depth - 1)
        assert_equal_twins(body, Nested)
        assert (decode_quickly(body, Nested) is None) == (depth > JSON_DEPTH_MAX)


TERMS = (
    b'{"promotion_id":"p","title":"3 for 2","currency":"EUR","benefits":[{"type":"buy_get",'
    b'"buy_quantity":2,"buy":{"include":[{"skus":["b","a","b"]}]}}],"conditions":[{"type":"not",'
    b'"condition":{"type":"subtotal","max_minor":499}}],"limits":[{"uses":1000000000000}]}'
)


@pytest.mark.parametrize(
    ("old", "new", "is_quick"),
    [
        (b"", b"", True),
        (b"3 for 2", "3 für 2".encode(), True),
        (b'"max_minor":499', b'"max_minor":"499"', False),
        (b'"max_minor"', b'"max_minro"', False),
        (b'"subtotal"', b'"sum"', False),
        (b"499", b"9007199254740991", False),
        (b"499", b"9007199254740992", False),
        (b'["b","a","b"]', b"[" + b'"x",' * 999 + b'"y"]', True),
    ],
)
def test_terms_are_read_and_named_quickly_as_they_are_slowly(
    old: bytes, new: bytes, is_quick: bool
) -> None:
    body = TERMS.replace(old, new)
    assert_equal_twins(body, Terms)
    quick = decode_quickly(body, Terms)
    assert (quick is not None) is is_quick
    if quick is not None:
        assert encode_terms(quick) == rfc8785.dumps(to_builtins(quick))


@pytest.mark.parametrize(
    "change",
    [
        {"title": "\ud800"},
        {"benefits": [{"type": "custom", "name": "a", "values": {"\udfff": 1}}]},
        {"benefits": [{"type": "custom", "name": "a", "values": {"b": 2**53}}]},
    ],
)
def test_terms_without_a_canonical_form_are_refused(change: dict[str, Any]) -> None:
    """Such values come from programs only: what is parsed strictly has none."""
    terms = from_builtins({**msgspec.json.decode(TERMS), **change}, Terms)
    with pytest.raises(InvalidInputError, match="no canonical form"):
        encode_terms(terms)


def test_depth_is_counted_by_the_kind() -> None:
    """A kind of exactly the greatest depth is read quickly, one level more is not."""
    kind: Any = int
    for _ in range(JSON_DEPTH_MAX):
        kind = tuple[kind, ...]
    body = b"[" * JSON_DEPTH_MAX + b"]" * JSON_DEPTH_MAX
    assert decode_quickly(body, kind) == strictly(body, kind)
    assert decode_quickly(b"[%s]" % body, tuple[kind, ...]) is None


# --- instants -------------------------------------------------------------------------------------

instants = st.integers(-62_135_596_800_000 + 86_400_000, 253_402_300_799_999 - 86_400_000)
zones = st.sampled_from(["UTC", "America/Chicago", "Asia/Kolkata", "Africa/Monrovia", "Etc/GMT-14"])


@given(instants)
@example(-1)
@example(0)
@example(999)
@example(1_500_000_000_010)
def test_an_instant_is_written_as_datetime_writes_it(at_ms: int) -> None:
    moment = from_ms(at_ms)
    spec = "milliseconds" if moment.microsecond else "seconds"
    assert rfc3339(at_ms) == moment.isoformat(timespec=spec).replace("+00:00", "Z")


@given(instants, zones)
@example(-1, "Africa/Monrovia")
@example(1_509_253_200_000 - 1, "America/Chicago")
def test_a_day_is_the_date_of_the_instant_there(at_ms: int, zone: str) -> None:
    assert day_of(at_ms, zone) == from_ms(at_ms, zone).date()


# --- canonical bytes and signatures ---------------------------------------------------------------

values = st.recursive(
    scalars | st.sampled_from(["\ue000", "\U0001f600"]),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(texts | st.just("\U0001f600"), x),
)


@given(values)
def test_plain_values_are_written_as_the_reference_code_writes_them(value: Any) -> None:
    try:
        slow = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError):
        with pytest.raises(InvalidInputError):
            canonical(value)
        return
    assert canonical(value) == slow


def test_every_sign_below_a_thousand_is_written_alike() -> None:
    for code in range(0x1000):
        text = f"a{chr(code)}"
        assert is_plain(text)
        assert canonical(text) == rfc8785.dumps(text)


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.text(max_size=9)))
def test_a_signature_is_the_one_that_joserfc_makes(claims: dict[str, Any]) -> None:
    key = SigningKey.from_seed(b"7" * 32)
    secret = OKPKey.import_key({**key.public.jwk, "d": b64url(key.seed)})
    registry = jose.JWSRegistry(algorithms=["Ed25519"])

    def slowly(header: dict[str, Any], payload: bytes) -> str:
        return jose.serialize_compact(header, payload, secret, registry=registry)

    try:
        payload = canonical(claims)
    except InvalidInputError:
        return
    named = {"alg": "Ed25519", "kid": key.kid, "typ": "promo-receipt+jwt"}
    assert sign_compact(key, "promo-receipt+jwt", claims) == slowly(named, payload)
    carried = {"alg": "Ed25519", "jwk": key.public.jwk, "typ": "dpop+jwt"}
    assert sign_self(key, "dpop+jwt", claims) == slowly(carried, payload)
    detached = jose.detach_content(slowly({**named, "typ": "promo-terms+jws"}, payload))
    assert sign_detached(key, "promo-terms+jws", payload) == detached
