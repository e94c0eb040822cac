"""The cart as the stages see it: lines in canonical order, and what discounts have left of them.

`Basket` is made once for each evaluation and never changes. `State` is what the promotions applied
so far have left; a search copies it for each branch. Quantities are numbers, never expanded: the
open units of a line all cost the same, and units that a promotion has used are kept apart.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Literal

from sconto.base.money import BASIS_POINTS
from sconto.cart.model import Cart, Holder, Line
from sconto.cart.records import Working
from sconto.terms.schedule import minute_of_week

#: From a basket to positions of its lines, rising.
Select = Callable[["Basket"], list[int]]
#: Whether amounts of terms are of prices as the cart states them, or with or without tax.
Amounts = Literal["as_priced", "tax_included", "tax_excluded"]
#: A fraction by which a line's amounts are turned into those of the terms.
Factor = tuple[int, int]

_BY_ID = attrgetter("id")


class Basket:
    """A cart, its holder and the instant, with its lines by id and their figures side by side."""

    __slots__ = (
        "_factors",
        "_minutes",
        "all_lines",
        "at_ms",
        "by_sku",
        "cart",
        "discountable",
        "floors",
        "gift_lines",
        "has_floors",
        "holder",
        "initial",
        "lines",
        "quantities",
        "selected",
        "skus",
        "subtotal",
    )

    def __init__(self, cart: Cart, holder: Holder, at_ms: int) -> None:
        self.cart, self.holder, self.at_ms = cart, holder, at_ms
        #: Canonical order, so that rounding does not depend on the order of the input.
        lines = sorted(cart.lines, key=_BY_ID)
        self.gift_lines: list[Line] = [line for line in lines if line.gift_of is not None]
        if self.gift_lines:
            lines = [line for line in lines if line.gift_of is None]
        self.lines = lines
        self.all_lines = list(range(len(lines)))
        self.initial = [
            line.amount_minor or 0 if line.price_minor is None else line.price_minor * line.quantity
            for line in lines
        ]
        self.quantities = [line.quantity for line in lines]
        self.skus = skus = [line.sku for line in lines]
        self.discountable = [i for i, line in enumerate(lines) if line.discountable]
        #: Positions of discountable lines.
        self.by_sku: dict[str, list[int]] = {}
        for i in self.discountable:
            if skus[i] in self.by_sku:
                self.by_sku[skus[i]].append(i)
            else:
                self.by_sku[skus[i]] = [i]
        self.floors = [line.floor_price_minor * line.quantity for line in lines]
        self.has_floors = any(self.floors)
        self.subtotal = sum(self.initial)
        #: What selectors that take long have found, so that each is asked once (`select.py`).
        self.selected: dict[Select, list[int]] = {}
        self._minutes: dict[str, int] = {}
        self._factors: dict[str, list[Factor] | None] = {}

    def minute_of_week(self, zone: str) -> int:
        """Minutes since Monday 00:00 on the wall clock of a zone; each zone is asked once."""
        minute = self._minutes.get(zone)
        if minute is None:
            minute = self._minutes[zone] = minute_of_week(self.at_ms, zone)
        return minute

    def factors(self, amounts: Amounts) -> list[Factor] | None:
        """By line, how its prices become those that the terms speak of; None: they are those."""
        includes = self.cart.prices_include_tax
        if amounts == "as_priced" or (amounts == "tax_included") == includes:
            return None
        if amounts not in self._factors:
            gross = [BASIS_POINTS + line.tax_basis_points for line in self.lines]
            self._factors[amounts] = [
                (BASIS_POINTS, g) if includes else (g, BASIS_POINTS) for g in gross
            ]
        return self._factors[amounts]


def convert(amount_minor: int, factor: Factor) -> int:
    """An amount times a fraction, rounded half-up.

    >>> convert(1000, (11900, 10000)), convert(1190, (10000, 11900)), convert(1, (10000, 20000))
    (1190, 1000, 1)
    """
    top, bottom = factor
    return (2 * amount_minor * top + bottom) // (2 * bottom)


def convert_back(amount_minor: int, factor: Factor) -> int:
    """The other way round."""
    return convert(amount_minor, (factor[1], factor[0]))


class State(Working):
    """What is left of each line and of shipping, and which units are used already.

    `used[i]` is (units, what is left of their price): they take part in no other promotion that
    uses units, while one that takes from whole lines takes from them too.
    """

    left: list[int]
    shipping: int
    used: dict[int, tuple[int, int]] = {}
    #: Units of gift lines, by line id, that some promotion gives already.
    gifts: dict[str, int] = {}
    #: Lines that the promotion whose turn it is must not touch.
    closed: frozenset[int] = frozenset()

    @classmethod
    def start(cls, basket: Basket) -> "State":
        shipping = basket.cart.shipping
        return cls(basket.initial[:], shipping.amount_minor if shipping else 0)

    def copy(self) -> "State":
        return State(self.left[:], self.shipping, self.used.copy(), self.gifts.copy())

    def take_line(self, line: int, amount_minor: int) -> None:
        """Take from a whole line; its used units carry their share, rounded down."""
        if line in self.used:
            units, value = self.used[line]
            value -= amount_minor * value // self.left[line] if self.left[line] else 0
            self.used[line] = (units, min(value, self.left[line] - amount_minor))
        self.left[line] -= amount_minor

    def use_units(self, line: int, units: int, value_minor: int, amount_minor: int) -> None:
        """Use open units worth `value_minor` and take `amount_minor` from them."""
        before, value = self.used.get(line, (0, 0))
        self.left[line] -= amount_minor
        # Where each line has its own best, units were valued before others took their part.
        value = max(0, min(value + value_minor - amount_minor, self.left[line]))
        self.used[line] = (before + units, value)

    def open_units(self, line: int, quantity: int) -> tuple[int, int]:
        """Units that are not used yet, and what is left of their price."""
        if line not in self.used:
            return quantity, self.left[line]
        units, value = self.used[line]
        return quantity - units, self.left[line] - value
