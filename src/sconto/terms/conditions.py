"""What must be true of cart and shopper: a tree of `all`, `any` and `not` over typed leaves.

Amounts are minor units of the promotion's currency. The *basis* of an amount: `initial` is before
any discount, `before` is what earlier promotions left when this one's turn comes, `after` is what
would be left with this one applied too.
"""

from typing import Annotated, Literal

from msgspec import Meta

from sconto.base.documents import Document
from sconto.terms.schedule import WeeklyHours
from sconto.terms.selectors import EVERYTHING, AttributeMatch, Minor, Names, Selector

Count = Annotated[int, Meta(ge=0, le=10**9)]
AtLeastOneName = Annotated[Names, Meta(min_length=1)]
Basis = Literal["initial", "before", "after"]


class All(Document, tag="all", tag_field="type"):
    """Every one of the conditions holds; of none, this does."""

    of: tuple["Condition", ...]


class Any(Document, tag="any", tag_field="type"):
    """At least one of the conditions holds."""

    of: Annotated[tuple["Condition", ...], Meta(min_length=1)]


class Not(Document, tag="not", tag_field="type"):
    """The condition does not hold."""

    condition: "Condition"


class Subtotal(Document, tag="subtotal", tag_field="type"):
    """The selected items together cost at least `min_minor` and at most `max_minor`."""

    min_minor: Minor | None = None
    max_minor: Minor | None = None
    items: Selector = EVERYTHING
    basis: Basis = "before"

    def __post_init__(self) -> None:
        _check_range(self.min_minor, self.max_minor, "min_minor", "max_minor")


class Quantity(Document, tag="quantity", tag_field="type"):
    """There are at least `min` and at most `max` units of the selected items."""

    min: Count | None = None
    max: Count | None = None
    items: Selector = EVERYTHING

    def __post_init__(self) -> None:
        _check_range(self.min, self.max, "min", "max")


class Distinct(Document, tag="distinct", tag_field="type"):
    """The selected items have at least `min` different values of `by`; lacking ones don't count."""

    min: Annotated[int, Meta(ge=1, le=10**6)]
    by: Literal["sku", "product", "brand", "category"] = "sku"
    items: Selector = EVERYTHING


class Segment(Document, tag="segment", tag_field="type"):
    """The shopper is in any of these segments."""

    any_of: AtLeastOneName


class OrderNumber(Document, tag="order_number", tag_field="type"):
    """This would be the shopper's n-th order: one of `numbers`, or a multiple of `every`."""

    numbers: frozenset[Annotated[int, Meta(ge=1, le=10**9)]] = frozenset()
    every: Annotated[int, Meta(ge=2, le=10**6)] | None = None

    def __post_init__(self) -> None:
        if not self.numbers and self.every is None:
            raise ValueError("an order number needs `numbers` or `every`")


class Store(Document, tag="store", tag_field="type"):
    """The sale is in any of these stores."""

    any_of: AtLeastOneName


class Region(Document, tag="region", tag_field="type"):
    """The sale is in any of these regions."""

    any_of: AtLeastOneName


class Channel(Document, tag="channel", tag_field="type"):
    """The sale comes through any of these channels (`web`, `app`, `till`, …)."""

    any_of: AtLeastOneName


class ShippingMethod(Document, tag="shipping_method", tag_field="type"):
    """The order is shipped by any of these methods."""

    any_of: AtLeastOneName


class PaymentMethod(Document, tag="payment_method", tag_field="type"):
    """The order is paid by any of these methods."""

    any_of: AtLeastOneName


class Hours(Document, tag="hours", tag_field="type"):
    """It is one of these weekly hours, on the wall clock of the promotion's time zone."""

    weekly: Annotated[tuple[WeeklyHours, ...], Meta(min_length=1)]


class Attribute(Document, tag="attribute", tag_field="type"):
    """A custom attribute of the cart, of the shopper, or of at least one item matches."""

    of: Literal["cart", "shopper", "item"]
    match: AttributeMatch


Condition = (
    All
    | Any
    | Not
    | Subtotal
    | Quantity
    | Distinct
    | Segment
    | OrderNumber
    | Store
    | Region
    | Channel
    | ShippingMethod
    | PaymentMethod
    | Hours
    | Attribute
)


def _check_range(low: int | None, high: int | None, low_name: str, high_name: str) -> None:
    if low is None and high is None:
        raise ValueError(f"needs `{low_name}` or `{high_name}`")
    if low is not None and high is not None and low > high:
        raise ValueError(f"`{low_name}` is above `{high_name}`")
