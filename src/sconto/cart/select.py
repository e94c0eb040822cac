"""Selectors as functions: from a basket to the positions of the lines that are meant.

A selector is compiled once for each promotion; the same selector in a condition and in a benefit is
one function, so that a basket is asked once. Nobody changes the lists that they give.
"""

from collections.abc import Callable

from sconto.cart.basket import Basket, Select
from sconto.cart.model import Line
from sconto.terms.selectors import AttributeMatch, Clause, Scalar, Selector

Matches = Callable[[Line], bool]
_NO_LINES: list[int] = []


class SelectorCompiler:
    """The functions of one promotion's selectors."""

    def __init__(self) -> None:
        self._done: dict[tuple[Selector, bool], Select] = {}

    def compile(self, selector: Selector, *, for_benefit: bool) -> Select:
        """A benefit never gets a line that must not be discounted, a condition if it asks."""
        key = (selector, selector.also_not_discountable and not for_benefit)
        if key not in self._done:
            self._done[key] = _compile(selector, every_line=key[1])
        return self._done[key]


def only_name(selector: Selector) -> str | None:
    """The SKU or product that a selector means, where it is exactly one."""
    if len(selector.include) != 1:
        return None
    names = selector.include[0].skus | selector.include[0].products
    return next(iter(names)) if len(names) == 1 else None


def _compile(selector: Selector, *, every_line: bool) -> Select:
    if not selector.include and not selector.exclude:
        return _all_lines if every_line else _discountable
    skus = _only_skus(selector)
    if skus is not None and not every_line:
        return _by_sku(skus)
    include = [_compile_clause(clause) for clause in selector.include]
    exclude = [_compile_clause(clause) for clause in selector.exclude]

    def walk(basket: Basket) -> list[int]:
        lines = basket.lines
        return [
            i
            for i in (basket.all_lines if every_line else basket.discountable)
            if (not include or any(m(lines[i]) for m in include))
            and not any(m(lines[i]) for m in exclude)
        ]

    return _once(walk)


def _once(walk: Select) -> Select:
    """A selector that walks over the lines, asked once of each basket."""

    def select(basket: Basket) -> list[int]:
        found = basket.selected.get(walk)
        if found is None:
            found = basket.selected[walk] = walk(basket)
        return found

    return select


def _all_lines(basket: Basket) -> list[int]:
    return basket.all_lines


def _discountable(basket: Basket) -> list[int]:
    return basket.discountable


def _only_skus(selector: Selector) -> frozenset[str] | None:
    """The SKUs of a selector that names nothing else: the commonest kind, and the fastest."""
    if len(selector.include) != 1 or selector.exclude:
        return None
    (clause,) = selector.include
    return clause.skus if clause == Clause(skus=clause.skus or frozenset(["-"])) else None


def _by_sku(skus: frozenset[str]) -> Select:
    """Looks up few SKUs in the cart, and the cart's in many."""
    if len(skus) == 1:
        (sku,) = skus
        return lambda basket: basket.by_sku.get(sku, _NO_LINES)

    def walk(basket: Basket) -> list[int]:
        names = basket.skus
        return [i for i in basket.discountable if names[i] in skus]

    return _once(walk)


def _compile_clause(clause: Clause) -> Matches:
    """All kinds that the clause names, in the order of what they cost to ask."""
    tests: list[Matches] = []
    if clause.skus:
        tests.append(lambda line: line.sku in clause.skus)
    if clause.gtins:
        tests.append(lambda line: line.gtin in clause.gtins)
    if clause.products:
        tests.append(lambda line: line.product in clause.products)
    if clause.brands:
        tests.append(lambda line: line.brand in clause.brands)
    if clause.categories:
        tests.append(lambda line: not clause.categories.isdisjoint(line.categories))
    if clause.tags:
        tests.append(lambda line: not clause.tags.isdisjoint(line.tags))
    low, high = clause.price_min_minor, clause.price_max_minor
    # Compared without dividing, so that the unit price of a weighed line is exact.
    if low is not None:
        tests.append(lambda line: line.initial_minor >= low * line.quantity)
    if high is not None:
        tests.append(lambda line: line.initial_minor <= high * line.quantity)
    for match in clause.attributes:
        tests.append(_compile_item_attribute(match))
    if len(tests) == 1:
        return tests[0]
    return lambda line: all(test(line) for test in tests)


def _compile_item_attribute(match: AttributeMatch) -> Matches:
    return lambda line: attribute_matches(match, line.attributes)


def attribute_matches(match: AttributeMatch, attributes: dict[str, Scalar]) -> bool:
    """Whether a custom attribute is as asked; values of different types never match."""
    value = attributes.get(match.name)
    if value is None:
        return False
    if match.any_of and not any(type(value) is type(v) and value == v for v in match.any_of):
        return False
    if match.min is None and match.max is None:
        return True
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return (match.min is None or value >= match.min) and (match.max is None or value <= match.max)
