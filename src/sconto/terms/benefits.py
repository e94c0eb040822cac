"""What is given: money off items or shipping, gifts, points, tokens, custom effects.

Amounts are minor units of the promotion's currency, rates are basis points. `items` says what a
benefit may touch; it never touches an item that must not be discounted, and never takes a line
below its floor.
"""

from itertools import pairwise
from typing import Annotated, Literal

from msgspec import Meta, field

from sconto.base.documents import Document
from sconto.base.money import AMOUNT_MINOR_MAX, BASIS_POINTS
from sconto.terms.selectors import EVERYTHING, Minor, Name, Scalar, Selector

BasisPoints = Annotated[int, Meta(ge=1, le=BASIS_POINTS)]
PositiveMinor = Annotated[int, Meta(ge=1, le=AMOUNT_MINOR_MAX)]
Units = Annotated[int, Meta(ge=1, le=10**6)]
Choice = Literal["cheapest", "dearest"]


class Pick(Document):
    """Only so many units of the selected items: the cheapest or the dearest ones.

    >>> from sconto.cart.worked import gives
    >>> half = {"type": "percent_off", "basis_points": 5000}
    >>> gives("2 a 100, b 90, 3 c 50", half | {"pick": {"quantity": 4}})
    {'b': 45, 'c': 75}
    >>> gives("2 a 100, b 90, 3 c 50", half | {"pick": {"quantity": 2, "choose": "dearest"}})
    {'a': 100}
    """

    quantity: Units = 1
    choose: Choice = "cheapest"


class PercentOff(Document, tag="percent_off", tag_field="type"):
    """A share of the selected items' price, rounded half-up once, at most `max_minor`.

    Ten per cent of 10.05 is 1.005, so 1.01; of 10.04 it is 1.00. With the basis `lowest_price` an
    item costs so much less than its lowest price of the prior 30 days, line by line, and never more
    than now; an item that does not state that price is left as it is.

    >>> from sconto.cart.worked import gives
    >>> ten = {"type": "percent_off", "basis_points": 1000}
    >>> gives("a 1005", ten), gives("a 1004", ten), gives("a 4", ten)
    ({'a': 101}, {'a': 100}, {})
    >>> gives("a 1005, b 1005", ten)  # 2.01 in all, not 2.02: rounded once
    {'a': 101, 'b': 100}
    >>> gives("a 5000", ten | {"max_minor": 500}), gives("a 5010", ten | {"max_minor": 500})
    ({'a': 500}, {'a': 500})
    >>> announced = {"type": "percent_off", "basis_points": 2000, "basis": "lowest_price"}
    >>> gives("a 169 lowest=159", announced)  # 1.59 less 20 % is 1.27
    {'a': 42}
    >>> gives("a 128 lowest=159, b 127 lowest=159, c 169", announced)
    {'a': 1}
    """

    basis_points: BasisPoints
    items: Selector = EVERYTHING
    max_minor: PositiveMinor | None = None
    pick: Pick | None = None
    #: What it is a share of: the price as it is, or `lowest_price_minor` of the item.
    basis: Literal["price", "lowest_price"] = "price"

    def __post_init__(self) -> None:
        if self.basis == "lowest_price" and (self.max_minor, self.pick) != (None, None):
            # With either the price would not be what the percentage announces.
            raise ValueError("neither `max_minor` nor `pick` goes with the basis `lowest_price`")


class AmountOff(Document, tag="amount_off", tag_field="type"):
    """An amount off: shared by the selected items, or off each unit or each line of them.

    >>> from sconto.cart.worked import gives
    >>> three = {"type": "amount_off", "amount_minor": 300}
    >>> gives("a 4300, b 1400, c 2300", three)
    {'a': 161, 'b': 53, 'c': 86}
    >>> gives("2 a 4300, b 1400", three | {"spread": "by_quantity"})
    {'a': 200, 'b': 100}
    >>> gives("2 a 4300, b 299", three | {"spread": "each_unit"})
    {'a': 600, 'b': 299}
    >>> gives("2 a 4300, b 301", three | {"spread": "each_line"})
    {'a': 300, 'b': 300}
    >>> gives("a 200, b 99", three)  # never more than there is
    {'a': 200, 'b': 99}
    """

    amount_minor: PositiveMinor
    items: Selector = EVERYTHING
    spread: Literal["by_value", "by_quantity", "each_unit", "each_line"] = "by_value"
    #: With `each_unit` only.
    pick: Pick | None = None

    def __post_init__(self) -> None:
        if self.pick is not None and self.spread != "each_unit":
            raise ValueError("`pick` goes with the spread `each_unit`")


class FixedPrice(Document, tag="fixed_price", tag_field="type"):
    """Each selected unit costs `unit_price_minor`, where that is less than it would cost.

    >>> from sconto.cart.worked import gives
    >>> gives("3 a 120, b 99, c 100", {"type": "fixed_price", "unit_price_minor": 99})
    {'a': 63, 'c': 1}
    """

    unit_price_minor: Minor
    items: Selector = EVERYTHING
    pick: Pick | None = None


class BundlePart(Document):
    """So many units of these items belong to the bundle."""

    quantity: Units
    items: Selector = EVERYTHING


class BundlePrice(Document, tag="bundle_price", tag_field="type"):
    """One unit set per part together costs `price_minor`, as often as complete sets are there.

    A unit is in one bundle only. The dearest units are taken first, so the shopper gains most, and
    a set that would cost less by itself is none.

    >>> from sconto.cart.worked import gives
    >>> bread, jam = {"include": [{"skus": ["bread"]}]}, {"include": [{"tags": ["jam"]}]}
    >>> parts = [{"quantity": 1, "items": bread}, {"quantity": 2, "items": jam}]
    >>> breakfast = {"type": "bundle_price", "price_minor": 500, "parts": parts}
    >>> gives("2 bread 200, 2 plum 180 tag=jam, fig 150 tag=jam", breakfast)  # 560 for 500
    {'bread': 21, 'plum': 39}
    >>> gives("2 bread 200, plum 180 tag=jam", breakfast)  # one jam short
    {}
    >>> two_for = {"type": "bundle_price", "price_minor": 150, "parts": [{"quantity": 2}]}
    >>> gives("3 a 100, c 80, 2 b 70", two_for)  # 200 and 180 for 150 each; 140 stays
    {'a': 63, 'c': 17}
    """

    price_minor: Minor
    parts: Annotated[tuple[BundlePart, ...], Meta(min_length=1, max_length=8)]
    repeat_max: Units | None = None


class Tier(Document):
    """From this much on: exactly one of a share, an amount off, or a unit price."""

    #: Minor units or units, as the tiers measure.
    from_: Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX)] = field(name="from")
    basis_points: BasisPoints | None = None
    amount_minor: PositiveMinor | None = None
    unit_price_minor: Minor | None = None

    def __post_init__(self) -> None:
        given = (self.basis_points, self.amount_minor, self.unit_price_minor)
        if sum(value is not None for value in given) != 1:
            raise ValueError("needs one of `basis_points`, `amount_minor`, `unit_price_minor`")


class Tiered(Document, tag="tiered", tag_field="type"):
    """The highest tier reached holds for all of the selected items; below the first: nothing.

    >>> from sconto.cart.worked import gives
    >>> tiers = [{"from": 5000, "amount_minor": 500}, {"from": 10000, "basis_points": 1500}]
    >>> by_subtotal = {"type": "tiered", "measure": "subtotal", "tiers": tiers}
    >>> [gives(f"a {price}", by_subtotal) for price in (4999, 5000, 9999, 10000)]
    [{}, {'a': 500}, {'a': 500}, {'a': 1500}]
    >>> tiers = [{"from": 3, "unit_price_minor": 90}, {"from": 6, "unit_price_minor": 80}]
    >>> by_quantity = {"type": "tiered", "measure": "quantity", "tiers": tiers}
    >>> [gives(f"{units} a 100", by_quantity) for units in (2, 3, 5, 6)]
    [{}, {'a': 30}, {'a': 50}, {'a': 120}]
    """

    measure: Literal["subtotal", "quantity"]
    tiers: Annotated[tuple[Tier, ...], Meta(min_length=1, max_length=50)]
    items: Selector = EVERYTHING

    def __post_init__(self) -> None:
        starts = [tier.from_ for tier in self.tiers]
        if any(low >= high for low, high in pairwise(starts)):
            raise ValueError("the tiers must rise")


class BuyGet(Document, tag="buy_get", tag_field="type"):
    """For every `buy_quantity` units bought, `get_quantity` others are reduced.

    A unit is bought or got, never both, and takes part once: two such promotions share no unit.
    Only complete sets count. The units got are the cheapest (or dearest) that leave enough to buy.

    >>> from sconto.cart.worked import gives
    >>> three_for_two = {"type": "buy_get", "buy_quantity": 2, "get_quantity": 1}
    >>> [gives(f"{units} a 100", three_for_two) for units in (2, 3, 5, 6)]
    [{}, {'a': 100}, {'a': 100}, {'a': 200}]
    >>> gives("2 a 100, 2 b 30, 2 c 70", three_for_two)
    {'b': 60}
    >>> gives("9 a 100", three_for_two | {"repeat_max": 2})
    {'a': 200}
    >>> jam, bread = {"include": [{"skus": ["jam"]}]}, {"include": [{"skus": ["bread"]}]}
    >>> half_jam = {"type": "buy_get", "buy_quantity": 2, "buy": bread, "get": jam}
    >>> gives("3 bread 200, 2 jam 155", half_jam | {"basis_points": 5000})
    {'jam': 78}
    """

    buy_quantity: Units
    get_quantity: Units = 1
    buy: Selector = EVERYTHING
    #: None: the same items as `buy`.
    get: Selector | None = None
    basis_points: BasisPoints = BASIS_POINTS
    choose: Choice = "cheapest"
    #: How often at most in one cart.
    repeat_max: Units | None = None


class Gift(Document, tag="gift", tag_field="type"):
    """So many units of an item for nothing; the merchant adds and removes its line.

    The answer says what is missing. A line that carries `gift_of` costs nothing while the promotion
    applies, and is named for removal when it does not.

    >>> from sconto.cart.worked import promotion_of, try_out
    >>> mug = {"type": "gift", "sku": "mug", "quantity": 2}
    >>> over_20 = [{"type": "subtotal", "min_minor": 2000}]
    >>> promotion = promotion_of(benefit=mug, conditions=over_20)
    >>> found = try_out("tea 2000, mug 700 gift_of=p", promotion)
    >>> found.applied[0].gifts, found.totals.total_minor
    ((Gift(sku='mug', quantity=2, missing=1),), 2000)
    >>> found = try_out("tea 1999, mug 700 gift_of=p", promotion)
    >>> found.applied, found.gifts_to_remove
    ((), ('mug',))
    """

    sku: Name
    quantity: Units = 1


class ShippingOff(Document, tag="shipping_off", tag_field="type"):
    """Less for shipping: exactly one of a share (all: free), an amount off, or a price.

    >>> from sconto.cart.worked import gives
    >>> post = {"amount_minor": 499, "method": "post"}
    >>> gives("a 100", {"type": "shipping_off", "basis_points": 10000}, cart_shipping=post)
    {'shipping': 499}
    >>> gives("a 100", {"type": "shipping_off", "price_minor": 199}, cart_shipping=post)
    {'shipping': 300}
    >>> gives("a 1", {"type": "shipping_off", "amount_minor": 500}, cart_shipping=post)
    {'shipping': 499}
    >>> by_bike = {"type": "shipping_off", "basis_points": 10000, "methods": ["bike"]}
    >>> gives("a 100", by_bike, cart_shipping=post)
    {}
    """

    basis_points: BasisPoints | None = None
    amount_minor: PositiveMinor | None = None
    price_minor: Minor | None = None
    #: None given: any method.
    methods: frozenset[Name] = frozenset()

    def __post_init__(self) -> None:
        given = (self.basis_points, self.amount_minor, self.price_minor)
        if sum(value is not None for value in given) != 1:
            raise ValueError("needs one of `basis_points`, `amount_minor`, `price_minor`")


class Points(Document, tag="points", tag_field="type"):
    """So many points; with `per_minor`, that many for each full `per_minor` of the items paid.

    Paid is what is left after every discount of the evaluation, whatever its lane.

    >>> from sconto.cart.worked import promotion_of, try_out
    >>> p = promotion_of(benefit={"type": "points", "points": 2, "per_minor": 100})
    >>> [[one.rewards[0].count for one in try_out(f"a {price}", p).applied]
    ...  for price in (99, 100, 250)]
    [[], [2], [4]]
    """

    points: Annotated[int, Meta(ge=1, le=10**9)]
    per_minor: PositiveMinor | None = None
    items: Selector = EVERYTHING


class TokenFor(Document, tag="token", tag_field="type"):
    """A token of another promotion, issued when this one is redeemed (the till coupon).

    >>> from sconto.cart.worked import promotion_of, try_out
    >>> p = promotion_of(benefit={"type": "token", "promotion_id": "jam-30"})
    >>> reward = try_out("bread 200", p).applied[0].rewards[0]
    >>> reward.kind, reward.promotion_id, reward.count
    ('token', 'jam-30', 1)
    """

    promotion_id: Name
    count: Annotated[int, Meta(ge=1, le=100)] = 1


class Custom(Document, tag="custom", tag_field="type"):
    """An effect that the merchant's own system gives; passed on as it stands.

    >>> from sconto.cart.worked import promotion_of, try_out
    >>> p = promotion_of(benefit={"type": "custom", "name": "badge", "values": {"level": 2}})
    >>> try_out("a 1", p).applied[0].rewards[0].values
    {'level': 2}
    """

    name: Name
    values: dict[str, Scalar] = field(default_factory=dict)


Benefit = (
    PercentOff
    | AmountOff
    | FixedPrice
    | BundlePrice
    | Tiered
    | BuyGet
    | Gift
    | ShippingOff
    | Points
    | TokenFor
    | Custom
)

#: Benefits that take money off; the others give something beside the bill.
MONEY_BENEFITS = (
    PercentOff,
    AmountOff,
    FixedPrice,
    BundlePrice,
    Tiered,
    BuyGet,
    Gift,
    ShippingOff,
)
