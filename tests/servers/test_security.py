"""Guesses, errors that repeat what came in, and browsers: what strangers can do to a server.

Shown at a merchant; the code is the same for all three. Who may see what is in wallet/test_tenants.
"""

import re
import secrets
import time
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

import httpx
import pytest

from sconto.base.canonical import b64url
from sconto.base.ids import handle_from
from sconto.base.keys import SigningKey, sign_compact
from sconto.frames import BUNDLE_BYTES_MAX
from sconto.servers.app import COMMON
from sconto.servers.limits import Guesses
from sconto.servers.merchant import Merchant
from sconto.servers.problems import PROBLEM_BYTES_MAX, plain

pytestmark = pytest.mark.anyio

FORM = "application/x-www-form-urlencoded"
SHOP = "https://shop.example"


@pytest.fixture
def database_url(sqlite_database: str) -> str:
    return sqlite_database


def few() -> Guesses:
    return Guesses("guesses", burst=5, every_ms=60_000, burst_all=8, every_all_ms=60_000)


async def from_address(
    shop: Any, address: str, method: str, path: str, key: str, **headers: str
) -> httpx.Response:
    """A request over a connection from this address."""
    transport = httpx.ASGITransport(app=shop.http._transport.app, client=(address, 4711))
    async with httpx.AsyncClient(transport=transport, base_url=shop.url) as http:
        sent = {"Authorization": f"Bearer {key}", **headers}
        return await http.request(method, path, headers=sent)


# --- guesses --------------------------------------------------------------------------------------


async def test_wrong_keys_are_limited_and_the_right_one_is_not(shop: Any) -> None:
    """Goal: guessing is slow, and locks nobody out. Method: the right key between the guesses."""
    shop.server.base.key_guesses = few()
    wrong = f"sconto_{'0' * 26}_{'A' * 43}"
    for number in range(20):
        guess = await from_address(shop, "192.0.2.7", "GET", "/v1/promotions", wrong)
        assert guess.status_code == (401 if number < 5 else 429)
        right = await from_address(shop, "192.0.2.7", "GET", "/v1/promotions", shop.key)
        assert right.status_code == 200
    assert guess.json()["code"] == "rate_limited"
    assert 1 <= int(guess.headers["retry-after"]) <= 60
    assert guess.json()["retry_after_s"] == int(guess.headers["retry-after"])


async def test_another_address_has_guesses_of_its_own_until_all_are_too_many(shop: Any) -> None:
    """8 by everybody together, of which 5 by one; a header does not make another address."""
    shop.server.base.key_guesses = few()
    seen = []
    for address in ("192.0.2.7", "192.0.2.8", "192.0.2.9"):
        for number in range(10):
            forged = {"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=10.0.0.{number}"}
            guess = await from_address(shop, address, "GET", "/v1/promotions", "x", **forged)
            seen.append(guess.status_code)
    assert seen[:10] == [401] * 5 + [429] * 5
    assert seen[10:20] == [401] * 3 + [429] * 7
    assert seen[20:] == [429] * 10
    assert (await from_address(shop, "192.0.2.9", "GET", "/v1/promotions", shop.key)).is_success


async def test_a_request_without_a_key_is_no_guess(shop: Any) -> None:
    shop.server.base.key_guesses = few()
    for _ in range(20):
        assert (await shop.get("/v1/promotions", key=None)).status == 401


async def test_guessing_at_the_sign_in_page_is_limited_too(shop: Any) -> None:
    """The page is limited together with the API; the right key signs in all the same."""
    shop.server.base.key_guesses = few()
    headers = {"Content-Type": FORM, "Origin": SHOP}

    async def sign_in(key: str) -> Any:
        return await shop.call(
            "POST",
            "/login",
            content=urlencode({"api_key": key}).encode(),
            headers=headers,
            key=None,
        )

    assert [(await sign_in(f"guess-{n}")).status for n in range(8)] == [401] * 5 + [429] * 3
    limited = await sign_in("guess")
    assert limited.media_type.startswith("text/html")
    assert int(limited.headers["retry-after"]) >= 1
    assert (await shop.get("/v1/promotions", key="x")).status == 429
    assert (await sign_in(shop.key)).status == 303


async def test_unknown_codes_are_limited_and_known_ones_are_not(
    shop: Any, hub: Any, holder: Any, make_terms: Any, make_cart: Any
) -> None:
    """pain 53, gift card plugin #297: Goal: handles cannot be tried out in a cart. Method: guesses
    one by one and many in one cart; public codes, handles and used up handles go through all the
    while."""
    guesser = shop.make_key("guesser", "evaluate", "checkout", kind="merchant")
    till = shop.make_key("till", "evaluate", "checkout", kind="merchant")
    code = make_terms("c", access={"type": "code", "code": "SAVE10"})
    assert (await shop.post("/v1/promotions", {"terms": code, "launch": True})).status == 201
    terms = make_terms("p", access={"type": "token"})
    await hub.offer(shop, terms, uses=10)
    token = hub.issue(shop, terms, holder)
    await hub.send(shop, hub.issued(token))
    used = hub.issue(shop, terms, holder)
    await hub.send(shop, hub.issued(used))
    first = {"order_id": "first", "cart": make_cart(codes=(used.handle,))}
    assert (await shop.post("/v1/redemptions", first)).status == 201
    shop.server.code_guesses = few()

    async def evaluate(*codes: str, key: str = guesser) -> Any:
        return await shop.post("/v1/evaluations", {"cart": make_cart(codes=codes)}, key=key)

    def guess() -> str:
        return handle_from(secrets.randbits(75))

    async def known() -> None:
        for key in (guesser, till):
            for codes in (("save-10",), (token.handle,), (used.handle,), (), ("SAVE10", "save 10")):
                assert (await evaluate(*codes, key=key)).status == 200

    assert (await evaluate(guess(), guess(), "NO-SUCH")).status == 200
    assert (await evaluate(guess(), guess(), guess())).problem == (
        429,
        "rate_limited",
        "cart.codes",
    )
    assert [(await evaluate(guess())).status for _ in range(4)] == [200, 200, 429, 429]
    await known()
    before = shop.rows()
    order = {"order_id": "o", "cart": make_cart(codes=(guess(),))}
    for path in ("/v1/redemptions", "/v1/reservations"):
        refused = await shop.post(path, order, key=guesser)
        assert refused.problem == (429, "rate_limited", "cart.codes")
        assert int(refused.headers["retry-after"]) >= 1
    looked_up = await shop.get(f"/v1/coupon-information?handle={guess()}", key=guesser)
    assert looked_up.problem == (429, "rate_limited", "handle")
    assert shop.rows() == before
    assert [(await evaluate(guess(), key=till)).status for _ in range(5)] == [200] * 3 + [429] * 2
    await known()
    assert (
        await shop.get(f"/v1/coupon-information?handle={token.handle}", key=guesser)
    ).status == 200
    good = {"order_id": "o", "cart": make_cart(codes=(token.handle,))}
    made = await shop.post("/v1/redemptions", good, key=guesser)
    assert made.status == 201 and made["discount_minor"] > 0
    again = await shop.post("/v1/redemptions", good, key=guesser)
    assert again.content == made.content


async def test_a_repeated_order_is_answered_whatever_its_codes_are(
    shop: Any, make_cart: Any
) -> None:
    """Goal: a retry after a lost reply is never limited."""
    order = {"order_id": "o", "cart": make_cart(codes=("NO-SUCH",))}
    made = await shop.post("/v1/redemptions", order)
    assert made.status == 201
    shop.server.code_guesses = Guesses(
        "codes", burst=0, every_ms=60_000, burst_all=0, every_all_ms=60_000
    )
    assert (await shop.post("/v1/redemptions", order)).content == made.content
    assert (await shop.post("/v1/redemptions", {**order, "order_id": "p"})).status == 429


# --- errors repeat little, and no secret ----------------------------------------------------------

KEY = SigningKey.from_seed(bytes(32))
JWS = sign_compact(KEY, "promo-token+jwt", {"sub": "c" * 40, "iat": int(time.time())})
API_KEY = f"sconto_01JDE3X1J1Z9T1S4W0B3H2M5QK_{b64url(bytes(range(32)))}"
CODE = f"01JDE3X1J1Z9T1S4W0B3H2M5QK.{b64url(bytes(range(32, 64)))}"
#: The parts that must not be seen, by what was sent.
CANARIES = {
    API_KEY: API_KEY.rpartition("_")[2][:20],
    JWS: JWS.split(".")[1][:20],
    CODE: CODE.partition(".")[2][:20],
}
ODD = (
    "x" * 200_000,
    "\u202e\x07\x1b[31mred\r\n\t" * 50,
    "\U0001f4a9" * 50_000,
    '"\\' * 50_000,
    "` - at `$." * 20_000,
    "{}%s${jndi:x}<script>alert(1)</script>",
    *CANARIES,
)  # fmt: skip


def check(reply: Any, where: object) -> None:
    """The answer to something wrong: small, printable, and without what must not be repeated."""
    assert 400 <= reply.status < 500, (where, reply)
    assert len(reply.content) < PROBLEM_BYTES_MAX or "html" in reply.media_type, (where, reply)
    text = reply.content.decode()
    for canary in CANARIES.values():
        assert canary not in text, (where, reply)
    if reply.json is not None:
        for value in reply.json.values():
            if isinstance(value, str):
                assert value.isprintable(), (where, value)


async def test_a_problem_repeats_little_of_what_came_in(shop: Any) -> None:
    """Odd names and values, in the body, the query, the path and the headers, to every endpoint."""
    tried = 0
    for endpoint in [*COMMON, *Merchant.endpoints]:
        for odd in ODD:
            documents: list[Any] = [{odd: 1}, [odd], odd, {"cart": {odd: odd}}]
            if isinstance(endpoint.accepts_example, dict):
                example = endpoint.accepts_example
                documents += [{**example, odd: 1}]
                documents += [{**example, name: odd} for name in example]
                documents += [{**example, name: {odd: odd}} for name in example]
            if endpoint.method == "GET" or endpoint.is_page:
                continue
            path = endpoint.path
            for name in ("promotion_id", "order_id", "client", "tenant_id", "key_id", "act"):
                path = path.replace(f"{{{name}:str}}", "x")
            for document in documents:
                reply = await shop.post(path, document)
                if reply.status < 400:  # an odd text may be a fine label
                    continue
                check(reply, (path, str(document)[:80]))
                tried += 1
    assert tried > 200


@pytest.mark.parametrize("odd", [odd[:3000] for odd in ODD])
async def test_addresses_queries_and_headers_are_not_repeated_either(shop: Any, odd: str) -> None:
    text = quote(odd, safe="")
    for path in (
        f"/{text}",
        f"/v1/{text}",
        f"/v1/promotions/{text}",
        f"/v1/orders/{text}",
        f"/v1/tenants/{text}/keys",
        f"/v1/terms/{text}",
        f"/v1/promotions?limit={text}",
        f"/v1/promotions?{text}=%00",
        f"/v1/statistics?by={text}",
        f"/v1/statistics?promotion_id={text}",
        f"/v1/coupon-information?handle={text}",
    ):
        reply = await shop.get(path)
        if reply.status != 200:
            check(reply, path[:60])
    header = odd.encode("ascii", "replace").decode().replace("\r", "").replace("\n", "")
    header = "".join(c if " " <= c <= "~" else "?" for c in header)
    for name in ("Authorization", "Cookie", "Signature", "Signature-Input", "UCP-Agent", "Origin"):
        sent = {name: f"Bearer {header}" if name == "Authorization" else header}
        check(await shop.call("POST", "/v1/promotions", {}, key=None, headers=sent), name)
    long = await shop.post("/v1/promotions", {}, headers={"Idempotency-Key": header * 3})
    check(long, "Idempotency-Key")


@pytest.mark.parametrize(
    "text", [API_KEY, JWS, JWS[:40], CODE, f"no {JWS!r}.", f"{API_KEY},{JWS}", f"x{'y' * 700}{JWS}"]
)
def test_secrets_are_left_out_of_any_text(text: str) -> None:
    shown = plain(text, 800)
    assert "(left out)" in shown or len(shown.encode()) >= 790
    for canary in CANARIES.values():
        assert canary not in shown


def test_what_is_no_secret_stays() -> None:
    for text in (
        "there is no promotion oaty-10",
        "the sequence 7 is taken; the last one was 7",
        "https://hub.example answered 503: away",
        "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
        "ni:///sha-256;47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        "there is no token 01JDE3X1J1Z9T1S4W0B3H2M5QK",
        "Käse für 3 €",
    ):
        assert plain(text, 800) == text


async def test_a_bundle_is_bounded_as_the_hub_bounds_it(shop: Any) -> None:
    """A merchant takes no frame that its hub would not read."""
    largest = await shop.call("POST", "/v1/frames", content=b"x" * BUNDLE_BYTES_MAX)
    assert largest.problem[0] == 400
    larger = await shop.call("POST", "/v1/frames", content=b"x" * (BUNDLE_BYTES_MAX + 1))
    assert larger.problem == (413, "too_large", "body")
    assert larger["limit_bytes"] == BUNDLE_BYTES_MAX


# --- browsers -------------------------------------------------------------------------------------


async def sign_in(shop: Any, target: str = "/", origin: str | None = SHOP) -> Any:
    headers = {"Content-Type": FORM} | ({} if origin is None else {"Origin": origin})
    form = urlencode({"api_key": shop.key, "next": target}).encode()
    return await shop.call("POST", "/login", content=form, headers=headers, key=None)


async def test_the_cookie_is_for_this_server_and_its_pages_only(shop: Any, hub: Any) -> None:
    done = await sign_in(shop)
    assert done.status == 303
    (cookie,) = done.headers.get_list("set-cookie")
    name, _, rest = cookie.partition("=")
    value, *flags = rest.split("; ")
    assert name.startswith("__Host-sconto_session_")
    assert {"HttpOnly", "SameSite=Lax", "Secure", "Path=/", "Max-Age=43200"} == set(flags)
    assert shop.key.split("_", 2)[2] not in cookie
    page = await shop.get("/orders", key=None, headers={"Cookie": f"{name}={value}"})
    assert page.status == 200
    other = await shop.get("/orders", key=None, headers={"Cookie": f"{name}x={value}"})
    assert other.status == 303
    assert "no-store" in done.headers["cache-control"]


async def test_without_https_the_cookie_has_a_name_that_browsers_take(
    tmp_path: Any, sqlite_database: str, clock: Any, network: Any
) -> None:
    """`__Host-` and Secure need https; on this machine there is none."""
    from tests.servers.conftest import run_merchant

    async with run_merchant(
        tmp_path / "s", "http://127.0.0.1:8001", sqlite_database, clock
    ) as plain_shop:
        done = await sign_in(plain_shop, origin="http://127.0.0.1:8001")
        (cookie,) = done.headers.get_list("set-cookie")
        assert cookie.startswith("sconto_session_")
        assert "Secure" not in cookie and "HttpOnly" in cookie


async def test_a_form_of_another_site_does_nothing(shop: Any) -> None:
    """No origin, another one, or one that looks alike: 403, with the cookie and before it."""
    done = await sign_in(shop)
    cookie = done.headers["set-cookie"].partition(";")[0]
    strange = (
        None, "null", "", "https://evil.example", "http://shop.example", f"{SHOP}.evil.example",
        f"{SHOP}:8443", f"{SHOP}/", SHOP.upper(), f"{SHOP}, {SHOP}", "https://x@shop.example",
    )  # fmt: skip
    before = shop.rows()
    for origin in strange:
        assert (await sign_in(shop, origin=origin)).status == 403, origin
        headers = {"Cookie": cookie} | ({} if origin is None else {"Origin": origin})
        for path in ("/checkout", "/logout"):
            form = await shop.call(
                "POST", path, content=b"act=redeem", headers={**headers, "Content-Type": FORM},
                key=None,
            )  # fmt: skip
            assert form.status == 403, (origin, path)
        for method, path in (("POST", "/v1/promotions"), ("DELETE", "/v1/tenants/x/keys/y")):
            reply = await shop.call(method, path, {}, headers=headers, key=None)
            assert reply.problem == (403, "cross_site", "Origin"), (origin, path)
    assert shop.rows() == before
    assert (await shop.get("/v1/promotions", key=None, headers={"Cookie": cookie})).status == 200


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example",
        "/\t/evil.example",
        "https://evil.example/", "https:evil.example", "javascript:alert(1)", "/\n/evil.example",
        " //evil.example", "/ /evil.example", "//[", "//evil.example/%2f..", "", "evil.example",
        "/x\\..\\..\\evil.example", "/\x00", "/é", "/x\r\nset-cookie: a=b", "/\u2028/evil.example",
        "data:text/html,x", "//shop.example@evil.example/", "?x", "#x", "/" + "\ud7ff" * 10,
    ],
)  # fmt: skip
async def test_signing_in_leads_nowhere_else(shop: Any, target: str) -> None:
    page = await shop.get(f"/login?next={quote(target, safe='')}", key=None)
    assert page.status in (200, 400)
    done = await sign_in(shop, target)
    assert done.status in (303, 400), done
    if done.status == 303:
        there = urlsplit(urljoin(f"{SHOP}/login", done.headers["location"]))
        assert (there.scheme, there.netloc) == ("https", "shop.example")
        assert done.headers["location"] == "/"
        assert len(done.headers.get_list("set-cookie")) == 1


@pytest.mark.parametrize("target", ["/", "/orders", "/checkout?x=1&y=%2F%2Fevil", "/tokens#01J"])
async def test_signing_in_leads_back_to_where_it_was_needed(shop: Any, target: str) -> None:
    assert (await sign_in(shop, target)).headers["location"] == target


async def test_a_browser_finds_the_style_and_the_icon_of_a_page(shop: Any) -> None:
    """Else each page would leave an error in the browser's console."""
    page = (await shop.get("/login", key=None)).content.decode()
    linked = re.findall(r'<link rel="(\w+)" href="([^"]+)">', page)
    types = {}
    for rel, path in linked:
        reply = await shop.get(path, key=None)
        types[rel] = (reply.status, reply.media_type.partition(";")[0])
    assert types == {"stylesheet": (200, "text/css"), "icon": (200, "image/svg+xml")}


async def test_every_page_has_the_headers_that_keep_it_safe(shop: Any) -> None:
    """Signed in and not, errors and forms too."""
    cookie = (await sign_in(shop)).headers["set-cookie"].partition(";")[0]
    for path in ("/", "/login", "/checkout", "/orders", "/schema", "/orders?limit=x"):
        for headers in ({}, {"Cookie": cookie}):
            page = await shop.get(path, key=None, headers={**headers, "Accept": "text/html"})
            assert page.headers["x-content-type-options"] == "nosniff"
            assert page.headers["referrer-policy"] == "same-origin"
            if page.status == 303:
                assert page.headers["location"].startswith("/login?next=")
                continue
            policy = dict(
                part.strip().partition(" ")[::2]
                for part in page.headers["content-security-policy"].split(";")
            )
            assert policy["default-src"] == policy["base-uri"] == "'none'"
            assert policy["frame-ancestors"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
            assert "unsafe" not in page.headers["content-security-policy"]
            assert page.headers["cross-origin-opener-policy"] == "same-origin"
            assert page.headers["cross-origin-resource-policy"] == "same-origin"
            assert page.headers["cache-control"] == "no-store"
