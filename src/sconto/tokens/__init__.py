"""Electronic tokens: the signed right of one holder to one promotion at one merchant.

In: claims and keys (to issue), text that somebody presents (to verify). Out: claims that hold, or
InvalidInputError with a stable code. Knows no store: that a token was spent, or a proof seen
before, is asked elsewhere (`sconto.ledger`, `sconto.federation.ReplayGuard`).

A hub *issues* a token on a clip (`issue`), after the wallet has proven its key (`key_proof`). A
wallet *presents* it with a proof bound to the merchant, the order and a nonce (`proof`). The
merchant *verifies* both offline with cached keys (`verify`) and a cached status list
(`status_list`). What the merchant sees of a shopper is a pseudonym that only it sees (`subject`).
Read `issue.py` first.
"""

from sconto.tokens.issue import (
    TOKEN_TYP,
    Confirmation,
    Status,
    StatusReference,
    TokenClaims,
    issue_token,
    token_digest,
)
from sconto.tokens.key_proof import KEY_PROOF_TYP, make_key_proof, verify_key_proof
from sconto.tokens.nonce import is_nonce, make_nonce
from sconto.tokens.proof import PROOF_TYP, Proof, make_proof, verify_proof
from sconto.tokens.status_list import (
    STATUS_LIST_SIZE,
    StatusList,
    sign_status_list,
    verify_status_list,
)
from sconto.tokens.subject import pairwise_subject
from sconto.tokens.verify import verify_token

__all__ = [
    "KEY_PROOF_TYP",
    "PROOF_TYP",
    "STATUS_LIST_SIZE",
    "TOKEN_TYP",
    "Confirmation",
    "Proof",
    "Status",
    "StatusList",
    "StatusReference",
    "TokenClaims",
    "is_nonce",
    "issue_token",
    "make_key_proof",
    "make_nonce",
    "make_proof",
    "pairwise_subject",
    "sign_status_list",
    "token_digest",
    "verify_key_proof",
    "verify_proof",
    "verify_status_list",
    "verify_token",
]
