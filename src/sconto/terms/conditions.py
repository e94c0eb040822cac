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
    """Every one of the conditions holds; of none, this does.

    >>> from sconto.cart.worked import holds
    >>> two_a = {"type": "quantity", "min": 2, "items": {"include": [{"skus": ["a"]}]}}
    >>> one_b = {"type": "quantity", "min": 1, "items": {"include": [{"skus": ["b"]}]}}
    >>> both = {"type": "all", "of": [two_a, one_b]}
    >>> holds("2 a 9, b 9", both), holds("a 9, b 9", both), holds("a 9", {"type": "all", "of": []})
    ('yes', 'quantity_too_low, missing 1', 'yes')
    """

    of: tuple["Condition", ...]


class Any(Document, tag="any", tag_field="type"):
    """At least one of the conditions holds; where none does, the nearest is explained.

    >>> from sconto.cart.worked import holds
    >>> ten_euro = {"type": "subtotal", "min_minor": 1000}
    >>> either = {"type": "any", "of": [{"type": "quantity", "min": 10}, ten_euro]}
    >>> holds("a 1000", either), holds("a 999", either), holds("9 a 10", either)
    ('yes', 'subtotal_too_low, missing 1', 'quantity_too_low, missing 1')
    """

    of: Annotated[tuple["Condition", ...], Meta(min_length=1)]


class Not(Document, tag="not", tag_field="type"):
    """The condition does not hold.

    >>> from sconto.cart.worked import holds
    >>> no_wine = {"type": "not", "condition": {
    ...     "type": "quantity", "min": 1, "items": {"include": [{"categories": ["wine"]}]}}}
    >>> holds("bread 200", no_wine), holds("merlot 900 category=wine", no_wine)
    ('yes', 'excluded')
    """

    condition: "Condition"


class Subtotal(Document, tag="subtotal", tag_field="type"):
    """The selected items together cost at least `min_minor` and at most `max_minor`.

    >>> from sconto.cart.worked import holds
    >>> from_10_to_20 = {"type": "subtotal", "min_minor": 1000, "max_minor": 2000}
    >>> [holds(f"a {price}", from_10_to_20) for price in (999, 1000, 2000, 2001)]
    ['subtotal_too_low, missing 1', 'yes', 'yes', 'subtotal_too_high']

    The basis, after an earlier 3.00 off 12.00: 12.00 initial, 9.00 before, 8.00 after a 1.00 off.

    >>> from sconto.cart.worked import promotion_of, try_out
    >>> off = promotion_of("early", benefit={"type": "amount_off", "amount_minor": 300},
    ...                    combination={"priority": 1})
    >>> def late(basis, least):
    ...     needs = [{"type": "subtotal", "min_minor": least, "basis": basis}]
    ...     off_1 = {"type": "amount_off", "amount_minor": 100}
    ...     late = promotion_of(benefit=off_1, conditions=needs)
    ...     return len(try_out("a 1200", off, late).applied)
    >>> late("initial", 1200), late("before", 900), late("after", 800)
    (2, 2, 2)
    >>> late("initial", 1201), late("before", 901), late("after", 801)
    (1, 1, 1)
    """

    min_minor: Minor | None = None
    max_minor: Minor | None = None
    items: Selector = EVERYTHING
    basis: Basis = "before"

    def __post_init__(self) -> None:
        _check_range(self.min_minor, self.max_minor, "min_minor", "max_minor")


class Quantity(Document, tag="quantity", tag_field="type"):
    """There are at least `min` and at most `max` units of the selected items.

    >>> from sconto.cart.worked import holds
    >>> two_to_four = {"type": "quantity", "min": 2, "max": 4}
    >>> [holds(f"{units} a 10", two_to_four) for units in (1, 2, 4, 5)]
    ['quantity_too_low, missing 1', 'yes', 'yes', 'quantity_too_high']
    """

    min: Count | None = None
    max: Count | None = None
    items: Selector = EVERYTHING

    def __post_init__(self) -> None:
        _check_range(self.min, self.max, "min", "max")


class Distinct(Document, tag="distinct", tag_field="type"):
    """The selected items have at least `min` different values of `by`; lacking ones don't count.

    >>> from sconto.cart.worked import holds
    >>> two_brands = {"type": "distinct", "min": 2, "by": "brand"}
    >>> holds("a 1 brand=x, b 1 brand=y", two_brands), holds("a 1 brand=x, b 1", two_brands)
    ('yes', 'distinct_too_low, missing 1')
    """

    min: Annotated[int, Meta(ge=1, le=10**6)]
    by: Literal["sku", "product", "brand", "category"] = "sku"
    items: Selector = EVERYTHING


class Segment(Document, tag="segment", tag_field="type"):
    """The shopper is in any of these segments.

    >>> from sconto.cart.model import Holder
    >>> from sconto.cart.worked import holds
    >>> gold, c = {"type": "segment", "any_of": ["gold"]}, "a 100"
    >>> holds(c, gold, Holder(client="c", segments=frozenset(["gold"])))
    'yes'
    >>> holds(c, gold, Holder(client="c")), holds(c, gold)
    ('segment_not_matched', 'shopper_unknown')
    """

    any_of: AtLeastOneName


class OrderNumber(Document, tag="order_number", tag_field="type"):
    """This would be the shopper's n-th order: one of `numbers`, or a multiple of `every`.

    >>> from sconto.cart.model import Holder
    >>> from sconto.cart.worked import holds
    >>> first_or_tenth = {"type": "order_number", "numbers": [1], "every": 10}
    >>> [holds("a 1", first_or_tenth, Holder(client="c", order_number=n)) for n in (1, 2, 9, 20)]
    ['yes', 'order_number_not_matched, missing 8', 'order_number_not_matched, missing 1', 'yes']
    """

    numbers: frozenset[Annotated[int, Meta(ge=1, le=10**9)]] = frozenset()
    every: Annotated[int, Meta(ge=2, le=10**6)] | None = None

    def __post_init__(self) -> None:
        if not self.numbers and self.every is None:
            raise ValueError("an order number needs `numbers` or `every`")


class Store(Document, tag="store", tag_field="type"):
    """The sale is in any of these stores.

    >>> from sconto.cart.worked import holds
    >>> in_north = {"type": "store", "any_of": ["north"]}
    >>> holds("a 1", in_north, store="north"), holds("a 1", in_north, store="south")
    ('yes', 'store_not_matched')
    """

    any_of: AtLeastOneName


class Region(Document, tag="region", tag_field="type"):
    """The sale is in any of these regions.

    >>> from sconto.cart.worked import holds
    >>> in_nrw = {"type": "region", "any_of": ["DE-NW"]}
    >>> holds("a 1", in_nrw, region="DE-NW"), holds("a 1", in_nrw)
    ('yes', 'region_not_matched')
    """

    any_of: AtLeastOneName


class Channel(Document, tag="channel", tag_field="type"):
    """The sale comes through any of these channels (`web`, `app`, `till`, …).

    >>> from sconto.cart.worked import holds
    >>> app = {"type": "channel", "any_of": ["app"]}
    >>> holds("a 1", app, channel="app"), holds("a 1", app, channel="till")
    ('yes', 'channel_not_matched')
    """

    any_of: AtLeastOneName


class ShippingMethod(Document, tag="shipping_method", tag_field="type"):
    """The order is shipped by any of these methods.

    >>> from sconto.cart.worked import holds
    >>> bike = {"type": "shipping_method", "any_of": ["bike"]}
    >>> holds("a 1", bike, shipping={"amount_minor": 99, "method": "bike"}), holds("a 1", bike)
    ('yes', 'shipping_method_not_matched')
    """

    any_of: AtLeastOneName


class PaymentMethod(Document, tag="payment_method", tag_field="type"):
    """The order is paid by any of these methods.

    >>> from sconto.cart.worked import holds
    >>> card = {"type": "payment_method", "any_of": ["card"]}
    >>> holds("a 1", card, payment_method="card"), holds("a 1", card, payment_method="cash")
    ('yes', 'payment_method_not_matched')
    """

    any_of: AtLeastOneName


class Hours(Document, tag="hours", tag_field="type"):
    """It is one of these weekly hours, on the wall clock of the promotion's time zone.

    The instant 0 is a Thursday, 00:00 UTC.

    >>> from sconto.cart.worked import promotion_of, try_out
    >>> night = {"type": "hours", "weekly": [{"days": ["wed"], "from": "22:00", "until": "02:00"}]}
    >>> p = promotion_of(benefit={"type": "custom", "name": "x"}, conditions=[night])
    >>> [len(try_out("a 1", p, at_ms=hour * 3_600_000 + minute).applied)
    ...  for hour, minute in ((-3, 0), (-2, 0), (1, 0), (2, -1), (2, 0))]
    [0, 1, 1, 1, 0]
    """

    weekly: Annotated[tuple[WeeklyHours, ...], Meta(min_length=1)]


class Attribute(Document, tag="attribute", tag_field="type"):
    """A custom attribute of the cart, of the shopper, or of at least one item matches.

    >>> from sconto.cart.worked import holds
    >>> adult = {"type": "attribute", "of": "cart", "match": {"name": "age", "min": 18}}
    >>> [holds("a 1", adult, attributes={"age": age}) for age in (17, 18, "18")]
    ['attribute_not_matched', 'yes', 'attribute_not_matched']
    >>> organic = {"type": "attribute", "of": "item", "match": {"name": "bio", "any_of": ["yes"]}}
    >>> holds("a 1 bio=yes, b 1", organic), holds("a 1 bio=no", organic)
    ('yes', 'attribute_not_matched')
    """

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
