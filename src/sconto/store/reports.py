"""Redemptions at a hub, as their merchants reported them: settled, reversed or in dispute."""

from typing import NamedTuple

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.store.schema import redemption_parts, redemptions, tokens
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


def disputed(connection: sa.Connection, allotment_id: str, dispute: str) -> list[Report]:
    """Disputed redemptions from an allotment, of which nothing was taken back."""
    of_part = sa.select(redemption_parts.c.redemption_id).where(
        redemption_parts.c.allotment_id == allotment_id
    )
    query = _REPORT.where(
        sa.or_(
            redemptions.c.allotment_id == allotment_id, redemptions.c.redemption_id.in_(of_part)
        ),
        redemptions.c.state == "disputed",
        redemptions.c.dispute == dispute,
        redemptions.c.reversed_minor == 0,
    ).order_by(redemptions.c.at_ms, redemptions.c.redemption_id)
    return [Report(*row) for row in connection.execute(query)]


def settle(tx: Tx, report: Report) -> None:
    """A redemption that was disputed is paid after all."""
    changed = tx.write(
        sa.update(redemptions)
        .where(
            redemptions.c.redemption_id == report.redemption_id,
            redemptions.c.state == "disputed",
        )
        .values(state="redeemed", dispute=None, use_number=report.use_number)
    )
    invariant(changed.rowcount == 1, "a redemption is in the state that it showed")


def uses_taken(connection: sa.Connection, token_id: str) -> set[int]:
    """Numbers of the uses of a token that are redeemed and not reversed."""
    query = sa.select(redemptions.c.use_number).where(
        redemptions.c.token_id == token_id, redemptions.c.state == "redeemed"
    )
    return set(connection.execute(query).scalars())


def uses_at(connection: sa.Connection, merchant: str, now_ms: int) -> dict[str, int]:
    """How many uses of each token that is not over yet were redeemed at a merchant."""
    query = (
        sa.select(redemptions.c.token_id, sa.func.count())
        .join(tokens, tokens.c.token_id == redemptions.c.token_id)
        .where(
            redemptions.c.merchant == merchant,
            redemptions.c.state == "redeemed",
            tokens.c.expires_at_ms > now_ms,
        )
        .group_by(redemptions.c.token_id)
        .order_by(redemptions.c.token_id)
    )
    return {str(token_id): int(uses) for token_id, uses in connection.execute(query)}


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
