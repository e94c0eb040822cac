"""Carts and promotions in one line of text, for worked examples in documents, tests and shells.

A cart is items with commas between: `2 milk 120, ham =435 brand=oak tag=new`: two units of `milk`
at 120 each, and a line of `ham` for 435 as a whole. The id of a line is its SKU, then `ham.2`.
"""

from typing import Any

from sconto.base.documents import from_builtins
from sconto.cart.evaluate import evaluate
from sconto.cart.evaluation import Evaluation
from sconto.cart.model import STRANGER, Cart, Holder
from sconto.cart.promotion import Promotion
from sconto.terms.model import terms_from

_MANY = {"category": "categories", "tag": "tags"}
_NUMBERS = {
    "floor": "floor_price_minor",
    "lowest": "lowest_price_minor",
    "tax": "tax_basis_points",
}


def cart_of(text: str, currency: str = "EUR", **rest: Any) -> Cart:
    """The cart of a text; `rest` are its other fields, as in JSON.

    >>> [(line.id, line.quantity, line.initial_minor) for line in cart_of("2 a 120, a =5").lines]
    [('a', 2, 240), ('a.2', 1, 5)]
    """
    lines: list[dict[str, Any]] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        lines.append(_line(item.split(), {line["id"] for line in lines}))
    value = {"currency": currency, "lines": lines, **rest}
    return from_builtins(value, Cart, what="cart")


def _line(words: list[str], ids: set[str]) -> dict[str, Any]:
    quantity = int(words.pop(0)) if words[0].isdigit() else 1
    sku, price, *more = words
    line: dict[str, Any] = {"id": sku, "sku": sku, "quantity": quantity}
    while line["id"] in ids:
        line["id"] = f"{sku}.{int(line['id'].partition('.')[2] or 1) + 1}"
    line["amount_minor" if price.startswith("=") else "price_minor"] = int(price.lstrip("="))
    for word in more:
        name, _, value = word.partition("=")
        if name in _MANY:
            line.setdefault(_MANY[name], []).append(value)
        elif name in _NUMBERS:
            line[_NUMBERS[name]] = int(value)
        elif word == "fixed":
            line["discountable"] = False
        elif name in ("product", "brand", "gtin", "gift_of"):
            line[name] = value
        else:
            line.setdefault("attributes", {})[name] = int(value) if value.isdigit() else value
    return line


def promotion_of(promotion_id: str = "p", /, **terms: Any) -> Promotion:
    """A promotion from the fields of its terms; a `benefit` is one of `benefits`."""
    if "benefit" in terms:
        terms["benefits"] = [terms.pop("benefit")]
    value = {"promotion_id": promotion_id, "title": promotion_id, "currency": "EUR", **terms}
    return Promotion.of(terms_from(value))


def try_out(
    cart: str | Cart,
    *promotions: Promotion,
    holder: Holder = STRANGER,
    at_ms: int = 0,
    **rest: Any,
) -> Evaluation:
    """What the promotions do to the cart of a text."""
    found = cart_of(cart, **rest) if isinstance(cart, str) else cart
    return evaluate(found, promotions, holder, at_ms=at_ms)


def gives(cart: str, benefit: dict[str, Any], /, **terms: Any) -> dict[str, int]:
    """What a benefit takes off each line of a cart, and off shipping under that name.

    Fields of the cart go in by `cart_` in front of their name.
    """
    rest = {name[5:]: terms.pop(name) for name in list(terms) if name.startswith("cart_")}
    found = try_out(cart, promotion_of(benefit=benefit, **terms), **rest)
    return {
        part.line_id or "shipping": part.amount_minor
        for one in found.applied
        for part in one.allocations
    }


def holds(cart: str, condition: dict[str, Any], holder: Holder = STRANGER, **rest: Any) -> str:
    """`yes`, or the reason why a condition does not hold, with what is missing."""
    promotion = promotion_of(benefit={"type": "custom", "name": "x"}, conditions=[condition])
    found = try_out(cart, promotion, holder=holder, **rest)
    if found.applied:
        return "yes"
    one = found.refused[0]
    return one.code.value if one.missing is None else f"{one.code}, missing {one.missing}"
