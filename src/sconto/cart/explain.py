"""Stage 6, explain: what applies and what does not, in words that a program can read.

A stranger learns nothing about tokens and codes: one refusal for all of them, whether a code is
unknown or nearly matches. Automatic promotions are public, and explained to everybody.
"""

from collections.abc import Sequence
from typing import Literal

from sconto.base.errors import invariant
from sconto.cart.allocate import share_funding
from sconto.cart.basket import Basket, State
from sconto.cart.evaluation import (
    Allocation,
    Applied,
    Hint,
    ReasonCode,
    Refusal,
    Unmet,
)
from sconto.cart.turns import Application, Blocked, Taken

_PRECEDENCE = {code: number for number, code in enumerate(ReasonCode)}


def applied(taken: Taken, basket: Basket, end: State) -> Applied:
    """What a promotion gives, to the cent; rewards are counted on what is left at the end."""
    application, draft = taken.application, taken.draft
    promotion = application.promotion
    terms = promotion.terms
    allocations = tuple(_allocations(taken, basket))
    amount = sum([part.amount_minor for part in allocations])
    rewards = [reward for make in draft.rewards if (reward := make(basket, end)) is not None]
    return Applied(
        promotion_id=terms.promotion_id,
        terms_digest=promotion.digest,
        title=terms.title,
        amount_minor=amount,
        method=draft.method,
        priority=terms.combination.priority,
        lane=taken.lane.name,
        token_id=application.token_id,
        code=application.code,
        allocations=allocations,
        funding=share_funding(amount, terms.funding),
        gifts=tuple(draft.gifts),
        rewards=tuple(rewards),
    )


def _allocations(taken: Taken, basket: Basket) -> list[Allocation]:
    """By line id; a line whose units were chosen says how many."""
    draft, lines = taken.draft, basket.lines
    parts = [Allocation(lines[i].id, amount) for i, amount in draft.amounts.items()]
    if draft.uses or draft.gift_amounts or draft.shipping:
        units: dict[int, int] = {}
        amounts: dict[int, int] = dict(draft.amounts)
        for line, count, _, amount in draft.uses:
            if amount:
                units[line] = units.get(line, 0) + count
                amounts[line] = amounts.get(line, 0) + amount
        # A line that also got something as a whole has no single number of units.
        whole = set(draft.amounts)
        parts = [
            Allocation(lines[i].id, amount, None if i in whole else units.get(i))
            for i, amount in amounts.items()
        ]
        for line_id, (count, amount) in draft.gift_amounts.items():
            if amount:
                parts.append(Allocation(line_id, amount, count))
    parts.sort(key=lambda part: part.line_id or "")
    if draft.shipping:
        parts.append(Allocation(None, draft.shipping))
    invariant(all(part.amount_minor > 0 for part in parts), "an allocation takes something")
    return parts


def refusal(application: Application, blocked: Blocked, *, full: bool) -> Refusal:
    """Why a promotion does not apply; the uniform answer where `full` is not allowed."""
    is_presented = application.token_id is not None or application.code is not None
    if is_presented and not full:
        return uniform(application.token_id, application.code)
    promotion = application.promotion
    unmet = sorted(blocked.unmet, key=lambda one: _PRECEDENCE[one.code])
    code = blocked.code
    if code is ReasonCode.NO_EFFECT or code is None:
        invariant(bool(unmet) or code is not None, "a refusal has a reason")
        code = unmet[0].code if unmet else ReasonCode.NO_EFFECT
    first = unmet[0] if unmet and unmet[0].code is code else Unmet(code)
    return Refusal(
        promotion.promotion_id,
        code,
        promotion.digest,
        application.token_id,
        application.code,
        first.condition,
        first.needed,
        first.had,
        first.missing,
        first.unit,
        first.expected,
        blocked.beaten_by,
        tuple(unmet),
    )


def uniform(token_id: str | None, code: str | None) -> Refusal:
    """What every stranger is told of every token and code that does not apply."""
    return Refusal("", ReasonCode.NOT_APPLICABLE, token_id=token_id, presented_code=code)


_HINT_KINDS: dict[ReasonCode, Literal["spend_more", "add_units", "add_distinct"]] = {
    ReasonCode.SUBTOTAL_TOO_LOW: "spend_more",
    ReasonCode.QUANTITY_TOO_LOW: "add_units",
    ReasonCode.UNITS_TOO_FEW: "add_units",
    ReasonCode.DISTINCT_TOO_LOW: "add_distinct",
}


def hints(
    refused: Sequence[tuple[Application, Refusal]],
) -> tuple[Hint, ...]:
    """What more buying would bring: for promotions that fail for one mendable reason only."""
    found = []
    for application, one in refused:
        if one.missing is not None and len(one.unmet) == 1 and one.code in _HINT_KINDS:
            terms = application.promotion.terms
            kind = _HINT_KINDS[one.code]
            found.append(Hint(one.promotion_id, terms.title, kind, one.missing))
    return tuple(found)
