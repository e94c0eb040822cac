"""A promotion as the engine holds it: terms and digest, and, once needed, its compiled form."""

from sconto.cart.basket import Basket
from sconto.cart.evaluation import ReasonCode
from sconto.cart.price import (
    AmountPricer,
    FixedPricePricer,
    GiftPricer,
    LowestPricePricer,
    PercentPricer,
    Pricer,
    RewardPricer,
    ShippingPricer,
    TieredPricer,
    custom_maker,
    points_maker,
    token_maker,
)
from sconto.cart.qualify import compile_conditions, needs_after
from sconto.cart.records import Single, Value
from sconto.cart.select import SelectorCompiler
from sconto.cart.units import BundlePricer, BuyGetPricer, PickPricer
from sconto.terms import benefits as b
from sconto.terms.model import Terms, terms_digest
from sconto.terms.schedule import in_weekly_hours

#: Priority, promotion, version, token, code.
Key = tuple[int, str, str, str, str]


class Promotion(Value):
    """Terms in force at a merchant; only the current version answers carts and codes by itself."""

    terms: Terms
    digest: str
    current: bool = True

    @classmethod
    def of(cls, terms: Terms) -> "Promotion":
        """The promotion of these terms, with the digest computed."""
        return cls(terms, terms_digest(terms))


class Application(Single):
    """A promotion and what calls for it: nothing (automatic), a token, or a code."""

    promotion: "Compiled"
    #: Canonical order: the promotion's, then by token or code.
    key: Key
    token_id: str | None = None
    code: str | None = None
    clipped_at_ms: int | None = None

    @classmethod
    def by_token(cls, promotion: "Compiled", token_id: str, clipped_at_ms: int) -> "Application":
        return cls(promotion, (*promotion.key[:3], token_id, ""), token_id, None, clipped_at_ms)

    @classmethod
    def by_code(cls, promotion: "Compiled", code: str) -> "Application":
        return cls(promotion, (*promotion.key[:3], "", code), None, code)


class Compiled:
    """A promotion's terms as figures and functions; made once, used by every evaluation."""

    __slots__ = (
        "after",
        "automatic",
        "check",
        "combination",
        "currency",
        "digest",
        "fallback_lane",
        "has_conditions",
        "is_exclusive",
        "is_free",
        "key",
        "lane",
        "pricers",
        "promotion_id",
        "redeems_without_effect",
        "schedule",
        "start_ms",
        "terms",
        "until_ms",
        "weekly",
        "zone",
    )

    def __init__(self, terms: Terms, digest: str) -> None:
        selectors = SelectorCompiler()
        self.terms, self.digest = terms, digest
        self.promotion_id, self.currency = terms.promotion_id, terms.currency
        self.combination = own = terms.combination
        self.is_exclusive = own.exclusive
        #: Whether it goes with every other that is free too, any number of times.
        caps = (own.combines_with, own.max_per_cart, own.max_per_item)
        self.is_free = own.mode == "stack" and not any(cap is not None for cap in caps)
        #: Canonical order: by priority, then id, then version.
        self.key: Key = (own.priority, terms.promotion_id, digest, "", "")
        self.automatic = Application(self, self.key)
        self.fallback_lane = default_lane(terms)
        self.lane = own.lane or self.fallback_lane
        self.schedule = terms.schedule
        self.zone, self.weekly = terms.schedule.time_zone, terms.schedule.weekly
        self.start_ms = terms.schedule.redeem_from_ms
        self.until_ms = terms.schedule.redeem_until_ms
        self.redeems_without_effect = terms.no_effect == "redeem"
        self.has_conditions = bool(terms.conditions)
        self.check = compile_conditions(terms, selectors)
        self.after = needs_after(terms.conditions)
        initial = own.basis == "initial"
        self.pricers = [compile_benefit(x, terms, selectors, initial) for x in terms.benefits]

    def closed_now(self, basket: Basket, clipped_at_ms: int | None) -> ReasonCode | None:
        """Why it cannot be redeemed with this currency at this instant, or None."""
        at_ms, until = basket.at_ms, self.until_ms
        if self.currency != basket.cart.currency:
            return ReasonCode.CURRENCY_MISMATCH
        if self.start_ms is not None and at_ms < self.start_ms:
            return ReasonCode.NOT_STARTED
        if clipped_at_ms is not None and self.schedule.days_after_clip is not None:
            until = self.schedule.token_until_ms(clipped_at_ms)
        if until is not None and at_ms >= until:
            return ReasonCode.EXPIRED
        if self.weekly and not in_weekly_hours(self.weekly, basket.minute_of_week(self.zone)):
            return ReasonCode.OUTSIDE_HOURS
        return None


def default_lane(terms: Terms) -> str:
    """`shipping` for benefits about shipping, `order` for those on every item, else `item`."""
    money = [one for one in terms.benefits if isinstance(one, b.MONEY_BENEFITS)]
    if money and all(isinstance(one, b.ShippingOff) for one in money):
        return "shipping"
    others = [one for one in money if not isinstance(one, b.ShippingOff)]
    return "order" if others and all(is_on_order(one) for one in others) else "item"


def is_on_order(benefit: b.Benefit) -> bool:
    """Whether a benefit takes from every item alike."""
    if isinstance(benefit, b.PercentOff | b.AmountOff | b.Tiered):
        whole = not benefit.items.include and not benefit.items.exclude
        picks = not isinstance(benefit, b.Tiered) and benefit.pick is not None
        return whole and not picks
    return False


def compile_benefit(
    benefit: b.Benefit, terms: Terms, selectors: SelectorCompiler, initial: bool
) -> Pricer:
    """The object that prices a benefit."""
    match benefit:
        case b.PercentOff() | b.AmountOff() | b.FixedPrice():
            select = selectors.compile(benefit.items, for_benefit=True)
            if benefit.pick is not None:
                return PickPricer(benefit, benefit.pick, select, initial, terms.amounts)
            if isinstance(benefit, b.PercentOff):
                if benefit.basis == "lowest_price":
                    return LowestPricePricer(benefit, select, initial)
                return PercentPricer(benefit, select, initial)
            if isinstance(benefit, b.AmountOff):
                return AmountPricer(benefit, select, initial, terms.amounts)
            return FixedPricePricer(benefit, select, initial, terms.amounts)
        case b.Tiered():
            return TieredPricer(
                benefit, selectors.compile(benefit.items, for_benefit=True), initial, terms.amounts
            )
        case b.BundlePrice():
            parts = [selectors.compile(part.items, for_benefit=True) for part in benefit.parts]
            return BundlePricer(benefit, parts, initial, terms.amounts)
        case b.BuyGet():
            buy = selectors.compile(benefit.buy, for_benefit=True)
            get = selectors.compile(benefit.get or benefit.buy, for_benefit=True)
            return BuyGetPricer(benefit, buy, get, initial)
        case b.ShippingOff():
            return ShippingPricer(benefit, initial)
        case b.Gift():
            return GiftPricer(benefit, terms.promotion_id)
        case b.Points():
            select = selectors.compile(benefit.items, for_benefit=False)
            return RewardPricer(points_maker(benefit, select))
        case b.TokenFor():
            return RewardPricer(token_maker(benefit))
        case b.Custom():
            return RewardPricer(custom_maker(benefit))
