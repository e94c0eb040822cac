"""Promotions that a merchant promises itself: published, launched, paused, ended, topped up."""

from typing import Any

import pytest

pytestmark = pytest.mark.anyio


async def test_a_promotion_is_published_once(shop: Any, make_terms: Any) -> None:
    """Goal: a repeated request is harmless, another promise under the same id is a conflict."""
    terms = make_terms("p1", limits=[{"uses": 3}])
    first = await shop.post("/v1/promotions", {"terms": terms})
    assert (first.status, first["status"]) == (201, "draft")
    again = await shop.post("/v1/promotions", {"terms": terms})
    assert (again.status, again.json) == (201, first.json)
    before = shop.rows()
    other = await shop.post("/v1/promotions", {"terms": make_terms("p1", 2000)})
    assert other.problem == (409, "exists_with_different_terms", "terms.promotion_id")
    assert shop.rows() == before
