"""Events out and in: the delivery of the outbox, and what an arriving batch does.

Out: one task per destination, one batch in flight; after a failure it waits twice as long, with
jitter, at most an hour, and starts at once when the peer is heard from. In: each event is applied
once, in one transaction with its inbox row; what can never be applied is parked with its reason
and the stream goes on. Events that come by the thousand are applied a run at a time (`Together`).
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from sconto.base.errors import (
    ConflictError,
    InvalidInputError,
    PeerError,
    ScontoError,
    UnavailableError,
)
from sconto.federation.events import (
    BATCH_BYTES_MAX,
    BATCH_EVENTS_MAX,
    EVENTS_TYPE,
    Event,
    Unreadable,
    Usual,
    decode_batch,
)
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.peers import PeerClient, gather_quietly
from sconto.store import exchange
from sconto.store.writer import Store, Tx

log = logging.getLogger("sconto.exchange")

EVENTS_PATH = "/v1/events"
#: Why a server must not go on: peers have events of it that it does not know.
RESTORED = "restored_from_backup"
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 3600.0
BACKOFF_KEY_MAX_S = 60.0
#: How an event is applied: (server, tx, source URL, data). It refuses before its first write.
Apply = Callable[[Any, Tx, str, dict[str, Any]], None]


class Together(NamedTuple):
    """How a run of events of one type is applied: as if each were applied after the other.

    `apply(server, tx, source, data of each)` gives for each why it is parked, None where it is
    applied. It raises only by our own mistake; then they are tried one by one.
    """

    apply: Callable[[Any, Tx, str, Sequence[Any]], list[ScontoError | None]]
    #: What their data is decoded to, where it is written in the usual way; else a JSON object.
    document: type[msgspec.Struct]


Handlers = Mapping[str, Apply | Together]


class Deliverer:
    """Sends what waits in the outbox, each destination for itself.

    Of several processes one `delivers`; the others only know the alarms.
    """

    def __init__(
        self,
        store: Store,
        client: PeerClient,
        *,
        asks_first: bool = False,
        delivers: bool = True,
    ) -> None:
        self._asks_first = asks_first
        self._delivers = delivers
        self._store = store
        self._client = client
        self._wake: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Why the last try to a destination failed; empty after a success.
        self.failures: dict[str, str] = {}
        #: Peers that know more of this server than it does itself.
        self.alarms: set[str] = set()
        #: Peers to ask what they have of us before anything is sent to them, and how much there was
        #: to have at the start: an old copy of us soon writes numbers that a peer has of the other.
        self._unasked: dict[str, int] = {}

    async def start(self) -> None:
        """Take up every stream that was not finished when the process last ended."""
        self._loop = asyncio.get_running_loop()
        self._store.on_commit = self._committed
        with self._store.read() as connection:
            streams = exchange.streams(connection)
            self.alarms = exchange.alarmed(connection)
        if not self._delivers:
            return
        if self._asks_first:
            self._unasked = {s.destination: s.last_sequence for s in streams if s.last_sequence}
        for stream in streams:
            if stream.acked_sequence < stream.last_sequence or stream.destination in self._unasked:
                self.wake(stream.destination)

    async def stop(self) -> None:
        """Stop sending; what was not acknowledged stays in the outbox."""
        self._store.on_commit = lambda destinations: None
        await gather_quietly(list(self._tasks.values()))
        self._tasks.clear()

    def wake_all(self) -> None:
        """Send to whom something may wait for. Event loop only."""
        with self._store.read() as connection:
            for stream in exchange.streams(connection):
                self.wake(stream.destination)

    def look_at_alarms(self) -> None:
        """Another process may have raised one."""
        with self._store.read() as connection:
            self.alarms = exchange.alarmed(connection)

    def wake(self, destination: str) -> None:
        """Send to a destination now, also when it is in its back-off. Event loop only."""
        if not self._delivers:
            return
        event = self._wake.setdefault(destination, asyncio.Event())
        event.set()
        if destination not in self._tasks:
            self._tasks[destination] = asyncio.create_task(
                self._run(destination, event), name=f"deliver {destination}"
            )

    def heard_from(self, peer: str) -> None:
        """The peer is there: what failed before may work now. Event loop only."""
        if self.failures.get(peer):
            self.wake(peer)

    def _committed(self, destinations: set[str]) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            for destination in sorted(destinations):  # a set's order is not the same twice
                loop.call_soon_threadsafe(self.wake, destination)

    async def _run(self, destination: str, wake: asyncio.Event) -> None:
        backoff_s = BACKOFF_FIRST_S
        while True:
            wake.clear()
            try:
                while await self._send_batch(destination):
                    backoff_s = BACKOFF_FIRST_S
                self.failures.pop(destination, None)
                backoff_s = BACKOFF_FIRST_S
                await wake.wait()
            except ScontoError as error:
                if destination not in self.failures:
                    log.warning("delivery failed", extra={"peer": destination, "why": str(error)})
                self.failures[destination] = str(error)
                pause_s = backoff_s * random.uniform(0.5, 1.0)  # noqa: S311
                # A peer that does not know our new key yet looks for it again within a minute.
                is_of_key = error.figures.get("peer_code") == "key_not_found"
                most_s = BACKOFF_KEY_MAX_S if is_of_key else BACKOFF_MAX_S
                backoff_s = min(backoff_s * 2, most_s)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), pause_s)

    async def _send_batch(self, destination: str) -> bool:
        """Ask, or send the oldest events that wait; False when there was nothing to do."""
        with self._store.read() as connection:
            stream = exchange.stream_to(connection, destination)
            at_start = self._unasked.get(destination)
            is_asking = at_start is not None
            rows = [] if is_asking else exchange.pending(connection, destination, BATCH_EVENTS_MAX)
        if not rows and not is_asking:
            return False
        size = 2
        events: list[bytes] = []
        for _, event in rows:
            size += len(event) + 1
            if events and size > BATCH_BYTES_MAX:
                break
            events.append(event)
        try:
            answer = await self._client.call(
                "POST",
                destination,
                EVENTS_PATH,
                body=b"[" + b",".join(events) + b"]",
                media_type=EVENTS_TYPE,
            )
        except PeerError as error:
            if error.figures.get("peer_code") == "stream_ended":
                await self._was_restored(destination)
            raise
        acked = answer.get("acked") if isinstance(answer, dict) else None
        if not isinstance(acked, int):
            raise PeerError(f"{destination} did not say what it has", url=destination)
        self._unasked.pop(destination, None)
        if answer.get("stream", "") != stream.stream:
            if not rows and stream.acked_sequence:
                await self._was_restored(destination)
            acked = 0
        if acked > (stream.last_sequence if at_start is None else at_start):
            await self._was_restored(destination)
        if acked < stream.acked_sequence:
            await self._catch_up(stream, acked)
        await self._store.write(
            lambda tx: exchange.acknowledge(tx.connection, destination, acked, stream.stream)
        )
        return bool(rows) or is_asking

    async def _catch_up(self, stream: exchange.Stream, acked: int) -> None:
        """The peer was restored from a backup: send it again what it lost, if it is kept."""
        is_kept = await self._store.write(
            lambda tx: exchange.fall_back(tx.connection, stream.destination, acked, stream.stream)
        )
        raise PeerError(
            f"{stream.destination} has only {acked} of our events but acknowledged "
            f"{stream.acked_sequence}; " + ("sending again" if is_kept else "they are not kept"),
            code="peer_lost_events",
            url=stream.destination,
            remedy="it was restored from a backup: it must register a new incarnation",
        )

    async def _was_restored(self, peer: str) -> None:
        """The peer has more of us than we ever sent: we are an old copy of ourselves."""

        def command(tx: Tx) -> None:
            exchange.raise_alarm(tx, peer, RESTORED)
            tx.announce("alarm", peer)

        await self._store.write(command)
        self.alarms.add(peer)
        log.error("this server was restored from a backup", extra={"peer": peer})
        raise PeerError(
            f"{peer} has events of ours that we do not know: this is an old copy of this server",
            code="restored_from_backup",
            url=peer,
            remedy="stop it, and run `sconto merchant restore` or `sconto hub restore`",
        )


@endpoint(
    "POST",
    EVENTS_PATH,
    scope="peer",
    summary="Deliver a batch of events of one stream, in order and without a gap",
    max_bytes=BATCH_BYTES_MAX,
    accepts=list[dict[str, Any]],
    accepts_type=EVENTS_TYPE,
    accepts_example=[
        {
            "specversion": "1.0",
            "id": "https://shop.example#17",
            "source": "https://hub.example",
            "type": "sconto.allotment.granted.v1",
            "subject": "oaty-10",
            "time": "2026-12-01T08:00:00Z",
            "sequence": "00000000000000000017",
            "datacontenttype": "application/json",
            "data": {"promotion_id": "oaty-10", "uses": 250, "amount_minor": 250_000},
        }
    ],
    read=bytes,
    returns=dict[str, Any],
    example={"acked": 17},
)
async def receive_events(server: Any, call: Call) -> dict[str, Any]:
    """Apply what is new; the answer is the last sequence number that this server has.

    `stream` is the name of the stream that it counts, where that has one.
    """
    handlers: Handlers = server.event_handlers
    events = decode_batch(call.body, _usual(handlers))
    source = str(call.principal.peer_url)
    if events and events[0].source != source:
        raise InvalidInputError(
            "the events are of another server than the signature",
            code="source_mismatch",
            field="[0].source",
        )
    if events:
        with server.base.store.read() as connection:
            is_over = exchange.has_ended(connection, source, events[0].stream)
        if is_over:
            raise ConflictError(
                "these events are of a stream that has ended: the sender is an old copy of itself",
                code="stream_ended",
                field="[0].stream",
            )
    # All are queued before the first is committed, so that they share commits.
    await asyncio.gather(*(_apply(server, source, run) for run in _runs(handlers, events)))
    server.base.deliverer.heard_from(source)
    with server.base.store.read() as connection:
        acked, stream = exchange.position(connection, source)
    return {"acked": acked, **({"stream": stream} if stream else {})}


#: What `decode_batch` gives.
Arrived = Event | Unreadable


def _usual(handlers: Handlers) -> Usual | None:
    """The events that a server gets by the thousand."""
    for type_, handle in handlers.items():
        if isinstance(handle, Together):
            return Usual(type_, handle.document)
    return None


def _runs(handlers: Handlers, events: Sequence[Arrived]) -> Iterator[list[Arrived]]:
    """Neighbours that are applied together; everything else alone."""

    def run_of(event: Arrived) -> str | int:
        if isinstance(event, Event) and isinstance(handlers.get(event.type), Together):
            return event.type
        return event.sequence

    return (list(run) for _, run in groupby(events, run_of))


async def _apply(server: Any, source: str, run: Sequence[Arrived]) -> None:
    """Apply what is new of a run, in one transaction; park what cannot be applied."""

    def apply(tx: Tx) -> None:
        events = _news(tx, source, run)
        if not events:
            return  # known already, or after a gap: the answer says where to go on
        reasons = _receive(tx, source, events)
        reasons |= _handle(server, tx, source, [e for e in events if e.sequence not in reasons])
        for event in events:
            if event.sequence in reasons:
                _park(tx, source, event, reasons[event.sequence])
        tx.announce("heard", source)

    def park(tx: Tx) -> None:
        for event in _news(tx, source, run):
            _receive(tx, source, [event])
            _park(tx, source, event, "internal_error: see the log")

    try:
        await server.base.store.write(apply)
    except UnavailableError:
        raise
    except Exception:  # also an error after the first write: it would come again and again
        log.exception(
            "events cannot be applied",
            extra={"peer": source, "sequence": run[0].sequence, "events": len(run)},
        )
        if len(run) == 1:
            await server.base.store.write(park)
        for event in run if len(run) > 1 else ():
            await _apply(server, source, [event])


def _news(tx: Tx, source: str, run: Sequence[Arrived]) -> Sequence[Arrived]:
    """What is to be applied now; the first event of a new stream starts it."""
    last, stream = exchange.position(tx.connection, source)
    first = run[0]
    if first.stream != stream:
        if first.sequence != 1 or exchange.has_ended(tx.connection, source, first.stream):
            return ()
        exchange.take_up(tx.connection, source, first.stream)
        last = 0
    return run[last + 1 - first.sequence :] if first.sequence <= last + 1 else ()


def _receive(tx: Tx, source: str, events: Sequence[Arrived]) -> dict[int, str]:
    """Take note of events; by their numbers, why which are parked unseen."""
    known = exchange.receive(
        tx.connection, source, [(event.id, event.sequence) for event in events], tx.now_ms
    )
    reasons = {event.sequence: event.reason for event in events if isinstance(event, Unreadable)}
    return reasons | dict.fromkeys(known, "duplicate: an event with this id was received before")


def _handle(server: Any, tx: Tx, source: str, events: Sequence[Arrived]) -> dict[int, str]:
    """Apply events of one type; by their numbers, why which of them are refused."""
    some = [event for event in events if isinstance(event, Event)]
    if not some:
        return {}
    handlers: Handlers = server.event_handlers
    handle = handlers.get(some[0].type)
    errors: list[ScontoError | None]
    if isinstance(handle, Together):
        errors = handle.apply(server, tx, source, [event.data for event in some])
    else:
        errors = [_handle_one(server, tx, source, event, handle) for event in some]
    return {
        event.sequence: f"{error.code}: {error}"
        for event, error in zip(some, errors, strict=True)
        if error is not None
    }


def _handle_one(
    server: Any, tx: Tx, source: str, event: Event, handle: Apply | None
) -> ScontoError | None:
    if handle is None:
        return PeerError(f"no handler for {event.type}", code="event_type_unknown")
    try:
        handle(server, tx, source, event.data)
    except ScontoError as error:
        if tx.is_dirty:
            raise
        return error
    return None


def _park(tx: Tx, source: str, event: Arrived, reason: str) -> None:
    log.warning("event parked", extra={"peer": source, "sequence": event.sequence, "why": reason})
    if isinstance(event, Unreadable):
        kept = event.body
    else:
        kept = msgspec.json.encode({"id": event.id, "type": event.type, "data": event.data})
    exchange.park(tx.connection, source, event.sequence, kept, reason, tx.now_ms)
