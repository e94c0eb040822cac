"""What evaluation answers: every promotion considered is applied or refused, to the cent.

All values are plain and frozen; `encode_evaluation` gives their one JSON form. Lines are named by
their id and listed by it, promotions in the order in which they were applied. Amounts are minor
units of the cart's currency and positive where something is taken off.
"""

from enum import StrEnum
from typing import Literal

import msgspec
from msgspec import Struct


class ReasonCode(StrEnum):
    """Why a promotion was refused, in descending precedence: the first that holds is the answer."""

    #: Said to strangers in place of every other reason.
    NOT_APPLICABLE = "not_applicable"
    #: No promotion has this code.
    CODE_UNKNOWN = "code_unknown"
    #: The unique code was used, or is reserved by another order.
    CODE_USED = "code_used"
    #: The token's terms are not in force at this merchant.
    PROMOTION_UNKNOWN = "promotion_unknown"
    #: The same code or token was given twice.
    ALREADY_APPLIED = "already_applied"
    #: The token was issued to the control group: it gives nothing.
    CONTROL_GROUP = "control_group"
    CURRENCY_MISMATCH = "currency_mismatch"
    NOT_STARTED = "not_started"
    EXPIRED = "expired"
    OUTSIDE_HOURS = "outside_hours"
    #: A condition about the shopper cannot be answered for a stranger.
    SHOPPER_UNKNOWN = "shopper_unknown"
    SEGMENT_NOT_MATCHED = "segment_not_matched"
    ORDER_NUMBER_NOT_MATCHED = "order_number_not_matched"
    STORE_NOT_MATCHED = "store_not_matched"
    REGION_NOT_MATCHED = "region_not_matched"
    CHANNEL_NOT_MATCHED = "channel_not_matched"
    SHIPPING_METHOD_NOT_MATCHED = "shipping_method_not_matched"
    PAYMENT_METHOD_NOT_MATCHED = "payment_method_not_matched"
    ATTRIBUTE_NOT_MATCHED = "attribute_not_matched"
    SUBTOTAL_TOO_LOW = "subtotal_too_low"
    SUBTOTAL_TOO_HIGH = "subtotal_too_high"
    QUANTITY_TOO_LOW = "quantity_too_low"
    QUANTITY_TOO_HIGH = "quantity_too_high"
    DISTINCT_TOO_LOW = "distinct_too_low"
    #: What must not hold does hold.
    EXCLUDED = "excluded"
    #: Nothing in the cart is meant by the benefit.
    NO_ITEMS_SELECTED = "no_items_selected"
    #: None of the items that are meant states its lowest price of the prior 30 days.
    LOWEST_PRICE_UNKNOWN = "lowest_price_unknown"
    #: Too few units to buy and get, or for a bundle.
    UNITS_TOO_FEW = "units_too_few"
    #: There is nothing left to take off.
    NO_EFFECT = "no_effect"
    #: It, or one that is already applied, is never combined with others.
    EXCLUSIVE = "exclusive"
    #: Its tags and those of one that is already applied do not allow each other.
    NOT_COMBINABLE = "not_combinable"
    #: The lane, or the promotion itself, allows no more of it in one cart or on one item.
    TOO_MANY = "too_many"
    #: A limit by shopper, store, code, … or period is reached (said by the ledger).
    LIMIT_REACHED = "limit_reached"
    #: The merchant has nothing left to give of it just now (said by the ledger, not by evaluate).
    ALLOTMENT_EXHAUSTED = "allotment_exhausted"
    #: Another one came first, and its lane takes only the first.
    NOT_FIRST = "not_first"
    #: Another one, or a set of others, is worth more to the shopper.
    BEATEN = "beaten"


class Allocation(Struct, frozen=True, omit_defaults=True, gc=False):
    """What one line, or shipping, gets of a discount."""

    #: None: shipping.
    line_id: str | None
    amount_minor: int
    #: How many units of the line it is about, where not all.
    quantity: int | None = None
    #: The prior price of one unit, where a percentage was computed from it.
    lowest_price_minor: int | None = None


class FundingPart(Struct, frozen=True, gc=False):
    """What one party pays of a discount."""

    party: str
    amount_minor: int


class Gift(Struct, frozen=True, omit_defaults=True, gc=False):
    """Units that the cart should hold for nothing; `missing` ones are not in it yet."""

    sku: str
    quantity: int
    missing: int = 0


class Reward(Struct, frozen=True, omit_defaults=True, gc=False):
    """Something beside the bill: points, tokens of another promotion, or a custom effect."""

    kind: Literal["points", "token", "custom"]
    #: Points or tokens.
    count: int = 0
    #: Of the promotion whose token it is.
    promotion_id: str | None = None
    #: Of the custom effect.
    name: str | None = None
    values: dict[str, str | int | bool] = {}


class Applied(Struct, frozen=True, omit_defaults=True, gc=False):
    """A promotion that applies, once; two tokens of one promotion are two of these."""

    promotion_id: str
    terms_digest: str
    title: str
    #: What it takes off; 0 where it is used up without effect or gives something else.
    amount_minor: int
    #: `each`: computed for each unit or line by itself; `across`: shared by them.
    method: Literal["each", "across"]
    priority: int
    lane: str
    token_id: str | None = None
    #: As the shopper typed it.
    code: str | None = None
    #: They sum to `amount_minor`.
    allocations: tuple[Allocation, ...] = ()
    #: By party, in the order of the terms; they sum to `amount_minor`. Empty: the signer pays all.
    funding: tuple[FundingPart, ...] = ()
    gifts: tuple[Gift, ...] = ()
    rewards: tuple[Reward, ...] = ()

    @property
    def is_automatic(self) -> bool:
        return self.token_id is None and self.code is None


class Unmet(Struct, frozen=True, omit_defaults=True, gc=False):
    """One condition that does not hold, with what was needed, what was there, what is missing."""

    code: ReasonCode
    #: Path in the terms: `conditions[0].of[1]`.
    condition: str | None = None
    needed: int | None = None
    had: int | None = None
    missing: int | None = None
    #: What `needed`, `had` and `missing` count.
    unit: Literal["minor", "units", "distinct", "orders", "uses"] | None = None
    #: Names of which one was needed.
    expected: tuple[str, ...] = ()
    #: What the units must be, where it is one SKU or product.
    of: str | None = None


class Refusal(Struct, frozen=True, omit_defaults=True, gc=False):
    """A promotion that does not apply, and why: the first of `unmet` is repeated at the top."""

    #: Empty where the promotion is not known, or not to be known.
    promotion_id: str
    code: ReasonCode
    terms_digest: str | None = None
    token_id: str | None = None
    #: The code that the shopper typed.
    presented_code: str | None = None
    condition: str | None = None
    needed: int | None = None
    had: int | None = None
    missing: int | None = None
    unit: Literal["minor", "units", "distinct", "orders", "uses"] | None = None
    expected: tuple[str, ...] = ()
    #: Promotion that stands in its way.
    beaten_by: str | None = None
    #: Every condition that does not hold.
    unmet: tuple[Unmet, ...] = ()


class Hint(Struct, frozen=True, omit_defaults=True, gc=False):
    """What is missing for a promotion that may be told of, or for more of one that applies."""

    promotion_id: str
    title: str
    kind: Literal["spend_more", "add_units", "add_distinct"]
    missing: int
    #: What the units must be of, where it is one SKU or product.
    of: str | None = None


class LineTotal(Struct, frozen=True, gc=False):
    """A line before and after all discounts."""

    line_id: str
    amount_minor: int
    discount_minor: int

    @property
    def total_minor(self) -> int:
        return self.amount_minor - self.discount_minor


class Totals(Struct, frozen=True, gc=False):
    """The sums; `total = subtotal - discount + shipping - shipping_discount`."""

    subtotal_minor: int
    discount_minor: int
    shipping_minor: int
    shipping_discount_minor: int
    total_minor: int


class Evaluation(Struct, frozen=True, omit_defaults=True, gc=False):
    """The whole answer."""

    currency: str
    applied: tuple[Applied, ...]
    refused: tuple[Refusal, ...]
    lines: tuple[LineTotal, ...]
    totals: Totals
    #: `exact`: every best set is proven best, its promotions applied in canonical order;
    #: `heuristic`: some lane had too many to try.
    method: Literal["exact", "heuristic"] = "exact"
    hints: tuple[Hint, ...] = ()
    #: Gift lines whose promotion does not apply (any more): the merchant removes them.
    gifts_to_remove: tuple[str, ...] = ()

    @property
    def discount_minor(self) -> int:
        """Everything taken off, of items and shipping."""
        return self.totals.discount_minor + self.totals.shipping_discount_minor


_ENCODER = msgspec.json.Encoder(order="deterministic")


def encode_evaluation(evaluation: Evaluation) -> bytes:
    """Its JSON: the same bytes for the same evaluation; defaults are left out."""
    return _ENCODER.encode(evaluation)
