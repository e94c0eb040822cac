"""What a promotion promises: documents, their digest, their schedule, their plain sentence.

In: JSON. Out: `Terms` and what can be said about them without a cart. Knows no cart, no ledger.
Read `model.py` first, then `conditions.py` and `benefits.py`.
"""

from sconto.terms.model import (
    TERMS_BYTES_MAX,
    Limit,
    Terms,
    decode_terms,
    encode_terms,
    terms_digest,
    terms_from,
)
from sconto.terms.schedule import Schedule

__all__ = [
    "TERMS_BYTES_MAX",
    "Limit",
    "Schedule",
    "Terms",
    "decode_terms",
    "encode_terms",
    "terms_digest",
    "terms_from",
]
