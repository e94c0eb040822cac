"""Outbox and inbox: one ordered, gapless stream of events per peer and direction.

An event is appended in the transaction of what it tells, takes its number under the stream's own
row, and stays until the peer has acknowledged that number. At the other end it is applied once, in
one transaction with its effect; a gap is refused, so the sender starts again from what was applied.

A peer that was restored from a backup has less than it acknowledged: the newest `KEPT` events are
kept after their acknowledgement and are sent again. A server that was restored itself has numbers
that its peers know already: its streams start anew from 1 under a name of their own, and what waits
in them keeps its ids, by which a peer knows what it has. Of an ended stream nothing is taken.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from sconto.base.clock import rfc3339
from sconto.base.errors import invariant
from sconto.store.prepared import NewRows, Prepared, Row, one_of
from sconto.store.schema import (
    alarms,
    ended_streams,
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
    #: Its name; empty for the first one between two servers.
    stream: str = ""


#: Events that are kept after they were acknowledged, in each stream.
KEPT = 100_000
#: Events that are renumbered at a time when a stream starts anew.
RESTARTED_AT_ONCE = 1000


def append(
    connection: sa.Connection, source: str, now_ms: int, drafts: Sequence[Draft]
) -> set[str]:
    """Number the events, one stream per destination, and keep them; gives the destinations."""
    by_destination: dict[str, list[Draft]] = {}
    for draft in drafts:
        by_destination.setdefault(draft.destination, []).append(draft)
    for destination in sorted(by_destination):
        events = by_destination[destination]
        last, stream = _advance(connection, destination, len(events))
        rows: list[Row] = [
            (destination, number, _cloud_event(source, stream, number, now_ms, draft))
            for number, draft in enumerate(events, last - len(events) + 1)
        ]
        _NEW_OUT.add(connection, rows)
    return set(by_destination)


def _advance(connection: sa.Connection, destination: str, count: int) -> tuple[int, str]:
    """Take `count` numbers of a stream, under its row's lock; gives the last one and its name."""
    row = _ADVANCE.first(connection, destination=destination, count=count)
    invariant(row is not None, "a stream is there once it was advanced")
    return (0, "") if row is None else (int(row[0]), str(row[1]))


def _advancing(insert: Any) -> sa.Executable:
    count: sa.BindParameter[int] = sa.bindparam("count", type_=sa.BigInteger)
    first = insert(outbox_streams).values(
        destination=sa.bindparam("destination"), last_sequence=count, acked_sequence=0
    )
    advanced: sa.Executable = first.on_conflict_do_update(
        index_elements=["destination"],
        set_={"last_sequence": outbox_streams.c.last_sequence + count},
    ).returning(outbox_streams.c.last_sequence, outbox_streams.c.stream)
    return advanced


_ADVANCE = Prepared(_advancing)
_NEW_OUT = NewRows(outbox, "destination", "sequence", "event")


def _cloud_event(source: str, stream: str, number: int, now_ms: int, draft: Draft) -> bytes:
    """CloudEvents 1.0 JSON; its id is unique within the source, as the inbox relies on."""
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": f"{draft.destination}#{stream}{'.' if stream else ''}{number}",
            "source": source,
            "type": draft.type,
            "subject": draft.subject,
            "time": rfc3339(now_ms),
            "sequence": f"{number:020}",
            **({"stream": stream} if stream else {}),
            "datacontenttype": "application/json",
            "data": draft.data,
        }
    )


def streams(connection: sa.Connection) -> list[Stream]:
    """All outgoing streams."""
    return [Stream(*row) for row in _STREAMS.rows(connection)]


_STREAMS = Prepared(
    sa.select(*(outbox_streams.c[name] for name in Stream._fields)).order_by(
        outbox_streams.c.destination
    )
)


def stream_to(connection: sa.Connection, destination: str) -> Stream:
    """The stream to a peer; an empty one before the first event."""
    row = _STREAM_TO.first(connection, destination=destination)
    return Stream(destination, 0, 0) if row is None else Stream(*row)


_STREAM_TO = Prepared(
    sa.select(*(outbox_streams.c[name] for name in Stream._fields)).where(
        outbox_streams.c.destination == sa.bindparam("destination")
    )
)


def pending(connection: sa.Connection, destination: str, limit: int) -> list[tuple[int, bytes]]:
    """The oldest events that a peer has not acknowledged, with their numbers."""
    return _after(connection, destination, stream_to(connection, destination).acked_sequence, limit)


def _after(
    connection: sa.Connection, destination: str, sequence: int, limit: int
) -> list[tuple[int, bytes]]:
    rows = _AFTER.rows(connection, destination=destination, sequence=sequence, limit=limit)
    return [(number, event) for number, event in rows]


_AFTER = Prepared(
    sa.select(outbox.c.sequence, outbox.c.event)
    .where(
        outbox.c.destination == sa.bindparam("destination"),
        outbox.c.sequence > sa.bindparam("sequence"),
    )
    .order_by(outbox.c.sequence)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)


def acknowledge(
    connection: sa.Connection, destination: str, sequence: int, stream: str = ""
) -> None:
    """A peer has everything up to `sequence` of a stream.

    No effect when that is old, was never sent, or the stream has ended.
    """
    if _ACKNOWLEDGE.run(connection, to=destination, number=sequence, name=stream):
        _FORGET.run(connection, to=destination, number=sequence - KEPT)


_ACKNOWLEDGE = Prepared(
    sa.update(outbox_streams)
    .where(
        outbox_streams.c.destination == sa.bindparam("to"),
        outbox_streams.c.acked_sequence < sa.bindparam("number"),
        outbox_streams.c.last_sequence >= sa.bindparam("number"),
        outbox_streams.c.stream == sa.bindparam("name"),
    )
    .values(acked_sequence=sa.bindparam("number"))
)
_FORGET = Prepared(
    sa.delete(outbox).where(
        outbox.c.destination == sa.bindparam("to"), outbox.c.sequence <= sa.bindparam("number")
    )
)


def fall_back(connection: sa.Connection, destination: str, sequence: int, stream: str) -> bool:
    """A peer has lost what came after `sequence`: send it again. False: it is not kept any more."""
    first = connection.execute(
        sa.select(outbox.c.sequence).where(
            outbox.c.destination == destination, outbox.c.sequence == sequence + 1
        )
    ).first()
    if first is None:
        return False
    changed = connection.execute(
        sa.update(outbox_streams)
        .where(
            outbox_streams.c.destination == destination,
            outbox_streams.c.stream == stream,
            outbox_streams.c.acked_sequence > sequence,
        )
        .values(acked_sequence=sequence)
    )
    return changed.rowcount == 1


def restart(connection: sa.Connection, stream: str, destinations: Iterable[str] = ()) -> None:
    """Start every stream anew under this name, with what waits in it: this server was restored.

    `destinations` get a stream of this name too, where there is none to them yet.
    """
    all_ = streams(connection)
    missing = set(destinations) - {known.destination for known in all_}
    for destination in sorted(missing):
        connection.execute(
            sa.insert(outbox_streams).values(
                destination=destination, last_sequence=0, acked_sequence=0, stream=stream
            )
        )
    for known in all_:
        here = outbox.c.destination == known.destination
        connection.execute(sa.delete(outbox).where(here, outbox.c.sequence <= known.acked_sequence))
        count, last = 0, known.acked_sequence
        # A part at a time: a million events may wait. The new numbers are free, being smaller.
        while waiting := _after(connection, known.destination, last, RESTARTED_AT_ONCE):
            first, last = waiting[0][0], waiting[-1][0]
            connection.execute(
                sa.delete(outbox).where(here, outbox.c.sequence.between(first, last))
            )
            rows: list[Row] = [
                (known.destination, number, _renumbered(event, stream, number))
                for number, (_, event) in enumerate(waiting, count + 1)
            ]
            _NEW_OUT.add(connection, rows)
            count += len(rows)
        connection.execute(
            sa.update(outbox_streams)
            .where(outbox_streams.c.destination == known.destination)
            .values(stream=stream, last_sequence=count, acked_sequence=0)
        )


def _renumbered(event: bytes, stream: str, number: int) -> bytes:
    """The event as it would have been written down in the new stream, but for its id."""
    envelope = msgspec.json.decode(event, type=dict[str, msgspec.Raw])
    envelope.pop("stream", None)
    members: dict[str, Any] = {}
    for name, value in envelope.items():
        members[name] = value
        if name == "sequence":
            members |= {"sequence": f"{number:020}", "stream": stream}
    return msgspec.json.encode(members)


def received(connection: sa.Connection, source: str) -> int:
    """The last number of a peer's stream that was applied or parked."""
    return position(connection, source)[0]


def position(connection: sa.Connection, source: str) -> tuple[int, str]:
    """That number, and the name of the stream."""
    row = _POSITION.first(connection, source=source)
    return (0, "") if row is None else (int(row[0]), str(row[1]))


_POSITION = Prepared(
    sa.select(inbox_streams.c.last_sequence, inbox_streams.c.stream).where(
        inbox_streams.c.source == sa.bindparam("source")
    )
)


def has_ended(connection: sa.Connection, source: str, stream: str) -> bool:
    """Whether a peer's stream gave way to another one."""
    return _HAS_ENDED.first(connection, source=source, stream=stream) is not None


_HAS_ENDED = Prepared(
    sa.select(ended_streams.c.stream).where(
        ended_streams.c.source == sa.bindparam("source"),
        ended_streams.c.stream == sa.bindparam("stream"),
    )
)


def take_up(connection: sa.Connection, source: str, stream: str) -> None:
    """A peer starts a new stream; nothing of the one before is taken any more."""
    _, before = position(connection, source)
    connection.execute(sa.insert(ended_streams).values(source=source, stream=before))
    _COME_TO.run(connection, source=source, last_sequence=0)
    connection.execute(
        sa.update(inbox_streams).where(inbox_streams.c.source == source).values(stream=stream)
    )


def raise_alarm(tx: Any, peer: str, code: str) -> None:
    """Remember that a peer knows more of this server than it does itself."""
    known = tx.read(sa.select(alarms.c.peer).where(alarms.c.peer == peer)).first()
    if known is None:
        tx.write(sa.insert(alarms).values(peer=peer, code=code, at_ms=tx.now_ms))


def clear_alarms(connection: sa.Connection) -> None:
    """This server has become another copy of itself: what peers knew of the old one is no news."""
    connection.execute(sa.delete(alarms))


def alarmed(connection: sa.Connection) -> set[str]:
    """The peers that an alarm is about."""
    return {row[0] for row in _ALARMED.rows(connection)}


_ALARMED = Prepared(sa.select(alarms.c.peer))


def receive(
    connection: sa.Connection, source: str, events: Sequence[tuple[str, int]], now_ms: int
) -> set[int]:
    """Take note that events are applied by the transaction at hand: their ids and numbers.

    Gives the numbers of those whose id is known: an id that comes again under another number is a
    mistake of the peer's, and must not stop the stream.
    """
    ids = [event_id for event_id, _ in events]
    seen = {event_id for (event_id,) in _KNOWN.rows(connection, source=source, ids=ids)}
    known = set()
    rows: list[Row] = []
    for event_id, sequence in events:
        if event_id in seen:
            known.add(sequence)
            continue
        seen.add(event_id)
        rows.append((source, event_id, sequence, now_ms))
    if rows:
        _NEW_IN.add(connection, rows)
    _COME_TO.run(connection, source=source, last_sequence=events[-1][1])
    return known


def _come_to(insert: Any) -> sa.Executable:
    here = insert(inbox_streams).values(
        source=sa.bindparam("source"), last_sequence=sa.bindparam("last_sequence")
    )
    come: sa.Executable = here.on_conflict_do_update(
        index_elements=["source"], set_={"last_sequence": here.excluded.last_sequence}
    )
    return come


_KNOWN = Prepared(
    sa.select(inbox.c.event_id).where(
        inbox.c.source == sa.bindparam("source"), one_of(inbox.c.event_id, "ids")
    )
)
_NEW_IN = NewRows(inbox, "source", "event_id", "sequence", "received_at_ms")
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
