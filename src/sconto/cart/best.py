"""Lanes of mode `best`: the set worth most to the shopper, or for each line what gives it most.

The set is searched depth-first in canonical order: with the next promotion, then without it. A
branch is cut where what it has and the ceilings of what is to come do not exceed the best so far;
the ceilings are computed anew whenever something was taken. Up to `EXACT_MAX` promotions the search
always finishes, so the best is proven; beyond, as far as `NODES_MAX` steps suffice. Where they do
not, the answer is the better of what was found and of taking the largest first, and the evaluation
says `heuristic`. Where all that fit together reach the sum of the ceilings, nothing is searched.
"""

from sconto.cart.basket import Basket
from sconto.cart.evaluation import ReasonCode
from sconto.cart.lanes import Lane
from sconto.cart.price import Draft
from sconto.cart.promotion import Application
from sconto.cart.turns import Blocked, Outcome, Progress, conflict_of, key_of, turn
from sconto.cart.units import part_of

#: A search over so many promotions always finishes: it has fewer than `NODES_MAX` nodes.
EXACT_MAX = 12
NODES_MAX = 2 ** (EXACT_MAX + 1)
#: Beyond so many there is no search, only what fits in order and the largest that fit.
SEARCH_MAX = 64


def run_best(applications: list[Application], basket: Basket, lane: Lane, outcome: Outcome) -> None:
    """Search the best set; then add what costs the shopper nothing, and say why others lost."""
    start = outcome.progress
    search = BestSet(applications, basket, lane, start)
    best = search.run()
    outcome.progress, outcome.is_exact = best, outcome.is_exact and search.is_exact
    chosen = {id(taken.application) for taken in best.taken}
    winners = [taken.application for taken in best.taken if taken.lane is lane]
    winner = winners[0].promotion.promotion_id if winners else None
    for application in applications:
        if id(application) in chosen:
            continue
        before = turn(application, basket, start, lane)
        found = turn(application, basket, best, lane)
        # Beside a best that is not proven there may be room for more; and of units that the ones
        # added here have used the next may be worth something where the first were not.
        is_worthless = isinstance(before, Draft) and before.amount_minor == 0
        if isinstance(found, Draft) and (
            found.amount_minor == 0 or is_worthless or not search.is_exact
        ):
            best.take(application, found, lane)
            continue
        if isinstance(before, Draft):
            # It would have applied, had it not been for the others.
            by = found.beaten_by if isinstance(found, Blocked) else None
            unmet = found.unmet if isinstance(found, Blocked) else ()
            before = Blocked(ReasonCode.BEATEN, by or winner, unmet)
        outcome.blocked.append((application, before))


class BestSet:
    """Depth-first search: with the next promotion, then without it, cut where a bound says so."""

    def __init__(
        self, applications: list[Application], basket: Basket, lane: Lane, start: Progress
    ) -> None:
        self.applications, self.basket, self.lane, self.start = applications, basket, lane, start
        self.best = start.copy()
        self.best_value = 0
        self.nodes = 0
        # A node costs as many ceilings as there are promotions: more of them, fewer nodes.
        self.nodes_max = NODES_MAX * EXACT_MAX // max(EXACT_MAX, len(applications))
        self.is_exact = True

    def run(self) -> Progress:
        bounds = self._ceilings(self.start, 0)
        self._try(self.applications)
        if self.best_value >= bounds[0]:
            return self.best
        if len(self.applications) <= SEARCH_MAX:
            self._visit(0, self.start, 0, bounds)
        else:
            self.is_exact = False
        if not self.is_exact:
            self._largest_first()
        return self.best

    def _try(self, applications: list[Application]) -> int:
        """Take all that fit, in canonical order; how many that were."""
        progress, value, count = self.start.copy(), 0, 0
        for application in applications:
            found = turn(application, self.basket, progress, self.lane)
            if isinstance(found, Draft) and found.amount_minor > 0:
                progress.take(application, found, self.lane)
                value += found.amount_minor
                count += 1
        if value > self.best_value:
            self.best, self.best_value = progress, value
        return count

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
        if self.nodes > self.nodes_max:
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
        """Choose by what each gives at the start, the largest first, while all chosen still fit."""
        gains = []
        for application in self.applications:
            found = turn(application, self.basket, self.start, self.lane)
            if isinstance(found, Draft) and found.amount_minor > 0:
                gains.append((-found.amount_minor, application.key, application))
        chosen: list[Application] = []
        for _, _, application in sorted(gains, key=lambda gain: gain[:2])[:SEARCH_MAX]:
            wider = sorted([*chosen, application], key=key_of)
            if self._try(wider) == len(wider):
                chosen = wider


def run_best_of_item(
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
        conflict = conflict_of(application.promotion, progress, lane) if progress.taken else None
        if conflict:
            outcome.blocked.append((application, conflict))
            continue
        won = {line for line in lines if winners[line][1] == number}
        draft = _only(draft, won, set(lines))
        user = _user_of_its_units(draft, basket, progress)
        if user is not None:
            outcome.blocked.append((application, Blocked(ReasonCode.BEATEN, user)))
            continue
        progress.take(application, draft, lane)


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
    for one in (draft, *draft.parts):
        one.amounts = {line: amount for line, amount in one.amounts.items() if line in won}
        one.uses = [use for use in one.uses if use[0] not in lost or not use[3]]
        if None in lost:
            one.shipping = 0
    return draft


def _user_of_its_units(draft: Draft, basket: Basket, progress: Progress) -> str | None:
    """Which promotion of this lane has used units that the draft counts on; None: they are open.

    Units that are open are valued anew, by what those before it left of their lines.
    """
    later = progress.state.copy()
    for one in draft.parts or (draft,):
        uses = []
        for line, units, _, amount in one.uses:
            count, value = later.open_units(line, basket.quantities[line])
            if units > count:
                users = [x for x in progress.taken if line in {use[0] for use in x.draft.uses}]
                return users[-1].application.promotion.promotion_id
            uses.append((line, units, part_of(value, units, count), amount))
            later.use_units(*uses[-1])
        one.uses = uses
        Draft(one.amounts).commit(later)
    return None
