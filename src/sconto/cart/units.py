"""Benefits that use units: picks of the cheapest or dearest, buy X get Y, bundles.

A unit takes part once: what one promotion has used, no other uses. Units of a line cost the same,
so k of them are k parts of what is left of the line, rounded half-up; all of them are exactly it.
Nothing is expanded: the work grows with lines, not with quantities.
"""

from fractions import Fraction

from sconto.base.money import portion
from sconto.cart.allocate import allocate
from sconto.cart.basket import Amounts, Basket, Factor, Select, State, convert, convert_back
from sconto.cart.evaluation import ReasonCode, Unmet
from sconto.cart.price import Draft, open_lines, rooms_of
from sconto.cart.select import only_name
from sconto.terms import benefits as b

#: Units bought or used before may shift the price of the next ones by rounding, half a minor unit
#: each; a bound on as many promotions as a search of the best set takes has this much to spare.
ROUNDING_DRIFT_MINOR = 9


class Units:
    """The open units of one line, and how much they are worth."""

    __slots__ = ("count", "floor", "line", "mask", "rate", "spare", "value")

    def __init__(self, basket: Basket, state: State, line: int, initial: bool) -> None:
        quantity = basket.quantities[line]
        self.line = line
        self.count, self.value = state.open_units(line, quantity)
        #: What a benefit is computed on: price of `rate[1]` units.
        self.rate = (basket.initial[line], quantity) if initial else (self.value, self.count)
        self.floor = basket.lines[line].floor_price_minor
        #: What the whole line has above its floor: whole-line discounts may have taken it.
        self.spare = state.left[line] - basket.floors[line]
        self.mask = 0

    def price_key(self) -> Fraction | int:
        """Price of one unit, exactly."""
        price, units = self.rate
        return price // units if price % units == 0 else Fraction(price, units)

    def worth(self, units: int) -> int:
        """What is left of the price of so many units."""
        return part_of(self.value, units, self.count)

    def base_of(self, units: int) -> int:
        """What a benefit on so many units is computed on."""
        return part_of(self.rate[0], units, self.rate[1])

    def room(self, units: int) -> int:
        """What can be taken from so many units."""
        return max(0, min(self.worth(units) - self.floor * units, self.spare))


def part_of(amount: int, units: int, of: int) -> int:
    """What so many of the units cost that cost the amount together, rounded half-up."""
    return amount if units == of else (2 * amount * units + of) // (2 * of)


def open_units(basket: Basket, state: State, select: Select, initial: bool) -> list[Units]:
    """Lines with open units, in the order of the cart."""
    found = [Units(basket, state, i, initial) for i in open_lines(basket, state, select)]
    return [units for units in found if units.count]


def in_order(units: list[Units], choose: str) -> list[Units]:
    """Cheapest or dearest first; ties in the order of the cart either way."""
    if len(units) < 2:
        return units
    return sorted(units, key=Units.price_key, reverse=choose == "dearest")


def take_first(units: list[Units], count: int) -> list[tuple[Units, int]]:
    """So many units from the front."""
    taken = []
    for one in units:
        if count <= 0:
            break
        taken.append((one, min(one.count, count)))
        count -= one.count
    return taken


def take_share(draft: Draft, taken: list[tuple[Units, int]], amount_minor: int) -> None:
    """Share an amount by value over the units taken, and use them."""
    if len(taken) == 1:
        ((one, k),) = taken
        draft.uses.append((one.line, k, one.worth(k), min(amount_minor, one.room(k))))
        return
    bases = [one.base_of(k) for one, k in taken]
    parts = allocate(amount_minor, bases, [one.room(k) for one, k in taken])
    for (one, k), part in zip(taken, parts, strict=True):
        draft.uses.append((one.line, k, one.worth(k), part))


class PickPricer:
    """Percent, amount or fixed price on so many of the cheapest or dearest units."""

    def __init__(
        self,
        benefit: b.PercentOff | b.AmountOff | b.FixedPrice,
        pick: b.Pick,
        select: Select,
        initial: bool,
        amounts: Amounts,
    ) -> None:
        self.benefit, self.pick, self.select, self.initial = benefit, pick, select, initial
        self.amounts = amounts

    def price(self, basket: Basket, state: State, draft: Draft) -> None:
        draft.method = "each"
        units = open_units(basket, state, self.select, self.initial)
        if not units:
            draft.unmet.append(Unmet(ReasonCode.NO_ITEMS_SELECTED))
            return
        taken = take_first(in_order(units, self.pick.choose), self.pick.quantity)
        benefit = self.benefit
        if isinstance(benefit, b.PercentOff):
            amount = portion(sum(one.base_of(k) for one, k in taken), benefit.basis_points)
            if benefit.max_minor is not None:
                amount = min(amount, benefit.max_minor)
            take_share(draft, taken, amount)
            return
        factors = basket.factors(self.amounts)
        for one, k in taken:
            factor = (1, 1) if factors is None else factors[one.line]
            if isinstance(benefit, b.AmountOff):
                wanted = convert_back(benefit.amount_minor * k, factor)
            else:
                price = convert_back(benefit.unit_price_minor * k, factor)
                wanted = max(0, one.base_of(k) - price)
            draft.uses.append((one.line, k, one.worth(k), min(wanted, one.room(k))))

    def ceiling(self, basket: Basket, state: State) -> int:
        """When others use the cheap units the next ones are dearer: take the dearest to be safe."""
        units = open_units(basket, state, self.select, self.initial)
        taken = take_first(in_order(units, "dearest"), self.pick.quantity)
        return sum(one.base_of(k) + ROUNDING_DRIFT_MINOR for one, k in taken)


class BuyGetPricer:
    """For each so many bought, so many got: complete sets only, repeated up to a cap.

    1. The number of sets is the largest for which enough units can be bought and got apart.
    2. The units got are the cheapest (or dearest) that leave enough to buy.
    3. The units bought are those that cannot be got first, then the cheapest: the dearer ones stay
       open for other promotions.
    """

    def __init__(self, benefit: b.BuyGet, buy: Select, get: Select, initial: bool) -> None:
        self.benefit, self.buy, self.get, self.initial = benefit, buy, get, initial
        self.of = only_name(benefit.buy) if benefit.get is None else None

    def price(self, basket: Basket, state: State, draft: Draft) -> None:
        draft.method = "each"
        units = self.units(basket, state)
        bought = sum([one.count for one in units if one.mask & 1])
        got = sum([one.count for one in units if one.mask & 2])
        sets = self.sets(units, bought, got)
        if not sets:
            draft.unmet.append(self.lacking(units, bought, got))
            return
        # Units that could be bought may be got only as far as enough others remain to buy.
        allowance = bought - sets * self.benefit.buy_quantity
        taken: list[tuple[Units, int]] = []
        wanted = sets * self.benefit.get_quantity
        left = {one.line: one.count for one in units}
        for one in in_order([one for one in units if one.mask & 2], self.benefit.choose):
            k = min(wanted, one.count)
            if one.mask & 1:
                k = min(k, allowance)
                allowance -= k
            if k:
                taken.append((one, k))
                left[one.line] -= k
                wanted -= k
        base = sum([one.base_of(k) for one, k in taken])
        take_share(draft, taken, portion(base, self.benefit.basis_points))
        self.use_bought(units, left, sets * self.benefit.buy_quantity, draft)
        draft.more = self.more(units, bought, got, sets)

    def units(self, basket: Basket, state: State) -> list[Units]:
        """Open units that can be bought (mask 1), got (mask 2), or either (mask 3)."""
        if self.buy is self.get:
            units = open_units(basket, state, self.buy, self.initial)
            for one in units:
                one.mask = 3
            return units
        by_line: dict[int, Units] = {}
        for bit, select in ((1, self.buy), (2, self.get)):
            for one in open_units(basket, state, select, self.initial):
                by_line.setdefault(one.line, one).mask |= bit
        return [by_line[line] for line in sorted(by_line)]

    def sets(self, units: list[Units], bought: int, got: int) -> int:
        together = sum([one.count for one in units])
        buy, get = self.benefit.buy_quantity, self.benefit.get_quantity
        sets = min(bought // buy, got // get, together // (buy + get))
        return sets if self.benefit.repeat_max is None else min(sets, self.benefit.repeat_max)

    def lacking(self, units: list[Units], bought: int, got: int) -> Unmet:
        """How many units are missing for one set."""
        if not units:
            return Unmet(ReasonCode.NO_ITEMS_SELECTED)
        needed = self.benefit.buy_quantity + self.benefit.get_quantity
        missing = self.missing(units, bought, got, 1)
        code = ReasonCode.UNITS_TOO_FEW
        return Unmet(code, None, needed, needed - missing, missing, "units", of=self.of)

    def missing(self, units: list[Units], bought: int, got: int, sets: int) -> int:
        """Units missing for so many sets."""
        buy, get = sets * self.benefit.buy_quantity, sets * self.benefit.get_quantity
        together = sum([one.count for one in units])
        return max(max(0, buy - bought) + max(0, get - got), buy + get - together)

    def more(
        self, units: list[Units], bought: int, got: int, sets: int
    ) -> tuple[int, str | None] | None:
        """What is missing for one set more, where a part of it is there already."""
        needed = self.benefit.buy_quantity + self.benefit.get_quantity
        missing = self.missing(units, bought, got, sets + 1)
        if sets == self.benefit.repeat_max or missing >= needed:
            return None
        return missing, self.of

    def use_bought(
        self, units: list[Units], left: dict[int, int], wanted: int, draft: Draft
    ) -> None:
        """Use the units bought; where units of the same line are got, they are valued together."""
        buyable = in_order([one for one in units if one.mask & 1], "cheapest")
        for one in sorted(buyable, key=lambda one: one.mask):
            k = min(wanted, left[one.line])
            if k:
                already = one.count - left[one.line]
                value = one.worth(already + k) - (one.worth(already) if already else 0)
                draft.uses.append((one.line, k, value, 0))
                wanted -= k

    def ceiling(self, basket: Basket, state: State) -> int:
        units = self.units(basket, state)
        bought = sum(one.count for one in units if one.mask & 1)
        got = sum(one.count for one in units if one.mask & 2)
        wanted = self.sets(units, bought, got) * self.benefit.get_quantity
        dearest = in_order([one for one in units if one.mask & 2], "dearest")
        return sum(one.base_of(k) + ROUNDING_DRIFT_MINOR for one, k in take_first(dearest, wanted))


class BundlePricer:
    """So many units of each part together for one price, as often as it helps.

    Parts may select the same items. A set of units fits the parts of n bundles if, for every
    choice of parts, no more units fit only these than they need (Hall's theorem); taking the
    dearest units first under this rule takes the most valuable set.
    """

    def __init__(
        self, benefit: b.BundlePrice, parts: list[Select], initial: bool, amounts: Amounts
    ) -> None:
        self.benefit, self.parts, self.initial, self.amounts = benefit, parts, initial, amounts
        #: By choice of parts, as bits: units that one bundle needs of them.
        self.needs = [0] * (1 << len(parts))
        #: By choice of parts: the choices that contain it.
        self.above = [
            [wide for wide in range(len(self.needs)) if wide & one == one]
            for one in range(len(self.needs))
        ]
        for chosen in range(len(self.needs)):
            self.needs[chosen] = sum(
                part.quantity for i, part in enumerate(benefit.parts) if chosen >> i & 1
            )

    def price(self, basket: Basket, state: State, draft: Draft) -> None:
        units = self.units(basket, state)
        most = self.most(units)
        if not most:
            code = ReasonCode.UNITS_TOO_FEW if units else ReasonCode.NO_ITEMS_SELECTED
            draft.unmet.append(Unmet(code))
            return
        factors = basket.factors(self.amounts)
        sets = self.best_number(units, most, factors)
        taken = self.dearest(units, sets)
        gain = self.gain(taken, sets, factors)
        if factors is not None:
            # In the cart's prices the gain is the same share of what the units cost there.
            lifted = sum(convert(one.base_of(k), factors[one.line]) for one, k in taken)
            gain = convert(gain, (sum(one.base_of(k) for one, k in taken), max(1, lifted)))
        take_share(draft, taken, gain)

    def units(self, basket: Basket, state: State) -> list[Units]:
        by_line: dict[int, Units] = {}
        for i, select in enumerate(self.parts):
            for one in open_units(basket, state, select, self.initial):
                by_line.setdefault(one.line, one).mask |= 1 << i
        return in_order([by_line[line] for line in sorted(by_line)], "dearest")

    def most(self, units: list[Units]) -> int:
        """How many complete sets the units make: what any choice of parts can get is the limit."""
        counts: dict[int, int] = {}
        for one in units:
            counts[one.mask] = counts.get(one.mask, 0) + one.count
        most = min(
            sum(n for mask, n in counts.items() if mask & chosen) // self.needs[chosen]
            for chosen in range(1, len(self.needs))
        )
        repeat = self.benefit.repeat_max
        return most if repeat is None else min(most, repeat)

    def dearest(self, units: list[Units], sets: int) -> list[tuple[Units, int]]:
        """The most valuable units that make so many sets."""
        free = [sets * need for need in self.needs]
        taken = []
        for one in units:
            above = self.above[one.mask]
            k = min(one.count, *(free[s] for s in above))
            if k:
                taken.append((one, k))
                for s in above:
                    free[s] -= k
        return taken

    def gain(self, taken: list[tuple[Units, int]], sets: int, factors: list[Factor] | None) -> int:
        if factors is None:
            value = sum(one.base_of(k) for one, k in taken)
        else:
            value = sum(convert(one.base_of(k), factors[one.line]) for one, k in taken)
        return max(0, value - sets * self.benefit.price_minor)

    def best_number(self, units: list[Units], most: int, factors: list[Factor] | None) -> int:
        """The smallest number of sets that gains most: each further set gains less or nothing."""
        low, high = 1, most
        while low < high:
            middle = (low + high) // 2
            now = self.gain(self.dearest(units, middle), middle, factors)
            if self.gain(self.dearest(units, middle + 1), middle + 1, factors) > now:
                low = middle + 1
            else:
                high = middle
        return low

    def ceiling(self, basket: Basket, state: State) -> int:
        lines = sorted({i for part in self.parts for i in open_lines(basket, state, part)})
        return sum(rooms_of(basket, state, lines))
