"""Events out and in: the delivery of the outbox, and what an arriving batch does.

Out: one task per destination, one batch in flight; after a failure it waits twice as long, with
jitter, at most an hour, and starts at once when the peer is heard from. In: each event is applied
once, in its own transaction with the inbox row; what can never be applied is parked with its reason
and the stream goes on.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from sconto.base.errors import InvalidInputError, PeerError, ScontoError, UnavailableError
from sconto.federation.events import (
    BATCH_BYTES_MAX,
    BATCH_EVENTS_MAX,
    EVENTS_TYPE,
    Event,
    decode_batch,
)
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.peers import PeerClient, gather_quietly
from sconto.store import exchange
from sconto.store.writer import Store, Tx

log = logging.getLogger("sconto.exchange")

EVENTS_PATH = "/v1/events"
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 3600.0
#: How an event is applied: (server, tx, source URL, data). It refuses before its first write.
Apply = Callable[[Any, Tx, str, dict[str, Any]], None]


class Deliverer:
    """Sends what waits in the outbox, each destination for itself."""

    def __init__(self, store: Store, client: PeerClient) -> None:
        self._store = store
        self._client = client
        self._wake: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Why the last try to a destination failed; empty after a success.
        self.failures: dict[str, str] = {}

    async def start(self) -> None:
        """Take up every stream that was not finished when the process last ended."""
        self._loop = asyncio.get_running_loop()
        self._store.on_commit = self._committed
        with self._store.read() as connection:
            waiting = [
                s for s in exchange.streams(connection) if s.acked_sequence < s.last_sequence
            ]
        for stream in waiting:
            self.wake(stream.destination)

    async def stop(self) -> None:
        """Stop sending; what was not acknowledged stays in the outbox."""
        self._store.on_commit = lambda destinations: None
        await gather_quietly(list(self._tasks.values()))
        self._tasks.clear()

    def wake(self, destination: str) -> None:
        """Send to a destination now, also when it is in its back-off. Event loop only."""
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
            for destination in destinations:
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
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), pause_s)

    async def _send_batch(self, destination: str) -> bool:
        """Send the oldest events that wait; False when there was nothing to send."""
        with self._store.read() as connection:
            rows = exchange.pending(connection, destination, BATCH_EVENTS_MAX)
        if not rows:
            return False
        size = 2
        events: list[bytes] = []
        for _, event in rows:
            size += len(event) + 1
            if events and size > BATCH_BYTES_MAX:
                break
            events.append(event)
        answer = await self._client.call(
            "POST",
            destination,
            EVENTS_PATH,
            body=b"[" + b",".join(events) + b"]",
            media_type=EVENTS_TYPE,
        )
        acked = answer.get("acked") if isinstance(answer, dict) else None
        if not isinstance(acked, int):
            raise PeerError(f"{destination} did not say what it has", url=destination)
        if acked < rows[0][0]:
            raise PeerError(
                f"{destination} has only {acked} of our events but acknowledged {rows[0][0] - 1}",
                code="peer_lost_events",
                url=destination,
                remedy="it was restored from a backup: it must register a new incarnation",
            )
        if acked > rows[len(events) - 1][0]:
            raise PeerError(f"{destination} acknowledged what was never sent", url=destination)
        await self._store.write(lambda tx: exchange.acknowledge(tx.connection, destination, acked))
        return True


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
    read=decode_batch,
    returns=dict[str, int],
    example={"acked": 17},
)
async def receive_events(server: Any, call: Call) -> dict[str, int]:
    """Apply what is new; the answer is the last sequence number that this server has."""
    events: tuple[Event, ...] = call.document
    source = call.principal.peer_url
    if events and events[0].source != source:
        raise InvalidInputError(
            "the events are of another server than the signature",
            code="source_mismatch",
            field="[0].source",
        )
    # All are queued before the first is committed, so that they share commits.
    await asyncio.gather(*(_apply_once(server, str(source), event) for event in events))
    server.base.deliverer.heard_from(str(source))
    with server.base.store.read() as connection:
        return {"acked": exchange.received(connection, str(source))}


async def _apply_once(server: Any, source: str, event: Event) -> None:
    handlers: Mapping[str, Apply] = server.event_handlers

    def apply(tx: Tx) -> None:
        if event.sequence != exchange.received(tx.connection, source) + 1:
            return  # known already, or after a gap: the answer says where to go on
        handle = handlers.get(event.type)
        is_new = exchange.receive(tx.connection, source, event.id, event.sequence, tx.now_ms)
        try:
            if not is_new:
                raise PeerError("an event with this id was received before", code="duplicate")
            if handle is None:
                raise PeerError(f"no handler for {event.type}", code="event_type_unknown")
            handle(server, tx, source, event.data)
        except ScontoError as error:
            if tx.is_dirty:
                raise
            _park(tx, f"{error.code}: {error}")

    def park(tx: Tx) -> None:
        if event.sequence == exchange.received(tx.connection, source) + 1:
            _park(tx, "internal_error: see the log")
            exchange.receive(tx.connection, source, event.id, event.sequence, tx.now_ms)

    def _park(tx: Tx, reason: str) -> None:
        log.warning(
            "event parked", extra={"peer": source, "sequence": event.sequence, "why": reason}
        )
        kept = msgspec.json.encode({"id": event.id, "type": event.type, "data": event.data})
        exchange.park(tx.connection, source, event.sequence, kept, reason, tx.now_ms)

    try:
        await server.base.store.write(apply)
    except UnavailableError:
        raise
    except Exception:  # also an error after the first write: it would come again and again
        log.exception("an event cannot be applied", extra={"peer": source, "type": event.type})
        await server.base.store.write(park)
