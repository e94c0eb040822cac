"""What a cart must have to match a promotion at all: the terms by which the index finds it.

Of things that must all hold the rarest suffices, of alternatives all are needed. Taking too little
away is allowed, taking too much is not: where nothing can be said for certain, nothing is.
"""

from collections.abc import Iterable
from itertools import chain

from sconto.terms import benefits as b
from sconto.terms import conditions as c
from sconto.terms.model import Terms
from sconto.terms.selectors import Clause, Selector

#: Alternatives as (kind, value): a cart without any of them cannot match.
Needs = list[tuple[str, str]]

#: The kinds of terms, and how many carts have a given value of each, roughly: what is rare.
KINDS = {
    "sku": 1,
    "gtin": 1,
    "product": 1,
    "brand": 8,
    "tag": 16,
    "category": 16,
    "segment": 32,
    "payment": 64,
    "shipping": 64,
    "store": 64,
    "region": 64,
    "channel": 128,
}
_CLAUSE_KINDS = (
    ("sku", "skus"),
    ("gtin", "gtins"),
    ("product", "products"),
    ("brand", "brands"),
    ("tag", "tags"),
    ("category", "categories"),
)


def needs_of(terms: Terms) -> tuple[Needs | None, int]:
    """The rarest alternatives that every match has, or the least subtotal of one."""
    all_needs = [_condition_needs(one) for one in terms.conditions]
    if terms.no_effect == "refuse":
        all_needs.append(_any_of([_benefit_needs(x) for x in terms.benefits]))
    if terms.amounts != "as_priced":
        # With tax added a cart may reach a threshold that its prices do not.
        return _rarest(all_needs), 0
    return _rarest(all_needs), max((_threshold(x) for x in terms.conditions), default=0)


def _condition_needs(one: c.Condition) -> Needs | None:
    match one:
        case c.All():
            return _rarest([_condition_needs(x) for x in one.of])
        case c.Any():
            return _any_of([_condition_needs(x) for x in one.of])
        case c.Subtotal():
            return _selector_needs(one.items) if one.min_minor else None
        case c.Quantity():
            return _selector_needs(one.items) if one.min else None
        case c.Distinct():
            return _selector_needs(one.items)
        case c.Segment():
            return _named("segment", one.any_of)
        case c.Store():
            return _named("store", one.any_of)
        case c.Region():
            return _named("region", one.any_of)
        case c.Channel():
            return _named("channel", one.any_of)
        case c.ShippingMethod():
            return _named("shipping", one.any_of)
        case c.PaymentMethod():
            return _named("payment", one.any_of)
        case _:
            return None


def _benefit_needs(benefit: b.Benefit) -> Needs | None:
    """What a cart must have for the benefit to give anything."""
    match benefit:
        case b.PercentOff() | b.AmountOff() | b.FixedPrice() | b.Tiered():
            return _selector_needs(benefit.items)
        case b.BundlePrice():
            return _rarest([_selector_needs(part.items) for part in benefit.parts])
        case b.BuyGet():
            needs = [_selector_needs(benefit.buy)]
            needs += [_selector_needs(benefit.get)] if benefit.get else []
            return _rarest(needs)
        case _:
            return None


def _selector_needs(selector: Selector) -> Needs | None:
    if not selector.include:
        return None
    return _any_of([_clause_needs(clause) for clause in selector.include])


def _clause_needs(clause: Clause) -> Needs | None:
    return _rarest(
        [_named(kind, names) for kind, name in _CLAUSE_KINDS if (names := getattr(clause, name))]
    )


def _any_of(alternatives: list[Needs | None]) -> Needs | None:
    """Of alternatives all are needed; one without terms spoils it."""
    if len(alternatives) == 1:
        return alternatives[0]
    if any(needs is None for needs in alternatives):
        return None
    return sorted(set(chain.from_iterable(needs for needs in alternatives if needs)))


def _rarest(needed: list[Needs | None]) -> Needs | None:
    """Of what must all hold, what the fewest carts have.

    Judged by kind and number alone: were it judged by what is in the index already, the order
    in which promotions came would decide which of them are candidates, and so are explained.
    """
    known = [needs for needs in needed if needs is not None]
    return known[0] if len(known) == 1 else min(known, key=_cost, default=None)


def _cost(needs: Needs) -> tuple[int, Needs]:
    return sum([KINDS[kind] for kind, _ in needs]), needs


def _named(kind: str, values: Iterable[str]) -> Needs:
    return [(kind, value) for value in sorted(values)]


def _threshold(one: c.Condition) -> int:
    """The least initial subtotal of the whole cart under which the condition cannot hold."""
    match one:
        case c.Subtotal():
            return one.min_minor or 0
        case c.All():
            return max((_threshold(x) for x in one.of), default=0)
        case c.Any():
            return min(_threshold(x) for x in one.of)
        case _:
            return 0
