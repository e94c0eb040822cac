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
from sconto.cart.promotion import Application
from sconto.cart.turns import Blocked, Taken

_PRECEDENCE = {code: number for number, code in enumerate(ReasonCode)}


def applied(taken: Taken, basket: Basket, end: State) -> Applied:
    """What a promotion gives, to the cent; rewards are counted on what is left at the end."""
    application, draft = taken.application, taken.draft
    promotion = application.promotion
    terms, lines, amounts = promotion.terms, basket.lines, draft.amounts
    if draft.uses or draft.gift_amounts or draft.shipping or draft.lowest:
        allocations = _allocations(taken, basket)
        amount = sum([part.amount_minor for part in allocations])
    else:
        allocations = [Allocation(lines[i].id, amounts[i]) for i in sorted(amounts)]
        amount = sum(amounts.values())
    rewards = [reward for make in draft.rewards if (reward := make(basket, end)) is not None]
    return Applied(
        terms.promotion_id,
        promotion.digest,
        terms.title,
        amount,
        draft.method,
        promotion.combination.priority,
        taken.lane.name,
        application.token_id,
        application.code,
        tuple(allocations),
        share_funding(amount, terms.funding),
        tuple(draft.gifts),
        tuple(rewards),
    )


def _allocations(taken: Taken, basket: Basket) -> list[Allocation]:
    """By line id; a line whose units were chosen says how many."""
    draft, lines = taken.draft, basket.lines
    units: dict[int, int] = {}
    amounts = dict(draft.amounts)
    for line, count, _, amount in draft.uses:
        if amount:
            units[line] = units.get(line, 0) + count
            amounts[line] = amounts.get(line, 0) + amount
    parts = [
        Allocation(
            lines[i].id,
            amount,
            # A line that also got something as a whole has no single number of units.
            None if i in draft.amounts else units.get(i),
            lines[i].lowest_price_minor if i in draft.lowest else None,
        )
        for i, amount in amounts.items()
    ]
    for line_id, (count, amount) in draft.gift_amounts.items():
        if amount:
            parts.append(Allocation(line_id, amount, count))
    parts.sort(key=_line_id)
    if draft.shipping:
        parts.append(Allocation(None, draft.shipping))
    return parts


def _line_id(part: Allocation) -> str:
    return part.line_id or ""


def refusal(application: Application, blocked: Blocked, full: bool) -> Refusal:
    """Why a promotion does not apply; the uniform answer where `full` is not allowed."""
    token_id, typed = application.token_id, application.code
    if not full and (token_id is not None or typed is not None):
        return uniform(token_id, typed)
    promotion, unmet = application.promotion, blocked.unmet
    if len(unmet) > 1:
        unmet = sorted(unmet, key=lambda one: _PRECEDENCE[one.code])
    code = blocked.code
    if code is ReasonCode.NO_EFFECT or code is None:
        invariant(bool(unmet) or code is not None, "a refusal has a reason")
        code = unmet[0].code if unmet else ReasonCode.NO_EFFECT
    first = unmet[0] if unmet and unmet[0].code is code else Unmet(code)
    return Refusal(
        promotion.promotion_id,
        code,
        promotion.digest,
        token_id,
        typed,
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
    taken: Sequence[Taken],
    blocked: Sequence[tuple[Application, Blocked]],
    refused: Sequence[Refusal],
) -> tuple[Hint, ...]:
    """What more buying would bring: one set more of a promotion that applies, and promotions that
    fail for one mendable reason only. `refused` are the answers to `blocked`, one by one."""
    found = []
    for one in taken:
        if one.draft.more is not None:
            terms = one.application.promotion.terms
            found.append(Hint(terms.promotion_id, terms.title, "add_units", *one.draft.more))
    for (application, _), no in zip(blocked, refused, strict=True):
        if no.missing is not None and len(no.unmet) == 1 and no.code in _HINT_KINDS:
            terms = application.promotion.terms
            kind, of = _HINT_KINDS[no.code], no.unmet[0].of
            found.append(Hint(no.promotion_id, terms.title, kind, no.missing, of))
    return tuple(found)
