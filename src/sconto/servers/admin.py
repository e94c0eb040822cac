"""Endpoints that every server has for its operator: tenants, API keys, peers, the exchange."""

import secrets
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from msgspec import Meta

from sconto.base.documents import Document
from sconto.base.errors import ConflictError, InvalidInputError, NotFoundError, PeerError
from sconto.servers.app import Server
from sconto.servers.config import check_url
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.principal import make_api_key
from sconto.servers.scopes import SCOPES
from sconto.store import access, exchange
from sconto.store.schema import tenants
from sconto.store.writer import Tx

TenantIdText = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$(?!\n)")]
Label = Annotated[str, Meta(min_length=1, max_length=200)]
#: What a peer may do when its registration does not say.
PEER_SCOPES = {
    "hub": frozenset({"promotions:read"}),
    "merchant": frozenset({"promotions:read", "frames:write"}),
    "wallet": frozenset({"wallet"}),
}


class NewTenant(Document):
    """Somebody who has things of their own on this server."""

    tenant_id: TenantIdText
    kind: Literal["operator", "brand", "merchant", "wallet", "account"]
    name: Label


class NewKey(Document):
    """An API key to make."""

    scopes: Annotated[tuple[str, ...], Meta(min_length=1, max_length=20)]
    label: Label = "key"


class MadeKey(Document):
    """The key's text is in this answer and nowhere else."""

    key_id: str
    api_key: str
    scopes: tuple[str, ...]


class NewPeer(Document):
    """Another server to trust, and what it may do here."""

    url: Annotated[str, Meta(max_length=300)]
    kind: Literal["hub", "merchant", "wallet"]
    tenant_id: TenantIdText
    name: Label = "peer"
    scopes: tuple[str, ...] | None = None


class PeerDocument(Document):
    """A registered server."""

    url: str
    kind: str
    tenant_id: str
    scopes: tuple[str, ...]
    #: Whether its keys are known, so that its signatures can be checked.
    has_keys: bool
    #: Why its profile could not be fetched just now.
    failure: str | None = None


def check_scopes(scopes: tuple[str, ...]) -> frozenset[str]:
    """Known scopes only; InvalidInputError names the one that is not."""
    for i, scope in enumerate(scopes):
        if scope not in SCOPES:
            raise InvalidInputError(
                f"there is no scope {scope!r}",
                field=f"scopes[{i}]",
                remedy=f"use one of: {', '.join(SCOPES)}",
            )
    return frozenset(scopes)


@endpoint(
    "POST",
    "/v1/tenants",
    scope="admin",
    summary="Add a tenant: a brand, a merchant, a wallet server or an account",
    accepts=NewTenant,
    accepts_example={"tenant_id": "oaty", "kind": "brand", "name": "Oaty Foods"},
    returns=NewTenant,
    status=201,
)
async def add_tenant(server: Server, call: Call) -> NewTenant:
    new: NewTenant = call.document

    def command(tx: Tx) -> NewTenant:
        if not access.add_tenant(tx, new.tenant_id, new.kind, new.name):
            name = tx.connection.execute(
                sa.select(tenants.c.name).where(tenants.c.tenant_id == new.tenant_id)
            ).scalar_one()
            if name != new.name:
                raise ConflictError(
                    f"{new.tenant_id} has the name {name!r}",
                    code="exists_with_different_name",
                    field="name",
                )
        return new

    made: NewTenant = await server.base.store.write(call.once(command))
    return made


@endpoint(
    "GET",
    "/v1/tenants",
    scope="admin",
    summary="The tenants of this server, by id",
    returns=dict[str, Any],
    query={"after": "the last id of the page before", "limit": "at most so many, 1 to 1000"},
)
async def list_tenants(server: Server, call: Call) -> dict[str, Any]:
    limit = call.limit(100)
    with server.base.store.read() as connection:
        rows = access.list_tenants(connection, after=call.query.get("after", ""), limit=limit)
    return {
        "tenants": [
            {"tenant_id": r["tenant_id"], "kind": r["kind"], "name": r["name"]} for r in rows
        ],
        "next": rows[-1]["tenant_id"] if len(rows) == limit else None,
    }


@endpoint(
    "POST",
    "/v1/tenants/{tenant_id:str}/keys",
    scope="any",
    summary="Make an API key for a tenant; its secret is shown once",
    accepts=NewKey,
    accepts_example={"scopes": ["promotions:read", "promotions:write"], "label": "marketing"},
    returns=MadeKey,
    status=201,
)
async def add_key(server: Server, call: Call) -> MadeKey:
    """A tenant may make keys for itself with scopes that it has; an operator for everybody."""
    new: NewKey = call.document
    tenant_id = _own_tenant(call)
    scopes = check_scopes(new.scopes)
    if not call.principal.is_operator:
        for scope in sorted(scopes):
            call.principal.require(scope)

    def command(tx: Tx) -> str:
        if access.tenant_kind(tx.connection, tenant_id) is None:
            raise NotFoundError(f"there is no tenant {tenant_id}", field="tenant_id")
        return make_api_key(tx, tenant_id, scopes, new.label, secrets.token_bytes)

    text: str = await server.base.store.write(command)
    return MadeKey(key_id=text.split("_")[1], api_key=text, scopes=tuple(sorted(scopes)))


@endpoint(
    "GET",
    "/v1/tenants/{tenant_id:str}/keys",
    scope="any",
    summary="The API keys of a tenant, without their secrets",
    returns=dict[str, Any],
)
async def list_keys(server: Server, call: Call) -> dict[str, Any]:
    tenant_id = _own_tenant(call)
    with server.base.store.read() as connection:
        if access.tenant_kind(connection, tenant_id) is None:
            raise NotFoundError(f"there is no tenant {tenant_id[:64]}", field="tenant_id")
        keys = access.list_api_keys(connection, tenant_id)
    return {
        "keys": [
            {
                "key_id": key.key_id,
                "label": key.label,
                "scopes": sorted(key.scopes),
                "is_revoked": key.revoked_at_ms is not None,
            }
            for key in keys
        ]
    }


@endpoint(
    "DELETE",
    "/v1/tenants/{tenant_id:str}/keys/{key_id:str}",
    scope="any",
    summary="Revoke an API key for good",
    status=204,
)
async def revoke_key(server: Server, call: Call) -> None:
    tenant_id, key_id = _own_tenant(call), call.params["key_id"]

    def command(tx: Tx) -> None:
        if key_id not in {key.key_id for key in access.list_api_keys(tx.connection, tenant_id)}:
            raise NotFoundError("the tenant has no such key", field="key_id")
        access.revoke_api_key(tx, tenant_id, key_id)
        tx.announce("key", key_id)

    await server.base.store.write(command)
    server.base.key_ring.forget(key_id)


@endpoint(
    "POST",
    "/v1/peers",
    scope="admin",
    summary="Register another server, whose signed requests are then accepted",
    accepts=NewPeer,
    accepts_example={"url": "https://shop.example", "kind": "merchant", "tenant_id": "shop"},
    returns=PeerDocument,
    status=201,
)
async def add_peer(server: Server, call: Call) -> PeerDocument:
    """Its tenant is added with it. A peer that is away now is asked for its keys later."""
    new: NewPeer = call.document
    url = check_url(new.url)
    scopes = PEER_SCOPES[new.kind] if new.scopes is None else check_scopes(new.scopes)
    base = server.base

    def command(tx: Tx) -> access.Peer:
        known = access.tenant_kind(tx.connection, new.tenant_id)
        tenant_kind = "operator" if new.kind == "hub" else new.kind
        if known is None:
            access.add_tenant(tx, new.tenant_id, tenant_kind, new.name)
        access.add_peer(tx, url, new.kind, new.tenant_id, scopes)
        peer = access.Peer(url, new.kind, new.tenant_id, scopes, None, None, None)
        server.peer_added(tx, peer)
        tx.announce("peers", url)
        return peer

    peer: access.Peer = await base.store.write(command)
    base.directory.reload()
    failure = None
    try:
        await base.directory.refresh(url)
    except PeerError as error:
        failure = error.message
    return _peer_document(server, peer, failure)


@endpoint(
    "GET", "/v1/peers", scope="admin", summary="The registered servers", returns=dict[str, Any]
)
async def list_peers(server: Server, call: Call) -> dict[str, Any]:
    with server.base.store.read() as connection:
        peers = access.list_peers(connection)
    return {"peers": [_peer_document(server, peer, None) for peer in peers]}


@endpoint(
    "GET",
    "/v1/exchange",
    scope="admin",
    summary="What waits in the outbox for each peer, and which events were parked and why",
    returns=dict[str, Any],
    example={
        "streams": [{"peer": "https://hub.example", "sent": 12, "acked": 12, "failure": None}],
        "parked": [],
    },
)
async def show_exchange(server: Server, call: Call) -> dict[str, Any]:
    failures = server.base.deliverer.failures
    with server.base.store.read() as connection:
        streams = exchange.streams(connection)
        parked = exchange.parked(connection)
    return {
        "streams": [
            {
                "peer": stream.destination,
                "sent": stream.last_sequence,
                "acked": stream.acked_sequence,
                "failure": failures.get(stream.destination),
            }
            for stream in streams
        ],
        "parked": [
            {"peer": row["source"], "sequence": row["sequence"], "reason": row["reason"]}
            for row in parked
        ],
    }


#: Every server has these.
ENDPOINTS = (
    add_tenant,
    list_tenants,
    add_key,
    list_keys,
    revoke_key,
    add_peer,
    list_peers,
    show_exchange,
)


def _own_tenant(call: Call) -> str:
    """The tenant in the path, where the caller may act for it; 404 otherwise."""
    tenant_id: str = call.params["tenant_id"]
    if tenant_id != call.principal.tenant_id and not call.principal.is_operator:
        raise NotFoundError(f"there is no tenant {tenant_id[:64]}", field="tenant_id")
    return tenant_id


def _peer_document(server: Server, peer: access.Peer, failure: str | None) -> PeerDocument:
    return PeerDocument(
        url=peer.url,
        kind=peer.kind,
        tenant_id=peer.tenant_id,
        scopes=tuple(sorted(peer.scopes)),
        has_keys=bool(server.base.directory.known_keys(peer.url).keys),
        failure=failure,
    )
