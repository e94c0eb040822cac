"""The datastore of every server: terms and statistics of promotions and of electronic tokens.

In: commands to write (one transaction each, many to a commit) and questions to read. Out: rows and
documents. Decides nothing about promotions, tokens or budgets; the rooms above do, and what they
decide is kept here in one dumb step. SQLite and PostgreSQL answer alike.

Read `schema.py` (the tables, in the order of the river), then `writer.py` (how a commit happens);
each other module, and the folder `ledger`, holds the questions and the writes of one part of the
schema.
"""

from sconto.store.database import migrate, open_engine
from sconto.store.writer import Store, Tx

__all__ = ["Store", "Tx", "migrate", "open_engine"]
