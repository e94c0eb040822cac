"""Outbox and inbox: one ordered, gapless stream of events per peer and direction.

An event is appended in the transaction of what it tells, takes its number under the stream's own
row, and stays until the peer has acknowledged that number. At the other end it is applied once, in
one transaction with its effect; a gap is refused, so the sender starts again from what was applied.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from sconto.base.clock import rfc3339
from sconto.store.schema import (
    inbox,
    inbox_streams,
    outbox,
    outbox_streams,
    parked_events,
)


class Draft(NamedTuple):
    """An event before it has a number."""

    destination: str
    type: str
    subject: str
    data: Any


class Stream(NamedTuple):
    """How far a stream has come."""

    destination: str
    last_sequence: int
    acked_sequence: int


def append(
    connection: sa.Connection, source: str, now_ms: int, drafts: Sequence[Draft]
) -> set[str]:
    """Number the events, one stream per destination, and keep them; gives the destinations."""
    by_destination: dict[str, list[Draft]] = {}
    for draft in drafts:
        by_destination.setdefault(draft.destination, []).append(draft)
    for destination in sorted(by_destination):
        events = by_destination[destination]
        last = _advance(connection, destination, len(events))
        rows = [
            {
                "destination": destination,
                "sequence": number,
                "event": _cloud_event(source, number, now_ms, draft),
            }
            for number, draft in enumerate(events, last - len(events) + 1)
        ]
        connection.execute(sa.insert(outbox), rows)
    return set(by_destination)


def _advance(connection: sa.Connection, destination: str, count: int) -> int:
    """Take `count` numbers of a stream, under its row's lock; gives the last one taken."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(outbox_streams).values(
        destination=destination, last_sequence=count, acked_sequence=0
    )
    statement = statement.on_conflict_do_update(
        index_elements=["destination"],
        set_={"last_sequence": outbox_streams.c.last_sequence + count},
    )
    return int(connection.execute(statement.returning(outbox_streams.c.last_sequence)).scalar_one())


def _cloud_event(source: str, number: int, now_ms: int, draft: Draft) -> bytes:
    """CloudEvents 1.0 JSON; its id is unique within the source, as the inbox relies on."""
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": f"{draft.destination}#{number}",
            "source": source,
            "type": draft.type,
            "subject": draft.subject,
            "time": rfc3339(now_ms),
            "sequence": f"{number:020}",
            "datacontenttype": "application/json",
            "data": draft.data,
        }
    )


def streams(connection: sa.Connection) -> list[Stream]:
    """All outgoing streams."""
    query = sa.select(outbox_streams).order_by(outbox_streams.c.destination)
    return [Stream(*row) for row in connection.execute(query)]


def pending(connection: sa.Connection, destination: str, limit: int) -> list[tuple[int, bytes]]:
    """The oldest events that a peer has not acknowledged, with their numbers."""
    rows = connection.execute(
        sa.select(outbox.c.sequence, outbox.c.event)
        .where(outbox.c.destination == destination)
        .order_by(outbox.c.sequence)
        .limit(limit)
    )
    return [(row.sequence, row.event) for row in rows]


def acknowledge(connection: sa.Connection, destination: str, sequence: int) -> None:
    """A peer has everything up to `sequence`; going back is not possible."""
    connection.execute(
        sa.update(outbox_streams)
        .where(
            outbox_streams.c.destination == destination,
            outbox_streams.c.acked_sequence < sequence,
            outbox_streams.c.last_sequence >= sequence,
        )
        .values(acked_sequence=sequence)
    )
    acked = sa.select(outbox_streams.c.acked_sequence).where(
        outbox_streams.c.destination == destination
    )
    connection.execute(
        sa.delete(outbox).where(
            outbox.c.destination == destination, outbox.c.sequence <= acked.scalar_subquery()
        )
    )


def received(connection: sa.Connection, source: str) -> int:
    """The last number of a peer's stream that was applied or parked."""
    query = sa.select(inbox_streams.c.last_sequence).where(inbox_streams.c.source == source)
    return int(connection.execute(query).scalar() or 0)


def is_known(connection: sa.Connection, source: str, event_id: str) -> bool:
    """Whether an event of a peer was received, under whatever number."""
    query = sa.select(inbox.c.sequence).where(
        inbox.c.source == source, inbox.c.event_id == event_id
    )
    return connection.execute(query).first() is not None


def receive(
    connection: sa.Connection, source: str, event_id: str, sequence: int, now_ms: int
) -> None:
    """Take note that an event is applied by the transaction at hand."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    seen = insert(inbox).values(
        source=source, event_id=event_id, sequence=sequence, received_at_ms=now_ms
    )
    # A second event under an old id is parked, and must not stop the stream.
    connection.execute(seen.on_conflict_do_nothing(index_elements=["source", "event_id"]))
    statement = insert(inbox_streams).values(source=source, last_sequence=sequence)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["source"], set_={"last_sequence": sequence})
    )


def park(
    connection: sa.Connection,
    source: str,
    sequence: int,
    event: bytes,
    reason: str,
    now_ms: int,
) -> None:
    """Keep an event that cannot be applied, with the reason."""
    connection.execute(
        sa.insert(parked_events).values(
            source=source, sequence=sequence, event=event, reason=reason, parked_at_ms=now_ms
        )
    )


def parked(connection: sa.Connection, source: str | None = None) -> list[dict[str, Any]]:
    """Events that wait for a person, oldest first."""
    query = sa.select(parked_events).order_by(parked_events.c.parked_at_ms)
    if source is not None:
        query = query.where(parked_events.c.source == source)
    return [dict(row._mapping) for row in connection.execute(query)]
