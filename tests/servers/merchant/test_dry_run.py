"""Dry runs: drafts and other instants with every reason told, to whoever may read promotions."""

from typing import Any

import pytest

pytestmark = pytest.mark.anyio

#: 10 % off two of 5.25.
OFF = 105


def near(make_terms: Any, name: str = "near", **more: Any) -> Any:
    """A code for which a cart of 10.50 lacks 4.20."""
    condition = {"type": "subtotal", "min_minor": 1470}
    return make_terms(name, access={"type": "code", "code": "NEAR"}, conditions=[condition], **more)


async def dry(shop: Any, cart: Any, key: str = "", **dry_run: Any) -> Any:
    reply = await shop.post("/v1/evaluations", {"cart": cart, "dry_run": dry_run}, key=key)
    assert reply.status == 200, reply
    return reply["evaluation"]


def given(evaluation: Any) -> dict[str, int]:
    return {one["promotion_id"]: one["amount_minor"] for one in evaluation["applied"]}


async def test_the_missing_amount_is_told_in_a_dry_run_and_not_to_a_stranger(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    """pains 48 and 52: the same cart, the same code: 4.20 missing, or one answer for everything."""
    await shop.post("/v1/promotions", {"terms": near(make_terms), "launch": True})
    cart = make_cart(codes=("near",))
    reply = await shop.post("/v1/evaluations", {"cart": cart})
    assert reply["evaluation"]["refused"] == [
        {"promotion_id": "", "code": "not_applicable", "presented_code": "near"}
    ]
    assert "hints" not in reply["evaluation"]
    (refusal,) = (await dry(shop, cart))["refused"]
    assert (refusal["promotion_id"], refusal["code"]) == ("near", "subtotal_too_low")
    assert (refusal["needed"], refusal["had"], refusal["missing"]) == (1470, 1050, 420)


async def test_any_instant_without_the_scope_replay(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    schedule = {"from": "2030-01-01T00:00:00Z", "until": "2030-02-01T00:00:00Z"}
    await shop.post("/v1/promotions", {"terms": make_terms("p", schedule=schedule), "launch": True})
    key = shop.make_key("operator", "evaluate", "promotions:read", kind="operator")
    shop_key = shop.make_key("till", "evaluate", "promotions:read", kind="merchant")
    assert given(await dry(shop, make_cart())) == {}
    for at, expected in (
        ("2029-12-31T23:59:59Z", {}),
        ("2030-01-01T00:00:00Z", {"p": OFF}),
        ("2030-02-01T00:00:00Z", {}),
    ):
        assert given(await dry(shop, make_cart(), shop_key, at=at)) == expected
    document = {"cart": make_cart(), "at": "2030-01-01T00:00:00Z"}
    refused = await shop.post("/v1/evaluations", document, key=key)
    assert refused.problem == (403, "forbidden", "Authorization")
    for at in ("2030-01-01T00:00:00", "1969-01-01T00:00:00Z"):
        document = {"cart": make_cart(), "dry_run": {"at": at}}
        bad = await shop.post("/v1/evaluations", document)
        assert bad.problem == (400, "invalid_input", "dry_run.at")


async def test_drafts_in_the_request_stand_in_place_of_what_is_in_force(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    await shop.post("/v1/promotions", {"terms": make_terms("p"), "launch": True})
    await shop.post("/v1/promotions", {"terms": make_terms("q", 100), "launch": True})
    before = shop.rows()
    tried = await dry(shop, make_cart(), terms=[make_terms("p", 5000, version=2)])
    assert given(tried) == {"p": 525, "q": 5}
    token = make_terms("t", access={"type": "token"})
    unique = make_terms("u", access={"type": "unique_codes"})
    tried = await dry(shop, make_cart(codes=("any",)), terms=[token, unique])
    assert given(tried).keys() == {"p", "q", "t", "u"}
    tried = await dry(shop, make_cart(codes=("near",)), terms=[near(make_terms)])
    assert [one["missing"] for one in tried["refused"]] == [420]
    assert given(await dry(shop, make_cart())) == {"p": OFF, "q": 9}
    assert shop.rows() == before
    assert shop.entries() == []
    twice = {"cart": make_cart(), "dry_run": {"terms": [token, unique, token]}}
    reply = await shop.post("/v1/evaluations", twice)
    assert reply.problem == (400, "invalid_input", "dry_run.terms[2].promotion_id")
    misspelt = {"cart": make_cart(), "dry_run": {"terms": [{**token, "titel": "x"}]}}
    reply = await shop.post("/v1/evaluations", misspelt)
    assert reply.problem == (400, "invalid_input", "dry_run.terms[0].titel")


async def test_drafts_of_the_server_are_included_on_demand(
    shop: Any, make_terms: Any, make_cart: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sconto.servers.merchant.dry_run._PAGE", 2)
    for number in range(5):
        await shop.post("/v1/promotions", {"terms": make_terms(f"d{number}", 100)})
    assert given(await dry(shop, make_cart())) == {}
    assert given(await dry(shop, make_cart(), include_drafts=True)).keys() == {
        f"d{number}" for number in range(5)
    }
    given_too = await dry(shop, make_cart(), include_drafts=True, terms=[make_terms("d0", 9000)])
    assert given(given_too)["d0"] == 945
    assert given(await dry(shop, make_cart(), include_drafts=False)) == {}


async def test_a_dry_run_asks_no_budget(shop: Any, make_terms: Any, make_cart: Any) -> None:
    await shop.post(
        "/v1/promotions", {"terms": make_terms("p", limits=[{"uses": 1}]), "launch": True}
    )
    await shop.post("/v1/redemptions", {"order_id": "o", "cart": make_cart()})
    reply = await shop.post("/v1/evaluations", {"cart": make_cart()})
    assert reply["evaluation"]["applied"] == []
    assert given(await dry(shop, make_cart())) == {"p": OFF}


async def test_another_tenant_sees_its_own_promotions_only(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    await shop.post("/v1/promotions", {"terms": near(make_terms), "launch": True})
    await shop.post("/v1/promotions", {"terms": make_terms("secret")})
    brand = shop.make_key("oaty", "evaluate", "promotions:read", "promotions:write")
    own = make_terms("own")
    assert (await shop.post("/v1/promotions", {"terms": own, "launch": True}, key=brand)).status
    draft = make_terms("draft")
    assert (await shop.post("/v1/promotions", {"terms": draft}, key=brand)).status == 201
    tried = await dry(shop, make_cart(codes=("near",)), brand, include_drafts=True)
    assert given(tried).keys() == {"own", "draft"}
    assert [(one["promotion_id"], one["code"]) for one in tried["refused"]] == [
        ("", "code_unknown")
    ]


async def test_the_scope_is_needed(shop: Any, make_cart: Any) -> None:
    key = shop.make_key("operator", "evaluate", kind="operator")
    reply = await shop.post("/v1/evaluations", {"cart": make_cart(), "dry_run": {}}, key=key)
    assert reply.problem == (403, "forbidden", "Authorization")
    assert reply["scope"] == "promotions:read"


async def test_guessing_in_dry_runs_is_not_counted(shop: Any, make_cart: Any) -> None:
    """Whoever may read every promotion has nothing to guess."""

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("counted")

    shop.server.code_guesses.failed = never
    await dry(shop, make_cart(codes=("nothing",)))
