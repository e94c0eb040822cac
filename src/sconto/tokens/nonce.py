"""Nonces that need no store: a time and a keyed digest of it.

They make a proof fresh, not single-use: what must happen once is guarded where it happens (the
pre-authorized code, the order, `ReplayGuard`). They survive a restart, and every process of a
server knows the nonces of the others.
"""

import hashlib
import hmac

from sconto.base.canonical import b64url, b64url_decode

_STAMP = 8
_RANDOM = 8


def make_nonce(secret: bytes, purpose: str, now_ms: int, random: bytes) -> str:
    """A nonce for a purpose, in 40 bytes of base64url; `random` makes it one of a kind."""
    stamped = now_ms.to_bytes(_STAMP, "big") + random[:_RANDOM].rjust(_RANDOM, b"\0")
    return b64url(stamped + _mac(secret, purpose, stamped))


def is_nonce(secret: bytes, purpose: str, nonce: str, now_ms: int, max_age_s: int = 300) -> bool:
    """Whether we made this nonce for this purpose, at most `max_age_s` ago."""
    if len(nonce) > 100:
        return False
    try:
        data = b64url_decode(nonce)
    except ValueError:
        return False
    stamped, mac = data[: _STAMP + _RANDOM], data[_STAMP + _RANDOM :]
    if not hmac.compare_digest(mac, _mac(secret, purpose, stamped)):
        return False
    return 0 <= now_ms - int.from_bytes(stamped[:_STAMP], "big") <= max_age_s * 1000


def _mac(secret: bytes, purpose: str, stamped: bytes) -> bytes:
    message = b"sconto nonce\0" + purpose.encode() + b"\0" + stamped
    return hmac.new(secret, message, hashlib.sha256).digest()[:24]
