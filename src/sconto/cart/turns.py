"""One turn: what an application would take now, or why it cannot; and the words of combining.

1. Two promotions go together if the tags of each satisfy the other, and if not both compete in the
   same lane.
2. Caps of the lane and of the promotion hold at every step.
3. Conditions are asked, then the price; conditions on what would be left are asked after it.
"""

from collections.abc import Sequence
from operator import attrgetter

from sconto.cart.basket import Basket, State
from sconto.cart.evaluation import ReasonCode, Unmet
from sconto.cart.lanes import Lane
from sconto.cart.price import Draft
from sconto.cart.promotion import Application, Compiled
from sconto.cart.records import Passing, Working
from sconto.terms.model import Combination

_NONE: frozenset[int] = frozenset()


class Blocked(Passing):
    """Why an application does not apply at its turn; no code: `unmet` of the conditions says it."""

    code: ReasonCode | None = None
    beaten_by: str | None = None
    unmet: Sequence[Unmet] = ()


class Taken(Passing):
    """An application that applies, with what it takes."""

    application: Application
    draft: Draft
    lane: Lane


class Progress(Working):
    """What is left, and what was taken so far: a node of the search."""

    state: State
    taken: list[Taken] = []
    #: Whether nothing that was taken minds what else is.
    is_free: bool = True

    def copy(self) -> "Progress":
        return Progress(self.state.copy(), self.taken[:], self.is_free)

    def take(self, application: Application, draft: Draft, lane: Lane) -> None:
        draft.commit(self.state)
        self.taken.append(Taken(application, draft, lane))
        if not application.promotion.is_free:
            self.is_free = False


class Outcome(Working):
    """The end of it: what applies, what does not and why, and whether every best is proven."""

    progress: Progress
    blocked: list[tuple[Application, Blocked]] = []
    is_exact: bool = True

    @property
    def value(self) -> int:
        return sum(taken.draft.amount_minor for taken in self.progress.taken)


#: Sorts applications canonically.
key_of = attrgetter("key")


def turn(
    application: Application, basket: Basket, progress: Progress, lane: Lane
) -> Draft | Blocked:
    """What an application would take now, or why it cannot."""
    promotion, state = application.promotion, progress.state
    state.closed = _NONE
    if (
        progress.taken
        and not (promotion.is_free and progress.is_free and not lane.has_caps)
        and (conflict := conflict_of(promotion, progress, lane))
    ):
        return conflict
    left, after = state.left, promotion.after
    if promotion.has_conditions and not after and not promotion.check.holds(basket, left, left):
        return Blocked(None, None, promotion.check.unmet(basket, left, left))
    pricers = promotion.pricers
    if len(pricers) == 1:
        draft = Draft()
        pricers[0].price(basket, state, draft)
        if draft.amounts and not after:
            return draft
    else:
        draft = _price(promotion, basket, state)
    if after:
        later = state.copy()
        draft.commit(later)
        if not promotion.check.holds(basket, state.left, later.left):
            return Blocked(unmet=promotion.check.unmet(basket, state.left, later.left))
    if not draft.gives_something and not promotion.redeems_without_effect:
        if state.closed and not _closed_in_vain(promotion, basket, state):
            return Blocked(ReasonCode.TOO_MANY, _last_id(progress))
        return Blocked(ReasonCode.NO_EFFECT, unmet=draft.unmet)
    return draft


def _price(promotion: Compiled, basket: Basket, state: State) -> Draft:
    """One benefit after the other, each on what the one before left."""
    later = state.copy()
    later.closed = state.closed
    draft = Draft()
    for number, pricer in enumerate(promotion.pricers):
        more = Draft()
        pricer.price(basket, later, more)
        more.commit(later)
        draft.add(more)
        if number == 0:
            draft.method = more.method
    return draft


def _closed_in_vain(promotion: Compiled, basket: Basket, state: State) -> bool:
    """Whether it would give nothing even on the lines that are closed to it."""
    free = state.copy()
    return not _price(promotion, basket, free).gives_something


def conflict_of(promotion: Compiled, progress: Progress, lane: Lane) -> Blocked | None:
    """Tags, competition and caps, in this order; closes the lines that are full."""
    own = promotion.combination
    same = 0
    in_lane = 0
    for taken in progress.taken:
        other = taken.application.promotion
        if not _combine(own, other.combination):
            return Blocked(ReasonCode.NOT_COMBINABLE, other.promotion_id)
        if taken.lane is lane:
            in_lane += 1
            if own.mode == other.combination.mode == "compete":
                code = ReasonCode.BEATEN if lane.mode == "best" else ReasonCode.NOT_FIRST
                return Blocked(code, other.promotion_id)
        same += other.promotion_id == promotion.promotion_id
    if own.max_per_cart is not None and same >= own.max_per_cart:
        return Blocked(ReasonCode.TOO_MANY, promotion.promotion_id)
    if lane.max_per_cart is not None and in_lane >= lane.max_per_cart:
        return Blocked(ReasonCode.TOO_MANY, _last_id(progress))
    if own.max_per_item is not None or lane.max_per_item is not None:
        progress.state.closed = _closed_lines(promotion, progress, lane)
    return None


def _combine(own: Combination, other: Combination) -> bool:
    """Whether each allows a tag of the other."""
    return (own.combines_with is None or not own.combines_with.isdisjoint(other.tags)) and (
        other.combines_with is None or not other.combines_with.isdisjoint(own.tags)
    )


def _closed_lines(promotion: Compiled, progress: Progress, lane: Lane) -> frozenset[int]:
    """Lines that have as many promotions as the lane, or as many of this one as it, allows."""
    in_lane: dict[int, int] = {}
    own: dict[int, int] = {}
    for taken in progress.taken:
        draft = taken.draft
        touched = {*draft.amounts, *(use[0] for use in draft.uses if use[3])}
        for line in touched:
            if taken.lane is lane:
                in_lane[line] = in_lane.get(line, 0) + 1
            if taken.application.promotion.promotion_id == promotion.promotion_id:
                own[line] = own.get(line, 0) + 1
    lane_cap, own_cap = lane.max_per_item, promotion.combination.max_per_item
    closed = {i for i, n in in_lane.items() if lane_cap is not None and n >= lane_cap}
    return frozenset(closed | {i for i, n in own.items() if own_cap is not None and n >= own_cap})


def _last_id(progress: Progress) -> str:
    return progress.taken[-1].application.promotion.promotion_id
