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
    """Only so many units of the selected items: the cheapest or the dearest ones."""

    quantity: Units = 1
    choose: Choice = "cheapest"


class PercentOff(Document, tag="percent_off", tag_field="type"):
    """A share of the selected items' price, rounded half-up once, at most `max_minor`."""

    basis_points: BasisPoints
    items: Selector = EVERYTHING
    max_minor: PositiveMinor | None = None
    pick: Pick | None = None


class AmountOff(Document, tag="amount_off", tag_field="type"):
    """An amount off: shared by the selected items, or off each unit or each line of them."""

    amount_minor: PositiveMinor
    items: Selector = EVERYTHING
    spread: Literal["by_value", "by_quantity", "each_unit", "each_line"] = "by_value"
    #: With `each_unit` only.
    pick: Pick | None = None

    def __post_init__(self) -> None:
        if self.pick is not None and self.spread != "each_unit":
            raise ValueError("`pick` goes with the spread `each_unit`")


class FixedPrice(Document, tag="fixed_price", tag_field="type"):
    """Each selected unit costs `unit_price_minor`, where that is less than it would cost."""

    unit_price_minor: Minor
    items: Selector = EVERYTHING
    pick: Pick | None = None


class BundlePart(Document):
    """So many units of these items belong to the bundle."""

    quantity: Units
    items: Selector = EVERYTHING


class BundlePrice(Document, tag="bundle_price", tag_field="type"):
    """One unit set per part together costs `price_minor`, as often as complete sets are there.

    A unit is in one bundle only. The dearest units are taken first, so the shopper gains most.
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
    """The highest tier reached holds for all of the selected items; below the first: nothing."""

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
    """So many units of an item for nothing; the merchant adds and removes its line."""

    sku: Name
    quantity: Units = 1


class ShippingOff(Document, tag="shipping_off", tag_field="type"):
    """Less for shipping: exactly one of a share (all: free), an amount off, or a price."""

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
    """So many points; with `per_minor`, that many for each full `per_minor` of the items paid."""

    points: Annotated[int, Meta(ge=1, le=10**9)]
    per_minor: PositiveMinor | None = None
    items: Selector = EVERYTHING


class TokenFor(Document, tag="token", tag_field="type"):
    """A token of another promotion, issued when this one is redeemed (the till coupon)."""

    promotion_id: Name
    count: Annotated[int, Meta(ge=1, le=100)] = 1


class Custom(Document, tag="custom", tag_field="type"):
    """An effect that the merchant's own system gives; passed on as it stands."""

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
