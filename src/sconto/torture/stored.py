"""What a datastore holds: read as it lies there, not as its server tells it."""

from typing import NamedTuple

import sqlalchemy as sa

from sconto.store import exchange
from sconto.store.database import connect, open_engine
from sconto.store.schema import (
    budgets,
    journal,
    orders,
    parked_events,
    redemptions,
    reversals,
)


class Stored(NamedTuple):
    """One reading, all of one moment."""

    orders: set[str]
    #: (order, reversal)
    reversals: set[tuple[str, str]]
    #: State of each redemption.
    redemptions: dict[str, str]
    #: Journal entries by kind.
    entries: dict[str, int]
    #: Accounts of each budget, in uses, by promotion and counter; "": the promotion's own.
    budgets: dict[tuple[str, str], dict[str, int]]
    parked: list[str]


def untold(database_url: str) -> int:
    """How many events of a datastore no peer has acknowledged yet."""
    engine = open_engine(database_url, read_only=True)
    try:
        with connect(engine) as connection, connection.begin():
            streams = exchange.streams(connection)
            return sum(one.last_sequence - one.acked_sequence for one in streams)
    finally:
        engine.dispose()


def read(database_url: str) -> Stored:
    """Read a datastore, also while its server writes."""
    engine = open_engine(database_url, read_only=True)
    columns = redemptions.c
    try:
        with connect(engine) as connection, connection.begin():
            counted = sa.select(journal.c.kind, sa.func.count()).group_by(journal.c.kind)
            return Stored(
                set(connection.execute(sa.select(orders.c.order_id)).scalars()),
                {
                    (str(order_id), str(reversal_id))
                    for order_id, reversal_id in connection.execute(
                        sa.select(reversals.c.order_id, reversals.c.reversal_id)
                    )
                },
                {
                    str(redemption_id): str(state)
                    for redemption_id, state in connection.execute(
                        sa.select(columns.redemption_id, columns.state)
                    )
                },
                {str(kind): int(number) for kind, number in connection.execute(counted)},
                {
                    (row["promotion_id"], row["counter"]): {
                        name: int(row[f"{name}_uses"])
                        for name in ("cap", "free", "open", "spent", "written_off")
                    }
                    for row in connection.execute(sa.select(budgets)).mappings()
                },
                list(connection.execute(sa.select(parked_events.c.reason)).scalars()),
            )
    finally:
        engine.dispose()
