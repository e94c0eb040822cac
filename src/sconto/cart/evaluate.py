"""The front door: which promotions apply to a cart, what each gives, and why others do not.

`evaluate` is pure: the same arguments give the same bytes, in whatever order lines and promotions
stand. It spends nothing and knows no budget: what it answers is what the ledger then reserves.

The stages, one module each: index (which could match) → qualify (which do) → price (what each would
give) → combine (which are taken) → allocate (where each cent goes) → explain.
"""

from collections.abc import Iterable
from operator import attrgetter

from sconto.base.errors import invariant
from sconto.cart import explain
from sconto.cart.basket import Basket
from sconto.cart.combine import combine
from sconto.cart.evaluation import (
    Applied,
    Evaluation,
    LineTotal,
    ReasonCode,
    Refusal,
    Totals,
)
from sconto.cart.index import Promotions, Source
from sconto.cart.model import STRANGER, Cart, Holder
from sconto.cart.promotion import Application, Compiled, Key, Promotion
from sconto.cart.turns import Blocked, Outcome
from sconto.terms.codes import normalise_code
from sconto.terms.model import TokenAccess, UniqueCodes

_LINE_ID = attrgetter("line_id")


def evaluate(
    cart: Cart,
    promotions: Source | Iterable[Promotion],
    holder: Holder = STRANGER,
    *,
    at_ms: int,
) -> Evaluation:
    """Apply the promotions of an index (or of any iterable) to a cart at an instant.

    Considered are the automatic promotions that could match, those of the codes in the cart, and
    those of the holder's tokens. Amounts are minor units of the cart's currency.
    """
    if not isinstance(promotions, Source):
        promotions = Promotions(promotions)
    basket = Basket(cart, holder, at_ms)
    called, refused = _called(promotions, basket)
    applications: list[Application] = []
    not_now: list[tuple[Application, Blocked]] = []
    for one in called:
        closed = one.promotion.closed_now(basket, one.clipped_at_ms)
        if closed is None:
            applications.append(one)
        else:
            not_now.append((one, Blocked(closed)))
    outcome = combine(applications, basket, promotions.lanes)
    outcome.blocked += not_now
    return _answer(basket, outcome, refused)


def _called(promotions: Source, basket: Basket) -> tuple[list[Application], list[Refusal]]:
    """Everything that asks to be applied, and what cannot even be looked up."""
    applications = [one.automatic for one in promotions.candidates(basket)]
    refused: list[Refusal] = []
    holder = basket.holder
    seen: set[str] = set()
    for token in holder.tokens:
        promotion = promotions.by_digest(token.terms_digest)
        reason = None
        if token.token_id in seen:
            reason = ReasonCode.ALREADY_APPLIED
        elif promotion is None or not isinstance(promotion.terms.access, TokenAccess):
            reason = ReasonCode.PROMOTION_UNKNOWN
        elif token.is_control:
            reason = ReasonCode.CONTROL_GROUP
        seen.add(token.token_id)
        if reason is None and promotion is not None:
            applications.append(
                Application.by_token(promotion, token.token_id, token.clipped_at_ms)
            )
        elif holder.proven and reason is not None:
            name = promotion.promotion_id if promotion is not None else ""
            refused.append(Refusal(name, reason, token.terms_digest, token.token_id))
        else:
            refused.append(explain.uniform(token.token_id, None))
    for code, found in _coded(promotions, basket):
        if isinstance(found, ReasonCode):
            refused.append(
                Refusal("", found, presented_code=code)
                if holder.proven
                else explain.uniform(None, code)
            )
        else:
            applications += [Application.by_code(one, code) for one in found]
    return applications, refused


def _coded(promotions: Source, basket: Basket) -> list[tuple[str, list[Compiled] | ReasonCode]]:
    """What each typed code stands for: public codes of the index, unique ones of the holder."""
    result: list[tuple[str, list[Compiled] | ReasonCode]] = []
    if not basket.cart.codes:
        return result
    unique = {normalise_code(one.code): one for one in basket.holder.codes}
    seen: set[str] = set()
    for code in sorted(basket.cart.codes):
        normal = normalise_code(code)
        found = promotions.by_code(normal)
        reason = ReasonCode.CODE_UNKNOWN
        if normal in unique:
            promotion = promotions.by_digest(unique[normal].terms_digest)
            if promotion is not None and isinstance(promotion.terms.access, UniqueCodes):
                if unique[normal].is_used:
                    reason = ReasonCode.CODE_USED
                else:
                    found = [promotion, *found]
        if normal in seen:
            result.append((code, ReasonCode.ALREADY_APPLIED))
        else:
            result.append((code, found or reason))
        seen.add(normal)
    return result


def _answer(basket: Basket, outcome: Outcome, unknown: list[Refusal]) -> Evaluation:
    """Put the answer together, and hold it to its invariants."""
    end = outcome.progress.state
    applied = tuple([explain.applied(taken, basket, end) for taken in outcome.progress.taken])
    proven = basket.holder.proven
    blocked = outcome.blocked
    if len(blocked) > 1:
        blocked.sort(key=_key_of_blocked)
    refused = [explain.refusal(application, why, proven) for application, why in blocked]
    hints = explain.hints(outcome.progress.taken, blocked, refused)
    if unknown:
        refused += sorted(unknown, key=_refusal_key)
    left = end.left
    lines = [
        LineTotal(line.id, amount, amount - rest)
        for line, amount, rest in zip(basket.lines, basket.initial, left, strict=True)
    ]
    subtotal, discount = basket.subtotal, basket.subtotal - sum(left)
    if basket.gift_lines:
        gifts = _gifts(basket, applied)
        lines = sorted([*lines, *gifts], key=_LINE_ID)
        subtotal += sum([line.amount_minor for line in gifts])
        discount += sum([line.discount_minor for line in gifts])
    shipping = basket.cart.shipping.amount_minor if basket.cart.shipping else 0
    off_shipping = shipping - end.shipping
    invariant(
        sum([one.amount_minor for one in applied]) == discount + off_shipping,
        "the allocations sum to what is taken off",
    )
    invariant(min(left, default=0) >= 0 and end.shipping >= 0, "nothing costs less than nothing")
    invariant(
        min([one.amount_minor for one in applied], default=0) >= 0,
        "no discount makes anything dearer",
    )
    return Evaluation(
        basket.cart.currency,
        applied,
        tuple(refused),
        tuple(lines),
        Totals(subtotal, discount, shipping, off_shipping, subtotal - discount + end.shipping),
        "exact" if outcome.is_exact else "heuristic",
        hints,
        tuple([line.id for line in basket.gift_lines if not end.gifts.get(line.id)]),
    )


def _gifts(basket: Basket, applied: Iterable[Applied]) -> list[LineTotal]:
    """The cart's gift lines, with what is given of each."""
    given = dict.fromkeys([line.id for line in basket.gift_lines], 0)
    for one in applied:
        for part in one.allocations:
            if part.line_id in given:
                given[part.line_id] += part.amount_minor
    return [LineTotal(line.id, line.initial_minor, given[line.id]) for line in basket.gift_lines]


def _key_of_blocked(pair: tuple[Application, Blocked]) -> Key:
    return pair[0].key


def _refusal_key(one: Refusal) -> tuple[str, str, str]:
    return (one.token_id or "", one.presented_code or "", one.code)
