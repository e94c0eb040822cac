"""What is left, in memory: it is what the datastore says, at every moment at which one may ask."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconto.cart import Cart, Line
from sconto.servers.merchant.recognise import anonymous, holding
from sconto.store import ledger

pytestmark = pytest.mark.anyio


async def test_an_evaluation_knows_of_every_acknowledged_redemption(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    """Goal: nothing stale is told. Method: redeem the three uses of a promotion one by one; after
    each reply the stock equals the ledger, and after the last one an evaluation is refused."""
    terms = make_terms("ten", limits=[{"uses": 3}])
    assert (await shop.post("/v1/promotions", {"terms": terms, "launch": True})).status == 201
    stock = shop.server.stock
    for number in range(3):
        quote = await shop.post("/v1/evaluations", {"cart": make_cart()})
        assert [a["promotion_id"] for a in quote["evaluation"]["applied"]] == ["ten"]
        body = {"order_id": f"o-{number}", "cart": make_cart()}
        assert (await shop.post("/v1/redemptions", body)).status == 201
        with shop.store.read() as connection:
            slow = ledger.available(connection, shop.url, ["ten", "none"])
        assert stock.available(["ten", "none"]) == slow
        assert slow["ten"][0].left.uses == 2 - number
    quote = await shop.post("/v1/evaluations", {"cart": make_cart()})
    refused = [(r["promotion_id"], r["code"]) for r in quote["evaluation"]["refused"]]
    assert refused == [("ten", "allotment_exhausted")]


async def test_it_asks_the_datastore_once_between_two_commits(
    shop: Any, make_terms: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL, where other processes write too, it asks each time."""
    terms = make_terms("ten")
    assert (await shop.post("/v1/promotions", {"terms": terms, "launch": True})).status == 201
    asked: list[list[str]] = []

    def available(connection: Any, holder: str, ids: list[str], counter: str) -> Any:
        asked.append(list(ids))
        return ledger.available(connection, holder, ids, counter)

    monkeypatch.setattr(
        "sconto.servers.merchant.stock.ledger", type("Ledger", (), {"available": available})
    )
    first = shop.server.stock.available(["ten"])
    assert shop.server.stock.available(["ten"]) == first
    assert len(asked) == (1 if shop.store.is_alone else 2)
    assert shop.server.stock.available(["ten", "other"]) == first
    assert asked[-1] == (["other"] if shop.store.is_alone else ["ten", "other"])


@given(st.integers(0, 10**12))
def test_a_stranger_is_who_holds_nothing(at_ms: int) -> None:
    """`anonymous` is `holding` where there is nothing to look up: it needs no connection."""
    cart = Cart(currency="USD", lines=(Line(id="1", sku="a", price_minor=1),))
    no_connection: Any = None
    assert anonymous(cart) == holding(no_connection, cart, None, [], at_ms, digest=lambda code: b"")
