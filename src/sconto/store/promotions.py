"""Promotions and the signed versions of their terms."""

from typing import NamedTuple

import sqlalchemy as sa

from sconto.base.errors import ConflictError
from sconto.store.prepared import Prepared
from sconto.store.schema import promotions, terms
from sconto.store.writer import Tx


class Promotion(NamedTuple):
    """A promotion with the version of its terms that is in force."""

    promotion_id: str
    tenant_id: str
    hub: str | None
    status: str
    is_accepted: bool
    terms_digest: str
    version: int
    document: bytes
    signature: str


class Version(NamedTuple):
    """One signed version of terms."""

    promotion_id: str
    version: int
    terms_digest: str
    document: bytes
    signature: str


_CURRENT = sa.select(
    promotions.c.promotion_id,
    promotions.c.tenant_id,
    promotions.c.hub,
    promotions.c.status,
    promotions.c.is_accepted,
    promotions.c.terms_digest,
    terms.c.version,
    terms.c.document,
    terms.c.signature,
).join(terms, terms.c.terms_digest == promotions.c.terms_digest)


def get(connection: sa.Connection, promotion_id: str) -> Promotion | None:
    """One promotion with its current terms."""
    row = _GET.first(connection, promotion_id=promotion_id)
    return None if row is None else Promotion(*row)


_GET = Prepared(_CURRENT.where(promotions.c.promotion_id == sa.bindparam("promotion_id")))


def page(
    connection: sa.Connection,
    *,
    after: str = "",
    limit: int = 100,
    tenant_id: str | None = None,
    hub: str | None = None,
    status: str | None = None,
) -> list[Promotion]:
    """Promotions by id after `after`; of one tenant, of one hub, of one status where given."""
    query = _CURRENT.where(promotions.c.promotion_id > after)
    if tenant_id is not None:
        query = query.where(promotions.c.tenant_id == tenant_id)
    if hub is not None:
        query = query.where(promotions.c.hub == hub)
    if status is not None:
        query = query.where(promotions.c.status == status)
    query = query.order_by(promotions.c.promotion_id).limit(limit)
    return [Promotion(*row) for row in connection.execute(query)]


def ids_of(connection: sa.Connection, tenant_id: str) -> frozenset[str]:
    """The ids of a tenant's promotions."""
    query = sa.select(promotions.c.promotion_id).where(promotions.c.tenant_id == tenant_id)
    return frozenset(connection.execute(query).scalars())


def versions(connection: sa.Connection, promotion_id: str | None = None) -> list[Version]:
    """All versions of one promotion's terms, or of all promotions, oldest first."""
    if promotion_id is None:
        return [Version(*row) for row in _VERSIONS.rows(connection)]
    return [Version(*row) for row in _VERSIONS_OF.rows(connection, promotion_id=promotion_id)]


_TERMS = sa.select(*(terms.c[name] for name in Version._fields))
_BY_VERSION = _TERMS.order_by(terms.c.promotion_id, terms.c.version)
_VERSIONS = Prepared(_BY_VERSION)
_VERSIONS_OF = Prepared(_BY_VERSION.where(terms.c.promotion_id == sa.bindparam("promotion_id")))


def version(connection: sa.Connection, terms_digest: str) -> Version | None:
    """The terms that a digest names."""
    row = _VERSION.first(connection, terms_digest=terms_digest)
    return None if row is None else Version(*row)


_VERSION = Prepared(_TERMS.where(terms.c.terms_digest == sa.bindparam("terms_digest")))


def save(
    tx: Tx,
    version: Version,
    *,
    tenant_id: str,
    hub: str | None,
    status: str,
    is_accepted: bool,
) -> None:
    """Keep a version and make it the one in force; `status` and acceptance are of the promotion.

    An older version than the one in force is kept beside it. Raises ConflictError when the version
    is known with other content, or the id belongs to another tenant.
    """
    known = get(tx.connection, version.promotion_id)
    if known is not None and known.tenant_id != tenant_id:
        raise ConflictError(
            f"the promotion id {version.promotion_id} is taken",
            field="promotion_id",
            remedy="choose another id",
        )
    same = [
        v for v in versions(tx.connection, version.promotion_id) if v.version == version.version
    ]
    if same and same[0].terms_digest != version.terms_digest:
        raise ConflictError(
            f"version {version.version} was promised with other terms",
            code="exists_with_different_terms",
            field="version",
            remedy="promised terms never change; publish the next version",
        )
    if known is None:
        tx.write(
            sa.insert(promotions).values(
                promotion_id=version.promotion_id,
                tenant_id=tenant_id,
                hub=hub,
                status=status,
                is_accepted=is_accepted,
                terms_digest=version.terms_digest,
                changed_at_ms=tx.now_ms,
            )
        )
    if not same:
        tx.write(
            sa.insert(terms).values(
                terms_digest=version.terms_digest,
                promotion_id=version.promotion_id,
                version=version.version,
                document=version.document,
                signature=version.signature,
                created_at_ms=tx.now_ms,
            )
        )
    if known is not None and version.version >= known.version:
        tx.write(
            sa.update(promotions)
            .where(promotions.c.promotion_id == version.promotion_id)
            .values(
                terms_digest=version.terms_digest,
                status=status,
                is_accepted=is_accepted,
                changed_at_ms=tx.now_ms,
            )
        )


def set_status(tx: Tx, promotion_id: str, status: str) -> None:
    """Launch, pause or end a promotion."""
    tx.write(
        sa.update(promotions)
        .where(promotions.c.promotion_id == promotion_id)
        .values(status=status, changed_at_ms=tx.now_ms)
    )


def set_accepted(tx: Tx, promotion_id: str, is_accepted: bool) -> None:
    """A merchant takes part in a hub's promotion, or does not."""
    tx.write(
        sa.update(promotions)
        .where(promotions.c.promotion_id == promotion_id)
        .values(is_accepted=is_accepted, changed_at_ms=tx.now_ms)
    )
