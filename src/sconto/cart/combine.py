"""Stage 4, combine: which of the promotions that qualify are taken, lane by lane.

1. Inside a set promotions always apply in canonical order: priority, then promotion id, then
   version, then token or code. The order of the input never matters.
2. Each lane starts from what the lanes before it left.
3. An exclusive promotion applies alone: it is taken if it gives more than all others together.

A single turn is in `turns.py`, the search of the best set in `best.py`.
"""

from collections.abc import Mapping, Sequence

from sconto.cart.basket import Basket, State
from sconto.cart.best import run_best, run_best_of_item
from sconto.cart.evaluation import ReasonCode
from sconto.cart.lanes import Lane
from sconto.cart.price import Draft
from sconto.cart.promotion import Application, Compiled
from sconto.cart.turns import Blocked, Outcome, Progress, key_of, turn


def combine(applications: list[Application], basket: Basket, lanes: Sequence[Lane]) -> Outcome:
    """Run all lanes; then see whether an exclusive promotion alone gives more."""
    applications = sorted(applications, key=key_of)
    alone = [a for a in applications if a.promotion.is_exclusive]
    outcome = Outcome(Progress(State.start(basket)))
    if alone:
        applications = [a for a in applications if not a.promotion.is_exclusive]
    if applications:
        _run_lanes(applications, basket, lanes, outcome)
    return _with_exclusives(alone, applications, basket, lanes, outcome) if alone else outcome


def lane_of(promotion: Compiled, lanes: Mapping[str, Lane]) -> Lane:
    """The lane that the terms name, else the one for its benefits, else the merchant's last."""
    found = lanes.get(promotion.lane) or lanes.get(promotion.fallback_lane)
    return found or list(lanes.values())[-1]


def _run_lanes(
    applications: list[Application], basket: Basket, lanes: Sequence[Lane], outcome: Outcome
) -> None:
    by_name = {lane.name: lane for lane in lanes}
    by_lane: dict[str, list[Application]] = {}
    for application in applications:
        name = application.promotion.lane
        if name not in by_name:
            name = lane_of(application.promotion, by_name).name
        if name in by_lane:
            by_lane[name].append(application)
        else:
            by_lane[name] = [application]
    for lane in lanes:
        here = by_lane.get(lane.name)
        if not here:
            continue
        if lane.mode != "best":
            _run_in_order(here, basket, lane, outcome)
        elif lane.scope == "item":
            run_best_of_item(here, basket, lane, outcome)
        else:
            run_best(here, basket, lane, outcome)


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


def _with_exclusives(
    alone: list[Application],
    others: list[Application],
    basket: Basket,
    lanes: Sequence[Lane],
    outcome: Outcome,
) -> Outcome:
    """The exclusive promotion that gives most, if it gives more than all others together."""
    by_name = {lane.name: lane for lane in lanes}
    best: tuple[int, Application, Draft] | None = None
    refused: list[tuple[Application, Blocked]] = []
    for application in alone:
        start = Progress(State.start(basket))
        found = turn(application, basket, start, lane_of(application.promotion, by_name))
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
    # Where the others' best is not proven, neither is that this one gives more.
    result = Outcome(Progress(State.start(basket)), is_exact=outcome.is_exact)
    result.progress.take(winner, draft, lane_of(winner.promotion, by_name))
    lost = Blocked(ReasonCode.EXCLUSIVE, winner.promotion.promotion_id)
    taken = {id(taken.application) for taken in outcome.progress.taken}
    result.blocked = outcome.blocked + refused
    result.blocked += [(a, lost) for a in others if id(a) in taken]
    result.blocked += [(a, lost) for a in alone if a is not winner and id(a) not in refused_now]
    return result
