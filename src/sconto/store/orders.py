"""Orders and the redemptions in them, at a merchant."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.store.prepared import NewRows, Prepared
from sconto.store.schema import orders, redemption_parts, redemptions, reversals
from sconto.store.writer import Tx


class Order(NamedTuple):
    """One checkout, from reservation to receipt."""

    order_id: str
    body_hash: bytes
    state: str
    client_ref: str | None
    currency: str
    subtotal_minor: int
    shipping_minor: int
    discount_minor: int
    cart: bytes
    evaluation: bytes
    kept: bytes | None
    receipt: str | None
    at_ms: int
    expires_at_ms: int | None


class Redemption(NamedTuple):
    """One promotion used in one order."""

    redemption_id: str
    order_id: str
    merchant: str
    promotion_id: str
    terms_digest: str
    token_id: str | None
    use_number: int | None
    code: str | None
    allotment_id: str
    amount_minor: int
    reversed_minor: int
    currency: str
    state: str
    at_ms: int


_ORDER = Prepared(
    sa.select(*(orders.c[name] for name in Order._fields)).where(
        orders.c.order_id == sa.bindparam("order_id")
    )
)
_OF_ORDER = Prepared(
    sa.select(*(redemptions.c[name] for name in Redemption._fields))
    .where(redemptions.c.order_id == sa.bindparam("order_id"))
    .order_by(redemptions.c.redemption_id)
)
_OVERDUE = Prepared(
    sa.select(orders.c.order_id)
    .where(orders.c.state == "reserved", orders.c.expires_at_ms <= sa.bindparam("now_ms"))
    .order_by(orders.c.expires_at_ms)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_CHANGE_STATE = Prepared(
    sa.update(orders)
    .where(orders.c.order_id == sa.bindparam("id"), orders.c.state == sa.bindparam("before"))
    .values(state=sa.bindparam("after"), expires_at_ms=None)
)
_END_RESERVED = Prepared(
    sa.update(redemptions)
    .where(redemptions.c.order_id == sa.bindparam("id"), redemptions.c.state == "reserved")
    .values(state=sa.bindparam("after"))
)
_NEW_ORDERS = NewRows(orders, *Order._fields)
_NEW_REDEMPTIONS = NewRows(redemptions, *Redemption._fields)


def get(connection: sa.Connection, order_id: str) -> Order | None:
    """One order."""
    row = _ORDER.first(connection, order_id=order_id)
    return None if row is None else Order(*row)


def redemptions_of(connection: sa.Connection, order_id: str) -> list[Redemption]:
    """The redemptions of an order."""
    return [Redemption(*row) for row in _OF_ORDER.rows(connection, order_id=order_id)]


class _New:
    """Orders that a batch has made, and the redemptions in them."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.redemptions: list[Redemption] = []

    def do(self, tx: Tx) -> None:
        if self.orders:
            _NEW_ORDERS.add(tx.apart, list(self.orders.values()))
        if self.redemptions:
            _NEW_REDEMPTIONS.add(tx.apart, self.redemptions)


def find(tx: Tx, order_id: str) -> Order | None:
    """`get` in a transaction; an order that was made a moment ago is found too.

    The first call of a batch looks for all orders that its commands are about.
    """
    new = tx.late(_New).orders
    known: set[str] | None = tx.seen.get(_New)
    if known is None:
        known = tx.seen[_New] = _known(tx.apart, list(tx.subjects)) | new.keys()
    if order_id in tx.subjects and order_id not in known:
        return None
    return get(tx.connection if order_id in new else tx.apart, order_id)


def _known(connection: sa.Connection, order_ids: list[str]) -> set[str]:
    """Which of these orders there are."""
    found: set[str] = set()
    if order_ids:
        size = 1 << (len(order_ids) - 1).bit_length()
        names = [f"id_{i}" for i in range(size)]
        padded = [*order_ids, *order_ids[:1] * (size - len(order_ids))]
        rows = _known_of(size).rows(connection, **dict(zip(names, padded, strict=True)))
        found.update(row[0] for row in rows)
    return found


@cache
def _known_of(size: int) -> Prepared:
    """Of so many ids; the sizes are powers of two, so there are few statements."""
    ids = [sa.bindparam(f"id_{i}", type_=sa.String) for i in range(size)]
    return Prepared(sa.select(orders.c.order_id).where(orders.c.order_id.in_(ids)))


def add(tx: Tx, order: Order, used: Sequence[Redemption]) -> None:
    """Keep a new order, which `find` has not found, and its redemptions."""
    tx.is_dirty = True
    new = tx.late(_New)
    invariant(order.order_id not in new.orders, "an order is made once")
    tx.seen.get(_New, set()).add(order.order_id)
    new.orders[order.order_id] = order
    new.redemptions.extend(used)


def change_state(tx: Tx, order: Order, state: str) -> None:
    """Move an order and those of its redemptions that are reserved to another state."""
    order_id, before = order.order_id, order.state
    changed = _CHANGE_STATE.run(tx.changing(), id=order_id, before=before, after=state)
    invariant(changed == 1, "an order is in the state that it showed")
    _END_RESERVED.run(tx.changing(), id=order_id, after=state)


def reverse(tx: Tx, redemption: Redemption, amount_minor: int, *, is_complete: bool) -> None:
    """Take back a part of a redemption, or what is left of it."""
    changed = tx.write(
        sa.update(redemptions)
        .where(
            redemptions.c.redemption_id == redemption.redemption_id,
            redemptions.c.state == "redeemed",
            redemptions.c.reversed_minor == redemption.reversed_minor,
        )
        .values(
            reversed_minor=redemption.reversed_minor + amount_minor,
            state="reversed" if is_complete else "redeemed",
        )
    )
    invariant(changed.rowcount == 1, "a redemption is in the state that it showed")


def is_reserved_from(connection: sa.Connection, allotment_id: str) -> bool:
    """Whether an allotment has units that a reservation holds."""
    is_reserved = sa.text("state = 'reserved'")  # as in the index
    query = sa.select(redemptions.c.redemption_id)
    whole = query.where(redemptions.c.allotment_id == allotment_id, is_reserved)
    shared = query.join(
        redemption_parts, redemption_parts.c.redemption_id == redemptions.c.redemption_id
    ).where(redemption_parts.c.allotment_id == allotment_id, is_reserved)
    return any(connection.execute(one.limit(1)).first() is not None for one in (whole, shared))


def reserved(connection: sa.Connection, limit: int = 100) -> list[str]:
    """Ids of reserved orders."""
    query = sa.select(orders.c.order_id).where(orders.c.state == "reserved").limit(limit)
    return list(connection.execute(query).scalars())


def overdue(connection: sa.Connection, now_ms: int, limit: int = 100) -> list[str]:
    """Ids of reserved orders whose time is over."""
    return [row[0] for row in _OVERDUE.rows(connection, now_ms=now_ms, limit=limit)]


def count(connection: sa.Connection) -> int:
    """How many orders there are, of every state."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(orders)).scalar_one())


def latest(connection: sa.Connection, limit: int = 20) -> list[Order]:
    """The newest orders first."""
    query = (
        sa.select(*(orders.c[name] for name in Order._fields))
        .order_by(orders.c.at_ms.desc(), orders.c.order_id)
        .limit(limit)
    )
    return [Order(*row) for row in connection.execute(query)]


def reversal(
    connection: sa.Connection, order_id: str, reversal_id: str
) -> tuple[bytes, bytes] | None:
    """Body hash and reply of a reversal that was made."""
    row = connection.execute(
        sa.select(reversals.c.body_hash, reversals.c.reply).where(
            reversals.c.order_id == order_id, reversals.c.reversal_id == reversal_id
        )
    ).first()
    return None if row is None else (row.body_hash, row.reply)


def keep_rest(tx: Tx, order_id: str, kept: bytes) -> None:
    """Remember what is left of a sale after a return."""
    tx.write(sa.update(orders).where(orders.c.order_id == order_id).values(kept=kept))


def add_reversal(tx: Tx, order_id: str, reversal_id: str, body_hash: bytes, reply: bytes) -> None:
    """Remember a reversal for good."""
    tx.write(
        sa.insert(reversals).values(
            order_id=order_id,
            reversal_id=reversal_id,
            body_hash=body_hash,
            reply=reply,
            at_ms=tx.now_ms,
        )
    )
