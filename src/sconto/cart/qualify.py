"""Stage 2, qualify: whether a promotion's conditions hold, and if not, what is missing.

Each condition of the terms becomes one small object with two questions: `holds`, asked of every
candidate, and `unmet`, asked only of a promotion that is refused. Both use the same measure, so
that an explanation can never contradict the decision. `before` is what earlier promotions left of
each line, `after` what would be left with this promotion applied too.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from sconto.cart.basket import Amounts, Basket, Select, convert
from sconto.cart.evaluation import ReasonCode, Unmet
from sconto.cart.select import SelectorCompiler, attribute_matches, only_name
from sconto.terms import conditions as c
from sconto.terms.model import Terms
from sconto.terms.schedule import in_weekly_hours

Figures = list[int]

#: What is said of a measure below its low end, and of one above its high end.
_SUBTOTAL = (ReasonCode.SUBTOTAL_TOO_LOW, ReasonCode.SUBTOTAL_TOO_HIGH)
_QUANTITY = (ReasonCode.QUANTITY_TOO_LOW, ReasonCode.QUANTITY_TOO_HIGH)
_DISTINCT = (ReasonCode.DISTINCT_TOO_LOW, ReasonCode.DISTINCT_TOO_LOW)


class Check(Protocol):
    """A compiled condition."""

    def holds(self, basket: Basket, before: Figures, after: Figures) -> bool:
        """Whether it does."""
        ...

    def unmet(self, basket: Basket, before: Figures, after: Figures) -> list[Unmet]:
        """Every leaf that keeps it from holding; empty if it holds."""
        ...


class AllCheck:
    def __init__(self, checks: Sequence[Check]) -> None:
        self.checks = tuple(checks)

    def holds(self, basket: Basket, before: Figures, after: Figures) -> bool:
        # A loop: a generator costs as much as the one condition that most promotions have.
        for check in self.checks:  # noqa: SIM110
            if not check.holds(basket, before, after):
                return False
        return True

    def unmet(self, basket: Basket, before: Figures, after: Figures) -> list[Unmet]:
        return [found for check in self.checks for found in check.unmet(basket, before, after)]


class AnyCheck:
    """Explained by the alternative that is nearest: fewest leaves, then the smallest lack."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self.checks = tuple(checks)

    def holds(self, basket: Basket, before: Figures, after: Figures) -> bool:
        return any(check.holds(basket, before, after) for check in self.checks)

    def unmet(self, basket: Basket, before: Figures, after: Figures) -> list[Unmet]:
        if self.holds(basket, before, after):
            return []
        return min((check.unmet(basket, before, after) for check in self.checks), key=_distance)


class NotCheck:
    def __init__(self, check: Check, path: str) -> None:
        self.check, self.path = check, path

    def holds(self, basket: Basket, before: Figures, after: Figures) -> bool:
        return not self.check.holds(basket, before, after)

    def unmet(self, basket: Basket, before: Figures, after: Figures) -> list[Unmet]:
        if self.holds(basket, before, after):
            return []
        return [Unmet(ReasonCode.EXCLUDED, self.path)]


class SubtotalCheck:
    def __init__(self, condition: c.Subtotal, select: Select, amounts: Amounts, path: str) -> None:
        self.amounts: Amounts = amounts
        self.low, self.high = condition.min_minor or 0, condition.max_minor
        self.basis, self.select, self.path = condition.basis, select, path

    def measure(self, basket: Basket, before: Figures, after: Figures) -> int:
        if self.basis == "initial":
            amounts = basket.initial
        else:
            amounts = before if self.basis == "before" else after
        lines = self.select(basket)
        if self.amounts != "as_priced" and (factors := basket.factors(self.amounts)) is not None:
            return sum([convert(amounts[i], factors[i]) for i in lines])
        if len(lines) == len(amounts):
            return sum(amounts)
        return sum([amounts[i] for i in lines])

    def holds(self, basket: Basket, before: Figures, after: Figures) -> bool:
        had = self.measure(basket, before, after)
        return had >= self.low and (self.high is None or had <= self.high)

    def unmet(self, basket: Basket, before: Figures, after: Figures) -> list[Unmet]:
        had = self.measure(basket, before, after)
        return _outside(had, self.low, self.high, _SUBTOTAL, "minor", self.path)


class QuantityCheck:
    def __init__(self, condition: c.Quantity, select: Select, path: str) -> None:
        self.low, self.high = condition.min or 0, condition.max
        self.select, self.path = select, path
        self.of = only_name(condition.items)

    def measure(self, basket: Basket) -> int:
        lines, quantities = self.select(basket), basket.quantities
        if len(lines) == 1:
            return quantities[lines[0]]
        return sum([quantities[i] for i in lines])

    def holds(self, basket: Basket, before: Figures, after: Figures) -> bool:
        had = self.measure(basket)
        return had >= self.low and (self.high is None or had <= self.high)

    def unmet(self, basket: Basket, before: Figures, after: Figures) -> list[Unmet]:
        had = self.measure(basket)
        return _outside(had, self.low, self.high, _QUANTITY, "units", self.path, self.of)


class DistinctCheck:
    def __init__(self, condition: c.Distinct, select: Select, path: str) -> None:
        self.low, self.by = condition.min, condition.by
        self.select, self.path = select, path

    def measure(self, basket: Basket) -> int:
        lines = [basket.lines[i] for i in self.select(basket)]
        if self.by == "category":
            return len(frozenset().union(*(line.categories for line in lines)))
        return len({getattr(line, self.by) for line in lines} - {None})

    def holds(self, basket: Basket, before: Figures, after: Figures) -> bool:
        return self.measure(basket) >= self.low

    def unmet(self, basket: Basket, before: Figures, after: Figures) -> list[Unmet]:
        return _outside(self.measure(basket), self.low, None, _DISTINCT, "distinct", self.path)


class NameCheck:
    """A name of the sale (store, region, channel, …) is one of those asked for."""

    def __init__(
        self,
        any_of: frozenset[str],
        name: Callable[[Basket], str | None],
        code: ReasonCode,
        path: str,
    ) -> None:
        self.any_of, self.name, self.code, self.path = any_of, name, code, path

    def holds(self, basket: Basket, before: Figures, after: Figures) -> bool:
        return self.name(basket) in self.any_of

    def unmet(self, basket: Basket, before: Figures, after: Figures) -> list[Unmet]:
        if self.holds(basket, before, after):
            return []
        return [Unmet(self.code, self.path, expected=tuple(sorted(self.any_of)))]


class SegmentCheck:
    """Segments are the merchant's knowledge: which ones were asked for is not told."""

    def __init__(self, condition: c.Segment, path: str) -> None:
        self.any_of, self.path = condition.any_of, path

    def holds(self, basket: Basket, before: Figures, after: Figures) -> bool:
        return not self.any_of.isdisjoint(basket.holder.segments)

    def unmet(self, basket: Basket, before: Figures, after: Figures) -> list[Unmet]:
        if self.holds(basket, before, after):
            return []
        known = basket.holder.client is not None or basket.holder.segments
        code = ReasonCode.SEGMENT_NOT_MATCHED if known else ReasonCode.SHOPPER_UNKNOWN
        return [Unmet(code, self.path)]


class OrderNumberCheck:
    def __init__(self, condition: c.OrderNumber, path: str) -> None:
        self.numbers, self.every, self.path = condition.numbers, condition.every, path

    def holds(self, basket: Basket, before: Figures, after: Figures) -> bool:
        number = basket.holder.order_number
        if number is None:
            return False
        return number in self.numbers or (self.every is not None and number % self.every == 0)

    def unmet(self, basket: Basket, before: Figures, after: Figures) -> list[Unmet]:
        if self.holds(basket, before, after):
            return []
        number = basket.holder.order_number
        if number is None:
            return [Unmet(ReasonCode.SHOPPER_UNKNOWN, self.path, unit="orders")]
        coming = [n for n in self.numbers if n > number]
        if self.every is not None:
            coming.append((number // self.every + 1) * self.every)
        needed = min(coming, default=None)
        missing = None if needed is None else needed - number
        code = ReasonCode.ORDER_NUMBER_NOT_MATCHED
        return [Unmet(code, self.path, needed, number, missing, "orders")]


class HoursCheck:
    def __init__(self, condition: c.Hours, zone: str, path: str) -> None:
        self.weekly, self.zone, self.path = condition.weekly, zone, path

    def holds(self, basket: Basket, before: Figures, after: Figures) -> bool:
        return in_weekly_hours(self.weekly, basket.minute_of_week(self.zone))

    def unmet(self, basket: Basket, before: Figures, after: Figures) -> list[Unmet]:
        if self.holds(basket, before, after):
            return []
        return [Unmet(ReasonCode.OUTSIDE_HOURS, self.path)]


class AttributeCheck:
    def __init__(self, condition: c.Attribute, path: str) -> None:
        self.of, self.match, self.path = condition.of, condition.match, path

    def holds(self, basket: Basket, before: Figures, after: Figures) -> bool:
        if self.of == "cart":
            return attribute_matches(self.match, basket.cart.attributes)
        if self.of == "shopper":
            return attribute_matches(self.match, basket.holder.attributes)
        return any(attribute_matches(self.match, line.attributes) for line in basket.lines)

    def unmet(self, basket: Basket, before: Figures, after: Figures) -> list[Unmet]:
        if self.holds(basket, before, after):
            return []
        unknown = self.of == "shopper" and basket.holder.client is None
        if unknown and self.match.name not in basket.holder.attributes:
            return [Unmet(ReasonCode.SHOPPER_UNKNOWN, self.path)]
        return [Unmet(ReasonCode.ATTRIBUTE_NOT_MATCHED, self.path)]


def compile_conditions(terms: Terms, selectors: SelectorCompiler) -> Check:
    """All of a promotion's conditions as one check."""
    checks = [
        _compile(one, selectors, terms, f"conditions[{i}]")
        for i, one in enumerate(terms.conditions)
    ]
    return checks[0] if len(checks) == 1 else AllCheck(checks)


def needs_after(conditions: Sequence[c.Condition]) -> bool:
    """Whether any leaf asks what would be left with the promotion applied."""
    for one in conditions:
        if isinstance(one, c.All | c.Any):
            if needs_after(one.of):
                return True
        elif isinstance(one, c.Not):
            if needs_after([one.condition]):
                return True
        elif isinstance(one, c.Subtotal) and one.basis == "after":
            return True
    return False


def _store(basket: Basket) -> str | None:
    return basket.cart.store


def _region(basket: Basket) -> str | None:
    return basket.cart.region


def _channel(basket: Basket) -> str | None:
    return basket.cart.channel


def _shipping_method(basket: Basket) -> str | None:
    return basket.cart.shipping.method if basket.cart.shipping else None


def _payment_method(basket: Basket) -> str | None:
    return basket.cart.payment_method


def _compile(one: c.Condition, selectors: SelectorCompiler, terms: Terms, path: str) -> Check:
    match one:
        case c.All() | c.Any():
            inner = [_compile(x, selectors, terms, f"{path}.of[{i}]") for i, x in enumerate(one.of)]
            return AllCheck(inner) if isinstance(one, c.All) else AnyCheck(inner)
        case c.Not():
            below = _compile(one.condition, selectors, terms, f"{path}.condition")
            return NotCheck(below, path)
        case c.Subtotal():
            select = selectors.compile(one.items, for_benefit=False)
            return SubtotalCheck(one, select, terms.amounts, path)
        case c.Quantity():
            return QuantityCheck(one, selectors.compile(one.items, for_benefit=False), path)
        case c.Distinct():
            return DistinctCheck(one, selectors.compile(one.items, for_benefit=False), path)
        case c.Segment():
            return SegmentCheck(one, path)
        case c.OrderNumber():
            return OrderNumberCheck(one, path)
        case c.Store():
            return NameCheck(one.any_of, _store, ReasonCode.STORE_NOT_MATCHED, path)
        case c.Region():
            return NameCheck(one.any_of, _region, ReasonCode.REGION_NOT_MATCHED, path)
        case c.Channel():
            return NameCheck(one.any_of, _channel, ReasonCode.CHANNEL_NOT_MATCHED, path)
        case c.ShippingMethod():
            code = ReasonCode.SHIPPING_METHOD_NOT_MATCHED
            return NameCheck(one.any_of, _shipping_method, code, path)
        case c.PaymentMethod():
            code = ReasonCode.PAYMENT_METHOD_NOT_MATCHED
            return NameCheck(one.any_of, _payment_method, code, path)
        case c.Hours():
            return HoursCheck(one, terms.schedule.time_zone, path)
        case c.Attribute():
            return AttributeCheck(one, path)


def _outside(
    had: int,
    low: int,
    high: int | None,
    codes: tuple[ReasonCode, ReasonCode],
    unit: Literal["minor", "units", "distinct"],
    path: str,
    of: str | None = None,
) -> list[Unmet]:
    """What is missing up to the low end, or too much above the high one (missing is None)."""
    if had < low:
        return [Unmet(codes[0], path, low, had, low - had, unit, of=of)]
    if high is not None and had > high:
        return [Unmet(codes[1], path, high, had, None, unit)]
    return []


def _distance(unmet: list[Unmet]) -> tuple[int, int, int]:
    """Order of alternatives: fewest leaves; those that more buying can mend; smallest share."""
    mendable = all(one.missing is not None for one in unmet)
    lack = sum(
        (one.missing or 0) * 10_000 // max(1, one.needed or 1) for one in unmet if one.missing
    )
    return (not mendable, len(unmet), lack)
