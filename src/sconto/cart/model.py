"""What evaluation is given: a cart, and what is known of its holder.

In: JSON of a checkout, or values made in Python; both are checked alike. All amounts are minor
units of the cart's currency, with or without tax as `prices_include_tax` says.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, field

from sconto.base.documents import Document, decode, from_builtins
from sconto.base.money import AMOUNT_MINOR_MAX
from sconto.terms.model import Currency
from sconto.terms.selectors import Minor, Name, Names, Scalar

#: A document of this many bytes holds the largest cart.
CART_BYTES_MAX = 8 * 2**20
LINES_MAX = 5_000
LINE_QUANTITY_MAX = 10**6

Attributes = dict[Name, Scalar]


class Line(Document):
    """Some units of one item, by unit price, or by the price of the whole line (weighed goods)."""

    #: Unique in the cart. Where cents cannot be split evenly, the line with the smaller id gets
    #: the odd one, so that the order of the lines does not matter.
    id: Name
    sku: Name
    quantity: Annotated[int, Meta(ge=1, le=LINE_QUANTITY_MAX)] = 1
    #: Of one unit. Exactly one of this and `amount_minor`.
    price_minor: Minor | None = None
    #: Of the whole line.
    amount_minor: Minor | None = None
    #: The least that one unit may cost after all discounts.
    floor_price_minor: Minor = 0
    #: The lowest price of one unit in the 30 days before a reduction is announced, as the
    #: merchant's catalogue knows it. None: not known.
    lowest_price_minor: Minor | None = None
    discountable: bool = True
    #: Tax on top of, or contained in, the price.
    tax_basis_points: Annotated[int, Meta(ge=0, le=100_000)] = 0
    gtin: Name | None = None
    product: Name | None = None
    brand: Name | None = None
    categories: Names = frozenset()
    tags: Names = frozenset()
    attributes: Attributes = field(default_factory=dict)
    #: Id of the promotion whose gift this line is. It counts for no condition, and costs nothing
    #: as long as that promotion applies.
    gift_of: Name | None = None

    def __post_init__(self) -> None:
        if (self.price_minor is None) == (self.amount_minor is None):
            raise ValueError("a line has `price_minor` or `amount_minor`, one of them")
        if not 1 <= self.quantity <= LINE_QUANTITY_MAX:
            raise ValueError(f"`quantity` is not within 1 and {LINE_QUANTITY_MAX}")
        if not 0 <= self.initial_minor <= AMOUNT_MINOR_MAX:
            raise ValueError(f"a line's price is not within 0 and {AMOUNT_MINOR_MAX}")

    @property
    def initial_minor(self) -> int:
        """Price of the whole line before any discount."""
        if self.price_minor is not None:
            return self.price_minor * self.quantity
        return self.amount_minor or 0


class Shipping(Document):
    """How the order is shipped, and for how much."""

    amount_minor: Minor
    method: Name | None = None


class Cart(Document):
    """A basket before or at checkout."""

    currency: Currency
    lines: Annotated[tuple[Line, ...], Meta(max_length=LINES_MAX)]
    #: What the shopper typed, as typed.
    codes: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...], Meta(max_length=100)
    ] = ()
    shipping: Shipping | None = None
    prices_include_tax: bool = True
    store: Name | None = None
    region: Name | None = None
    channel: Name | None = None
    payment_method: Name | None = None
    attributes: Attributes = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len({line.id for line in self.lines}) != len(self.lines):
            raise ValueError(f"two lines have the id {_twice(line.id for line in self.lines)!r}")
        if sum(line.initial_minor for line in self.lines) > AMOUNT_MINOR_MAX:
            raise ValueError(f"the lines cost more than {AMOUNT_MINOR_MAX} together")


class HeldToken(Document):
    """A token that was verified as this holder's, or stands in the merchant's coupon information.

    A token of a control group exists and gives nothing.
    """

    token_id: Name
    terms_digest: Name
    clipped_at_ms: int = 0
    is_control: bool = False


class HeldCode(Document):
    """A unique code that the merchant's store knows: which terms it stands for."""

    code: Name
    terms_digest: Name
    is_used: bool = False


class Holder(Document):
    """Who is shopping, as far as the merchant knows."""

    #: Pairwise pseudonym or customer id; None: a stranger.
    client: str | None = None
    #: Whether they proved it; only then are refusals of tokens and codes explained.
    proven: bool = False
    tokens: tuple[HeldToken, ...] = ()
    #: Unique codes of `cart.codes`, resolved by the caller.
    codes: tuple[HeldCode, ...] = ()
    segments: Names = frozenset()
    #: Which order of this shopper this would be: 1 is the first. None: not known.
    order_number: Annotated[int, Meta(ge=1)] | None = None
    attributes: Attributes = field(default_factory=dict)


#: Nobody that we know.
STRANGER = Holder()


def decode_cart(body: bytes) -> Cart:
    """A cart from JSON; InvalidInputError names the field."""
    return decode(body, Cart, max_bytes=CART_BYTES_MAX, what="cart")


def cart_from(value: object, *, field: str = "cart") -> Cart:
    """A cart in a JSON value that was parsed strictly, such as a part of a request."""
    return from_builtins(value, Cart, what="cart", field=field)


def _twice(ids: Iterator[str]) -> str:
    return next(name for name, times in Counter(ids).items() if times > 1)
