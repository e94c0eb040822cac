"""Tokens at the checkout: presented with a proof, typed as a handle, or known of the client.

The merchant asks nobody: keys and coupon information are here already, and where the hub has not
told yet, the token itself is enough.
"""

import asyncio
import time
from typing import Any
from urllib.parse import quote

import pytest

from sconto.base.keys import SigningKey
from sconto.servers.merchant import status
from sconto.tokens import make_nonce

pytestmark = pytest.mark.anyio

OFF = 105
YEAR_S = 365 * 86_400


@pytest.fixture
def terms(make_terms: Any) -> dict[str, Any]:
    """10 % off everything for whoever holds a token."""
    made: dict[str, Any] = make_terms("p", access={"type": "token"})
    return made


@pytest.fixture
async def token(shop: Any, hub: Any, holder: Any, terms: Any) -> Any:
    """A token whose coupon information has arrived, of a promotion that can be given ten times."""
    await hub.offer(shop, terms, uses=10)
    made = hub.issue(shop, terms, holder)
    assert (await hub.send(shop, hub.issued(made))).status == 200
    return made


async def redeem(shop: Any, make_cart: Any, order_id: str, **more: Any) -> Any:
    codes = more.pop("codes", ())
    request = {"order_id": order_id, "cart": make_cart(codes=codes), **more}
    return await shop.post("/v1/redemptions", request)


async def coupon(shop: Any, token: Any) -> Any:
    (found,) = (await shop.get(f"/v1/coupon-information?token_id={token.id}"))["coupons"]
    return found


# --- coupon information ---------------------------------------------------------------------------


async def test_coupon_information_says_who_holds_what(shop: Any, hub: Any, token: Any) -> None:
    """As the hub told it: which pseudonym holds which token, of which terms and frame."""
    found = await coupon(shop, token)
    assert found["handle"] == token.handle
    assert (found["hub"], found["subject"]) == (hub.url, token.holder.subject)
    assert (found["promotion_id"], found["frame_id"]) == ("p", token.claims.frame)
    assert (found["uses"], found["uses_left"], found["is_revoked"]) == (1, 1, False)
    typed = quote(token.handle.lower().replace("-", " ").replace("0", "o"))
    by_handle = await shop.get(f"/v1/coupon-information?handle={typed}")
    assert by_handle["coupons"] == [found]
    for query, problem in (
        ("", (400, "invalid_input", "client")),
        ("handle=nonsense", (400, "invalid_input", "handle")),
        (f"handle={token.handle[:-1]}0", (400, "invalid_input", "handle")),
        ("client=%ff", (400, "invalid_input", "query")),
    ):
        reply = await shop.get(f"/v1/coupon-information?{query}")
        if reply.status == 200:  # the symbol at the end happened to be the right one
            continue
        assert reply.problem == problem, query
    assert (await shop.get("/v1/coupon-information?client=nobody"))["coupons"] == []
    assert (await shop.get("/v1/statistics"))["totals"]["clipped"] == 1
    shop.audit()


async def test_coupon_information_needs_known_terms(
    shop: Any, hub: Any, make_hub: Any, holder: Any, terms: Any, token: Any
) -> None:
    """A hub tells of tokens of its own promotions only."""
    other = make_hub("https://other.example")
    other.register(shop)
    foreign = other.issue(shop, terms, holder)
    await other.send(shop, other.issued(foreign))
    unknown = hub.issue(shop, {**terms, "title": "changed"}, holder)
    await hub.send(shop, hub.issued(unknown), hub.issued(token, promotion_id="q"))
    shown = await shop.get("/v1/exchange")
    assert [one["reason"][:10] for one in shown["parked"]] == ["peer_error"] * 3
    assert shop.rows()["coupon_information"] == 1


# --- linking --------------------------------------------------------------------------------------


async def link(shop: Any, token: Any, client: str = "card-1", **changed: Any) -> Any:
    """What wallet and merchant do together: a link code, and a proof for it."""
    code = await shop.post(f"/v1/clients/{quote(client)}/link-codes")
    assert code.status == 200, code
    nonce = changed.pop("nonce", code["nonce"])
    path = f"/v1/clients/{quote(client)}/proofs"
    proof = token.prove(shop, **{"order": client, "path": path, "nonce": nonce, **changed})
    document = {"token": token.jws, "proof": proof, "nonce": nonce}
    return await shop.post(path, document, key=None)


async def test_a_linked_client_gets_its_coupons_with_no_code_typed(
    shop: Any, hub: Any, holder: Any, terms: Any, token: Any, make_cart: Any
) -> None:
    """Goal: one proof, and from then on coupon information applies at every checkout by itself."""
    order = await redeem(shop, make_cart, "o-0", client="card-1")
    assert order["discount_minor"] == 0, "nobody has proven anything yet"
    linked = await link(shop, token)
    assert (linked.status, linked["subject"]) == (200, holder.subject)
    second = hub.issue(shop, terms, holder)
    await hub.send(shop, hub.issued(second))
    order = await redeem(shop, make_cart, "o-1", client="card-1")
    assert {one["token_id"] for one in order["redemptions"]} == {token.id, second.id}
    assert (await redeem(shop, make_cart, "o-2", client="card-1"))["discount_minor"] == 0
    listed = (await shop.get("/v1/coupon-information?client=card-1"))["coupons"]
    assert [one["uses_left"] for one in listed] == [0, 0]
    await shop.post("/v1/orders/o-1/reversals", {"reversal_id": "r"})
    assert (await coupon(shop, token))["uses_left"] == 1, "what came back revives"
    shop.audit()


async def test_a_link_needs_the_merchants_nonce_and_the_holders_key(
    shop: Any, hub: Any, token: Any
) -> None:
    """Each way in which somebody else could try to be this client is refused without a trace."""
    before = shop.rows()
    own_secret = shop.server.base.home.secret
    now_ms = time.time_ns() // 1_000_000
    thief = SigningKey.from_seed(b"t" * 32)
    for_other = make_nonce(own_secret, "link:card-2", now_ms, b"12345678")
    too_old = make_nonce(own_secret, "link:card-1", now_ms - 700_000, b"12345678")
    foreign = make_nonce(b"x" * 32, "link:card-1", now_ms, b"12345678")
    for changed, problem in (
        ({"nonce": for_other}, (400, "invalid_nonce", "nonce")),
        ({"nonce": too_old}, (400, "invalid_nonce", "nonce")),
        ({"nonce": foreign}, (400, "invalid_nonce", "nonce")),
        ({"nonce": "guess"}, (400, "invalid_nonce", "nonce")),
        ({"key": thief}, (400, "holder_mismatch", "proof.header.jwk")),
        ({"order": "card-2"}, (400, "proof_mismatch", "proof.order")),
        ({"path": "/v1/redemptions"}, (400, "proof_mismatch", "proof.htu")),
        ({"method": "PUT"}, (400, "proof_mismatch", "proof.htm")),
        ({"issued_at_ms": now_ms - 400_000}, (400, "proof_expired", "proof.iat")),
        ({"issued_at_ms": now_ms + 400_000}, (400, "proof_not_yet_valid", "proof.iat")),
    ):
        reply = await link(shop, token, **changed)
        assert reply.problem == problem, changed
    assert shop.rows() == before
    nobody = await shop.post("/v1/clients/card-1/link-codes", key=None)
    assert nobody.problem == (401, "not_authenticated", "Authorization")
    assert (await shop.post("/v1/clients/%00/link-codes")).problem[0] in (400, 404)
    assert (await shop.post(f"/v1/clients/{'x' * 101}/link-codes")).problem == (
        400,
        "invalid_input",
        "client",
    )


async def test_a_link_needs_a_token_for_this_merchant_by_a_known_hub(
    shop: Any, hub: Any, make_hub: Any, holder: Any, terms: Any, token: Any
) -> None:
    """Wrong audience, unknown issuer, a changed byte, revoked. Used or expired still tells who."""
    before = shop.rows()
    for made, problem in (
        (
            hub.issue(shop, terms, holder, aud="https://other.example"),
            (400, "audience_mismatch", "token.aud"),
        ),
        (make_hub("https://evil.example").issue(shop, terms, holder),
         (400, "issuer_unknown", "token.iss")),
        (make_hub(hub.url).issue(shop, terms, holder), (422, "key_not_found", "token.header.kid")),
        (hub.issue(shop, terms, holder, jti="J" * 27), (400, "malformed", "token")),
        (hub.issue(shop, terms, holder, sub="s" * 65), (400, "malformed", "token")),
        (hub.issue(shop, terms, holder, promotion_id="q"), (400, "terms_mismatch", "token")),
    ):  # fmt: skip
        assert (await link(shop, made)).problem == problem
    head, payload, signature = token.jws.split(".")
    token.jws = ".".join(
        (head, payload, signature[:-2] + ("AA" if signature[-2:] != "AA" else "BA"))
    )
    assert (await link(shop, token)).problem[:2] == (422, "signature_invalid")
    token.jws = ".".join((head, payload, signature))
    assert shop.rows() == before
    now_s = int(time.time())
    expired = hub.issue(shop, terms, holder, iat=now_s - YEAR_S, nbf=now_s - YEAR_S, exp=now_s - 1)
    assert (await link(shop, expired)).status == 200
    await hub.send(shop, hub.revoked(token))
    assert (await link(shop, token, "card-9")).problem == (400, "token_revoked", "token")


async def test_a_client_is_one_pseudonym_of_a_hub(
    shop: Any, hub: Any, make_holder: Any, terms: Any, token: Any, make_cart: Any
) -> None:
    """The newest proof counts: a card that changes hands follows its new holder, and no other."""
    await link(shop, token, "card-1")
    other = hub.issue(shop, terms, make_holder("pseudonym-2"))
    await hub.send(shop, hub.issued(other))
    assert (await link(shop, other, "card-1")).status == 200
    order = await redeem(shop, make_cart, "o-1", client="card-1")
    assert [one["token_id"] for one in order["redemptions"]] == [other.id]
    assert (await link(shop, token, "card 2é")).status == 200
    order = await redeem(shop, make_cart, "o-2", client="card 2é")
    assert [one["token_id"] for one in order["redemptions"]] == [token.id]
    await link(shop, token, "card-3")
    assert (await shop.get("/v1/coupon-information?client=card%202%C3%A9"))["coupons"] == []
    assert shop.rows()["clients"] == 2


# --- presented ------------------------------------------------------------------------------------


async def test_a_presented_token_is_redeemed_once(shop: Any, token: Any, make_cart: Any) -> None:
    """Presented by a stranger: the proof alone makes the right. The same token again is refused."""
    shown = token.present(shop, "o-1")
    order = await redeem(shop, make_cart, "o-1", presented=[shown])
    assert (order.status, order["discount_minor"]) == (201, OFF)
    assert order["redemptions"][0]["token_id"] == token.id
    again = await redeem(shop, make_cart, "o-1", presented=[shown])
    assert again.content == order.content
    before = shop.rows()
    second = await redeem(shop, make_cart, "o-2", presented=[token.present(shop, "o-2")])
    assert second.problem == (400, "token_used", "presented[0].token")
    assert shop.rows() == before
    shop.audit()


async def test_a_token_is_used_by_exactly_one_of_64_orders(
    shop: Any, hub: Any, holder: Any, terms: Any, token: Any, make_cart: Any
) -> None:
    """pain 8, shopware #11245: presented and by client, all at once; a token with two uses is used
    in two orders."""
    await link(shop, token)
    orders = await asyncio.gather(
        *(
            redeem(shop, make_cart, f"o-{i}", client="card-1")
            if i % 2
            else redeem(shop, make_cart, f"o-{i}", presented=[token.present(shop, f"o-{i}")])
            for i in range(64)
        )
    )
    assert [order.json.get("discount_minor", 0) for order in orders].count(OFF) == 1
    assert {order.status for order in orders} <= {201, 400}
    twice = hub.issue(shop, terms, holder, uses=2)
    await hub.send(shop, hub.issued(twice))
    orders = await asyncio.gather(
        *(redeem(shop, make_cart, f"t-{i}", client="card-1") for i in range(16))
    )
    assert [order["discount_minor"] for order in orders].count(OFF) == 2
    shop.audit()


async def test_a_presented_token_must_hold_in_every_respect(
    shop: Any, hub: Any, make_hub: Any, holder: Any, terms: Any, token: Any, make_cart: Any
) -> None:
    """Stolen without its key, an overheard proof, expired, not yet valid, for another merchant."""
    other = make_hub("https://other.example")
    other.register(shop)
    await shop.post("/v1/promotions", {"terms": {**terms, "promotion_id": "own"}, "launch": True})
    now_s = int(time.time())
    thief = SigningKey.from_seed(b"t" * 32)
    times = {"iat": now_s - YEAR_S, "nbf": now_s - YEAR_S}
    expired = hub.issue(shop, terms, holder, **times, exp=now_s - 10)
    future = hub.issue(shop, terms, holder, nbf=now_s + 600, exp=now_s + 900)
    elsewhere = hub.issue(shop, terms, holder, aud="https://other.example")
    own = hub.issue(shop, {**terms, "promotion_id": "own"}, holder)
    late = {"issued_at_ms": (now_s - 400) * 1000}
    before = shop.rows()
    for shown, problem in (
        (token.present(shop, "x", key=thief), (400, "holder_mismatch", ".proof.header.jwk")),
        (token.present(shop, "o-9"), (400, "proof_mismatch", ".proof.order")),
        (token.present(shop, "x", path="/v1/reservations"),
         (400, "proof_mismatch", ".proof.htu")),
        (token.present(shop, "x", **late), (400, "proof_expired", ".proof.iat")),
        ({"token": token.jws, "proof": token.jws}, (400, "algorithm_unsupported", ".proof")),
        ({"token": token.jws[:-30], "proof": token.prove(shop, "x")}, (422, "", ".token")),
        ({"token": "x" * 30, "proof": "y" * 30}, (400, "malformed", ".token")),
        ({"token": "x", "proof": "y" * 30}, (400, "invalid_input", ".token")),
        (expired.present(shop, "x"), (400, "token_expired", ".token.exp")),
        (future.present(shop, "x"), (400, "token_not_yet_valid", ".token.nbf")),
        (elsewhere.present(shop, "x"), (400, "audience_mismatch", ".token.aud")),
        (other.issue(shop, terms, holder).present(shop, "x"),
         (400, "terms_mismatch", ".token")),
        (own.present(shop, "x"), (400, "terms_mismatch", ".token")),
    ):  # fmt: skip
        reply = await redeem(shop, make_cart, "x", presented=[shown])
        status, code, field = reply.problem
        assert 400 <= status < 500 and field.startswith("presented[0]"), reply
        if problem[1] and code != problem[1]:
            assert problem[1] == "algorithm_unsupported", reply
            continue
        assert (status, field) == (problem[0], "presented[0]" + problem[2]) or not problem[1], reply
    assert shop.rows() == before
    good = await redeem(shop, make_cart, "x", presented=[token.present(shop, "x")])
    assert good["discount_minor"] == OFF


async def test_a_token_is_enough_where_the_hub_has_not_told_yet(
    shop: Any, hub: Any, holder: Any, terms: Any, make_cart: Any
) -> None:
    """Goal: a hub that is away turns nobody away. The coupon information that comes later finds
    the use gone, and the clip is counted once."""
    await hub.offer(shop, terms, uses=10)
    token = hub.issue(shop, terms, holder)
    order = await redeem(shop, make_cart, "o-1", presented=[token.present(shop, "o-1")])
    assert order["discount_minor"] == OFF
    assert (await coupon(shop, token))["uses_left"] == 0
    await hub.send(shop, hub.issued(token))
    assert (await coupon(shop, token))["uses_left"] == 0
    second = await redeem(shop, make_cart, "o-2", presented=[token.present(shop, "o-2")])
    assert second.problem == (400, "token_used", "presented[0].token")
    totals = (await shop.get("/v1/statistics"))["totals"]
    assert (totals["clipped"], totals["redeemed"]) == (1, 1)
    shop.audit()


async def test_a_token_of_unknown_terms_is_refused_and_not_kept(
    shop: Any, hub: Any, holder: Any, terms: Any, make_cart: Any
) -> None:
    """The hub has not told of the promotion: the checkout goes on without it."""
    token = hub.issue(shop, terms, holder)
    order = await redeem(shop, make_cart, "o-1", presented=[token.present(shop, "o-1")])
    assert (order.status, order["discount_minor"]) == (201, 0)
    (refusal,) = order["evaluation"]["refused"]
    assert (refusal["code"], refusal["token_id"]) == ("promotion_unknown", token.id)
    assert shop.rows()["coupon_information"] == 0
    await hub.offer(shop, terms, uses=1)
    order = await redeem(shop, make_cart, "o-2", presented=[token.present(shop, "o-2")])
    assert order["discount_minor"] == OFF


async def test_a_revoked_token_is_refused(
    shop: Any,
    hub: Any,
    holder: Any,
    terms: Any,
    token: Any,
    make_cart: Any,
    network: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its coupon information at once; by the hub's status list where nothing was told."""
    import httpx

    from sconto.tokens import Status, StatusReference
    from sconto.tokens.status_list import StatusList, sign_status_list

    monkeypatch.setattr(status, "TRY_AGAIN_S", 0)  # the hub is away at first
    await link(shop, token)
    await hub.send(shop, hub.revoked(token))
    assert (await redeem(shop, make_cart, "o-1", client="card-1"))["discount_minor"] == 0
    typed = await redeem(shop, make_cart, "o-2", codes=(token.handle,))
    assert typed["discount_minor"] == 0
    shown = await redeem(shop, make_cart, "o-3", presented=[token.present(shop, "o-3")])
    assert shown.problem == (400, "token_revoked", "presented[0].token")

    uri = f"{hub.url}/status/1"
    now_s = int(time.time())

    async def lists(request: httpx.Request) -> httpx.Response:
        revoked = StatusList.of([5])
        jws = sign_status_list(
            hub.key, revoked, uri=uri, issued_s=now_s, expires_s=now_s + 900, ttl_s=300
        )
        return httpx.Response(200, text=jws)

    network.servers[hub.url] = lists
    place = Status(status_list=StatusReference(idx=5, uri=uri))
    untold = hub.issue(shop, terms, holder, status=place)
    first = {"order_id": "o-4", "cart": make_cart()}
    await shop.post("/v1/evaluations", {**first, "presented": [
        untold.present(shop, "o-4", path="/v1/evaluations")]})  # fmt: skip
    for _ in range(100):
        await asyncio.sleep(0.01)
        if any(str(request.url) == uri for request in network.requests):
            break
    await asyncio.sleep(0.05)
    known = await redeem(shop, make_cart, "o-5", presented=[untold.present(shop, "o-5")])
    assert known.problem == (400, "token_revoked", "presented[0].token")


async def test_a_handle_is_typed_like_a_code(
    shop: Any, token: Any, make_cart: Any, clock: Any
) -> None:
    """Lower case, O for 0, no hyphens; beside other codes; reserved and given back."""
    typed = token.handle.lower().replace("-", "").replace("0", "o").replace("1", "l")
    request = {"order_id": "o-1", "cart": make_cart(codes=(typed, "OTHER"))}
    held = await shop.post("/v1/reservations", request)
    assert held["redemptions"][0]["token_id"] == token.id
    (refusal,) = held["evaluation"]["refused"]
    assert (refusal["code"], refusal["presented_code"]) == ("code_unknown", "OTHER")
    other = await redeem(shop, make_cart, "o-2", codes=(token.handle,))
    assert other["discount_minor"] == 0, "its use is held by the reservation"
    await shop.post("/v1/reservations/o-1/release")
    order = await redeem(shop, make_cart, "o-3", codes=(token.handle,))
    assert order["discount_minor"] == OFF
    shop.audit()


async def test_of_several_tokens_only_those_not_covered_are_refused(
    shop: Any, hub: Any, holder: Any, terms: Any, make_cart: Any
) -> None:
    """Regression: with one unit left and two tokens in the cart, neither was applied."""
    await hub.offer(shop, terms, uses=1)
    tokens = [hub.issue(shop, terms, holder) for _ in range(3)]
    await hub.send(shop, *(hub.issued(token) for token in tokens))
    await link(shop, tokens[0])
    order = await redeem(shop, make_cart, "o-1", client="card-1")
    assert (order["discount_minor"], len(order["redemptions"])) == (OFF, 1)
    exhausted = [r for r in order["evaluation"]["refused"] if r["code"] == "allotment_exhausted"]
    assert len(exhausted) == 2
    assert {r["token_id"] for r in exhausted} | {order["redemptions"][0]["token_id"]} == {
        token.id for token in tokens
    }
    shop.audit()


async def test_an_expired_coupon_stays_in_the_pocket(
    shop: Any, hub: Any, holder: Any, terms: Any, token: Any, make_cart: Any, clock: Any
) -> None:
    """From the instant of its end on it does not apply; the one before, it does."""
    await link(shop, token)
    end_ms = token.claims.exp * 1000
    clock.now_ms = end_ms
    assert (await redeem(shop, make_cart, "o-1", client="card-1"))["discount_minor"] == 0
    assert (await redeem(shop, make_cart, "o-2", codes=(token.handle,)))["discount_minor"] == 0
    clock.now_ms = end_ms - 1
    assert (await redeem(shop, make_cart, "o-3", client="card-1"))["discount_minor"] == OFF


async def test_a_quote_for_a_presented_token(shop: Any, token: Any, make_cart: Any) -> None:
    """An evaluation binds its proof to the order that it is for, and spends nothing."""
    path = "/v1/evaluations"
    shown = token.present(shop, "o-1", path=path)
    request = {"cart": make_cart(), "order_id": "o-1", "presented": [shown, shown]}
    before = shop.rows()
    for _ in range(2):
        reply = await shop.post(path, request)
        assert reply["evaluation"]["totals"]["discount_minor"] == OFF
    unbound = await shop.post(path, {**request, "order_id": "o-2"})
    assert unbound.problem == (400, "proof_mismatch", "presented[0].proof.order")
    assert shop.rows() == before


async def test_a_merchant_alone_is_a_whole_promotion_engine(
    shop: Any, make_terms: Any, make_cart: Any, network: Any
) -> None:
    """No hub was ever registered: own promotions, codes, reservations and returns all work, and
    nothing is sent to anybody."""
    await shop.post("/v1/promotions", {"terms": make_terms("own"), "launch": True})
    code = make_terms("code", 500, access={"type": "code", "code": "FIVE"})
    await shop.post("/v1/promotions", {"terms": code, "launch": True})
    held = await shop.post(
        "/v1/reservations", {"order_id": "o", "cart": make_cart(codes=("five",))}
    )
    assert len(held["redemptions"]) == 2
    assert (await shop.post("/v1/reservations/o/redeem")).status == 200
    assert (await shop.post("/v1/orders/o/reversals", {"reversal_id": "r"})).status == 201
    presented = [{"token": "a.b.c" * 10, "proof": "a.b.c" * 10}]
    stranger = await redeem(shop, make_cart, "o-2", presented=presented)
    assert stranger.problem[0] == 400
    assert network.requests == []
    assert shop.rows()["outbox"] == 0
    shop.audit()
