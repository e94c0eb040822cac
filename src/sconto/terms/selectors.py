"""Which items of a cart are meant: clauses that include and clauses that exclude.

A *clause* names values of several kinds; an item matches it when it matches every kind that is
named, by any of the values. An item is selected when it matches any `include` clause (none given:
every item does) and no `exclude` clause, and may be discounted at all.
"""

from typing import Annotated

from msgspec import Meta

from sconto.base.documents import Document
from sconto.base.money import AMOUNT_MINOR_MAX

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Names = frozenset[Name]
Minor = Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX)]
Scalar = str | int | bool


class AttributeMatch(Document):
    """A custom attribute is one of `any_of`, or a number from `min` to `max`, both included.

    Types are compared strictly: the text "1", the number 1 and `true` are three values. An item
    that lacks the attribute does not match.
    """

    name: Name
    any_of: tuple[Scalar, ...] = ()
    min: int | None = None
    max: int | None = None

    def __post_init__(self) -> None:
        if not self.any_of and self.min is None and self.max is None:
            raise ValueError("an attribute needs `any_of`, `min` or `max`")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("`min` is above `max`")


class Clause(Document):
    """All kinds that are named must match; of each kind one value suffices."""

    skus: Names = frozenset()
    gtins: Names = frozenset()
    products: Names = frozenset()
    categories: Names = frozenset()
    brands: Names = frozenset()
    tags: Names = frozenset()
    attributes: tuple[AttributeMatch, ...] = ()
    #: Price of one unit before any discount, both ends included.
    price_min_minor: Minor | None = None
    price_max_minor: Minor | None = None

    def __post_init__(self) -> None:
        low, high = self.price_min_minor, self.price_max_minor
        kinds = (self.skus, self.gtins, self.products, self.categories, self.brands, self.tags)
        if not any(kinds) and not self.attributes and low is None and high is None:
            raise ValueError("a clause must name something; leave it out to mean every item")
        if low is not None and high is not None and low > high:
            raise ValueError("`price_min_minor` is above `price_max_minor`")


class Selector(Document):
    """Any `include` clause and no `exclude` clause; without clauses every item."""

    include: tuple[Clause, ...] = ()
    exclude: tuple[Clause, ...] = ()
    #: In a condition: count items too that must not be discounted. A benefit never touches them.
    also_not_discountable: bool = False


#: Every item that may be discounted.
EVERYTHING = Selector()
