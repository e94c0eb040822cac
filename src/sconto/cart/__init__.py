"""The promotion engine: a cart, promotions and a holder in; an exact answer with reasons out.

In: `Cart`, `PromotionIndex`, `Holder`, an instant. Out: `Evaluation`. Pure and deterministic; it
knows no stock, no budget, no signature and no clock.
Read `evaluate.py` first (the front door and the order of the stages), then `combine.py`.

>>> from sconto.cart import Cart, Line, Promotion, evaluate
>>> from sconto.terms import terms_from
>>> terms = terms_from({"promotion_id": "p", "title": "3.00 off", "currency": "EUR",
...                     "benefits": [{"type": "amount_off", "amount_minor": 300}]})
>>> prices = {"a": 4300, "b": 1400, "c": 2300}
>>> cart = Cart(currency="EUR",
...             lines=tuple(Line(id=i, sku=i, price_minor=p) for i, p in prices.items()))
>>> [line.discount_minor for line in evaluate(cart, [Promotion.of(terms)], at_ms=0).lines]
[161, 53, 86]
"""

from sconto.cart.evaluate import evaluate
from sconto.cart.evaluation import (
    Applied,
    Evaluation,
    ReasonCode,
    Refusal,
    encode_evaluation,
)
from sconto.cart.index import PromotionIndex
from sconto.cart.lanes import DEFAULT_LANES, Lane
from sconto.cart.model import Cart, HeldCode, HeldToken, Holder, Line
from sconto.cart.promotion import Promotion

__all__ = [
    "DEFAULT_LANES",
    "Applied",
    "Cart",
    "Evaluation",
    "HeldCode",
    "HeldToken",
    "Holder",
    "Lane",
    "Line",
    "Promotion",
    "PromotionIndex",
    "ReasonCode",
    "Refusal",
    "encode_evaluation",
    "evaluate",
]
