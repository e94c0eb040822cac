"""Who makes a request: an API key, a signed-in browser, or another server by its signature.

An API key is `sconto_<key id>_<secret>`, shown once; the datastore has the SHA-256 of the secret,
which is safe to store because the secret has 256 random bits.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from sconto.base.canonical import b64url, b64url_decode
from sconto.base.errors import ForbiddenError, NotAuthenticatedError
from sconto.base.ids import ID_RANDOM_BYTES, new_id
from sconto.servers.scopes import SCOPES
from sconto.store import access
from sconto.store.writer import Tx

KEY_PREFIX = "sconto"
SESSION_COOKIE = "sconto_session"
SESSION_LIFE_MS = 12 * 3600 * 1000
_KEY_ID = re.compile("[0-9A-Z]{26}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, for which tenant, and what it may do."""

    tenant_id: str
    tenant_kind: str
    scopes: frozenset[str]
    #: Public URL of the server, where the request was signed by a peer.
    peer_url: str | None = None
    key_id: str | None = None

    def may(self, scope: str) -> bool:
        return scope in self.scopes or ("admin" in self.scopes and scope != "replay")

    @property
    def name(self) -> str:
        """Who asks, in one word: the key, the server, or the tenant."""
        return self.key_id or self.peer_url or self.tenant_id

    @property
    def is_operator(self) -> bool:
        return "admin" in self.scopes

    def require(self, scope: str) -> None:
        """Raises ForbiddenError naming the scope that is missing."""
        if not self.may(scope):
            raise ForbiddenError(
                f"this needs the scope {scope}",
                field="Authorization",
                remedy=f"use a key that has it: {SCOPES.get(scope, scope)}",
                scope=scope,
            )


def make_api_key(
    tx: Tx,
    tenant_id: str,
    scopes: frozenset[str],
    label: str,
    random: Callable[[int], bytes],
) -> str:
    """A new key of a tenant; its text is not stored and cannot be shown again."""
    key_id = new_id(tx.now_ms, random(ID_RANDOM_BYTES))
    secret = b64url(random(32))
    access.add_api_key(tx, key_id, tenant_id, _hash(secret), scopes, label)
    return f"{KEY_PREFIX}_{key_id}_{secret}"


class KeyRing:
    """API keys, with a short memory so that a busy till does not read its key each time.

    A revoked key stops working after `CACHE_MS` at the latest, at once where that is heard of.
    """

    CACHE_MS = 5_000
    CACHE_MAX = 10_000

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, access.ApiKey]] = {}

    def forget(self, key_id: str) -> None:
        self._known.pop(key_id, None)

    def forget_all(self) -> None:
        self._known.clear()

    def principal(self, text: str, now_ms: int, read: Callable[[], Any]) -> Principal:
        """The principal of an API key's text.

        Raises NotAuthenticatedError, in the same words for an unknown, wrong or revoked key.
        """
        parts = text.split("_", 2)
        if len(parts) != 3 or parts[0] != KEY_PREFIX or not _KEY_ID.fullmatch(parts[1]):
            raise _unknown_key()
        key = self.get(parts[1], now_ms, read)
        secret_hash = key.secret_hash if key else bytes(32)
        is_right = hmac.compare_digest(_hash(parts[2]), secret_hash)
        if key is None or not is_right or key.revoked_at_ms is not None:
            raise _unknown_key()
        return Principal(key.tenant_id, key.tenant_kind, key.scopes, key_id=key.key_id)

    def get(self, key_id: str, now_ms: int, read: Callable[[], Any]) -> access.ApiKey | None:
        known = self._known.get(key_id)
        if known is not None and known[0] > now_ms:
            return known[1]
        with read() as connection:
            key = access.api_key(connection, key_id)
        if key is not None:
            if len(self._known) >= self.CACHE_MAX:
                self._known.clear()
            self._known[key_id] = (now_ms + self.CACHE_MS, key)
        return key


def make_session(secret: bytes, key_id: str, now_ms: int) -> str:
    """The cookie of a browser that signed in with a key: signed, with an end, no secret in it."""
    payload = b64url(msgspec.json.encode({"key": key_id, "exp": now_ms + SESSION_LIFE_MS}))
    return f"{payload}.{b64url(_mac(secret, payload))}"


def session_key_id(secret: bytes, cookie: str, now_ms: int) -> str | None:
    """The key id of a session cookie, None when it is not ours or over."""
    payload, _, mac = cookie.partition(".")
    try:
        if not hmac.compare_digest(b64url_decode(mac), _mac(secret, payload)):
            return None
        session = msgspec.json.decode(b64url_decode(payload))
    except (ValueError, msgspec.DecodeError):
        return None
    return session["key"] if session["exp"] > now_ms else None


def _mac(secret: bytes, payload: str) -> bytes:
    return hmac.digest(secret, b"session:" + payload.encode(), "sha256")


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _unknown_key() -> NotAuthenticatedError:
    return NotAuthenticatedError(
        "this API key is not known",
        field="Authorization",
        remedy="send `Authorization: Bearer sconto_…` with a key that was not revoked",
    )
