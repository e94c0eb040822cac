"""Stage 4, combine: which of the promotions that qualify are taken, lane by lane.

1. Inside a set promotions always apply in canonical order: priority, then promotion id, then
   version, then token or code. The order of the input never matters.
2. Two promotions go together if the tags of each satisfy the other, and if not both compete in the
   same lane. Caps of the lane and of the promotion hold at every step.
3. An exclusive promotion applies alone: it is taken if it gives more than all others together.
4. The best set is found by search with a bound and proven best for up to `EXACT_MAX` competing
   promotions, and beyond as far as `NODES_MAX` steps suffice. Where they do not, the answer is the
   better of what was found and of taking the largest first, and the evaluation says `heuristic`.
"""

from collections.abc import Sequence

from sconto.cart.basket import Basket, State
from sconto.cart.evaluation import ReasonCode, Unmet
from sconto.cart.lanes import Lane
from sconto.cart.price import Draft
from sconto.cart.promotion import Compiled
from sconto.terms.model import Combination

#: A search over so many promotions always finishes: it has fewer than `NODES_MAX` nodes.
EXACT_MAX = 12
NODES_MAX = 2 ** (EXACT_MAX + 1)


class Application:
    """A promotion and what calls for it: nothing (automatic), a token, or a code."""

    __slots__ = ("clipped_at_ms", "code", "key", "promotion", "token_id")

    def __init__(
        self,
        promotion: Compiled,
        token_id: str | None = None,
        code: str | None = None,
        clipped_at_ms: int | None = None,
    ) -> None:
        self.promotion, self.token_id, self.code = promotion, token_id, code
        self.clipped_at_ms = clipped_at_ms
        self.key = (*promotion.key, token_id or "", code or "")


class Blocked:
    """Why an application does not apply at its turn; no code: `unmet` of the conditions says it."""

    __slots__ = ("beaten_by", "code", "unmet")

    def __init__(
        self,
        code: ReasonCode | None = None,
        beaten_by: str | None = None,
        unmet: Sequence[Unmet] = (),
    ) -> None:
        self.code, self.beaten_by, self.unmet = code, beaten_by, unmet


class Taken:
    """An application that applies, with what it takes."""

    __slots__ = ("application", "draft", "lane")

    def __init__(self, application: Application, draft: Draft, lane: Lane) -> None:
        self.application, self.draft, self.lane = application, draft, lane


class Progress:
    """What is left, and what was taken so far: a node of the search."""

    __slots__ = ("state", "taken")

    def __init__(self, state: State, taken: list[Taken]) -> None:
        self.state, self.taken = state, taken

    def copy(self) -> "Progress":
        return Progress(self.state.copy(), self.taken[:])

    def take(self, application: Application, draft: Draft, lane: Lane) -> None:
        draft.commit(self.state)
        self.taken.append(Taken(application, draft, lane))


class Outcome:
    """The end of it: what applies, what does not and why, and whether every best is proven."""

    __slots__ = ("blocked", "is_exact", "progress")

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.blocked: list[tuple[Application, Blocked]] = []
        self.is_exact = True

    @property
    def value(self) -> int:
        return sum(taken.draft.amount_minor for taken in self.progress.taken)


def combine(applications: list[Application], basket: Basket, lanes: Sequence[Lane]) -> Outcome:
    """Run all lanes; then see whether an exclusive promotion alone gives more."""
    applications = sorted(applications, key=_key)
    alone = [a for a in applications if a.promotion.combination.exclusive]
    outcome = Outcome(Progress(State.start(basket), []))
    if alone:
        applications = [a for a in applications if not a.promotion.combination.exclusive]
    if applications:
        _run_lanes(applications, basket, lanes, outcome)
    return _with_exclusives(alone, applications, basket, lanes, outcome) if alone else outcome


def _key(application: Application) -> tuple[int, str, str, str, str]:
    return application.key


def lane_of(promotion: Compiled, lanes: Sequence[Lane]) -> Lane:
    """The lane that the terms name, else the one for its benefits, else the merchant's last."""
    names = [lane.name for lane in lanes]
    for name in (promotion.lane, promotion.fallback_lane):
        if name in names:
            return lanes[names.index(name)]
    return lanes[-1]


def turn(
    application: Application, basket: Basket, progress: Progress, lane: Lane
) -> Draft | Blocked:
    """What an application would take now, or why it cannot."""
    promotion, state = application.promotion, progress.state
    state.closed = frozenset()
    if progress.taken and (conflict := _conflict(promotion, progress, lane)):
        return conflict
    asks_first = promotion.has_conditions and not promotion.after
    if asks_first and not promotion.check.holds(basket, state.left, state.left):
        return Blocked(unmet=promotion.check.unmet(basket, state.left, state.left))
    draft = _price(promotion, basket, state)
    if promotion.after:
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
    draft = Draft()
    pricers = promotion.pricers
    pricers[0].price(basket, state, draft)
    if len(pricers) > 1:
        later = state.copy()
        later.closed = state.closed
        draft.commit(later)
        for pricer in pricers[1:]:
            more = Draft()
            pricer.price(basket, later, more)
            more.commit(later)
            draft.add(more)
    return draft


def _closed_in_vain(promotion: Compiled, basket: Basket, state: State) -> bool:
    """Whether it would give nothing even on the lines that are closed to it."""
    free = state.copy()
    return not _price(promotion, basket, free).gives_something


def _conflict(promotion: Compiled, progress: Progress, lane: Lane) -> Blocked | None:
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


def _run_lanes(
    applications: list[Application], basket: Basket, lanes: Sequence[Lane], outcome: Outcome
) -> None:
    by_lane: dict[str, list[Application]] = {}
    for application in applications:
        by_lane.setdefault(lane_of(application.promotion, lanes).name, []).append(application)
    for lane in lanes:
        here = by_lane.get(lane.name)
        if not here:
            continue
        if lane.mode != "best":
            _run_in_order(here, basket, lane, outcome)
        elif lane.scope == "item":
            _run_best_of_item(here, basket, lane, outcome)
        else:
            _run_best(here, basket, lane, outcome)


def _run_in_order(
    applications: list[Application], basket: Basket, lane: Lane, outcome: Outcome
) -> None:
    """Modes `all` and `first`."""
    progress = outcome.progress
    first: str | None = None
    for application in applications:
        found = turn(application, basket, progress, lane)
        if isinstance(found, Blocked):
            outcome.blocked.append((application, found))
        elif first is not None:
            outcome.blocked.append((application, Blocked(ReasonCode.NOT_FIRST, first)))
        else:
            progress.take(application, found, lane)
            if lane.mode == "first":
                first = application.promotion.promotion_id


def _run_best(
    applications: list[Application], basket: Basket, lane: Lane, outcome: Outcome
) -> None:
    """Search the best set; then add what costs the shopper nothing, and say why others lost."""
    search = BestSet(applications, basket, lane, outcome.progress)
    best = search.run()
    outcome.progress, outcome.is_exact = best, outcome.is_exact and search.is_exact
    chosen = {id(taken.application) for taken in best.taken}
    winners = [taken for taken in best.taken if taken.lane is lane]
    for application in applications:
        if id(application) in chosen:
            continue
        found = turn(application, basket, best, lane)
        if isinstance(found, Draft) and found.amount_minor == 0:
            best.take(application, found, lane)
        elif isinstance(found, Draft) or found.code is not None:
            blocked = found if isinstance(found, Blocked) else Blocked(ReasonCode.BEATEN)
            if winners and blocked.code in _LOST:
                by = blocked.beaten_by or winners[0].application.promotion.promotion_id
                blocked = Blocked(ReasonCode.BEATEN, by, blocked.unmet)
            outcome.blocked.append((application, blocked))
        else:
            outcome.blocked.append((application, found))


#: What a promotion that the best set left out is told in place of these.
_LOST = frozenset(
    {ReasonCode.NOT_COMBINABLE, ReasonCode.TOO_MANY, ReasonCode.NO_EFFECT, ReasonCode.BEATEN}
)


class BestSet:
    """Depth-first search: with the next promotion, then without it, cut where a bound says so."""

    def __init__(
        self, applications: list[Application], basket: Basket, lane: Lane, start: Progress
    ) -> None:
        self.applications, self.basket, self.lane, self.start = applications, basket, lane, start
        self.best = start
        self.best_value = 0
        self.nodes = 0
        self.is_exact = True

    def run(self) -> Progress:
        self._visit(0, self.start, 0, self._ceilings(self.start, 0))
        if not self.is_exact:
            self._largest_first()
        return self.best

    def _ceilings(self, progress: Progress, first: int) -> list[int]:
        """Bounds of the promotions from `first` on, as suffix sums, ending with 0."""
        progress.state.closed = frozenset()
        sums = [0]
        for application in reversed(self.applications[first:]):
            pricers = application.promotion.pricers
            bound = sum(pricer.ceiling(self.basket, progress.state) for pricer in pricers)
            sums.append(sums[-1] + bound)
        return [0] * first + sums[::-1]

    def _visit(self, number: int, progress: Progress, value: int, ceilings: list[int]) -> None:
        if value > self.best_value:
            self.best, self.best_value = progress, value
        if number == len(self.applications) or value + ceilings[number] <= self.best_value:
            return
        self.nodes += 1
        if self.nodes > NODES_MAX:
            self.is_exact = False
            return
        application = self.applications[number]
        found = turn(application, self.basket, progress, self.lane)
        if isinstance(found, Draft) and found.amount_minor > 0:
            child = progress.copy()
            child.take(application, found, self.lane)
            below = self._ceilings(child, number + 1)
            self._visit(number + 1, child, value + found.amount_minor, below)
        self._visit(number + 1, progress, value, ceilings)

    def _largest_first(self) -> None:
        """Choose by what each gives at the start, the largest first; apply in canonical order."""
        gains = []
        for application in self.applications:
            found = turn(application, self.basket, self.start, self.lane)
            if isinstance(found, Draft) and found.amount_minor > 0:
                gains.append((-found.amount_minor, application.key, application))
        chosen: list[Application] = []
        for _, _, application in sorted(gains, key=lambda gain: gain[:2]):
            wider = sorted([*chosen, application], key=_key)
            progress = self.start.copy()
            for one in wider:
                found = turn(one, self.basket, progress, self.lane)
                if isinstance(found, Draft) and found.amount_minor > 0:
                    progress.take(one, found, self.lane)
            value = sum(t.draft.amount_minor for t in progress.taken if t.lane is self.lane)
            if len(progress.taken) - len(self.start.taken) == len(wider):
                chosen = wider
                if value > self.best_value:
                    self.best, self.best_value = progress, value


def _run_best_of_item(
    applications: list[Application], basket: Basket, lane: Lane, outcome: Outcome
) -> None:
    """Each line, and shipping, goes to the promotion that gives it most; ties to the first."""
    progress = outcome.progress
    drafts: list[tuple[Application, Draft]] = []
    for application in applications:
        found = turn(application, basket, progress, lane)
        if isinstance(found, Blocked):
            outcome.blocked.append((application, found))
        else:
            drafts.append((application, found))
    winners: dict[int | None, tuple[int, int]] = {}
    for number, (_, draft) in enumerate(drafts):
        for line, amount in _per_line(draft).items():
            if line not in winners or amount > winners[line][0]:
                winners[line] = (amount, number)
    for number, (application, draft) in enumerate(drafts):
        lines = _per_line(draft)
        lost = [winners[line][1] for line in lines if winners[line][1] != number]
        if lines and len(lost) == len(lines):
            winner = drafts[lost[0]][0].promotion.promotion_id
            outcome.blocked.append((application, Blocked(ReasonCode.BEATEN, winner)))
            continue
        conflict = _conflict(application.promotion, progress, lane) if progress.taken else None
        if conflict:
            outcome.blocked.append((application, conflict))
            continue
        won = {line for line in lines if winners[line][1] == number}
        progress.take(application, _only(draft, won, set(lines)), lane)


def _per_line(draft: Draft) -> dict[int | None, int]:
    """What each line, and shipping as None, would get."""
    lines: dict[int | None, int] = dict(draft.amounts.items())
    for line, _, _, amount in draft.uses:
        if amount:
            lines[line] = lines.get(line, 0) + amount
    if draft.shipping:
        lines[None] = draft.shipping
    return lines


def _only(draft: Draft, won: set[int | None], all_lines: set[int | None]) -> Draft:
    """The draft on the lines that it won; units bought for lost ones stay used."""
    lost = all_lines - won
    draft.amounts = {line: amount for line, amount in draft.amounts.items() if line in won}
    draft.uses = [use for use in draft.uses if use[0] not in lost or not use[3]]
    if None in lost:
        draft.shipping = 0
    return draft


def _with_exclusives(
    alone: list[Application],
    others: list[Application],
    basket: Basket,
    lanes: Sequence[Lane],
    outcome: Outcome,
) -> Outcome:
    """The exclusive promotion that gives most, if it gives more than all others together."""
    best: tuple[int, Application, Draft] | None = None
    refused: list[tuple[Application, Blocked]] = []
    for application in alone:
        start = Progress(State.start(basket), [])
        found = turn(application, basket, start, lane_of(application.promotion, lanes))
        if isinstance(found, Blocked):
            refused.append((application, found))
        elif best is None or found.amount_minor > best[0]:
            best = (found.amount_minor, application, found)
    wins = best is not None and (best[0] > outcome.value or not outcome.progress.taken)
    refused_now = {id(application) for application, _ in refused}
    if best is None or not wins:
        by = outcome.progress.taken[0].application.promotion.promotion_id if best else None
        lost = Blocked(ReasonCode.EXCLUSIVE, by)
        outcome.blocked += refused
        outcome.blocked += [(a, lost) for a in alone if id(a) not in refused_now]
        return outcome
    _, winner, draft = best
    result = Outcome(Progress(State.start(basket), []))
    result.progress.take(winner, draft, lane_of(winner.promotion, lanes))
    lost = Blocked(ReasonCode.EXCLUSIVE, winner.promotion.promotion_id)
    taken = {id(taken.application) for taken in outcome.progress.taken}
    result.blocked = outcome.blocked + refused
    result.blocked += [(a, lost) for a in others if id(a) in taken]
    result.blocked += [(a, lost) for a in alone if a is not winner and id(a) not in refused_now]
    return result
