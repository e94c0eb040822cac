"""An evaluation in the words of UCP: `line_items`, `discounts`, `totals`, `messages`.

UCP 2026-08-25, extension `dev.ucp.shopping.discount`. The parts go into a cart's or a checkout's
response as they are. What UCP demands and this keeps:

1. Allocations sum to the amount of their discount; amounts in `applied` are positive, discounts in
   `totals` negative, and a total of zero is left out.
2. Discounts of line items are summed as `items_discount`, on the line and at the top; what is taken
   off shipping is a `discount` at the top, and shipping itself stands there in full.
3. An item has a title and a unit price: the title is its SKU, which a shop that knows better
   replaces; the price of a weighed line is rounded, its `subtotal` is exact.
4. Codes come back as typed; a rejected one is not in `applied` and has a warning with its path.
"""

from typing import Any

from sconto.cart.evaluation import Applied, Evaluation, ReasonCode, Refusal
from sconto.cart.model import Cart

#: Finer reasons of ours in the words of UCP, and of ACP where UCP has none (the last two).
UCP_CODES = {
    ReasonCode.ALREADY_APPLIED: "already_applied",
    ReasonCode.EXPIRED: "expired",
    ReasonCode.SHOPPER_UNKNOWN: "user_not_logged_in",
    ReasonCode.CONTROL_GROUP: "user_ineligible",
    ReasonCode.SEGMENT_NOT_MATCHED: "user_ineligible",
    ReasonCode.ORDER_NUMBER_NOT_MATCHED: "user_ineligible",
    ReasonCode.EXCLUSIVE: "combination_disallowed",
    ReasonCode.NOT_COMBINABLE: "combination_disallowed",
    ReasonCode.TOO_MANY: "combination_disallowed",
    ReasonCode.NOT_FIRST: "combination_disallowed",
    ReasonCode.BEATEN: "combination_disallowed",
    ReasonCode.SUBTOTAL_TOO_LOW: "minimum_not_met",
    ReasonCode.QUANTITY_TOO_LOW: "minimum_not_met",
    ReasonCode.DISTINCT_TOO_LOW: "minimum_not_met",
    ReasonCode.UNITS_TOO_FEW: "minimum_not_met",
    ReasonCode.CODE_USED: "usage_limit_reached",
    ReasonCode.LIMIT_REACHED: "usage_limit_reached",
    ReasonCode.ALLOTMENT_EXHAUSTED: "usage_limit_reached",
}


def ucp_code(code: ReasonCode) -> str:
    """The wire's code for a refused discount code; what has no name there is `invalid`."""
    return f"discount_code_{UCP_CODES.get(code, 'invalid')}"


def render(cart: Cart, evaluation: Evaluation) -> dict[str, Any]:
    """JSON values of `currency`, `line_items`, `discounts`, `totals` and `messages`.

    >>> from sconto.cart.worked import promotion_of, try_out, cart_of
    >>> cart = cart_of("2 a 1000, b 500", codes=["Save", "nope"])
    >>> off = promotion_of(benefit={"type": "amount_off", "amount_minor": 300},
    ...                    access={"type": "code", "code": "SAVE"})
    >>> answer = render(cart, try_out(cart, off))
    >>> answer["discounts"]["applied"][0]["allocations"]
    [{'path': '$.line_items[0]', 'amount': 240}, {'path': '$.line_items[1]', 'amount': 60}]
    >>> [(total["type"], total["amount"]) for total in answer["totals"]]
    [('subtotal', 2500), ('items_discount', -300), ('total', 2200)]
    >>> [(one["code"], one["path"]) for one in answer["messages"]]
    [('discount_code_invalid', '$.discounts.codes[1]')]
    """
    paths = {line.id: f"$.line_items[{i}]" for i, line in enumerate(cart.lines)}
    return {
        "currency": evaluation.currency,
        "line_items": _line_items(cart, evaluation),
        "discounts": {
            "codes": list(cart.codes),
            "applied": [part for one in evaluation.applied for part in _applied(one, paths)],
        },
        "totals": _totals(evaluation),
        "messages": _messages(cart, evaluation),
    }


def _line_items(cart: Cart, evaluation: Evaluation) -> list[dict[str, Any]]:
    """In the order of the cart."""
    totals = {line.line_id: line for line in evaluation.lines}
    items = []
    for line in cart.lines:
        found = totals[line.id]
        parts = [{"type": "subtotal", "amount": found.amount_minor}]
        if found.discount_minor:
            parts.append({"type": "items_discount", "amount": -found.discount_minor})
        parts.append({"type": "total", "amount": found.total_minor})
        price = (2 * line.initial_minor + line.quantity) // (2 * line.quantity)
        item = {"id": line.sku, "title": line.sku, "price": price}
        items.append({"id": line.id, "item": item, "quantity": line.quantity, "totals": parts})
    return items


def _applied(one: Applied, paths: dict[str, str]) -> list[dict[str, Any]]:
    """One discount; two where it takes from lines and from shipping, which UCP sums apart."""
    base: dict[str, Any] = {"title": one.title, "priority": one.priority}
    if one.code is not None:
        base["code"] = one.code
    if one.is_automatic:
        base["automatic"] = True
    lines = [part for part in one.allocations if part.line_id is not None]
    shipping = sum(part.amount_minor for part in one.allocations if part.line_id is None)
    found = []
    if lines or not shipping:
        discount = {**base, "amount": one.amount_minor - shipping, "method": one.method}
        if lines:
            discount["allocations"] = [
                {"path": paths[part.line_id], "amount": part.amount_minor}
                for part in lines
                if part.line_id is not None
            ]
        found.append(discount)
    if shipping:
        found.append({**base, "amount": shipping})
    return found


def _totals(evaluation: Evaluation) -> list[dict[str, Any]]:
    totals = evaluation.totals
    parts = [("subtotal", totals.subtotal_minor)]
    if totals.discount_minor:
        parts.append(("items_discount", -totals.discount_minor))
    if totals.shipping_minor:
        parts.append(("fulfillment", totals.shipping_minor))
    if totals.shipping_discount_minor:
        parts.append(("discount", -totals.shipping_discount_minor))
    parts.append(("total", totals.total_minor))
    return [{"type": kind, "amount": amount} for kind, amount in parts]


def _messages(cart: Cart, evaluation: Evaluation) -> list[dict[str, Any]]:
    """Warnings for codes and tokens that do not apply; automatic promotions are silent."""
    accepted = {one.code for one in evaluation.applied}
    messages = []
    for one in evaluation.refused:
        if one.presented_code is not None:
            if one.code is not ReasonCode.ALREADY_APPLIED and one.presented_code in accepted:
                continue
            messages.append(_code_message(cart, one))
        elif one.token_id is not None:
            messages.append(
                {
                    "type": "warning",
                    "code": "eligibility_not_accepted",
                    "content": f"The token {one.token_id} does not apply: {one.code}",
                }
            )
    return messages


def _code_message(cart: Cart, one: Refusal) -> dict[str, Any]:
    places = [i for i, code in enumerate(cart.codes) if code == one.presented_code]
    # The same text twice: the first was looked at, the last is the one too many.
    place = places[-1 if one.code is ReasonCode.ALREADY_APPLIED else 0]
    content = f"{one.presented_code} does not apply"
    if one.missing is not None:
        content += f": {one.missing} missing"
        content += f" of {one.needed}" if one.needed is not None else ""
    return {
        "type": "warning",
        "code": ucp_code(one.code),
        "path": f"$.discounts.codes[{place}]",
        "content": content,
    }
