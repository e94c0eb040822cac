"""Promotions that a merchant promises itself: published, launched, paused, ended, topped up."""

from typing import Any

import pytest

pytestmark = pytest.mark.anyio


async def discount(shop: Any, cart: Any) -> int:
    """What a cart would get just now."""
    reply = await shop.post("/v1/evaluations", {"cart": cart})
    assert reply.status == 200, reply
    return int(reply["evaluation"]["totals"]["discount_minor"])


async def test_a_promotion_is_published_once(shop: Any, make_terms: Any) -> None:
    """A repeated request is harmless, another promise under the same id is a conflict."""
    terms = make_terms("p1", limits=[{"uses": 3}, {"amount_minor": 5000}])
    first = await shop.post("/v1/promotions", {"terms": terms})
    assert (first.status, first["status"], first["version"]) == (201, "draft", 1)
    assert first["budget"] == {
        "uses": {"cap": 3, "free": 0, "open": 3, "spent": 0, "written_off": 0},
        "amount_minor": {"cap": 5000, "free": 0, "open": 5000, "spent": 0, "written_off": 0},
    }
    again = await shop.post("/v1/promotions", {"terms": terms})
    assert (again.status, again.json) == (201, first.json)
    before = shop.rows()
    other = await shop.post("/v1/promotions", {"terms": make_terms("p1", 2000)})
    assert other.problem == (409, "exists_with_different_terms", "terms.promotion_id")
    second = await shop.post("/v1/promotions", {"terms": make_terms("p2", version=2)})
    assert second.problem == (400, "invalid_input", "terms.version")
    assert shop.rows() == before


async def test_only_an_active_promotion_applies(shop: Any, make_terms: Any, make_cart: Any) -> None:
    """draft -> active <-> paused -> ended, and an ended one never comes back."""
    await shop.post("/v1/promotions", {"terms": make_terms("p1")})
    assert await discount(shop, make_cart()) == 0
    for act, status, given in (
        ("pause", 409, 0),
        ("launch", 200, 105),
        ("launch", 200, 105),
        ("pause", 200, 0),
        ("launch", 200, 105),
        ("end", 200, 0),
        ("end", 200, 0),
        ("launch", 409, 0),
    ):
        reply = await shop.post(f"/v1/promotions/p1/{act}")
        assert reply.status == status, (act, reply)
        assert await discount(shop, make_cart()) == given, act
    assert reply.problem == (409, "status_conflict", "status")
    assert (await shop.post("/v1/promotions/p1/double")).problem == (404, "not_found", "act")
    shown = await shop.get("/v1/promotions/p1")
    assert (shown["status"], shown["terms"]["title"]) == ("ended", make_terms("p1")["title"])


async def test_a_new_version_replaces_the_old_one_at_checkout(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    """Versions follow each other one by one; the budget changes by a top-up only."""
    limits = [{"uses": 5}]
    await shop.post("/v1/promotions", {"terms": make_terms("p1", limits=limits), "launch": True})
    path = "/v1/promotions/p1/versions"
    second = {"terms": make_terms("p1", 2000, version=2, limits=limits)}
    made = await shop.post(path, second)
    assert (made.status, made["version"], made["status"]) == (201, 2, "active")
    assert (await shop.post(path, second)).json == made.json
    assert await discount(shop, make_cart()) == 210
    for terms, problem in (
        (make_terms("p1", version=4, limits=limits), (409, "version_not_next", "terms.version")),
        (make_terms("p1", version=2, limits=limits), (409, "version_not_next", "terms.version")),
        (make_terms("p1", version=3), (409, "budget_changed", "terms.limits")),
        (make_terms("p2", version=3), (400, "invalid_input", "terms.promotion_id")),
    ):
        assert (await shop.post(path, {"terms": terms})).problem == problem
    digest = made["terms_digest"]
    shown = await shop.get(f"/v1/terms/{digest}")
    assert (shown["signature"], shown["signed_by"]) == (made["signature"], shop.url)
    assert (await shop.get("/v1/terms/sha-256=:AAAA:")).problem == (404, "not_found", "digest")


async def test_a_top_up_adds_to_the_budget_once(shop: Any, make_terms: Any, make_cart: Any) -> None:
    """A promotion that was used up gives again; the same id with other amounts is a conflict."""
    terms = make_terms("p1", limits=[{"uses": 1}, {"amount_minor": 105}])
    await shop.post("/v1/promotions", {"terms": terms, "launch": True})
    one = await shop.post("/v1/redemptions", {"order_id": "o1", "cart": make_cart()})
    assert one["discount_minor"] == 105
    assert await discount(shop, make_cart()) == 0
    path = "/v1/promotions/p1/top-ups"
    first = await shop.post(path, {"top_up_id": "t1", "uses": 1})
    assert first["budget"]["uses"]["cap"] == 2
    assert await discount(shop, make_cart()) == 0, "there is a use again, and no money yet"
    await shop.post(path, {"top_up_id": "t2", "amount_minor": 105})
    again = await shop.post(path, {"top_up_id": "t1", "uses": 1})
    assert again["budget"]["uses"]["cap"] == 2, "the repeated one adds nothing"
    for bad, problem in (
        ({"top_up_id": "t1", "uses": 2}, (409, "exists_with_different_amount", "top_up_id")),
        ({"top_up_id": "t3"}, (400, "invalid_input", "uses")),
        ({"top_up_id": "t3", "uses": -1}, (400, "invalid_input", "uses")),
    ):
        assert (await shop.post(path, bad)).problem == problem
    two = await shop.post("/v1/redemptions", {"order_id": "o2", "cart": make_cart()})
    assert two["discount_minor"] == 105
    budget = (await shop.get("/v1/promotions/p1"))["budget"]
    full = {"free": 0, "open": 0, "written_off": 0}
    assert budget["uses"] == {"cap": 2, "spent": 2, **full}
    assert budget["amount_minor"] == {"cap": 210, "spent": 210, **full}
    shop.audit()


async def test_a_top_up_of_what_is_not_limited_is_refused(shop: Any, make_terms: Any) -> None:
    await shop.post("/v1/promotions", {"terms": make_terms("p1", limits=[{"uses": 1}])})
    path = "/v1/promotions/p1/top-ups"
    refused = await shop.post(path, {"top_up_id": "t1", "amount_minor": 5})
    assert refused.problem == (409, "not_limited", "amount_minor")
    for number in range(3):
        many = await shop.post(path, {"top_up_id": f"m{number}", "uses": 10**12})
        assert many.status == 200
    shop.audit()


async def test_a_unit_that_was_topped_up_can_be_used_where_money_is_unlimited(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    """Regression: the new unit lay in a part of the budget that had no money."""
    made = await shop.post(
        "/v1/promotions", {"terms": make_terms("p", limits=[{"uses": 1}]), "launch": True}
    )
    assert made.status == 201
    for number, given in enumerate((105, 0)):
        reply = await shop.post("/v1/redemptions", {"order_id": f"o{number}", "cart": make_cart()})
        assert reply["discount_minor"] == given
    await shop.post("/v1/promotions/p/top-ups", {"top_up_id": "t", "uses": 1})
    reply = await shop.post("/v1/redemptions", {"order_id": "o9", "cart": make_cart()})
    assert reply["discount_minor"] == 105
    shop.audit()


async def test_tenants_do_not_see_each_other(shop: Any, make_terms: Any) -> None:
    """Somebody else's promotion looks exactly like one that is not there."""
    scopes = ("promotions:read", "promotions:write")
    oaty, crisp = shop.make_key("oaty", *scopes), shop.make_key("crisp", *scopes)
    made = await shop.post("/v1/promotions", {"terms": make_terms("oaty-10")}, key=oaty)
    assert (made.status, made["tenant_id"]) == (201, "oaty")
    calls = (
        ("GET", "/v1/promotions/{}", None),
        ("POST", "/v1/promotions/{}/launch", None),
        ("POST", "/v1/promotions/{}/top-ups", {"top_up_id": "t", "uses": 1}),
        ("POST", "/v1/promotions/{}/versions", None),
        ("GET", "/v1/statistics?promotion_id={}", None),
    )
    before = shop.rows()
    for method, path, document in calls:
        seen = []
        for promotion_id in ("oaty-10", "nothing"):
            if path.endswith("versions"):
                document = {"terms": make_terms(promotion_id, version=2)}
            reply = await shop.call(method, path.format(promotion_id), document, key=crisp)
            assert reply.problem == (404, "not_found", "promotion_id")
            seen.append(reply.content.replace(promotion_id.encode(), b"?"))
        assert seen[0] == seen[1]
    taken = await shop.post("/v1/promotions", {"terms": make_terms("oaty-10")}, key=crisp)
    assert taken.problem == (409, "exists_with_different_terms", "terms.promotion_id")
    assert shop.rows() == before
    assert (await shop.get("/v1/promotions", key=crisp))["promotions"] == []
    assert [p["promotion_id"] for p in (await shop.get("/v1/promotions"))["promotions"]] == [
        "oaty-10"
    ]
    draft = await shop.get(f"/v1/terms/{made['terms_digest']}", key=crisp)
    assert draft.problem == (404, "not_found", "digest")
    for_other = {"terms": make_terms("x"), "tenant_id": "oaty"}
    forbidden = await shop.post("/v1/promotions", for_other, key=crisp)
    assert forbidden.problem == (403, "forbidden", "Authorization")
    assert (await shop.post("/v1/promotions", for_other))["tenant_id"] == "oaty"


async def test_a_missing_scope_is_named(shop: Any, make_terms: Any, make_cart: Any) -> None:
    """A key does what its scopes say; the answer says which one would be needed."""
    key = shop.make_key("oaty", "promotions:read")
    cart = make_cart()
    for path, document, scope in (
        ("/v1/promotions", {"terms": make_terms("p")}, "promotions:write"),
        ("/v1/promotions/p/launch", None, "promotions:write"),
        ("/v1/evaluations", {"cart": cart}, "evaluate"),
        ("/v1/reservations", {"order_id": "o", "cart": cart}, "checkout"),
        ("/v1/redemptions", {"order_id": "o", "cart": cart}, "checkout"),
        ("/v1/orders/o/reversals", {"reversal_id": "r"}, "reverse"),
        ("/v1/clients/c/link-codes", None, "checkout"),
        ("/v1/tenants", {"tenant_id": "t", "kind": "brand", "name": "T"}, "admin"),
        ("/v1/frames/withdrawals", {}, "frames:write"),
    ):
        reply = await shop.post(path, document, key=key)
        assert reply.problem == (403, "forbidden", "Authorization"), path
        assert reply["scope"] == scope
    till = shop.make_key("till", "evaluate", "checkout", "admin")
    at = {"cart": cart, "at": "2026-01-01T00:00:00Z"}
    reply = await shop.post("/v1/evaluations", at, key=till)
    assert (reply.status, reply["scope"]) == (403, "replay"), "not even an administrator's may"
    assert (await shop.post("/v1/evaluations", at)).status == 200


async def test_an_idempotency_key_repeats_the_first_answer(shop: Any, make_terms: Any) -> None:
    """The same key and body: the same answer, once done. Another body: a conflict."""
    headers = {"Idempotency-Key": "k1"}
    first = await shop.post("/v1/promotions", {"terms": make_terms("p1")}, headers=headers)
    await shop.post("/v1/promotions/p1/launch")
    again = await shop.post("/v1/promotions", {"terms": make_terms("p1")}, headers=headers)
    assert (again.status, again.json) == (201, first.json)
    assert again["status"] == "draft", "it is the reply of then"
    other = await shop.post("/v1/promotions", {"terms": make_terms("p2")}, headers=headers)
    assert other.problem == (409, "idempotency_conflict", "Idempotency-Key")
    stranger = shop.make_key("oaty", "promotions:write")
    theirs = await shop.post(
        "/v1/promotions", {"terms": make_terms("p2")}, headers=headers, key=stranger
    )
    assert theirs.status == 201, "keys of tenants are apart"
    for bad in ("", "x" * 129, "a\tb"):
        reply = await shop.post(
            "/v1/promotions", {"terms": make_terms("p3")}, headers={"Idempotency-Key": bad}
        )
        assert reply.problem == (400, "invalid_input", "Idempotency-Key")


async def test_lists_come_in_pages(shop: Any, make_terms: Any) -> None:
    for number in range(5):
        await shop.post("/v1/promotions", {"terms": make_terms(f"p{number}"), "launch": number > 2})
    seen, after = [], ""
    while after is not None:
        page = await shop.get(f"/v1/promotions?limit=2&after={after}")
        seen += [one["promotion_id"] for one in page["promotions"]]
        after = page["next"]
    assert seen == ["p0", "p1", "p2", "p3", "p4"]
    active = await shop.get("/v1/promotions?status=active")
    assert [one["promotion_id"] for one in active["promotions"]] == ["p3", "p4"]
    for limit in ("0", "1001", "-1", "1.5", "x", "", "1" * 5000, "0000000001"):
        reply = await shop.get(f"/v1/promotions?limit={limit}")
        assert reply.problem[0] in (400, 413), limit


async def test_an_id_must_fit_into_an_address(shop: Any, make_terms: Any) -> None:
    for bad in ("a/b", "a b", "..", "é", "x" * 101, "a\n", "-a"):
        reply = await shop.post("/v1/promotions", {"terms": make_terms(bad)})
        assert reply.problem == (400, "invalid_input", "terms.promotion_id"), bad
    assert (await shop.post("/v1/promotions", {"terms": make_terms("x" * 100)})).status == 201


async def test_the_promise_of_a_hub_is_changed_at_the_hub(
    shop: Any, hub: Any, make_terms: Any
) -> None:
    """Regression: the merchant's operator could publish a version in a hub's name."""
    await hub.offer(shop, make_terms("theirs"), uses=5)
    before = shop.rows()
    for path, document in (
        ("versions", {"terms": make_terms("theirs", 5000, version=2)}),
        ("pause", None),
        ("end", None),
        ("top-ups", {"top_up_id": "t", "uses": 5}),
    ):
        reply = await shop.post(f"/v1/promotions/theirs/{path}", document)
        assert reply.problem == (409, "promised_elsewhere", "promotion_id"), path
    assert shop.rows() == before
