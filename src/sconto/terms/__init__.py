"""What a promotion promises: documents, their digest, their schedule, their plain sentence.

In: JSON. Out: `Terms` and what can be said about them without a cart. Knows no cart, no ledger.
Read `model.py` first, then `conditions.py` and `benefits.py`.
"""

from sconto.terms.lint import Finding, lint
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
from sconto.terms.schema import terms_schema
from sconto.terms.sentence import sentence

__all__ = [
    "TERMS_BYTES_MAX",
    "Finding",
    "Limit",
    "Schedule",
    "Terms",
    "decode_terms",
    "encode_terms",
    "lint",
    "sentence",
    "terms_digest",
    "terms_from",
    "terms_schema",
]
