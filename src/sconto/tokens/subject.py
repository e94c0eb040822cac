"""Pseudonyms: what a merchant calls a shopper must mean nothing to another merchant."""

import hashlib
import hmac

from sconto.base.canonical import b64url, canonical


def pairwise_subject(secret: bytes, holder: str, merchant: str) -> str:
    """The pseudonym of `holder` at `merchant`: 43 symbols, always the same for the two.

    HMAC-SHA256 under a secret of the hub over an unambiguous encoding (OpenID Connect Core 8.1,
    pairwise): without the secret nobody can guess a holder and compare.
    """
    message = canonical(["sconto pairwise subject 1", holder, merchant])
    return b64url(hmac.new(secret, message, hashlib.sha256).digest())
