"""Exact amounts and counts: budgets, allotments, the journal. Knows no promotion rule.

In: balances and wishes. Out: balances, or a `Refused` with figures. Never: a cart, a token's
claims, a clock, a database (`store.ledger` keeps what is decided here).
Read `budget.py` (the accounts and the only moves between them), then `journal.py`.
"""

from sconto.ledger.budget import (
    UNLIMITED,
    Amounts,
    Budget,
    Refused,
    grant_size,
    wants_more,
)
from sconto.ledger.journal import ENTRY_KINDS, Entry, chain, decode_entry, encode_entry

__all__ = [
    "ENTRY_KINDS",
    "UNLIMITED",
    "Amounts",
    "Budget",
    "Entry",
    "Refused",
    "chain",
    "decode_entry",
    "encode_entry",
    "grant_size",
    "wants_more",
]
