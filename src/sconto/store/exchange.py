"""Outbox and inbox: one ordered, gapless stream of events per peer and direction.

An event is appended in the transaction of what it tells, takes its number under the stream's own
row, and stays until the peer has acknowledged that number. At the other end it is applied once, in
one transaction with its effect; a gap is refused, so the sender starts again from what was applied.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from sconto.base.clock import rfc3339
from sconto.base.errors import invariant
from sconto.store.prepared import Prepared, insert_into
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
        _APPEND.run_many(connection, rows)
    return set(by_destination)


def _advance(connection: sa.Connection, destination: str, count: int) -> int:
    """Take `count` numbers of a stream, under its row's lock; gives the last one taken."""
    row = _ADVANCE.first(connection, destination=destination, count=count)
    invariant(row is not None, "a stream is there once it was advanced")
    return 0 if row is None else int(row[0])


def _advancing(insert: Any) -> sa.Executable:
    count: sa.BindParameter[int] = sa.bindparam("count", type_=sa.BigInteger)
    first = insert(outbox_streams).values(
        destination=sa.bindparam("destination"), last_sequence=count, acked_sequence=0
    )
    advanced: sa.Executable = first.on_conflict_do_update(
        index_elements=["destination"],
        set_={"last_sequence": outbox_streams.c.last_sequence + count},
    ).returning(outbox_streams.c.last_sequence)
    return advanced


_ADVANCE = Prepared(_advancing)
_APPEND = Prepared(insert_into(outbox))


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
    return [
        (sequence, event)
        for sequence, event in _PENDING.rows(connection, destination=destination, limit=limit)
    ]


_PENDING = Prepared(
    sa.select(outbox.c.sequence, outbox.c.event)
    .where(outbox.c.destination == sa.bindparam("destination"))
    .order_by(outbox.c.sequence)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)


def acknowledge(connection: sa.Connection, destination: str, sequence: int) -> None:
    """A peer has everything up to `sequence`; no effect when that is old, or was never sent."""
    if _ACKNOWLEDGE.run(connection, to=destination, number=sequence):
        _FORGET.run(connection, to=destination, number=sequence)


_ACKNOWLEDGE = Prepared(
    sa.update(outbox_streams)
    .where(
        outbox_streams.c.destination == sa.bindparam("to"),
        outbox_streams.c.acked_sequence < sa.bindparam("number"),
        outbox_streams.c.last_sequence >= sa.bindparam("number"),
    )
    .values(acked_sequence=sa.bindparam("number"))
)
_FORGET = Prepared(
    sa.delete(outbox).where(
        outbox.c.destination == sa.bindparam("to"), outbox.c.sequence <= sa.bindparam("number")
    )
)


def received(connection: sa.Connection, source: str) -> int:
    """The last number of a peer's stream that was applied or parked."""
    row = _RECEIVED.first(connection, source=source)
    return 0 if row is None else int(row[0])


_RECEIVED = Prepared(
    sa.select(inbox_streams.c.last_sequence).where(inbox_streams.c.source == sa.bindparam("source"))
)


def receive(
    connection: sa.Connection, source: str, event_id: str, sequence: int, now_ms: int
) -> bool:
    """Take note that an event is applied by the transaction at hand; False: its id is known.

    An id that comes again under another number is a mistake of the peer's, and must not stop the
    stream.
    """
    is_new = _TAKE_NOTE.run(
        connection, source=source, event_id=event_id, sequence=sequence, received_at_ms=now_ms
    )
    _COME_TO.run(connection, source=source, last_sequence=sequence)
    return is_new == 1


def _come_to(insert: Any) -> sa.Executable:
    here = insert(inbox_streams).values(
        source=sa.bindparam("source"), last_sequence=sa.bindparam("last_sequence")
    )
    come: sa.Executable = here.on_conflict_do_update(
        index_elements=["source"], set_={"last_sequence": here.excluded.last_sequence}
    )
    return come


_TAKE_NOTE = Prepared(
    lambda insert: (
        insert(inbox)
        .values({name: sa.bindparam(name) for name in inbox.c.keys()})  # noqa: SIM118
        .on_conflict_do_nothing(index_elements=["source", "event_id"])
    )
)
_COME_TO = Prepared(_come_to)


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
    query = sa.select(parked_events).order_by(
        parked_events.c.parked_at_ms, parked_events.c.source, parked_events.c.sequence
    )
    if source is not None:
        query = query.where(parked_events.c.source == source)
    return [dict(row._mapping) for row in connection.execute(query)]
