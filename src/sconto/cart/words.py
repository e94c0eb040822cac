"""An evaluation in plain English: what applies and where each cent goes, what does not and why.

For people who try promotions out; programs read the `Evaluation` itself, shoppers a translation.
"""

from collections.abc import Iterator

from sconto.base.money import format_money
from sconto.cart.evaluation import (
    Applied,
    Evaluation,
    Gift,
    Hint,
    ReasonCode,
    Refusal,
    Reward,
    Unmet,
)

#: Every reason in a few words.
REASONS = {
    ReasonCode.NOT_APPLICABLE: "it does not apply; more is told to a proven holder only",
    ReasonCode.CODE_UNKNOWN: "no promotion has this code",
    ReasonCode.CODE_USED: "the code was used already",
    ReasonCode.PROMOTION_UNKNOWN: "the token's terms are not in force here",
    ReasonCode.ALREADY_APPLIED: "the same code or token was given twice",
    ReasonCode.CONTROL_GROUP: "the token is of the control group and gives nothing",
    ReasonCode.CURRENCY_MISMATCH: "the cart has another currency",
    ReasonCode.NOT_STARTED: "it has not started",
    ReasonCode.EXPIRED: "it is over",
    ReasonCode.OUTSIDE_HOURS: "it does not hold at this hour of the week",
    ReasonCode.SHOPPER_UNKNOWN: "it depends on who the shopper is, which is not known",
    ReasonCode.SEGMENT_NOT_MATCHED: "the shopper is in none of the segments",
    ReasonCode.ORDER_NUMBER_NOT_MATCHED: "it is not for this order of the shopper",
    ReasonCode.STORE_NOT_MATCHED: "it is not for this store",
    ReasonCode.REGION_NOT_MATCHED: "it is not for this region",
    ReasonCode.CHANNEL_NOT_MATCHED: "it is not for this channel",
    ReasonCode.SHIPPING_METHOD_NOT_MATCHED: "it is not for this way of shipping",
    ReasonCode.PAYMENT_METHOD_NOT_MATCHED: "it is not for this way of paying",
    ReasonCode.ATTRIBUTE_NOT_MATCHED: "an attribute has not the value that is needed",
    ReasonCode.SUBTOTAL_TOO_LOW: "the items cost too little",
    ReasonCode.SUBTOTAL_TOO_HIGH: "the items cost too much",
    ReasonCode.QUANTITY_TOO_LOW: "there are too few units",
    ReasonCode.QUANTITY_TOO_HIGH: "there are too many units",
    ReasonCode.DISTINCT_TOO_LOW: "there are too few different items",
    ReasonCode.EXCLUDED: "something that must not hold does hold",
    ReasonCode.NO_ITEMS_SELECTED: "nothing in the cart is meant by it",
    ReasonCode.LOWEST_PRICE_UNKNOWN: "no item that is meant states its lowest price of 30 days",
    ReasonCode.UNITS_TOO_FEW: "there are too few units to buy and get",
    ReasonCode.NO_EFFECT: "there is nothing left to take off",
    ReasonCode.EXCLUSIVE: "it, or another one, is never combined",
    ReasonCode.NOT_COMBINABLE: "its tags and those of another one do not allow each other",
    ReasonCode.TOO_MANY: "no more of it, or of its lane, are allowed in one cart or on one item",
    ReasonCode.LIMIT_REACHED: "its limit for this shopper, store, code or time is reached",
    ReasonCode.ALLOTMENT_EXHAUSTED: "nothing is left of its budget here just now",
    ReasonCode.NOT_FIRST: "another one came first, and its lane takes only the first",
    ReasonCode.BEATEN: "another one, or a set of others, is worth more to the shopper",
}

_WANTED = {
    "units": "add {0} more",
    "distinct": "add {0} more different",
    "orders": "after {0} more orders",
    "uses": "{0} more uses are needed",
}


def in_words(evaluation: Evaluation) -> Iterator[str]:
    """Line by line; what belongs to the line above is indented.

    >>> from sconto.cart.worked import promotion_of, try_out
    >>> near = promotion_of("near", benefit={"type": "amount_off", "amount_minor": 300},
    ...                     conditions=[{"type": "subtotal", "min_minor": 1000}])
    >>> print("\\n".join(in_words(try_out("2 milk 290", near))))
    Refused: near: subtotal_too_low, the items cost too little
      conditions[0]: needed 10.00 EUR, had 5.80 EUR: spend 4.20 EUR more
    Hint: near (near): spend 4.20 EUR more
    Total: 5.80 EUR
    """
    currency = evaluation.currency
    for applied in evaluation.applied:
        yield from _applied(applied, currency)
    for refused in evaluation.refused:
        yield from _refused(refused, currency)
    for hint in evaluation.hints:
        yield f"Hint: {hint.promotion_id} ({hint.title}): {_hint(hint, currency)}"
    for line_id in evaluation.gifts_to_remove:
        yield f"Take out line {line_id}: the promotion whose gift it is does not apply"
    yield _total(evaluation)
    if evaluation.method == "heuristic":
        yield "Too many promotions compete to prove that no better set exists."


def _applied(one: Applied, currency: str) -> Iterator[str]:
    how = _how(one.token_id, one.code)
    amount = format_money(one.amount_minor, currency)
    yield f"Applies: {one.promotion_id}{how}: {amount} off, {one.title}"
    for part in one.allocations:
        where = "shipping" if part.line_id is None else f"line {part.line_id}"
        units = "" if part.quantity is None else f" for {part.quantity} of its units"
        prior = ""
        if part.lowest_price_minor is not None:
            price = format_money(part.lowest_price_minor, currency)
            prior = f", computed from its lowest price of 30 days, {price}"
        yield f"  {where}: {format_money(part.amount_minor, currency)}{units}{prior}"
    for paid in one.funding:
        yield f"  paid by {paid.party}: {format_money(paid.amount_minor, currency)}"
    for gift in one.gifts:
        yield f"  {_gift(gift)}"
    for reward in one.rewards:
        yield f"  {_reward(reward)}"


def _gift(gift: Gift) -> str:
    lacking = f", of which {gift.missing} must be put into the cart" if gift.missing else ""
    return f"gift: {gift.quantity} {gift.sku}{lacking}"


def _reward(reward: Reward) -> str:
    if reward.kind == "points":
        return f"gives {reward.count} points"
    if reward.kind == "token":
        return f"gives {reward.count} token(s) of {reward.promotion_id}"
    values = "".join(f", {name}: {value}" for name, value in sorted(reward.values.items()))
    return f"gives {reward.name}{values}"


def _refused(one: Refusal, currency: str) -> Iterator[str]:
    how = _how(one.token_id, one.presented_code)
    beaten = f" ({one.beaten_by})" if one.beaten_by else ""
    name = f"{one.promotion_id}{how}".strip()
    yield f"Refused: {name}: {one.code}, {REASONS[one.code]}{beaten}"
    whole = Unmet(one.code, one.condition, one.needed, one.had, one.missing, one.unit, one.expected)
    for unmet in one.unmet or (whole,):
        text = _unmet(unmet, currency)
        if unmet.condition or text:
            code = "" if unmet.code is one.code else f"{unmet.code}, "
            yield f"  {unmet.condition or 'it'}: {code}{text or 'does not hold'}"


def _unmet(one: Unmet, currency: str) -> str:
    """Needed, had, and what to do about it, as far as there are figures."""
    parts = []
    if one.needed is not None:
        parts.append(f"needed {_figure(one.needed, one.unit, currency)}")
    if one.had is not None:
        parts.append(f"had {_figure(one.had, one.unit, currency)}")
    if one.expected:
        parts.append(f"needed one of {', '.join(one.expected)}")
    text = ", ".join(parts)
    if one.missing is None:
        return text
    of = f" of {one.of}" if one.of else ""
    return f"{text}: {_wanted(one.missing, one.unit, currency)}{of}"


def _figure(value: int, unit: str | None, currency: str) -> str:
    return format_money(value, currency) if unit == "minor" else str(value)


def _wanted(missing: int, unit: str | None, currency: str) -> str:
    if unit == "minor":
        return f"spend {format_money(missing, currency)} more"
    return _WANTED[unit or "units"].format(missing)


def _hint(hint: Hint, currency: str) -> str:
    unit = {"spend_more": "minor", "add_distinct": "distinct"}.get(hint.kind, "units")
    return _wanted(hint.missing, unit, currency) + (f" of {hint.of}" if hint.of else "")


def _how(token_id: str | None, code: str | None) -> str:
    if token_id is not None:
        return f" (token {token_id})"
    return "" if code is None else f" (code {code})"


def _total(evaluation: Evaluation) -> str:
    totals, currency = evaluation.totals, evaluation.currency
    total = format_money(totals.total_minor, currency)
    parts = [
        ("", totals.subtotal_minor),
        (" - ", totals.discount_minor),
        (" + shipping ", totals.shipping_minor),
        (" - ", totals.shipping_discount_minor),
    ]
    said = [f"{sign}{format_money(amount, currency)}" for sign, amount in parts if amount]
    return f"Total: {total}" if len(said) < 2 else f"Total: {''.join(said)} = {total}"
