"""Who may do what: tenants, API keys, peers, and the replies to repeated requests."""

from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from sconto.base.errors import ConflictError
from sconto.store.prepared import Prepared, Row, insert_into
from sconto.store.schema import api_keys, idempotency, peers, tenants
from sconto.store.writer import Tx


class ApiKey(NamedTuple):
    """An API key as it is stored: never its secret."""

    key_id: str
    tenant_id: str
    tenant_kind: str
    secret_hash: bytes
    scopes: frozenset[str]
    label: str
    created_at_ms: int
    revoked_at_ms: int | None


class Peer(NamedTuple):
    """Another server, as an operator registered it, with its last known public keys."""

    url: str
    kind: str
    tenant_id: str
    scopes: frozenset[str]
    jwks: Any
    jwks_fetched_at_ms: int | None
    incarnation: str | None


def add_tenant(tx: Tx, tenant_id: str, kind: str, name: str) -> bool:
    """A new tenant; False when it is there already with the same kind.

    Raises ConflictError when the id belongs to a tenant of another kind.
    """
    row = tx.read(sa.select(tenants).where(tenants.c.tenant_id == tenant_id)).first()
    if row is not None:
        if row.kind != kind:
            raise ConflictError(f"{tenant_id} is a {row.kind}", field="tenant_id")
        return False
    tx.write(
        sa.insert(tenants).values(
            tenant_id=tenant_id, kind=kind, name=name, created_at_ms=tx.now_ms
        )
    )
    return True


def tenant_kind(connection: sa.Connection, tenant_id: str) -> str | None:
    """The kind of a tenant, None where there is none."""
    return connection.execute(
        sa.select(tenants.c.kind).where(tenants.c.tenant_id == tenant_id)
    ).scalar()


def list_tenants(
    connection: sa.Connection, *, after: str = "", limit: int = 100
) -> list[dict[str, Any]]:
    """Tenants by id, a page at a time."""
    query = (
        sa.select(tenants)
        .where(tenants.c.tenant_id > after)
        .order_by(tenants.c.tenant_id)
        .limit(limit)
    )
    return [dict(row._mapping) for row in connection.execute(query)]


def add_api_key(
    tx: Tx, key_id: str, tenant_id: str, secret_hash: bytes, scopes: frozenset[str], label: str
) -> None:
    """Keep a key by the hash of its secret."""
    tx.write(
        sa.insert(api_keys).values(
            key_id=key_id,
            tenant_id=tenant_id,
            secret_hash=secret_hash,
            scopes=" ".join(sorted(scopes)),
            label=label,
            created_at_ms=tx.now_ms,
        )
    )


def api_key(connection: sa.Connection, key_id: str) -> ApiKey | None:
    """One key, revoked or not."""
    row = _API_KEY.first(connection, key_id=key_id)
    return None if row is None else _api_key(row)


def list_api_keys(connection: sa.Connection, tenant_id: str) -> list[ApiKey]:
    """The keys of a tenant, oldest first."""
    query = _KEYS.where(api_keys.c.tenant_id == tenant_id).order_by(api_keys.c.key_id)
    return [_api_key(tuple(row)) for row in connection.execute(query)]


_KEYS = sa.select(
    api_keys.c.key_id,
    api_keys.c.tenant_id,
    tenants.c.kind,
    api_keys.c.secret_hash,
    api_keys.c.scopes,
    api_keys.c.label,
    api_keys.c.created_at_ms,
    api_keys.c.revoked_at_ms,
).join(tenants)
_API_KEY = Prepared(_KEYS.where(api_keys.c.key_id == sa.bindparam("key_id")))


def revoke_api_key(tx: Tx, tenant_id: str, key_id: str) -> bool:
    """Revoke a tenant's key for good; False when it has no such key."""
    result = tx.write(
        sa.update(api_keys)
        .where(api_keys.c.key_id == key_id, api_keys.c.tenant_id == tenant_id)
        .values(revoked_at_ms=sa.func.coalesce(api_keys.c.revoked_at_ms, tx.now_ms))
    )
    return result.rowcount == 1


def add_peer(tx: Tx, url: str, kind: str, tenant_id: str, scopes: frozenset[str]) -> bool:
    """Register another server; False when it is there already, then its scopes are replaced."""
    values = {"kind": kind, "tenant_id": tenant_id, "scopes": " ".join(sorted(scopes))}
    result = tx.write(sa.update(peers).where(peers.c.url == url).values(**values))
    if result.rowcount:
        return False
    tx.write(sa.insert(peers).values(url=url, created_at_ms=tx.now_ms, **values))
    return True


def keep_peer_keys(tx: Tx, url: str, jwks: Any, incarnation: str | None) -> None:
    """Remember what a peer published, for the time when it cannot be reached."""
    tx.write(
        sa.update(peers)
        .where(peers.c.url == url)
        .values(
            jwks=msgspec.json.encode(jwks),
            jwks_fetched_at_ms=tx.now_ms,
            # It changes by an event only, in the order of the peer's stream.
            incarnation=sa.func.coalesce(peers.c.incarnation, incarnation),
        )
    )


def incarnation_of(connection: sa.Connection, url: str) -> str | None:
    """The copy of its datastore that a peer serves now, as far as it has said."""
    row = _INCARNATION.first(connection, url=url)
    return None if row is None else row[0]


_INCARNATION = Prepared(sa.select(peers.c.incarnation).where(peers.c.url == sa.bindparam("url")))


def set_incarnation(tx: Tx, url: str, incarnation: str) -> None:
    """A peer serves another copy now."""
    tx.write(sa.update(peers).where(peers.c.url == url).values(incarnation=incarnation))


def list_peers(connection: sa.Connection) -> list[Peer]:
    """All peers, by URL."""
    return [
        Peer(
            url,
            kind,
            tenant_id,
            frozenset(scopes.split()),
            None if jwks is None else msgspec.json.decode(jwks),
            fetched_at_ms,
            incarnation,
        )
        for url, kind, tenant_id, scopes, jwks, fetched_at_ms, incarnation in _PEERS.rows(
            connection
        )
    ]


_PEERS = Prepared(sa.select(*(peers.c[name] for name in Peer._fields)).order_by(peers.c.url))


def _api_key(row: Row) -> ApiKey:
    key = ApiKey(*row)
    return key._replace(scopes=frozenset(row[4].split()))


# --- idempotency ------------------------------------------------------------------------------


class Reply(NamedTuple):
    """An answer that was given before."""

    status: int
    body: bytes


def replied(tx: Tx, tenant_id: str, operation: str, key: str, body_hash: bytes) -> Reply | None:
    """The reply to the same request, None when it is new.

    Raises ConflictError when the key was used with another body.
    """
    row = _REPLIED.first(tx.connection, tenant_id=tenant_id, operation=operation, key=key)
    if row is None:
        return None
    known_hash, status, body = row
    if known_hash != body_hash:
        raise ConflictError(
            "this Idempotency-Key was used with another body",
            code="idempotency_conflict",
            field="Idempotency-Key",
            remedy="make a new key for a new request",
        )
    return Reply(status, body)


_REPLIED = Prepared(
    sa.select(idempotency.c.body_hash, idempotency.c.status, idempotency.c.reply).where(
        idempotency.c.tenant_id == sa.bindparam("tenant_id"),
        idempotency.c.operation == sa.bindparam("operation"),
        idempotency.c.key == sa.bindparam("key"),
    )
)
_KEEP_REPLY = Prepared(insert_into(idempotency))


def keep_reply(
    tx: Tx, tenant_id: str, operation: str, key: str, body_hash: bytes, reply: Reply
) -> None:
    """Keep a reply in the transaction of its effect."""
    _KEEP_REPLY.run(
        tx.changing(),
        tenant_id=tenant_id,
        operation=operation,
        key=key,
        body_hash=body_hash,
        status=reply.status,
        reply=reply.body,
        at_ms=tx.now_ms,
    )


def forget_replies(tx: Tx, before_ms: int) -> int:
    """Drop replies older than an instant; the ids of orders and redemptions never expire."""
    return tx.write(sa.delete(idempotency).where(idempotency.c.at_ms < before_ms)).rowcount
