"""Lint and plain sentence of terms through the API; the hub has the same endpoints."""

from typing import Any

import pytest

from sconto.servers import authoring
from sconto.servers.hub import Hub
from sconto.servers.merchant import Merchant

pytestmark = pytest.mark.anyio


def test_hub_and_merchant_have_them() -> None:
    for server in (Hub, Merchant):
        declared = [id(one) for one in server.endpoints]
        assert all(id(one) in declared for one in authoring.ENDPOINTS)


async def test_terms_are_looked_at_before_they_are_published(shop: Any, make_terms: Any) -> None:
    before = shop.rows()
    schedule = {"from": "2026-06-01", "until": "2026-05-31"}
    reply = await shop.post("/v1/lint", {"terms": make_terms("p", schedule=schedule)})
    assert reply.status == 200
    found = {one["code"]: one for one in reply["findings"]}
    assert found.keys() == {"dates_reversed", "applies_to_everything", "no_limit"}
    assert found["dates_reversed"]["severity"] == "error"
    assert found["dates_reversed"]["field"] == "schedule.until"
    assert reply["sentence"].startswith("10 % off everything")
    assert reply["terms_digest"].startswith("sha-256=:")
    assert shop.rows() == before


async def test_beside_the_callers_promotions_in_force(shop: Any, make_terms: Any) -> None:
    alone = {"combination": {"exclusive": True}, "limits": [{"uses": 5}]}
    await shop.post("/v1/promotions", {"terms": make_terms("alone", **alone), "launch": True})
    document = {"terms": make_terms("p", limits=[{"uses": 5}])}
    codes = [one["code"] for one in (await shop.post("/v1/lint", document))["findings"]]
    assert "overlaps_exclusive" in codes
    brand = shop.make_key("oaty", "promotions:write")
    reply = await shop.post("/v1/lint", document, key=brand)
    assert "overlaps_exclusive" not in [one["code"] for one in reply["findings"]]


async def test_terms_that_are_wrong_name_their_field(shop: Any, make_terms: Any) -> None:
    reply = await shop.post("/v1/lint", {"terms": {**make_terms("p"), "benefit": []}})
    assert reply.problem == (400, "invalid_input", "terms.benefit")
    reader = shop.make_key("operator", "promotions:read", kind="operator")
    reply = await shop.post("/v1/lint", {"terms": make_terms("p")}, key=reader)
    assert reply.problem == (403, "forbidden", "Authorization")


async def test_a_promotion_in_one_sentence(shop: Any, make_terms: Any) -> None:
    await shop.post("/v1/promotions", {"terms": make_terms("p", limits=[{"uses": 10000}])})
    english = await shop.get("/v1/promotions/p/sentence")
    assert (english["language"], english["promotion_id"]) == ("en", "p")
    assert english["sentence"] == "10 % off everything; first 10,000."
    german = await shop.get("/v1/promotions/p/sentence?lang=de-AT")
    assert german["language"] == "de" and "10.000" in german["sentence"]
    other = await shop.get("/v1/promotions/p/sentence?lang=tlh")
    assert other.json == english.json
    stranger = shop.make_key("other", "promotions:read")
    reply = await shop.get("/v1/promotions/p/sentence", key=stranger)
    assert reply.problem == (404, "not_found", "promotion_id")
