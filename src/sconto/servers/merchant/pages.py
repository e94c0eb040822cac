"""The merchant's pages: a till, and what went over it."""

import secrets
from typing import TYPE_CHECKING, Any

import msgspec

from sconto.base.documents import from_builtins
from sconto.base.errors import InvalidInputError, ScontoError
from sconto.base.money import format_money
from sconto.cart import Evaluation
from sconto.servers import problems
from sconto.servers.endpoint import Answer, Call, endpoint
from sconto.servers.merchant import checkout, orders
from sconto.servers.merchant.orders import OrderDocument

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant

LINES = 5


@endpoint("GET", "/", scope="", summary="Start", is_page=True)
async def home(merchant: "Merchant", call: Call) -> Answer:
    return merchant.base.pages.answer(
        "home.html",
        signed_in=merchant.base.pages.has_session(call),
        about="Promotions at this shop's checkout.",
        doors=(
            ("/checkout", "Checkout", "A till: a cart, what comes off and why, the receipt"),
            ("/orders", "Orders", "What went over the till"),
            ("/schema", "API", "For engineers"),
        ),
    )


@endpoint("GET", "/checkout", scope="checkout", summary="A till", is_page=True)
async def checkout_page(merchant: "Merchant", call: Call) -> Answer:
    return _page(merchant, {"order_id": f"till-{secrets.token_hex(8)}"}, None, None, None)


@endpoint(
    "POST", "/checkout", scope="checkout", summary="Check out", is_page=True, max_bytes=65_536
)
async def check_out(merchant: "Merchant", call: Call) -> Answer:
    """Evaluate or redeem the cart of the form; the order id in it makes a second click harmless."""
    form = call.form()
    order: OrderDocument | None = None
    evaluation: Evaluation | None = None
    problem: dict[str, Any] | None = None
    try:
        document = _document(form)
        if form.get("act") == "redeem":
            call.document = from_builtins(document, checkout.CheckoutRequest, what="form")
            order = await checkout.redeem.run(merchant, call)
            evaluation = msgspec.json.decode(bytes(order.evaluation), type=Evaluation)
        else:
            call.principal.require("evaluate")
            call.document = from_builtins(document, checkout.EvaluationRequest, what="form")
            reply = await checkout.evaluate_cart.run(merchant, call)
            evaluation = reply.evaluation
    except ScontoError as error:
        problem = problems.problem(error)
    return _page(merchant, form, evaluation, order, problem)


@endpoint("GET", "/orders", scope="checkout", summary="The newest orders", is_page=True)
async def orders_page(merchant: "Merchant", call: Call) -> Answer:
    listed = await orders.list_orders.run(merchant, call)
    return merchant.base.pages.answer("orders.html", signed_in=True, **listed)


ENDPOINTS = (home, checkout_page, check_out, orders_page)


def _document(form: dict[str, str]) -> dict[str, Any]:
    lines = []
    for number in range(1, LINES + 1):
        sku = form.get(f"sku_{number}", "").strip()
        if sku:
            lines.append(
                {
                    "id": str(number),
                    "sku": sku,
                    "quantity": _whole(form, f"quantity_{number}"),
                    "price_minor": _whole(form, f"price_{number}"),
                }
            )
    if not lines:
        raise InvalidInputError("the cart is empty", field="sku_1", remedy="name an item")
    cart = {
        "currency": form.get("currency", "").strip().upper(),
        "lines": lines,
        "codes": [one.strip() for one in form.get("codes", "").split(",") if one.strip()],
    }
    document: dict[str, Any] = {"order_id": form.get("order_id", ""), "cart": cart}
    if form.get("client", "").strip():
        document["client"] = form["client"].strip()
    return document


def _whole(form: dict[str, str], name: str) -> int:
    text = form.get(name, "").strip()
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise InvalidInputError(f"{text[:20]!r} is not a whole number", field=name)
    return int(text)


def _page(
    merchant: "Merchant",
    form: dict[str, str],
    evaluation: Evaluation | None,
    order: OrderDocument | None,
    problem: dict[str, Any] | None,
) -> Answer:
    off: dict[str, str] = {}
    if evaluation is not None:
        off = {
            one.line_id: format_money(one.discount_minor, evaluation.currency)
            for one in evaluation.lines
            if one.discount_minor
        }
    lines = [
        {
            "sku": form.get(f"sku_{n}", ""),
            "quantity": form.get(f"quantity_{n}", "1"),
            "price": form.get(f"price_{n}", ""),
            "off": off.get(str(n), ""),
        }
        for n in range(1, LINES + 1)
    ]
    shown = {name: form.get(name, "") for name in ("order_id", "client", "codes")}
    return merchant.base.pages.answer(
        "checkout.html",
        status=200 if problem is None else problem["status"],
        signed_in=True,
        form={**shown, "lines": lines, "currency": form.get("currency", "USD")},
        evaluation=evaluation,
        order=order,
        problem=problem,
    )
