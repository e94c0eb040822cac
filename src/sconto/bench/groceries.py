"""Real carts, and promotions of the kind that every engine can express.

Carts are the eight-line baskets of the Complete Journey's demo weeks in which at least one of the
promotions applies. A promotion is "2 or more of product P: 10 % off P"; the first ones are for the
products that these baskets hold twice or more, the rest for the products bought most often.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sconto.base.errors import InvalidInputError
from sconto.terms import Terms, terms_from

if TYPE_CHECKING:
    from sconto.demo.journey import Journey

LINES = 8
#: A budget that no run uses up.
USES_MAX = 10**12
#: Products that the carts hold at least twice, so that their promotions apply.
APPLYING = 100


class Groceries(msgspec.Struct, frozen=True):
    """Carts as JSON, and the products in the order in which they get promotions."""

    carts: tuple[bytes, ...]
    products: tuple[str, ...]

    def terms(self, number: int) -> list[Terms]:
        """The terms of the first `number` products' promotions."""
        return [two_of(f"two-of-{product}", product) for product in self.products[:number]]


def load_groceries() -> Groceries:
    """Read the data set; InvalidInputError says how to get it where it is not installed."""
    journey = journey_of_demo()
    baskets = [basket for basket in journey.baskets if len(basket.lines) == LINES]
    doubled = Counter(
        line.product_id for basket in baskets for line in basket.lines if line.quantity > 1
    )
    bought = Counter(line.product_id for basket in journey.baskets for line in basket.lines)
    applying = [product for product, _ in doubled.most_common(APPLYING)]
    carts = []
    for basket in baskets:
        if any(line.quantity > 1 and line.product_id in applying for line in basket.lines):
            carts.append(
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
                )
            )
    products = dict.fromkeys([*applying, *(product for product, _ in bought.most_common())])
    return Groceries(tuple(carts), tuple(products))


def journey_of_demo() -> "Journey":
    """The demo's weeks of the data set; InvalidInputError says how to get it."""
    try:
        from sconto.demo.journey import DEMO_WINDOW, load_journey
    except ImportError:
        raise InvalidInputError(
            "the data set of the benchmarks is not installed",
            code="not_found",
            remedy="pip install 'sconto[demo]', or run `make bench`",
        ) from None
    return load_journey(DEMO_WINDOW)


def cart_of(lines: Sequence[dict[str, Any]], store: str) -> bytes:
    """A cart's JSON."""
    return msgspec.json.encode({"currency": "USD", "lines": lines, "store": store})


def two_of(promotion_id: str, product: str) -> Terms:
    """2 or more of a product: 10 % off it; a budget, but a huge one."""
    items = {"include": [{"skus": [product]}]}
    return terms_from(
        {
            "promotion_id": promotion_id,
            "title": f"10 % off two or more of {product}",
            "currency": "USD",
            "conditions": [{"type": "quantity", "min": 2, "items": items}],
            "benefits": [{"type": "percent_off", "basis_points": 1000, "items": items}],
            "limits": [{"uses": USES_MAX}],
        },
        what="terms",
        field="",
    )
