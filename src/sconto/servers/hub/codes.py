"""Secret texts of offers and moves, derived and never stored: codes, addresses, access tokens.

Each is `<token id>.<keyed digest>` under the hub's secret, so that the row is found by its id, the
text can be given again to whoever may have it, and nobody can guess it. Only that a code is still
unused is kept, by its hash. A renewed offer has another end, and so another code and address.
"""

import hashlib
import hmac

from sconto.base.canonical import b64url
from sconto.base.ids import new_id

#: How long a pre-authorized code may be used, and an access token after it, by the real clock.
CODE_LIFE_MS = 600_000
ACCESS_LIFE_MS = 600_000
#: No text of ours is longer.
TEXT_MAX = 120
#: Symbols of a token id.
ID_LENGTH = 26


def offer_code(secret: bytes, token_id: str, expires_at_ms: int) -> str:
    """The pre-authorized code of an offer that ends at this instant."""
    return f"{token_id}.{_mac(secret, 'offer code', token_id, expires_at_ms)}"


def offer_id(secret: bytes, token_id: str, expires_at_ms: int) -> str:
    """The last part of the offer's address; another text than the code."""
    return f"{token_id}.{_mac(secret, 'offer address', token_id, expires_at_ms)}"


def code_hash(code: str) -> bytes:
    """What the datastore has of a code while it is unused."""
    return hashlib.sha256(code.encode()).digest()


def token_id_in(text: str) -> str | None:
    """The token id that a code or address claims; believe it only after comparing the whole."""
    token_id, _, _ = text.partition(".")
    is_form = len(text) <= TEXT_MAX and len(token_id) == ID_LENGTH and token_id.isalnum()
    return token_id if is_form and text.isascii() else None


def is_same(text: str, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(text.encode(), expected.encode())


def access_token(secret: bytes, token_id: str, expires_at_ms: int) -> str:
    """The bearer token of the credential endpoint (RFC 6750), good for one token."""
    mac = _mac(secret, "access token", token_id, expires_at_ms)
    return f"{token_id}.{expires_at_ms}.{mac}"


def read_access_token(secret: bytes, text: str, now_ms: int) -> str | None:
    """The token id that an access token is for; None when it is not ours or over."""
    parts = text.split(".") if len(text) <= TEXT_MAX else []
    if len(parts) != 3 or not parts[1].isascii() or not parts[1].isdigit():
        return None
    token_id, expires_at_ms = parts[0], int(parts[1])
    if not is_same(text, access_token(secret, token_id, expires_at_ms)):
        return None
    return token_id if now_ms < expires_at_ms else None


def notification_id(secret: bytes, token_id: str) -> str:
    """The name under which the wallet says what became of a token."""
    return _mac(secret, "notification", token_id, 0)


def move_proof(secret: bytes, token_id: str, move_id: str, merchant: str) -> str:
    """What a merchant gives back with a token that it releases: we asked, for this destination.

    It does not say to the merchant which one that is.
    """
    return _mac(secret, "move", token_id, f"{move_id}\0{merchant}")


def successor_id(secret: bytes, token_id: str, move_id: str, clipped_at_ms: int) -> str:
    """The id of the token that takes the place of a moved one; the same after a restore too."""
    message = f"sconto successor\0{token_id}\0{move_id}".encode()
    return new_id(clipped_at_ms, hmac.digest(secret, message, "sha256"))


def _mac(secret: bytes, purpose: str, token_id: str, more: int | str) -> str:
    message = f"sconto {purpose}\0{token_id}\0{more}".encode()
    return b64url(hmac.digest(secret, message, "sha256"))
