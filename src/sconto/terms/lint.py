"""Terms that are well-formed and probably not meant: each finding names the field and a remedy.

`error` is said of terms that can never do what they say; `warning` of those that may cost more, or
less, than their author thinks. Nothing here refuses anything: the promoter decides.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal

from msgspec import Struct

from sconto.base.money import BASIS_POINTS
from sconto.terms import benefits as b
from sconto.terms import conditions as c
from sconto.terms.model import Automatic, Terms, TokenAccess, UniqueCodes
from sconto.terms.selectors import Selector


class Finding(Struct, frozen=True):
    """One thing to look at again."""

    code: str
    severity: Literal["error", "warning"]
    #: Path in the terms.
    field: str
    message: str


def lint(terms: Terms, others: Iterable[Terms] = ()) -> list[Finding]:
    """What to look at again in these terms, beside the others that would be in force with them.

    >>> from sconto.terms import terms_from
    >>> terms = terms_from({"promotion_id": "p", "title": "t", "currency": "EUR",
    ...     "benefits": [{"type": "percent_off", "basis_points": 1000}],
    ...     "schedule": {"from": "2026-06-01", "until": "2026-05-31"}})
    >>> [one.code for one in lint(terms)]
    ['dates_reversed', 'applies_to_everything', 'no_limit']
    """
    return [
        *_dates(terms),
        *_reach(terms),
        *_access(terms),
        *_conditions(terms),
        *_benefits(terms),
        *_combination(terms, others),
    ]


def _dates(terms: Terms) -> Iterator[Finding]:
    schedule = terms.schedule
    windows = [
        ("schedule.until", schedule.from_ms, schedule.until_ms),
        ("schedule.redeem_until", schedule.redeem_from_ms, schedule.redeem_until_ms),
    ]
    for field, start, end in windows:
        if start is not None and end is not None and end <= start:
            yield _error("dates_reversed", field, "it ends before it starts: it never applies")
            return
    end, start = schedule.until_ms, schedule.redeem_from_ms
    is_apart = end is not None and start is not None and end <= start
    if is_apart and isinstance(terms.access, Automatic):
        yield _error(
            "windows_apart",
            "schedule.redeem_from",
            "the campaign is over before anything can be redeemed",
        )
    if schedule.redeem_until_ms is None and schedule.days_after_clip is None and not terms.limits:
        yield _warning("no_end", "schedule.until", "it has neither an end nor a limit")


def _reach(terms: Terms) -> Iterator[Finding]:
    everything = all(_is_everything(one) for one in terms.benefits)
    if everything and not terms.conditions and isinstance(terms.access, Automatic):
        yield _warning(
            "applies_to_everything", "conditions", "it applies to every cart and every item"
        )
    if not terms.limits and terms.circulation is None:
        yield _warning("no_limit", "limits", "nothing limits how often or how much of it is given")
    for i, one in enumerate(terms.benefits):
        is_free = isinstance(one, b.PercentOff) and one.basis_points == BASIS_POINTS
        if is_free and getattr(one, "pick", None) is getattr(one, "max_minor", None) is None:
            yield _warning("all_for_nothing", f"benefits[{i}]", "it gives items for nothing")


def _access(terms: Terms) -> Iterator[Finding]:
    is_token = isinstance(terms.access, TokenAccess)
    for field, is_set in (
        ("circulation", terms.circulation is not None),
        ("holdout_basis_points", terms.holdout_basis_points > 0),
        ("schedule.days_after_clip", terms.schedule.days_after_clip is not None),
    ):
        if is_set and not is_token:
            yield _error("needs_tokens", field, "it has a meaning for tokens only")
    if terms.no_effect == "redeem" and isinstance(terms.access, Automatic):
        yield _warning(
            "counts_without_effect", "no_effect", "every cart will count as a use, even for nothing"
        )
    for i, limit in enumerate(terms.limits):
        kind = TokenAccess if "token" in limit.per else UniqueCodes if "code" in limit.per else None
        if kind is TokenAccess and not is_token:
            yield _error("needs_tokens", f"limits[{i}].per", "without tokens it limits nothing")
        if kind is UniqueCodes and isinstance(terms.access, Automatic | TokenAccess):
            yield _error("needs_codes", f"limits[{i}].per", "without codes it limits nothing")


def _conditions(terms: Terms) -> Iterator[Finding]:
    """Names of which an order can have only one, asked for in two ways that exclude each other."""
    single = (c.Store, c.Region, c.Channel, c.ShippingMethod, c.PaymentMethod)
    for kind in single:
        named = [(i, one) for i, one in enumerate(terms.conditions) if isinstance(one, kind)]
        for (_, first), (i, second) in pairwise(named):
            if first.any_of.isdisjoint(second.any_of):
                yield _error(
                    "never_applies", f"conditions[{i}]", "it contradicts an earlier condition"
                )
    for path, selector in _selectors(terms):
        if _is_empty(selector):
            yield _error("selects_nothing", path, "everything that it includes it also excludes")


def _benefits(terms: Terms) -> Iterator[Finding]:
    least = max(
        (x.min_minor or 0 for x in terms.conditions if isinstance(x, c.Subtotal)), default=0
    )
    for i, one in enumerate(terms.benefits):
        path = f"benefits[{i}]"
        is_shared = isinstance(one, b.AmountOff) and one.spread in ("by_value", "by_quantity")
        if is_shared and 0 < least <= getattr(one, "amount_minor", 0):
            yield _warning(
                "discount_reaches_minimum",
                f"{path}.amount_minor",
                "a cart that just reaches the minimum costs nothing",
            )
        if isinstance(one, b.Tiered):
            for lower, upper in pairwise(one.tiers):
                if _falls(lower, upper):
                    yield _warning(
                        "tier_falls", f"{path}.tiers", f"the tier from {upper.from_} gives less"
                    )
        if isinstance(one, b.TokenFor) and one.promotion_id == terms.promotion_id:
            yield _warning(
                "token_for_itself", f"{path}.promotion_id", "each use earns the next one"
            )
        if isinstance(one, b.BuyGet) and one.repeat_max is None and not _limited_per_cart(terms):
            yield _warning(
                "unlimited_repeats", f"{path}.repeat_max", "it repeats as often as units suffice"
            )


def _combination(terms: Terms, others: Iterable[Terms]) -> Iterator[Finding]:
    own = terms.combination
    if own.lane is None and any(_is_of_lowest_price(one) for one in terms.benefits):
        yield _warning(
            "lowest_price_late",
            "combination.lane",
            "what earlier lanes take off is part of the reduction; in the lane `catalogue` it comes"
            " first, and coupons take from the reduced price",
        )
    if own.combines_with == frozenset() and not own.exclusive:
        yield _warning(
            "combines_with_nothing",
            "combination.combines_with",
            "an empty list allows no other promotion; say `exclusive` if that is meant",
        )
    for other in others:
        if other.promotion_id == terms.promotion_id or not _overlap(terms, other):
            continue
        if other.combination.exclusive or own.exclusive:
            yield _warning(
                "overlaps_exclusive",
                "schedule",
                f"{other.promotion_id} is in force at the same time, and one excludes the other",
            )


def _overlap(one: Terms, other: Terms) -> bool:
    if one.currency != other.currency:
        return False
    starts = [x.schedule.redeem_from_ms or 0 for x in (one, other)]
    ends = [x.schedule.redeem_until_ms for x in (one, other)]
    return all(end is None or max(starts) < end for end in ends)


def _selectors(terms: Terms) -> Iterator[tuple[str, Selector]]:
    """The selectors of benefits and of conditions at the top."""
    for i, benefit in enumerate(terms.benefits):
        for name in ("items", "buy", "get"):
            found = getattr(benefit, name, None)
            if isinstance(found, Selector):
                yield f"benefits[{i}].{name}", found
    for i, condition in enumerate(terms.conditions):
        found = getattr(condition, "items", None)
        if isinstance(found, Selector):
            yield f"conditions[{i}].items", found


def _is_empty(selector: Selector) -> bool:
    """Whether SKUs are named and every one of them is excluded by SKU again."""
    excluded = {sku for clause in selector.exclude for sku in clause.skus if _only_skus(clause)}
    return bool(selector.include) and all(
        clause.skus and clause.skus <= excluded for clause in selector.include
    )


def _only_skus(clause: object) -> bool:
    fields = getattr(clause, "__struct_fields__", ())
    return not any(getattr(clause, name) for name in fields if name != "skus")


def _is_everything(benefit: b.Benefit) -> bool:
    if isinstance(benefit, b.PercentOff | b.AmountOff | b.FixedPrice | b.Tiered):
        return not benefit.items.include and not benefit.items.exclude
    return False


def _is_of_lowest_price(benefit: b.Benefit) -> bool:
    return isinstance(benefit, b.PercentOff) and benefit.basis == "lowest_price"


def _falls(lower: b.Tier, upper: b.Tier) -> bool:
    """Whether the upper of two tiers of the same kind gives less."""
    if lower.basis_points is not None and upper.basis_points is not None:
        return upper.basis_points < lower.basis_points
    if lower.amount_minor is not None and upper.amount_minor is not None:
        return upper.amount_minor < lower.amount_minor
    if lower.unit_price_minor is not None and upper.unit_price_minor is not None:
        return upper.unit_price_minor > lower.unit_price_minor
    return False


def _limited_per_cart(terms: Terms) -> bool:
    return any(limit.amount_minor is not None for limit in terms.limits)


def _error(code: str, field: str, message: str) -> Finding:
    return Finding(code, "error", field, message)


def _warning(code: str, field: str, message: str) -> Finding:
    return Finding(code, "warning", field, message)
