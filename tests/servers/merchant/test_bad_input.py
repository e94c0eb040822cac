"""Whatever is sent, by mistake or on purpose: a 4xx problem that says what, and nothing changes.

The tables are made from what the merchant declares, so a new endpoint is tried by itself: every
body in every broken form, every value of every example replaced by every unfit value.
"""

import copy
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from sconto.base.canonical import digest
from sconto.frames import FrameOffer, build_frame, encode_bundle
from sconto.servers.app import COMMON
from sconto.servers.endpoint import BODY_BYTES_MAX
from sconto.servers.merchant import Merchant

pytestmark = pytest.mark.anyio

ENDPOINTS = [e for e in (*COMMON, *Merchant.endpoints) if not e.is_page]
#: Batches of events need a signature: see test_events.
WITH_DOCUMENT = [e for e in ENDPOINTS if e.accepts is not None and e.scope != "peer"]

#: Bodies that are no document of any endpoint.
BROKEN = {
    "empty": b"",
    "cut off": b'{"a":',
    "no JSON": b"order=1",
    "two documents": b"{}{}",
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "unknown field": b'{"no_such_field":1}',
    "doubled key": b'{"a":1,"a":1}',
    "doubled key deep down": b'{"cart":{"lines":[{"id":"1","id":"2"}]}}',
    "NaN": b'{"a":NaN}',
    "infinity": b'{"a":-Infinity}',
    "1e400": b'{"a":1e400}',
    "a fraction": b'{"a":1.5}',
    "a huge integer": b'{"a":' + b"9" * 5000 + b"}",
    "2^53": b'{"a":9007199254740992}',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000,
    "closed deep lists": b'{"a":' + b"[" * 500 + b"]" * 500 + b"}",
    "lone surrogate": b'{"a":"\\ud800"}',
    "lone surrogate as key": b'{"\\udfff":1}',
    "NUL": b'{"a":"\\u0000"}',
    "raw NUL": b'{"a":"\x00"}',
    "not UTF-8": b'{"a":"\xff"}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "many values": b"[" + b"0," * 200_000 + b"0]",
    "10 MB": b'{"a":"' + b"x" * 10_000_000 + b'"}',
}

#: Values that fit nowhere, or almost nowhere.
UNFIT: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**53 - 1,
    "",
    "x" * 300,
    "a\nb",
    "a\n",
    "\u202e\U0001f4a9",
    "'; DROP TABLE orders; --",
    "/../",
    [],
    [[]],
    {},
    {"a": {"b": []}},
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    result = copy.deepcopy(document)
    inner = result
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return result


def path_of(endpoint: Any, **params: str) -> str:
    path = endpoint.path
    for name, value in {
        "promotion_id": "p",
        "order_id": "o",
        "client": "card-1",
        "tenant_id": "operator",
        "key_id": "K" * 26,
        "act": "pause",
        **params,
    }.items():
        path = path.replace(f"{{{name}:str}}", value).replace(f"{{{name}:path}}", value)
    return path.replace("{digest:path}", params.get("digest", "sha-256=:AAAA:"))


@pytest.fixture
async def busy(shop: Any, hub: Any, make_terms: Any, make_cart: Any) -> Any:
    """A shop in which there is something that could change."""
    await shop.post("/v1/promotions", {"terms": make_terms("p"), "launch": True})
    await shop.post("/v1/redemptions", {"order_id": "o", "cart": make_cart()})
    return shop


async def test_a_body_that_is_no_document_is_refused_everywhere(busy: Any) -> None:
    """Each broken form at each endpoint that takes a document: a problem, and no row more."""
    before = busy.rows()
    for endpoint in WITH_DOCUMENT:
        for name, body in BROKEN.items():
            where = f"{endpoint.method} {endpoint.path}: {name}"
            reply = await busy.call(endpoint.method, path_of(endpoint), content=body)
            status, code, field = reply.problem
            assert status in (400, 413), where
            if name in ("10 MB", "many values"):
                too_much = len(body) > endpoint.max_bytes or name == "many values"
                assert code == ("too_large" if too_much else "invalid_input"), where
            if name == "unknown field" and endpoint.read is None:
                names_it = (code, field) == ("invalid_input", "no_such_field")
                assert names_it or "lacks" in reply["detail"], where
            if name == "doubled key":
                assert (code, field) == ("invalid_json", "a"), where
    assert busy.rows() == before
    busy.audit()


async def test_an_unfit_value_anywhere_is_never_our_mistake(busy: Any) -> None:
    """Every value of every example replaced by every unfit one. Some still make a right document;
    the others get a problem with the place. Never a 5xx, and what was there still adds up."""
    tried = refused = 0
    for endpoint in WITH_DOCUMENT:
        if endpoint.accepts_example is None:
            continue
        for place in places(endpoint.accepts_example):
            for value in UNFIT:
                document = replaced(endpoint.accepts_example, place, value)
                reply = await busy.call(
                    endpoint.method, path_of(endpoint), content=json.dumps(document).encode()
                )
                tried += 1
                where = f"{endpoint.method} {endpoint.path} {place}={value!r}: {reply}"
                is_about_hub = reply.status == 503 and reply["code"] == "hub_unreachable"
                assert reply.status < 500 or is_about_hub, where
                if reply.status >= 400:
                    refused += 1
                    _, code, field = reply.problem
                    assert code, where
                    if code == "invalid_input" and place and reply.status == 400:
                        assert field, where
    assert tried > 500 and refused > tried // 2
    busy.audit()


async def test_an_unknown_field_anywhere_is_named(busy: Any) -> None:
    """A misspelt name is not passed over in silence, at whatever depth."""
    before = busy.rows()
    for endpoint in WITH_DOCUMENT:
        if endpoint.read is not None:
            continue
        for place in places(endpoint.accepts_example):
            inner: Any = endpoint.accepts_example
            for key in place:
                inner = inner[key]
            if not isinstance(inner, dict):
                continue
            document = replaced(endpoint.accepts_example, place, {**inner, "titel": 1})
            reply = await busy.call(endpoint.method, path_of(endpoint), document)
            status, code, field = reply.problem
            assert (status, code) == (400, "invalid_input"), (endpoint.path, place)
            assert field.endswith("titel"), (endpoint.path, place, field)
    assert busy.rows() == before


CARTS: list[tuple[dict[str, Any], str]] = [
    ({"quantity": -1}, "cart.lines[0].quantity"),
    ({"quantity": 0}, "cart.lines[0].quantity"),
    ({"quantity": True}, "cart.lines[0].quantity"),
    ({"quantity": "2"}, "cart.lines[0].quantity"),
    ({"quantity": 10**7}, "cart.lines[0].quantity"),
    ({"price_minor": -5}, "cart.lines[0].price_minor"),
    ({"price_minor": 10**15 + 1, "quantity": 1}, "cart.lines[0].price_minor"),
    ({"price_minor": None}, "cart.lines[0]"),
    ({"amount_minor": 5}, "cart.lines[0]"),
    ({"price_minor": 10**12, "quantity": 10**6}, "cart.lines[0]"),
    ({"id": ""}, "cart.lines[0].id"),
    ({"sku": 5}, "cart.lines[0].sku"),
    ({"tags": "oats"}, "cart.lines[0].tags"),
    ({"discount_minor": 5}, "cart.lines[0].discount_minor"),
]


async def test_a_cart_that_makes_no_sense_names_its_field(busy: Any, make_cart: Any) -> None:
    before = busy.rows()
    for path in ("/v1/evaluations", "/v1/reservations", "/v1/redemptions"):
        for changed, field in CARTS:
            cart = make_cart()
            cart["lines"][0] |= changed
            document = {"cart": cart, "order_id": "x"}
            reply = await busy.post(path, document)
            assert reply.problem == (400, "invalid_input", field), (path, changed)
        twice = make_cart((1, 1), (1, 1))
        twice["lines"][1]["id"] = "1"
        for cart, field in (
            (twice, "cart"),
            ({**make_cart(), "currency": "usd"}, "cart.currency"),
            ({**make_cart(), "currency": "USD\n"}, "cart.currency"),
            ({**make_cart(), "codes": [""]}, "cart.codes[0]"),
            ({**make_cart(), "codes": ["x" * 65]}, "cart.codes[0]"),
            ({**make_cart(), "codes": ["x"] * 101}, "cart.codes"),
            ({**make_cart(), "shipping": {"amount_minor": -1}}, "cart.shipping.amount_minor"),
            ({"lines": []}, "cart.currency"),
        ):
            reply = await busy.post(path, {"cart": cart, "order_id": "x"})
            assert reply.problem == (400, "invalid_input", field), (path, cart)
    for order_id in ("", "x" * 101, "a b", "a/b", "é", "a\n", "\t"):
        reply = await busy.post("/v1/redemptions", {"order_id": order_id, "cart": make_cart()})
        assert reply.problem == (400, "invalid_input", "order_id"), order_id
    assert busy.rows() == before


async def test_the_largest_cart_passes_and_the_next_larger_one_does_not(busy: Any) -> None:
    line = {"sku": "a", "price_minor": 1}
    lines = [{"id": str(i), **line} for i in range(5001)]
    cart = {"currency": "USD", "lines": lines[:5000]}
    assert (await busy.post("/v1/evaluations", {"cart": cart})).status == 200
    reply = await busy.post("/v1/evaluations", {"cart": {**cart, "lines": lines}})
    assert reply.problem == (400, "invalid_input", "cart.lines")
    assert BODY_BYTES_MAX < 9_000_000
    reply = await busy.post("/v1/evaluations", content=b" " * 9_000_000)
    assert reply.problem == (413, "too_large", "body")


STRANGE = (
    "%00",
    "%ff",
    "%ED%A0%80",
    "..",
    "a%2Fb",
    "%F0%9F%92%A9",
    "'%20OR%201=1--",
    "x" * 5000,
    "%0d%0aSet-Cookie:x",
    "{}",
    "%25",
)


async def test_strange_addresses_are_not_found(busy: Any) -> None:
    """Every path parameter with every strange value; also doubled slashes and unknown methods."""
    before = busy.rows()
    for endpoint in ENDPOINTS:
        if "{" not in endpoint.path or endpoint.path.endswith("link-codes"):
            continue
        names = [part.strip("{}").split(":")[0] for part in endpoint.path.split("/") if "{" in part]
        for name in names:
            for value in STRANGE:
                document = endpoint.accepts_example
                if endpoint.path.endswith("/versions"):
                    document = copy.deepcopy(document)
                    document["terms"]["promotion_id"] = "nothing"
                path = path_of(endpoint, **{name: value})
                reply = await busy.call(endpoint.method, path, document)
                if value == ".." and path.endswith("/code-jobs/.."):
                    continue  # the client itself makes it the address of the promotion
                assert 400 <= reply.status < 500, (endpoint.method, path, reply)
                assert reply.problem[1], path
    for method, path in (
        ("GET", "/v1"),
        ("GET", "/v1//nothing//"),
        ("POST", "/v1/orders"),
        ("DELETE", "/v1/promotions"),
        ("PATCH", "/v1/promotions/p"),
        ("OPTIONS", "/v1/promotions"),
        ("TRACE", "/healthz"),
        ("BREW", "/v1/orders/o"),
    ):
        reply = await busy.call(method, path)
        assert reply.problem[0] in (404, 405), (method, path, reply)
        assert (reply.status == 405) == ("allow" in reply.headers)
    assert busy.rows() == before


async def test_strange_queries_are_refused_or_find_nothing(busy: Any) -> None:
    before = busy.rows()
    for endpoint in ENDPOINTS:
        if endpoint.method != "GET":
            continue
        for name in [*endpoint.query, "unknown"]:
            for value in (*STRANGE, "", "-1", "9" * 5000, "&" * 100, "%"):
                path = f"{path_of(endpoint)}?{name}={value}"
                reply = await busy.get(path)
                assert reply.status < 500, (path[:100], reply)
                if reply.status >= 400:
                    assert reply.problem[1], path
    reply = await busy.get("/v1/promotions?" + "a=1&" * 3000)
    assert reply.problem == (413, "too_large", "query")
    reply = await busy.get("/v1/promotions?" + "a=1&" * 100)
    assert reply.problem == (400, "invalid_input", "query")
    assert busy.rows() == before


@pytest.fixture
def frame(shop: Any, hub: Any) -> Any:
    """A small signed frame of the shop for the hub."""
    now_s = int(time.time())
    return build_frame(
        shop.server.base.home.key,
        merchant=shop.url,
        hub=hub.url,
        not_before_s=now_s,
        expires_s=now_s + 3600,
        sequence=7,
        offers=[FrameOffer(id="o1", promotion_id="p", terms_digest=digest(b"terms"))],
        files={"index.html": b"<p>Milk</p>"},
    )


async def test_a_frame_is_kept_and_sent_to_its_hub(
    shop: Any, hub: Any, network: Any, frame: Any
) -> None:
    """Also when the hub is away: then it is kept, and publishing again is the remedy."""
    import httpx

    body = encode_bundle(frame)
    away = await shop.post("/v1/frames", content=body)
    assert away.problem[:2] == (503, "hub_unreachable")
    assert int(away.headers["retry-after"]) > 0
    assert shop.rows()["frames"] == 1

    async def accept(request: httpx.Request) -> httpx.Response:
        assert request.method == "PUT" and request.content == body
        return httpx.Response(201, json={"gallery_url": f"{hub.url}/frames"})

    network.servers[hub.url] = accept
    reply = await shop.post("/v1/frames", content=body)
    assert (reply.status, reply["frame_id"], reply["sequence"]) == (201, frame.frame_id, 7)
    assert shop.rows()["frames"] == 1

    async def refuse(request: httpx.Request) -> httpx.Response:
        problem = {"code": "gone", "detail": "no", "field": "frame_id", "status": 410}
        return httpx.Response(410, json=problem)

    network.servers[hub.url] = refuse
    refused = await shop.post("/v1/frames", content=body)
    assert refused.problem == (409, "hub_refused", "frame_id")


async def test_a_frame_that_is_not_right_is_refused(
    shop: Any, hub: Any, network: Any, frame: Any
) -> None:
    """Truncated, changed, of another merchant, for a stranger, with a taken sequence."""
    body = encode_bundle(frame)
    bundle = json.loads(body)
    now_s = int(time.time())

    def other(**changed: Any) -> bytes:
        values = {
            "merchant": shop.url,
            "hub": hub.url,
            "not_before_s": now_s,
            "expires_s": now_s + 60,
            "sequence": 7,
            "offers": [FrameOffer(id="o1", promotion_id="p", terms_digest=digest(b"t"))],
            "files": {"index.html": b"<p>Other</p>"},
        }
        key = changed.pop("key", shop.server.base.home.key)
        return encode_bundle(build_frame(key, **{**values, **changed}))

    await shop.post("/v1/frames", content=body)
    sent = len(network.requests)
    before = shop.rows()
    for content, status, code in (
        (b"", 400, "invalid_json"),
        (body[: len(body) // 2], 400, "invalid_json"),
        (b"{}", 400, "malformed"),
        (b" " * 13_000_000, 413, "too_large"),
        (json.dumps({**bundle, "extra": 1}).encode(), 400, "malformed"),
        (json.dumps({**bundle, "resources": {}}).encode(), 400, "resource_missing"),
        (json.dumps({**bundle, "resources": {"/index.html": "PA=="}}).encode(), 400, None),
        (json.dumps({**bundle, "signature": "a..b"}).encode(), 400, None),
        (json.dumps(replaced(bundle, ("manifest", "seq"), 8)).encode(), 422, "signature_invalid"),
        (json.dumps(replaced(bundle, ("manifest", "aud"), 8)).encode(), 400, None),
        (json.dumps(replaced(bundle, ("manifest", "nbf"), 2**53 - 1)).encode(), 422, None),
        (json.dumps(replaced(bundle, ("manifest", "nbf"), True)).encode(), 400, None),
        (other(merchant="https://other.example"), 400, "issuer_mismatch"),
        (other(key=hub.key), 422, "key_not_found"),
        (other(hub="https://stranger.example"), 403, "peer_not_trusted"),
        (other(), 409, "sequence_too_low"),
        (other(sequence=3), 409, "sequence_too_low"),
    ):
        reply = await shop.post("/v1/frames", content=content)
        assert 400 <= reply.problem[0] < 500, reply
        if code:
            assert reply.problem[:2] == (status, code), reply
    withdrawal = {"hub": "https://stranger.example", "frame_id": frame.frame_id, "sequence": 9}
    reply = await shop.post("/v1/frames/withdrawals", withdrawal)
    assert reply.problem[:2] == (403, "peer_not_trusted"), "nothing is signed for a stranger"
    assert shop.rows() == before
    assert len(network.requests) == sent


async def test_names_in_addresses_are_quoted_right(busy: Any, make_cart: Any) -> None:
    """Every order id that is accepted can be asked for."""
    for order_id in ("a?b", "a#b", "a%2Fb", "a&b=c", '"', "..", "o+o", "~!@$^*()"):
        made = await busy.post("/v1/redemptions", {"order_id": order_id, "cart": make_cart()})
        assert made.status == 201, order_id
        shown = await busy.get(f"/v1/orders/{quote(order_id, safe='')}")
        if order_id != "..":  # a client resolves dots before it sends them
            assert shown.status == 200 and shown["order_id"] == order_id, order_id


async def test_pages_are_not_broken_either(busy: Any) -> None:
    """Pages for people: strange addresses, queries, forms and cookies make a page that says so."""
    pages = [e for e in (*COMMON, *Merchant.endpoints) if e.is_page]
    bodies = [body for body in BROKEN.values() if len(body) < 1000]
    before = busy.rows()
    for page in pages:
        paths = [path_of(page, name=value) for value in STRANGE if "{" in page.path]
        paths += [f"{path_of(page, name='x')}?next={value}&limit={value}" for value in STRANGE]
        for path in paths:
            reply = await busy.call(page.method, path)
            assert reply.status < 500, (page.method, path[:80], reply)
        for body in bodies if page.method == "POST" else ():
            reply = await busy.call(page.method, path_of(page), content=body)
            assert reply.status < 500, (page.path, body, reply)
        for cookie in ("x", "a.b", "é", ""):
            headers = {"Cookie": f"{busy.server.base.pages.cookie}={cookie}".encode()}
            reply = await busy.call(page.method, path_of(page), key=None, headers=headers)
            assert reply.status < 500, (page.method, page.path, reply)
    assert busy.rows() == before
