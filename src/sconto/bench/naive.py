"""The naive way to keep a limit: one counter that every checkout updates, a commit for each.

It is what most shops do, and the design's yardstick: the same edge, engine, schema, database and
durability as `POST /v1/redemptions`, and nothing that makes it quick. For each request one
transaction looks for the order, takes a use from the promotion's row under a guard, adds the order
and its redemptions, and commits. It does less than the real thing: no receipt, no journal, no
statistics, no reports.
"""

import asyncio
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import sqlalchemy as sa

from sconto.base.errors import ConflictError
from sconto.cart import Cart, encode_evaluation
from sconto.cart.model import STRANGER
from sconto.ledger import UNLIMITED, Amounts
from sconto.redemption import Decision, decide
from sconto.servers.config import Home
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.merchant import Merchant
from sconto.servers.merchant.checkout import CheckoutRequest
from sconto.store.database import connect, open_engine
from sconto.store.orders import Order, Redemption
from sconto.store.prepared import Prepared, insert_into
from sconto.store.schema import budgets, orders, redemptions

#: Connections on PostgreSQL. SQLite has one writer, whatever one opens.
CONNECTIONS = 32
PATH = "/v1/naive"


class _Part(msgspec.Struct, frozen=True):
    """As if everything could be covered: the guarded row decides."""

    allotment_id: str
    left: Amounts


_USES: sa.BindParameter[int] = sa.bindparam("uses", type_=sa.BigInteger)
_MINOR: sa.BindParameter[int] = sa.bindparam("minor", type_=sa.BigInteger)
_KNOWN = Prepared(
    sa.select(orders.c.body_hash).where(orders.c.order_id == sa.bindparam("order_id"))
)
_TAKE = Prepared(
    sa.update(budgets)
    .where(
        budgets.c.promotion_id == sa.bindparam("promotion"),
        budgets.c.counter == "",
        budgets.c.open_uses >= _USES,
        budgets.c.open_minor >= _MINOR,
    )
    .values(
        open_uses=budgets.c.open_uses - _USES,
        spent_uses=budgets.c.spent_uses + _USES,
        open_minor=budgets.c.open_minor - _MINOR,
        spent_minor=budgets.c.spent_minor + _MINOR,
    )
)
_ADD = Prepared(insert_into(orders, *Order._fields))
_ADD_REDEMPTION = Prepared(insert_into(redemptions, *Redemption._fields))


@endpoint(
    "POST",
    PATH,
    scope="checkout",
    summary="Redeem a cart, one commit for it alone",
    accepts=CheckoutRequest,
    status=201,
)
async def redeem(server: "Naive", call: Call) -> dict[str, Any]:
    request: CheckoutRequest = call.document
    decision = server.decide(request.cart, request.order_id, call.now_ms)
    rows = _rows(server.base.home.url, request, decision, call.now_ms)
    await asyncio.get_running_loop().run_in_executor(server.workers, server.keep, *rows)
    return {
        "order_id": request.order_id,
        "discount_minor": decision.evaluation.discount_minor,
        "evaluation": decision.evaluation,
        "redemptions": [one.redemption_id for one in rows[1]],
    }


class Naive(Merchant):
    """A merchant with this one endpoint."""

    endpoints = (redeem,)

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self.workers = ThreadPoolExecutor(1 if self.base.store.is_alone else CONNECTIONS)
        self._own = threading.local()
        self._engines: list[sa.Engine] = []

    async def stop(self) -> None:
        self.leave()
        await super().stop()

    def leave(self) -> None:
        """End the workers, and close their connections."""
        self.workers.shutdown()
        for engine in self._engines:
            engine.dispose()

    def decide(self, cart: Cart, order_id: str, at_ms: int) -> Decision:
        part = [_Part("", Amounts(UNLIMITED, UNLIMITED))]
        with self.shelf.lock:
            return decide(
                cart,
                self.shelf.index,
                STRANGER,
                at_ms,
                merchant=self.base.home.url,
                order_id=order_id,
                available=lambda promotion_ids: dict.fromkeys(promotion_ids, part),
            )

    def keep(self, order: Order, used: list[Redemption]) -> None:
        """One transaction, in a worker's thread, on its own connection."""
        connection = getattr(self._own, "connection", None)
        if connection is None:
            engine = open_engine(self.base.home.database_url)
            self._engines.append(engine)
            connection = self._own.connection = connect(engine)
        with connection.begin():
            if _KNOWN.first(connection, order_id=order.order_id) is not None:
                raise ConflictError("the order is known", code="already_exists", field="order_id")
            for one in used:
                taken = _TAKE.run(
                    connection, promotion=one.promotion_id, uses=1, minor=one.amount_minor
                )
                if taken != 1:
                    raise ConflictError("it is used up", code="budget_exhausted", field="cart")
            _ADD.run(connection, **order._asdict())
            _ADD_REDEMPTION.run_many(connection, [one._asdict() for one in used])


def _rows(
    merchant: str, request: CheckoutRequest, decision: Decision, at_ms: int
) -> tuple[Order, list[Redemption]]:
    evaluation = decision.evaluation
    cart = msgspec.json.encode(request.cart)
    used = [
        Redemption(
            redemption_id=spend.redemption_id,
            order_id=request.order_id,
            merchant=merchant,
            promotion_id=spend.applied.promotion_id,
            terms_digest=spend.applied.terms_digest,
            token_id=None,
            use_number=None,
            code=spend.applied.code,
            allotment_id=spend.allotment_id,
            amount_minor=spend.amounts.minor,
            reversed_minor=0,
            currency=evaluation.currency,
            state="redeemed",
            at_ms=at_ms,
        )
        for spend in decision.spends
    ]
    order = Order(
        order_id=request.order_id,
        body_hash=hashlib.sha256(cart).digest(),
        state="redeemed",
        client_ref=None,
        currency=evaluation.currency,
        subtotal_minor=evaluation.totals.subtotal_minor,
        shipping_minor=evaluation.totals.shipping_minor,
        discount_minor=evaluation.discount_minor,
        cart=cart,
        evaluation=encode_evaluation(evaluation),
        kept=None,
        receipt=None,
        at_ms=at_ms,
        expires_at_ms=None,
    )
    return order, used
