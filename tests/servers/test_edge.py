"""The edge that every server has: who asks, what is answered, what goes wrong and how it is said.

Shown at a merchant; the code is the same for all three.
"""

import time
from typing import Any

import pytest

from sconto.base.errors import ScontoError
from sconto.base.keys import SigningKey
from sconto.servers import problems
from sconto.servers.endpoint import BODY_BYTES_MAX, DRAIN_BYTES_MAX, read_body
from sconto.servers.principal import SCOPES, KeyRing, make_session, session_key_id

pytestmark = pytest.mark.anyio


async def test_an_api_key_says_who_asks(shop: Any) -> None:
    """No key, a wrong one, half of one, another scheme: 401 in the same words, and nothing told."""
    key_id, secret = shop.key.split("_")[1], shop.key.split("_", 2)[2]
    said = set()
    for text in (
        "Bearer ",
        "Bearer x",
        f"Bearer sconto_{key_id}",
        f"Bearer sconto_{key_id}_",
        f"Bearer sconto_{key_id}_{secret[:-1]}",
        f"Bearer sconto_{key_id}_{secret}x",
        f"Bearer sconto_{'0' * 26}_{secret}",
        f"Bearer {shop.key.upper()}",
        f"bearer x{shop.key}",
        "Bearer sconto_" + "\x00" * 26 + "_x",
        "Bearer " + "x" * 5000,
    ):
        reply = await shop.get("/v1/promotions", key=None, headers={"Authorization": text})
        assert reply.problem == (401, "not_authenticated", "Authorization"), text
        assert reply.headers["www-authenticate"] == "Bearer"
        said.add(reply.content)
    assert len(said) == 1
    basic = await shop.get("/v1/promotions", key=None, headers={"Authorization": "Basic eDp5"})
    assert basic.problem == (401, "not_authenticated", "Authorization")
    nobody = await shop.get("/v1/promotions", key=None)
    assert nobody.problem == (401, "not_authenticated", "Authorization")
    assert (await shop.get("/v1/promotions")).status == 200


async def test_keys_are_made_shown_once_and_revoked(shop: Any) -> None:
    """A tenant makes keys for itself, with what it may do itself and nothing more."""
    await shop.post("/v1/tenants", {"tenant_id": "oaty", "kind": "brand", "name": "Oaty"})
    path = "/v1/tenants/oaty/keys"
    made = await shop.post(path, {"scopes": ["promotions:read", "promotions:write"], "label": "a"})
    assert made.status == 201
    mine = made["api_key"]
    assert (await shop.get("/v1/promotions", key=mine)).status == 200
    less = await shop.post(path, {"scopes": ["promotions:read"]}, key=mine)
    assert less.status == 201
    more = await shop.post(path, {"scopes": ["checkout"]}, key=mine)
    assert (more.problem, more["scope"]) == ((403, "forbidden", "Authorization"), "checkout")
    unknown = await shop.post(path, {"scopes": ["promotions:read", "everything"]})
    assert unknown.problem == (400, "invalid_input", "scopes[1]")
    assert (await shop.post(path, {"scopes": []})).problem == (400, "invalid_input", "scopes")
    for foreign in ("operator", "nobody"):
        reply = await shop.post(
            f"/v1/tenants/{foreign}/keys", {"scopes": ["promotions:read"]}, key=mine
        )
        assert reply.problem == (404, "not_found", "tenant_id")
    listed = await shop.get(path, key=mine)
    assert [one["is_revoked"] for one in listed["keys"]] == [False, False]
    assert mine.split("_", 2)[2] not in listed.content.decode()
    shop.store.write_now(lambda tx: None)
    with shop.store.read() as connection:
        assert mine.split("_", 2)[2].encode() not in b"".join(
            bytes(str(row), "utf-8")
            for row in connection.exec_driver_sql("SELECT * FROM api_keys").all()
        )
    gone = await shop.call("DELETE", f"{path}/{made['key_id']}", key=mine)
    assert gone.status == 204
    dead = await shop.get("/v1/promotions", key=mine)
    assert dead.problem == (401, "not_authenticated", "Authorization")
    assert (await shop.call("DELETE", f"{path}/{made['key_id']}")).status == 204
    missing = await shop.call("DELETE", f"{path}/{'0' * 26}")
    assert missing.problem == (404, "not_found", "key_id")


async def test_tenants_are_added_once(shop: Any) -> None:
    new = {"tenant_id": "oaty", "kind": "brand", "name": "Oaty"}
    assert (await shop.post("/v1/tenants", new)).status == 201
    assert (await shop.post("/v1/tenants", new)).json == new
    before = shop.rows()
    for changed, problem in (
        ({"kind": "merchant"}, (409, "conflict", "tenant_id")),
        ({"name": "Other"}, (409, "exists_with_different_name", "name")),
        ({"tenant_id": "Oaty"}, (400, "invalid_input", "tenant_id")),
        ({"tenant_id": "oaty\n"}, (400, "invalid_input", "tenant_id")),
        ({"kind": "king"}, (400, "invalid_input", "kind")),
        ({"kind": "brand\n"}, (400, "invalid_input", "kind")),
        ({"name": ""}, (400, "invalid_input", "name")),
    ):
        assert (await shop.post("/v1/tenants", {**new, **changed})).problem == problem, changed
    assert shop.rows() == before
    page = await shop.get("/v1/tenants?limit=1")
    assert (page["tenants"], page["next"]) == ([new], "oaty")


async def test_a_role_can_do_what_its_scopes_say(shop: Any) -> None:
    """Goal: no endpoint without its check. Method: every endpoint with a key of every other scope,
    and without any key; what answers is what is declared to be for everybody."""
    server = shop.server
    keys = {scope: shop.make_key("somebody", scope) for scope in SCOPES}
    for endpoint in server.endpoints:
        path = endpoint.path
        for name in ("promotion_id", "order_id", "client", "tenant_id", "key_id", "act", "name"):
            path = path.replace(f"{{{name}:str}}", "x")
        path = path.replace("{digest:path}", "x")
        nobody = await shop.call(endpoint.method, path, key=None)
        if endpoint.scope and not endpoint.is_page:
            assert nobody.problem[0] == 401, (endpoint.method, path)
        for scope, key in keys.items():
            if endpoint.scope in ("", "any", scope) or scope == "admin":
                continue
            reply = await shop.call(endpoint.method, path, key=key)
            if endpoint.is_page:
                assert reply.status in (403, 303, 401), (endpoint.method, path, scope, reply)
            elif endpoint.scope == "peer":
                assert reply.problem[:2] == (401, "signature_missing")
            else:
                assert reply.problem == (403, "forbidden", "Authorization"), (path, scope)
                assert reply["scope"] == endpoint.scope


async def test_peers_are_registered_by_the_operator(shop: Any, network: Any, make_hub: Any) -> None:
    """A peer's keys come from its profile; one that is away now is asked later; nonsense is not
    called at all."""
    import httpx

    hub = make_hub()
    new = {"url": hub.url, "kind": "hub", "tenant_id": "the-hub"}
    away = await shop.post("/v1/peers", new)
    assert (away.status, away.json.get("has_keys", False)) == (201, False)
    assert "cannot be reached" in away["failure"]

    async def profile(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/.well-known/ucp"
        return httpx.Response(200, json={"keys": [{**hub.key.public.jwk, "kid": hub.key.kid}]})

    network.servers[hub.url] = profile
    assert (await shop.post("/v1/peers", new))["has_keys"]
    assert (await hub.send(shop)).status == 200
    sent = len(network.requests)
    before = shop.rows()
    for url in (
        "http://hub.example",
        "ftp://hub.example",
        "https://hub.example/path",
        "https://user@hub.example",
        "https://hub.example?x=1",
        "https://[",
        "https://hub.example:port",
        "https://hub.example:99999",
        "https://hub example",
        "https://h\u00fcb.example",
        "//hub.example",
        "",
        "https://",
    ):
        reply = await shop.post("/v1/peers", {**new, "url": url})
        assert reply.problem == (400, "invalid_input", "url"), url
    scoped = await shop.post("/v1/peers", {**new, "scopes": ["all"]})
    assert scoped.problem == (400, "invalid_input", "scopes[0]")
    assert shop.rows() == before
    assert len(network.requests) == sent
    listed = (await shop.get("/v1/peers"))["peers"]
    assert [(one["url"], one["has_keys"]) for one in listed] == [(hub.url, True)]


async def test_a_new_key_of_a_peer_is_found_in_its_profile(
    shop: Any, hub: Any, network: Any
) -> None:
    """A signature by an unknown key makes us look at the profile once a minute, not each time."""
    import httpx

    new_key = SigningKey.from_seed(b"n" * 32)
    jwks = [{**key.public.jwk, "kid": key.kid} for key in (new_key, hub.key)]

    async def profile(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"keys": jwks})

    network.servers[hub.url] = profile
    assert (await hub.send(shop, key=new_key)).status == 200
    stranger = SigningKey.from_seed(b"x" * 32)
    for _ in range(5):
        reply = await hub.send(shop, key=stranger)
        assert reply.problem[:2] == (401, "key_not_found")
    assert len(network.requests) == 1


async def test_the_content_type_must_be_right_where_it_is_said(shop: Any) -> None:
    body = b'{"tenant_id":"oaty","kind":"brand","name":"Oaty"}'
    for stated, is_right in (
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=x", False),
        ("", False),
    ):
        reply = await shop.post("/v1/tenants", content=body, headers={"Content-Type": stated})
        if is_right:
            assert reply.status == 201, stated
        else:
            assert reply.problem == (415, "unsupported_media_type", "Content-Type"), stated


async def test_every_answer_is_safe_to_show(shop: Any) -> None:
    """No sniffing, no caching, no referrer to others; a HEAD has its GET's headers and no body."""
    for path in ("/healthz", "/v1/promotions", "/nowhere", "/schema"):
        reply = await shop.get(path)
        if path == "/nowhere":
            assert reply.problem == (404, "not_found", None)
            continue
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "same-origin"
        assert reply.headers["cache-control"] == "no-store"
        head = await shop.call("HEAD", path)
        assert (head.status, head.content) == (reply.status, b"")
        assert head.headers["content-length"] == reply.headers["content-length"]
    not_allowed = await shop.call("DELETE", "/healthz")
    assert not_allowed.problem == (405, "method_not_allowed", None)
    assert not_allowed.headers["allow"] == "GET"


async def test_health_and_readiness(shop: Any) -> None:
    """Alive as long as the process answers; ready as long as the datastore does."""
    assert (await shop.get("/healthz", key=None)).json == {"status": "alive"}
    ready = await shop.get("/readyz", key=None)
    assert (ready.status, ready["status"], ready["kind"]) == (200, "ready", "merchant")
    assert (await shop.get("/v1/promotions")).status == 200
    await shop.server.stop()
    late = await shop.post("/v1/tenants", {"tenant_id": "t", "kind": "brand", "name": "T"})
    assert late.problem[:2] == (503, "shutting_down")
    assert late.headers["retry-after"] == "1"


async def test_our_own_mistake_is_a_problem_that_tells_nothing(
    shop: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A 500 says that it was us, keeps the trace for the log, and changes nothing."""
    from sconto.store import access

    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("a secret of the database")

    monkeypatch.setattr(access, "add_tenant", broken)
    before = shop.rows()
    reply = await shop.post("/v1/tenants", {"tenant_id": "t", "kind": "brand", "name": "T"})
    assert reply.problem == (500, "internal_error", None)
    assert b"secret" not in reply.content
    assert "a secret of the database" in caplog.text
    assert shop.rows() == before


# --- the body -------------------------------------------------------------------------------------


def chunks(*parts: bytes, end: bool = True) -> Any:
    """What ASGI's `receive` gives for a body in parts."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append(
        {"type": "http.request", "body": b"", "more_body": False}
        if end
        else {"type": "http.disconnect"}
    )
    waiting = iter(messages)

    async def receive() -> Any:
        return next(waiting)

    return receive


async def test_a_body_comes_in_parts() -> None:
    scope: Any = {"type": "http"}
    assert await read_body(scope, chunks(b"a", b"", b"bc"), 3) == b"abc"
    for receive, code in (
        (chunks(b"ab", b"cd"), "too_large"),
        (chunks(b"a", end=False), "cut_off"),
        (chunks(end=False), "cut_off"),
    ):
        with pytest.raises(ScontoError) as raised:
            await read_body(scope, receive, 3)
        assert raised.value.code == code


async def test_an_endless_body_is_not_read_to_its_end() -> None:
    """Its sender hears the answer as long as it is not much too large; memory stays bounded."""
    read = 0

    async def receive() -> Any:
        nonlocal read
        read += 1 << 20
        return {"type": "http.request", "body": b"x" * (1 << 20), "more_body": True}

    scope: Any = {"type": "http"}
    with pytest.raises(ScontoError) as raised:
        await read_body(scope, receive, BODY_BYTES_MAX)
    assert raised.value.code == "too_large"
    assert read <= DRAIN_BYTES_MAX + (2 << 20)


# --- sessions and problems ------------------------------------------------------------------------


async def test_a_session_cookie_is_bound_to_its_key_and_time() -> None:
    now_ms = time.time_ns() // 1_000_000
    cookie = make_session(b"s" * 32, "K" * 26, now_ms)
    assert session_key_id(b"s" * 32, cookie, now_ms) == "K" * 26
    assert session_key_id(b"s" * 32, cookie, now_ms + 13 * 3600 * 1000) is None
    assert session_key_id(b"t" * 32, cookie, now_ms) is None
    payload, _, mac = cookie.partition(".")
    for bad in ("", ".", payload, f"{payload}.", f".{mac}", f"{payload[:-2]}AA.{mac}", "é.é"):
        assert session_key_id(b"s" * 32, bad, now_ms) is None, bad


async def test_a_form_from_another_site_is_refused(shop: Any) -> None:
    """A browser that is signed in cannot be made to act by another site (CSRF)."""
    key_id = shop.key.split("_")[1]
    cookie = make_session(shop.server.base.home.secret, key_id, time.time_ns() // 1_000_000)
    name = shop.server.base.pages.cookie
    headers = {"Cookie": f"{name}={cookie}"}
    assert (await shop.get("/v1/promotions", key=None, headers=headers)).status == 200
    document = {"tenant_id": "t", "kind": "brand", "name": "T"}
    for origin in (None, "https://evil.example", "null", shop.url + ".evil.example"):
        sent = {**headers, **({"Origin": origin} if origin else {})}
        reply = await shop.post("/v1/tenants", document, key=None, headers=sent)
        assert reply.problem == (403, "cross_site", "Origin"), origin
    own = await shop.post(
        "/v1/tenants", document, key=None, headers={**headers, "Origin": shop.url}
    )
    assert own.status == 201
    over = await shop.get("/v1/promotions", key=None, headers={"Cookie": f"{name}=a.b"})
    assert over.problem == (401, "not_authenticated", "Cookie")


def test_one_table_gives_each_error_its_status() -> None:
    """The most special class first; a code may have a status of its own; figures go along."""
    from sconto.base import errors

    for error, status in (
        (errors.InvalidInputError("x"), 400),
        (errors.InvalidInputError("x", code="too_large"), 413),
        (errors.InvalidInputError("x", code="signature_invalid"), 401),
        (errors.NotAuthenticatedError("x"), 401),
        (errors.ForbiddenError("x"), 403),
        (errors.NotFoundError("x"), 404),
        (errors.NotFoundError("x", code="gone"), 410),
        (errors.ConflictError("x"), 409),
        (errors.UnavailableError("x"), 503),
        (errors.UnavailableError("x", code="storage_full"), 507),
        (errors.WireError("x"), 502),
        (errors.PeerError("x"), 502),
    ):
        assert problems.status_of(error) == status, error
    in_document = errors.InvalidInputError("x", code="signature_invalid")
    assert problems.status_of(in_document, is_document=True) == 422
    figures = errors.ConflictError("x", field="f", left=3, status="mine")
    document = problems.problem(figures)
    assert (document["left"], document["status"], document["field"]) == (3, 409, "f")
    assert b"left" in problems.encode({**document, "odd": object()})


def test_a_key_ring_forgets_in_time() -> None:
    """A key that was revoked elsewhere stops working within the cache's life."""
    ring = KeyRing()
    asked = []

    class Nothing:
        def __enter__(self) -> Any:
            asked.append(1)
            raise LookupError

        def __exit__(self, *args: object) -> None: ...

    with pytest.raises(LookupError):
        ring.get("K" * 26, 0, Nothing)
    assert asked == [1]
