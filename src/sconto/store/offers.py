"""What a hub's offers stand on: whether a promotion is active, who takes part, how many are out."""

from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from sconto.base.errors import ConflictError
from sconto.store.prepared import Prepared
from sconto.store.schema import acceptances, promotions, terms
from sconto.store.writer import Tx


class Standing(NamedTuple):
    """A promotion without its terms, which may be a megabyte."""

    promotion_id: str
    tenant_id: str
    status: str
    #: Tokens given out: offered, or issued at any time.
    circulation: int


def standing(connection: sa.Connection, promotion_ids: Iterable[str]) -> dict[str, Standing]:
    """Promotions by id; those that are not there are left out."""
    ids = sorted(set(promotion_ids))
    if len(ids) == 1:
        return {row[0]: Standing(*row) for row in _STANDING.rows(connection, promotion_id=ids[0])}
    query = _STANDINGS.where(promotions.c.promotion_id.in_(ids))
    return {row.promotion_id: Standing(*row) for row in connection.execute(query)}


_STANDINGS = sa.select(*(promotions.c[name] for name in Standing._fields))
_STANDING = Prepared(_STANDINGS.where(promotions.c.promotion_id == sa.bindparam("promotion_id")))


def promotion_of_terms(connection: sa.Connection, digests: Iterable[str]) -> dict[str, str]:
    """The promotion that each known digest of terms belongs to."""
    query = sa.select(terms.c.terms_digest, terms.c.promotion_id).where(
        terms.c.terms_digest.in_(sorted(set(digests)))
    )
    return {row.terms_digest: row.promotion_id for row in connection.execute(query)}


def accept(tx: Tx, promotion_id: str, merchant: str) -> None:
    """A merchant takes part that did not before."""
    tx.write(
        sa.insert(acceptances).values(
            promotion_id=promotion_id, merchant=merchant, accepted_at_ms=tx.now_ms
        )
    )


def decline(tx: Tx, promotion_id: str, merchant: str) -> None:
    """A merchant takes part no longer."""
    tx.write(
        sa.delete(acceptances).where(
            acceptances.c.promotion_id == promotion_id, acceptances.c.merchant == merchant
        )
    )


def merchants_of(connection: sa.Connection, promotion_id: str) -> list[str]:
    """The merchants that take part in a promotion."""
    return [row[0] for row in _MERCHANTS.rows(connection, promotion_id=promotion_id)]


_MERCHANTS = Prepared(
    sa.select(acceptances.c.merchant)
    .where(acceptances.c.promotion_id == sa.bindparam("promotion_id"))
    .order_by(acceptances.c.merchant)
)


def of_merchant(connection: sa.Connection, merchant: str) -> list[str]:
    """The promotions that a merchant takes part in."""
    query = sa.select(acceptances.c.promotion_id).where(acceptances.c.merchant == merchant)
    return list(connection.execute(query.order_by(acceptances.c.promotion_id)).scalars())


def accepted_by(connection: sa.Connection, merchant: str, promotion_ids: Iterable[str]) -> set[str]:
    """Those of the promotions that a merchant takes part in."""
    query = sa.select(acceptances.c.promotion_id).where(
        acceptances.c.merchant == merchant,
        acceptances.c.promotion_id.in_(sorted(set(promotion_ids))),
    )
    return set(connection.execute(query).scalars())


def circulate(tx: Tx, promotion_id: str, limit: int | None, *, given_back: int = 0) -> None:
    """Count one more token given out, and `given_back` fewer.

    The caller has found that there is room. Another process may have taken it since, on
    PostgreSQL: then ConflictError, and the whole command is undone.
    """
    number = promotions.c.circulation - given_back + 1
    statement = sa.update(promotions).where(promotions.c.promotion_id == promotion_id)
    if limit is not None:
        statement = statement.where(number <= limit)
    if tx.write(statement.values(circulation=number)).rowcount != 1:
        raise circulation_exhausted(promotion_id, limit)


def circulation_exhausted(promotion_id: str, limit: int | None) -> ConflictError:
    """All tokens that the terms allow are given out."""
    return ConflictError(
        f"all tokens of {promotion_id} are given out",
        code="circulation_exhausted",
        field="promotion_id",
        circulation=limit,
    )
