"""Sets of promotions of any size, and real carts for them.

A set of N holds the Complete Journey's coupons (at most a quarter of the set, and all of the year's
from a few thousand on), and for the products bought most often "2 of P: 10 % off P" and, one in
ten, "buy 2 P, get 1 free"; one in fifty is about the whole cart: above a subtotal, for everybody
(three of them), at one store, or for one segment of shoppers. The kinds stand in turn, so that a
smaller set is a fair sample. Beyond `REAL` promotions all are about goods, stores and segments that
no cart of the data has, of the same kinds: what a larger set adds for a given cart is then only its
size, and the cart keeps its candidates.

Read once from the data (`recipe_of`), handed to the processes that measure as JSON.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any

import msgspec

from sconto.bench.groceries import LINES, USES_MAX, cart_of, journey_of_demo

#: From here on a larger set adds no candidates.
REAL = 10_000
#: Eight-line carts that are measured.
CARTS = 500
BIG_LINES, BIG_QUANTITY = 200, 10_000
#: Subtotals of whole-cart promotions.
THRESHOLDS = (1000, 2000, 5000, 10_000)
#: So many whole-cart promotions are for everybody.
FOR_ALL = 3


class Coupon(msgspec.Struct, frozen=True, array_like=True):
    """What a coupon of the data takes off which products together."""

    key: str
    title: str
    face_value_minor: int
    product_ids: tuple[str, ...]


class Recipe(msgspec.Struct, frozen=True):
    """What sets are made from."""

    coupons: tuple[Coupon, ...]
    #: Those bought most often first.
    products: tuple[str, ...]
    stores: tuple[str, ...]
    #: JSON of real eight-line carts, and of one large one.
    carts: tuple[str, ...]
    big_cart: str


def recipe_of() -> Recipe:
    """Read the data set."""
    journey = journey_of_demo()
    bought: Counter[str] = Counter()
    prices: dict[str, int] = {}
    for basket in journey.baskets:
        for line in basket.lines:
            bought[line.product_id] += 1
            prices[line.product_id] = max(1, line.amount_minor // line.quantity)
    products = tuple(product for product, _ in bought.most_common())
    eights = [basket for basket in journey.baskets if len(basket.lines) == LINES]
    carts = [
        cart_of(
            [
                {
                    "id": str(number),
                    "sku": line.product_id,
                    "quantity": line.quantity,
                    "amount_minor": line.amount_minor,
                    "brand": journey.products[line.product_id].brand or "none",
                    "categories": [journey.products[line.product_id].category or "none"],
                }
                for number, line in enumerate(basket.lines, 1)
            ],
            store=basket.store_id,
        ).decode()
        for basket in eights[:: max(1, len(eights) // CARTS)][:CARTS]
    ]
    big = [
        {"id": f"{n:03}", "sku": sku, "quantity": BIG_QUANTITY, "price_minor": prices[sku]}
        for n, sku in enumerate(products[:BIG_LINES])
    ]
    stores = Counter(basket.store_id for basket in journey.baskets)
    coupons = tuple(
        Coupon(one.key, one.title, one.face_value_minor, one.product_ids)
        for one in journey.promotions.values()
    )
    return Recipe(
        coupons=coupons,
        products=products,
        stores=tuple(store for store, _ in stores.most_common()),
        carts=tuple(carts),
        big_cart=cart_of(big, store="1").decode(),
    )


def documents(recipe: Recipe, size: int) -> Iterator[bytes]:
    """The terms of a set, as JSON."""
    real = Names(recipe.products, recipe.stores)
    coupons = iter(recipe.coupons)
    for number in range(min(size, REAL)):
        coupon = next(coupons, None) if number % 4 == 1 else None
        yield msgspec.json.encode(_coupon(coupon) if coupon else _made(number, real))
    others = Names((), ())
    for number in range(REAL, size):
        yield msgspec.json.encode(_made(number, others))


class Names:
    """Where the next promotion's product, store or segment comes from."""

    def __init__(self, products: tuple[str, ...], stores: tuple[str, ...]) -> None:
        self.pairs, self.gets, self.stores = iter(products), iter(products), iter(stores)
        #: How many are for everybody: none among those that no cart of the data may match.
        self.for_all = FOR_ALL if stores else 0
        self.others = count()
        self.carts = 0

    def of(self, names: Iterator[str]) -> str:
        """The next one, or one that nobody has."""
        return next(names, None) or f"other-{next(self.others)}"


def _made(number: int, names: Names) -> dict[str, Any]:
    """A promotion of the kind whose turn it is."""
    if number % 50 == 0:
        return _on_cart(number, names)
    if number % 10 == 3:
        product = names.of(names.gets)
        items = {"include": [{"skus": [product]}]}
        benefit = {"type": "buy_get", "buy": items, "buy_quantity": 2, "get_quantity": 1}
        return _terms(f"get-{number}", f"Buy two {product}, get one free", [], benefit)
    product = names.of(names.pairs)
    items = {"include": [{"skus": [product]}]}
    condition = {"type": "quantity", "min": 2, "items": items}
    benefit = {"type": "percent_off", "basis_points": 1000, "items": items}
    return _terms(f"two-{number}", f"10 % off two or more of {product}", [condition], benefit)


def _on_cart(number: int, names: Names) -> dict[str, Any]:
    least = THRESHOLDS[names.carts % len(THRESHOLDS)]
    conditions: list[dict[str, Any]] = [{"type": "subtotal", "min_minor": least}]
    if names.carts >= names.for_all:
        if names.carts % 2:
            conditions.append({"type": "store", "any_of": [names.of(names.stores)]})
        else:
            conditions.append({"type": "segment", "any_of": [f"segment-{number}"]})
    names.carts += 1
    benefit = {"type": "percent_off", "basis_points": 200}
    return _terms(f"cart-{number}", f"2 % off from {least}", conditions, benefit)


def _coupon(one: Coupon) -> dict[str, Any]:
    items = {"include": [{"skus": list(one.product_ids)}]}
    benefit = {"type": "amount_off", "amount_minor": one.face_value_minor, "items": items}
    return _terms(f"coupon-{one.key}", one.title, [], benefit)


def _terms(
    promotion_id: str, title: str, conditions: list[dict[str, Any]], benefit: dict[str, Any]
) -> dict[str, Any]:
    return {
        "promotion_id": promotion_id,
        "title": title,
        "currency": "USD",
        "conditions": conditions,
        "benefits": [benefit],
        "limits": [{"uses": USES_MAX}],
    }
