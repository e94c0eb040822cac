"""Stage 3, price: what a promotion would give at its turn, to the line, and taking nothing yet.

Each benefit of the terms becomes one small object. `price` adds to a `Draft` what it would take;
`ceiling` is a bound that no later state can exceed, for the search of the best set. Amounts are
rounded half-up once for each benefit and then split. Benefits that use units are in `units.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, Protocol

from sconto.base.money import portion
from sconto.cart.allocate import allocate
from sconto.cart.basket import Amounts, Basket, Select, State, convert, convert_back
from sconto.cart.evaluation import Gift, ReasonCode, Reward, Unmet
from sconto.cart.records import Working
from sconto.terms import benefits as b

#: A reward is counted when everything is taken off: from basket and last state.
RewardMaker = Callable[[Basket, State], Reward | None]


class Draft(Working):
    """What one promotion would take and give; nothing is taken until it is committed."""

    #: From whole lines; more than nothing each.
    amounts: dict[int, int] = {}
    #: Units used: line, how many, what they were worth, what is taken from them.
    uses: list[tuple[int, int, int, int]] = []
    #: Lines of which something is computed from their lowest price.
    lowest: frozenset[int] = frozenset()
    shipping: int = 0
    method: Literal["each", "across"] = "across"
    gifts: list[Gift] = []
    #: Gift lines by id: units and amount.
    gift_amounts: dict[str, tuple[int, int]] = {}
    rewards: list[RewardMaker] = []
    #: How many units more would give more, and of what where it is one thing.
    more: tuple[int, str | None] | None = None
    #: Why nothing is given, where nothing is.
    unmet: list[Unmet] = []
    #: What each benefit takes, where there are several: in their order, for what is left of units
    #: that one has used depends on it.
    parts: list["Draft"] = []

    @property
    def amount_minor(self) -> int:
        """Off items and shipping, gifts aside."""
        return sum(self.amounts.values()) + sum([use[3] for use in self.uses]) + self.shipping

    @property
    def gives_something(self) -> bool:
        if self.amounts or self.shipping or self.gifts or self.rewards:
            return True
        return any(use[3] for use in self.uses)

    def commit(self, state: State) -> None:
        """Take it."""
        if self.parts:
            for part in self.parts:
                part.commit(state)
            return
        left = state.left
        if state.used:
            for line, amount in self.amounts.items():
                state.take_line(line, amount)
        else:
            for line, amount in self.amounts.items():
                left[line] -= amount
        if self.uses:
            for line, units, value, amount in self.uses:
                state.use_units(line, units, value, amount)
        if self.shipping:
            state.shipping -= self.shipping
        if self.gift_amounts:
            for line_id, (units, _) in self.gift_amounts.items():
                state.gifts[line_id] = state.gifts.get(line_id, 0) + units

    def add(self, other: "Draft") -> None:
        """Join what the promotion's next benefit gives."""
        self.parts.append(other)
        for line, amount in other.amounts.items():
            self.amounts[line] = self.amounts.get(line, 0) + amount
        self.uses += other.uses
        self.lowest |= other.lowest
        self.shipping += other.shipping
        self.gifts += other.gifts
        for line_id, (units, amount) in other.gift_amounts.items():
            had_units, had = self.gift_amounts.get(line_id, (0, 0))
            self.gift_amounts[line_id] = (had_units + units, had + amount)
        self.rewards += other.rewards
        self.unmet += other.unmet
        self.more = self.more or other.more


class Pricer(Protocol):
    """A compiled benefit."""

    def price(self, basket: Basket, state: State, draft: Draft) -> None:
        """Add what it would take from this state."""
        ...

    def ceiling(self, basket: Basket, state: State) -> int:
        """At least what it could take from this state or from any that has less left."""
        ...


def open_lines(basket: Basket, state: State, select: Select) -> list[int]:
    """The selected lines that may be touched at this turn."""
    lines = select(basket)
    return [i for i in lines if i not in state.closed] if state.closed else lines


def rooms_of(basket: Basket, state: State, lines: list[int]) -> list[int]:
    """What can still be taken from each line: down to its floor."""
    left = state.left
    if not basket.has_floors:
        return [left[i] for i in lines]
    floors = basket.floors
    return [max(0, left[i] - floors[i]) for i in lines]


class LinePricer(ABC):
    """What all benefits on whole lines share."""

    method: Literal["each", "across"] = "across"

    def __init__(self, select: Select, initial: bool, amounts: Amounts = "as_priced") -> None:
        self.select, self.initial, self.amounts = select, initial, amounts

    def bases_of(self, basket: Basket, state: State, lines: list[int]) -> list[int]:
        """The amounts that the benefit is computed on."""
        amounts = basket.initial if self.initial else state.left
        factors = basket.factors(self.amounts)
        if factors is not None:
            return [convert(amounts[i], factors[i]) for i in lines]
        return [amounts[i] for i in lines]

    @abstractmethod
    def parts(self, basket: Basket, lines: list[int], bases: list[int]) -> list[int] | int:
        """Off each line, or one amount to be shared by value; before rooms are looked at."""

    def weights(self, basket: Basket, lines: list[int], bases: list[int]) -> list[int]:
        return bases

    def price(self, basket: Basket, state: State, draft: Draft) -> None:
        draft.method = self.method
        lines = self.select(basket)
        if state.closed:
            lines = [i for i in lines if i not in state.closed]
        if not lines:
            draft.unmet.append(Unmet(ReasonCode.NO_ITEMS_SELECTED))
            return
        if self.amounts == "as_priced" or (factors := basket.factors(self.amounts)) is None:
            left = state.left
            if len(lines) == 1:
                bases = rooms = [left[lines[0]]]
            else:
                bases = rooms = left if len(lines) == len(left) else [left[i] for i in lines]
            if basket.has_floors:
                rooms = rooms_of(basket, state, lines)
            if self.initial:
                bases = [basket.initial[i] for i in lines]
            taken = self.taken(basket, lines, bases, rooms)
        else:
            # Computed in the prices that the terms speak of, taken in those of the cart.
            rooms = rooms_of(basket, state, lines)
            lifted = [convert(room, factors[i]) for i, room in zip(lines, rooms, strict=True)]
            taken = self.taken(basket, lines, self.bases_of(basket, state, lines), lifted)
            taken = [
                min(room, convert_back(part, factors[i]))
                for i, part, room in zip(lines, taken, rooms, strict=True)
            ]
        if all(taken):
            draft.amounts = dict(zip(lines, taken, strict=True))
        else:
            draft.amounts = {i: part for i, part in zip(lines, taken, strict=True) if part}

    def taken(
        self, basket: Basket, lines: list[int], bases: list[int], rooms: list[int]
    ) -> list[int]:
        """Off each line, as far as there is room."""
        wanted = self.parts(basket, lines, bases)
        if not isinstance(wanted, int):
            return [min(part, room) for part, room in zip(wanted, rooms, strict=True)]
        if len(lines) == 1:
            return [wanted] if wanted < rooms[0] else rooms
        return allocate(wanted, self.weights(basket, lines, bases), rooms)

    def ceiling(self, basket: Basket, state: State) -> int:
        """Less left never makes any of these benefits larger, so today's price is a bound."""
        if basket.factors(self.amounts) is not None:
            # Turned back line by line, the parts round apart.
            return sum(rooms_of(basket, state, open_lines(basket, state, self.select)))
        draft = Draft()
        self.price(basket, state, draft)
        return draft.amount_minor


class PercentPricer(LinePricer):
    def __init__(self, benefit: b.PercentOff, select: Select, initial: bool) -> None:
        super().__init__(select, initial)
        self.basis_points, self.max_minor = benefit.basis_points, benefit.max_minor

    def parts(self, basket: Basket, lines: list[int], bases: list[int]) -> int:
        amount = portion(sum(bases), self.basis_points)
        return amount if self.max_minor is None else min(amount, self.max_minor)


class LowestPricePricer(LinePricer):
    """A percentage off the lowest price of the prior 30 days, each line by itself."""

    method = "each"

    def __init__(self, benefit: b.PercentOff, select: Select, initial: bool) -> None:
        super().__init__(lambda basket: _with_lowest(basket, select), initial)
        self.meant, self.basis_points = select, benefit.basis_points

    def parts(self, basket: Basket, lines: list[int], bases: list[int]) -> list[int]:
        found = []
        for i, base in zip(lines, bases, strict=True):
            prior = (basket.lines[i].lowest_price_minor or 0) * basket.quantities[i]
            found.append(max(0, base - prior + portion(prior, self.basis_points)))
        return found

    def price(self, basket: Basket, state: State, draft: Draft) -> None:
        super().price(basket, state, draft)
        draft.lowest = frozenset(draft.amounts)
        if not self.select(basket) and self.meant(basket):
            draft.unmet = [Unmet(ReasonCode.LOWEST_PRICE_UNKNOWN)]


def _with_lowest(basket: Basket, select: Select) -> list[int]:
    lines = basket.lines
    return [i for i in select(basket) if lines[i].lowest_price_minor is not None]


class AmountPricer(LinePricer):
    def __init__(
        self, benefit: b.AmountOff, select: Select, initial: bool, amounts: Amounts
    ) -> None:
        super().__init__(select, initial, amounts)
        self.amount, self.spread = benefit.amount_minor, benefit.spread
        if self.spread in ("each_unit", "each_line"):
            self.method = "each"

    def parts(self, basket: Basket, lines: list[int], bases: list[int]) -> list[int] | int:
        if self.spread == "each_unit":
            return [self.amount * basket.quantities[i] for i in lines]
        if self.spread == "each_line":
            return [self.amount] * len(lines)
        return self.amount

    def weights(self, basket: Basket, lines: list[int], bases: list[int]) -> list[int]:
        if self.spread == "by_quantity":
            return [basket.quantities[i] for i in lines]
        return bases


class FixedPricePricer(LinePricer):
    method = "each"

    def __init__(
        self, benefit: b.FixedPrice, select: Select, initial: bool, amounts: Amounts
    ) -> None:
        super().__init__(select, initial, amounts)
        self.unit_price = benefit.unit_price_minor

    def parts(self, basket: Basket, lines: list[int], bases: list[int]) -> list[int]:
        quantities = basket.quantities
        return [
            max(0, base - self.unit_price * quantities[i])
            for i, base in zip(lines, bases, strict=True)
        ]


class TieredPricer(LinePricer):
    """The tier is chosen by the amounts that the benefit is computed on, or by units."""

    def __init__(self, benefit: b.Tiered, select: Select, initial: bool, amounts: Amounts) -> None:
        super().__init__(select, initial, amounts)
        self.measure, self.tiers = benefit.measure, benefit.tiers

    def measured(self, basket: Basket, lines: list[int], bases: list[int]) -> int:
        if self.measure == "quantity":
            return sum(basket.quantities[i] for i in lines)
        return sum(bases)

    def parts(self, basket: Basket, lines: list[int], bases: list[int]) -> list[int] | int:
        had = self.measured(basket, lines, bases)
        reached = [tier for tier in self.tiers if tier.from_ <= had]
        return self.of_tier(reached[-1], basket, lines, bases) if reached else 0

    def of_tier(
        self, tier: b.Tier, basket: Basket, lines: list[int], bases: list[int]
    ) -> list[int] | int:
        if tier.basis_points is not None:
            return portion(sum(bases), tier.basis_points)
        if tier.amount_minor is not None:
            return tier.amount_minor
        price = tier.unit_price_minor or 0
        return [
            max(0, base - price * basket.quantities[i])
            for i, base in zip(lines, bases, strict=True)
        ]

    def price(self, basket: Basket, state: State, draft: Draft) -> None:
        super().price(basket, state, draft)
        lines = open_lines(basket, state, self.select)
        had = self.measured(basket, lines, self.bases_of(basket, state, lines))
        needed = self.tiers[0].from_
        if lines and had < needed:
            if self.measure == "quantity":
                code = ReasonCode.QUANTITY_TOO_LOW
                draft.unmet.append(Unmet(code, None, needed, had, needed - had, "units"))
            else:
                code = ReasonCode.SUBTOTAL_TOO_LOW
                draft.unmet.append(Unmet(code, None, needed, had, needed - had, "minor"))

    def ceiling(self, basket: Basket, state: State) -> int:
        """A lower tier may give more, so every tier that could be reached counts."""
        lines = open_lines(basket, state, self.select)
        if not lines:
            return 0
        room = sum(rooms_of(basket, state, lines))
        if basket.factors(self.amounts) is not None:
            return room
        bases = self.bases_of(basket, state, lines)
        had = self.measured(basket, lines, bases)
        best = 0
        for tier in self.tiers:
            if tier.from_ <= had:
                parts = self.of_tier(tier, basket, lines, bases)
                best = max(best, parts if isinstance(parts, int) else sum(parts))
        return min(best, room)


class ShippingPricer:
    def __init__(self, benefit: b.ShippingOff, initial: bool) -> None:
        self.benefit, self.initial = benefit, initial

    def price(self, basket: Basket, state: State, draft: Draft) -> None:
        shipping, benefit = basket.cart.shipping, self.benefit
        if shipping is None:
            draft.unmet.append(Unmet(ReasonCode.NO_ITEMS_SELECTED))
            return
        if benefit.methods and shipping.method not in benefit.methods:
            expected = tuple(sorted(benefit.methods))
            code = ReasonCode.SHIPPING_METHOD_NOT_MATCHED
            draft.unmet.append(Unmet(code, expected=expected))
            return
        base = shipping.amount_minor if self.initial else state.shipping
        if benefit.basis_points is not None:
            amount = portion(base, benefit.basis_points)
        elif benefit.amount_minor is not None:
            amount = benefit.amount_minor
        else:
            amount = max(0, base - (benefit.price_minor or 0))
        draft.shipping = min(amount, state.shipping)

    def ceiling(self, basket: Basket, state: State) -> int:
        draft = Draft()
        self.price(basket, state, draft)
        return draft.shipping


class GiftPricer:
    """Says what the cart should hold; a gift line that it holds already costs nothing."""

    def __init__(self, benefit: b.Gift, promotion_id: str) -> None:
        self.sku, self.quantity, self.promotion_id = benefit.sku, benefit.quantity, promotion_id

    def price(self, basket: Basket, state: State, draft: Draft) -> None:
        missing = self.quantity
        for line in basket.gift_lines:
            if line.gift_of == self.promotion_id and line.sku == self.sku and missing:
                given = state.gifts.get(line.id, 0)
                units = min(missing, line.quantity - given)
                if units > 0:
                    whole = line.initial_minor
                    # The difference of two roundings: all units together cost exactly the line.
                    amount = whole * (given + units) // line.quantity
                    amount -= whole * given // line.quantity
                    draft.gift_amounts[line.id] = (units, amount)
                    missing -= units
        draft.gifts.append(Gift(self.sku, self.quantity, missing))

    def ceiling(self, basket: Basket, state: State) -> int:
        return 0


class RewardPricer:
    """Points, tokens and custom effects: counted at the end, on what is paid."""

    def __init__(self, make: RewardMaker) -> None:
        self.make = make

    def price(self, basket: Basket, state: State, draft: Draft) -> None:
        if self.make(basket, state) is not None:
            draft.rewards.append(self.make)

    def ceiling(self, basket: Basket, state: State) -> int:
        return 0


def points_maker(benefit: b.Points, select: Select) -> RewardMaker:
    def make(basket: Basket, state: State) -> Reward | None:
        count = benefit.points
        if benefit.per_minor is not None:
            paid = sum([state.left[i] for i in select(basket)])
            count *= paid // benefit.per_minor
        return Reward("points", count) if count else None

    return make


def token_maker(benefit: b.TokenFor) -> RewardMaker:
    reward = Reward("token", benefit.count, promotion_id=benefit.promotion_id)
    return lambda basket, state: reward


def custom_maker(benefit: b.Custom) -> RewardMaker:
    reward = Reward("custom", name=benefit.name, values=dict(benefit.values))
    return lambda basket, state: reward
