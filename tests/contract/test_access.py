"""Who may do what, and the replies to repeated requests, in the database."""

import asyncio
import itertools
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from sconto.base.errors import ConflictError, NotAuthenticatedError
from sconto.servers.principal import KeyRing, make_api_key
from sconto.store import Store, access
from sconto.store.access import Reply
from sconto.store.writer import Tx

NOON_MS = 1_500_000_000_000
SCOPES = frozenset({"checkout", "evaluate"})


numbers = itertools.count(1)


def random(count: int) -> bytes:
    """Bytes that no test looks at: a counter will do."""
    return next(numbers).to_bytes(count, "big")


@pytest.fixture
def tenant(store: Store) -> str:
    store.write_now(lambda tx: access.add_tenant(tx, "acme", "merchant", "Acme"))
    return "acme"


def make_key(store: Store, tenant: str, label: str = "till 1") -> str:
    text: str = store.write_now(lambda tx: make_api_key(tx, tenant, SCOPES, label, random))
    return text


# --- API keys -------------------------------------------------------------------------------------


def test_a_key_goes_round(store: Store, tenant: str) -> None:
    """Goal: what was shown once opens the door. Method: make it, present it, look at the row."""
    text = make_key(store, tenant)
    principal = KeyRing().principal(text, NOON_MS, store.read)
    assert (principal.tenant_id, principal.tenant_kind) == ("acme", "merchant")
    assert principal.scopes == SCOPES
    prefix, key_id, secret = text.split("_", 2)
    assert (prefix, key_id) == ("sconto", principal.key_id)
    assert len(secret) == 43
    with store.read() as connection:
        row = access.api_key(connection, key_id)
        assert access.list_api_keys(connection, tenant) == [row]
        assert access.list_api_keys(connection, "nobody") == []
    assert row is not None
    assert row.label == "till 1"
    assert secret.encode() not in row.secret_hash
    assert len(row.secret_hash) == 32


def test_unknown_wrong_and_revoked_keys_are_told_the_same(store: Store, tenant: str) -> None:
    """Goal: an answer says nothing about which keys exist. Method: compare the problems whole."""
    good = make_key(store, tenant)
    _, key_id, secret = good.split("_", 2)
    other = make_key(store, tenant, "till 2").split("_", 2)
    revoked = make_key(store, tenant, "till 3")
    store.write_now(lambda tx: access.revoke_api_key(tx, tenant, revoked.split("_")[1]))
    bad = {
        "unknown id": f"sconto_{'0' * 26}_{secret}",
        "wrong secret": f"sconto_{key_id}_{secret[:-1]}!",
        "another's secret": f"sconto_{key_id}_{other[2]}",
        "revoked": revoked,
        "no secret": f"sconto_{key_id}_",
        "no parts": "sconto",
        "nothing": "",
        "another prefix": f"stripe_{key_id}_{secret}",
        "an id with a NUL": f"sconto_{key_id[:-1]}\0_{secret}",
        "an id that is not ASCII": f"sconto_{key_id[:-1]}é_{secret}",
        "an id in small letters": f"sconto_{key_id.lower()}_{secret}",
        "a long one": "sconto_" + "x" * 100_000,
    }
    words = set()
    for name, text in bad.items():
        ring = KeyRing()
        with pytest.raises(NotAuthenticatedError) as refused:
            ring.principal(text, NOON_MS, store.read)
        error = refused.value
        words.add((error.message, error.code, error.field, error.remedy, str(error.figures)))
        assert len(words) == 1, f"{name} is told something else"
    assert KeyRing().principal(good, NOON_MS, store.read).key_id == key_id


def test_a_revoked_key_stops_at_once_here_and_soon_elsewhere(store: Store, tenant: str) -> None:
    """Goal: the key memory is short. Method: two rings, as of two processes; one revokes."""
    text = make_key(store, tenant)
    key_id = text.split("_")[1]
    here, elsewhere = KeyRing(), KeyRing()
    for ring in (here, elsewhere):
        ring.principal(text, NOON_MS, store.read)

    def revoke(tx: Tx) -> bool:
        tx.after_commit(lambda: here.forget(key_id))
        return access.revoke_api_key(tx, tenant, key_id)

    assert store.write_now(revoke)
    with pytest.raises(NotAuthenticatedError):
        here.principal(text, NOON_MS, store.read)
    elsewhere.principal(text, NOON_MS + KeyRing.CACHE_MS - 1, store.read)
    with pytest.raises(NotAuthenticatedError):
        elsewhere.principal(text, NOON_MS + KeyRing.CACHE_MS, store.read)


def test_a_tenant_revokes_only_its_own_keys_and_the_first_time_counts(
    store: Store, tenant: str, clock: Any
) -> None:
    key_id = make_key(store, tenant).split("_")[1]
    assert not store.write_now(lambda tx: access.revoke_api_key(tx, "globex", key_id))
    assert store.write_now(lambda tx: access.revoke_api_key(tx, tenant, key_id))
    clock.now_ms += 1000
    assert store.write_now(lambda tx: access.revoke_api_key(tx, tenant, key_id))
    with store.read() as connection:
        row = access.api_key(connection, key_id)
    assert row is not None
    assert row.revoked_at_ms == NOON_MS


def test_a_key_needs_its_tenant(store: Store) -> None:
    with pytest.raises(IntegrityError):
        make_key(store, "nobody")


# --- tenants and peers ----------------------------------------------------------------------------


def test_a_tenant_is_added_once_and_keeps_its_kind(store: Store) -> None:
    def add(kind: str) -> bool:
        added: bool = store.write_now(lambda tx: access.add_tenant(tx, "acme", kind, "Acme"))
        return added

    assert add("brand")
    assert not add("brand")
    with pytest.raises(ConflictError) as refused:
        add("merchant")
    assert refused.value.field == "tenant_id"
    with store.read() as connection:
        assert access.tenant_kind(connection, "acme") == "brand"
        assert access.tenant_kind(connection, "nobody") is None


def test_tenants_are_listed_page_by_page(store: Store) -> None:
    def add(tx: Tx) -> None:
        for number in range(5):
            access.add_tenant(tx, f"t{number}", "brand", f"Brand {number}")

    store.write_now(add)
    pages = []
    after = ""
    with store.read() as connection:
        while page := access.list_tenants(connection, after=after, limit=2):
            pages.append([row["tenant_id"] for row in page])
            after = page[-1]["tenant_id"]
    assert pages == [["t0", "t1"], ["t2", "t3"], ["t4"]]


def test_a_peer_is_kept_with_the_keys_that_it_published(store: Store, tenant: str) -> None:
    url, jwks = "https://hub.example", [{"kty": "OKP", "crv": "Ed25519", "x": "x"}]

    def add(tx: Tx) -> bool:
        return access.add_peer(tx, url, "hub", tenant, frozenset({"events", "frames:write"}))

    assert store.write_now(add)
    assert not store.write_now(add)
    store.write_now(lambda tx: access.keep_peer_keys(tx, url, jwks, "incarnation"))
    with store.read() as connection:
        (peer,) = access.list_peers(connection)
    assert (peer.url, peer.kind, peer.tenant_id) == (url, "hub", tenant)
    assert peer.scopes == {"events", "frames:write"}
    assert (peer.jwks, peer.incarnation) == (jwks, "incarnation")
    assert peer.jwks_fetched_at_ms == NOON_MS


# --- idempotency ----------------------------------------------------------------------------------


def test_the_same_request_again_gets_the_same_reply(store: Store) -> None:
    def replied(body: bytes, tenant: str = "acme", key: str = "k") -> Reply | None:
        found: Reply | None = store.write_now(
            lambda tx: access.replied(tx, tenant, "POST /v1/things", key, body)
        )
        return found

    reply = Reply(201, b'{"thing":1}')
    assert replied(b"hash") is None
    store.write_now(
        lambda tx: access.keep_reply(tx, "acme", "POST /v1/things", "k", b"hash", reply)
    )
    assert replied(b"hash") == reply
    assert replied(b"hash", key="another") is None
    assert replied(b"hash", tenant="globex") is None  # keys are the tenant's own
    with pytest.raises(ConflictError) as refused:
        replied(b"other hash")
    assert refused.value.code == "idempotency_conflict"
    assert refused.value.field == "Idempotency-Key"


def test_a_reply_is_kept_once(store: Store) -> None:
    def keep() -> None:
        store.write_now(
            lambda tx: access.keep_reply(tx, "acme", "POST /", "k", b"hash", Reply(200, b""))
        )

    keep()
    with pytest.raises(IntegrityError):
        keep()


def test_two_of_the_same_in_one_batch_are_one(store: Store) -> None:
    """Goal: a client that sends twice at once gets one effect. Method: both in one batch."""
    effects = []

    def command(tx: Tx) -> Reply:
        known = access.replied(tx, "acme", "POST /", "k", b"hash")
        if known is not None:
            return known
        effects.append("done")
        reply = Reply(200, b"first")
        access.keep_reply(tx, "acme", "POST /", "k", b"hash", reply)
        return reply

    async def both() -> list[Reply]:
        return list(await asyncio.gather(store.write(command), store.write(command)))

    assert asyncio.run(both()) == [Reply(200, b"first")] * 2
    assert effects == ["done"]


def test_old_replies_are_forgotten(store: Store, clock: Any) -> None:
    def keep(key: str) -> None:
        store.write_now(
            lambda tx: access.keep_reply(tx, "acme", "POST /", key, b"hash", Reply(200, b""))
        )

    keep("old")
    clock.now_ms += 1000
    keep("new")
    assert store.write_now(lambda tx: access.forget_replies(tx, NOON_MS + 1000)) == 1
    assert store.write_now(lambda tx: access.replied(tx, "acme", "POST /", "old", b"hash")) is None
    assert store.write_now(lambda tx: access.replied(tx, "acme", "POST /", "new", b"hash"))
