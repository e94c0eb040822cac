"""Redemptions at a hub, as their merchants reported them: settled, reversed or in dispute."""

from typing import NamedTuple

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.store.schema import redemptions
from sconto.store.writer import Tx


class Report(NamedTuple):
    """One reported redemption. `dispute` says why it will not be paid, where it will not."""

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
    dispute: str | None
    at_ms: int


_REPORT = sa.select(*(redemptions.c[name] for name in Report._fields))


def get(connection: sa.Connection, redemption_id: str) -> Report | None:
    """One redemption."""
    row = connection.execute(_REPORT.where(redemptions.c.redemption_id == redemption_id)).first()
    return None if row is None else Report(*row)


def add(tx: Tx, report: Report) -> None:
    """Keep a redemption that was not known."""
    tx.write(sa.insert(redemptions).values(**report._asdict()))


def uses_taken(connection: sa.Connection, token_id: str) -> set[int]:
    """Numbers of the uses of a token that are redeemed and not reversed."""
    query = sa.select(redemptions.c.use_number).where(
        redemptions.c.token_id == token_id, redemptions.c.state == "redeemed"
    )
    return set(connection.execute(query).scalars())


def is_in_order(connection: sa.Connection, merchant: str, order_id: str, promotion_id: str) -> bool:
    """Whether a promotion without tokens is redeemed in an order already."""
    query = sa.select(redemptions.c.redemption_id).where(
        redemptions.c.merchant == merchant,
        redemptions.c.order_id == order_id,
        redemptions.c.promotion_id == promotion_id,
        redemptions.c.token_id.is_(None),
        redemptions.c.state == "redeemed",
    )
    return connection.execute(query).first() is not None


def reverse(tx: Tx, report: Report, amount_minor: int, state: str) -> None:
    """Take back a part of a redemption, or what is left of it."""
    result = tx.write(
        sa.update(redemptions)
        .where(
            redemptions.c.redemption_id == report.redemption_id,
            redemptions.c.state == report.state,
            redemptions.c.reversed_minor == report.reversed_minor,
        )
        .values(reversed_minor=report.reversed_minor + amount_minor, state=state)
    )
    invariant(result.rowcount == 1, "a redemption is in the state that it showed")
