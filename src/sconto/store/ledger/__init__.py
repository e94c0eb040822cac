"""Budgets and allotments in the database: every move of units is a guarded update and a transfer.

At the server that promises, `budgets` has the balances and each granted allotment a row whose
`left` is what is not settled yet. At the server that spends, the same row's `left` is what it may
still spend. Guards are in the WHERE clause and in CHECK constraints; a row count is always looked
at, so that nothing is given that is not there.

    parts.py     an allotment's row: find, insert, take from it, give back to it
    budgets.py   a budget's balances, and moves between its accounts by double entry
    grants.py    at the server that promises: grant, reverse, reclaim
    settling.py  settle and reverse what very many reports say
    losses.py    written off, and found again: silent holders, restored servers
    portions.py  what one of several processes took of an allotment
    spending.py  at the server that spends: accept, spend, close
"""

from sconto.store.ledger.budgets import budget_of, move, open_budget, top_up
from sconto.store.ledger.grants import extend, grant, reclaim, unsettle
from sconto.store.ledger.losses import (
    begin_epoch,
    reopen,
    restored_at_ms,
    take_up,
    write_off,
    write_off_free,
    write_off_own,
)
from sconto.store.ledger.parts import Allotment, get, give_back, insert, of_promotion, open_of
from sconto.store.ledger.portions import last_spent_at_ms
from sconto.store.ledger.settling import Settling
from sconto.store.ledger.spending import (
    accept,
    available,
    available_to,
    begin_closing,
    close,
    closing,
    counters_of,
    settle_own,
    spend,
)

__all__ = [
    "Allotment",
    "Settling",
    "accept",
    "available",
    "available_to",
    "begin_closing",
    "begin_epoch",
    "budget_of",
    "close",
    "closing",
    "counters_of",
    "extend",
    "get",
    "give_back",
    "grant",
    "insert",
    "last_spent_at_ms",
    "move",
    "of_promotion",
    "open_budget",
    "open_of",
    "reclaim",
    "reopen",
    "restored_at_ms",
    "settle_own",
    "spend",
    "take_up",
    "top_up",
    "unsettle",
    "write_off",
    "write_off_free",
    "write_off_own",
]
