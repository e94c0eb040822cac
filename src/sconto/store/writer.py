"""The writer: one thread per process owns all writing, and many commands share one commit.

A *command* is a function of a `Tx`. The thread takes what has queued up (up to `BATCH_MAX`), runs
each command on one transaction, appends the journal, the statistics, the outbox and the
idempotency replies of all of them, and commits once. Only then are the replies released.

1. A command reads and refuses before its first write. A refusal (any ScontoError) then leaves its
   neighbours in the batch alone.
2. A command that fails after a write takes the transaction down with it: the batch is rolled back
   and each command is run again in a transaction of its own, so only the guilty one fails.
3. When the commit itself fails, nobody is told "yes". A full disk is an answer (`unavailable`);
   a failed sync is not: the process ends and recovers from its log, since a second fsync lies.
"""

import asyncio
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from sconto.base.errors import ScontoError, UnavailableError
from sconto.ledger import Entry
from sconto.store import exchange, journal
from sconto.store.database import open_engine

#: Commands to one commit.
BATCH_MAX = 128
#: Commands that may wait; above it a caller is told to come back.
QUEUE_MAX = 4096


class Tx:
    """One transaction of the writer: its connection, and what its commands append at the end."""

    def __init__(self, connection: sa.Connection, now_ms: int) -> None:
        self.connection = connection
        #: The server's clock at the start of the batch.
        self.now_ms = now_ms
        self.is_dirty = False
        self.entries: list[Entry] = []
        self.events: list[exchange.Draft] = []
        self.callbacks: list[Callable[[], None]] = []
        #: What the batch must see of its own appended rows, by a key of the caller's choice.
        self.seen: dict[Any, Any] = {}

    def read(self, statement: sa.Executable, **params: Any) -> sa.CursorResult[Any]:
        """Ask; allowed at any time."""
        return self.connection.execute(statement, params)

    def write(self, statement: sa.Executable, rows: Any = None) -> sa.CursorResult[Any]:
        """Change; after this the command must not refuse any more."""
        self.is_dirty = True
        return self.connection.execute(statement, rows)

    def record(self, entry: Entry) -> None:
        """Append an entry to the journal and fold it into the statistics."""
        self.is_dirty = True
        self.entries.append(entry)

    def send(self, destination: str, type_: str, subject: str, data: Any) -> None:
        """Append an event to the stream of a peer; it leaves after the commit."""
        self.is_dirty = True
        self.events.append(exchange.Draft(destination, type_, subject, data))

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the writer thread once the batch is durable."""
        self.callbacks.append(callback)


@dataclass(slots=True)
class _Job:
    command: Callable[[Tx], Any]
    #: Told from the writer thread, after the commit.
    reply: Callable[[Any, BaseException | None], None]


class Store:
    """One server's datastore: questions from any thread, writes through one.

    `url` is a database URL, `source` the server's public URL (the source of its events), `clock`
    gives milliseconds. `on_commit(destinations)` is called in the writer thread after a commit
    that appended events, to wake whoever delivers them.
    """

    def __init__(self, url: str, *, source: str, clock: Callable[[], int]) -> None:
        self.source = source
        self.clock = clock
        self.on_commit: Callable[[set[str]], None] = lambda destinations: None
        self._write_engine = open_engine(url)
        self._connection = self._write_engine.connect()
        self._read_engine = open_engine(url, read_only=True)
        self._queue: queue.Queue[_Job | None] = queue.Queue(maxsize=QUEUE_MAX)
        self._closing = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A read-only connection with one consistent view."""
        with self._read_engine.connect() as connection:
            yield connection

    async def write(self, command: Callable[[Tx], Any]) -> Any:
        """Run a command and wait until its effect is durable; gives what it returned.

        Raises what the command raised, or UnavailableError when the queue is full, the store is
        closing or the disk cannot take it; then nothing was changed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def reply(value: Any, error: BaseException | None) -> None:
            loop.call_soon_threadsafe(_settle, future, value, error)

        self._put(_Job(command, reply))
        return await future

    def write_now(self, command: Callable[[Tx], Any]) -> Any:
        """`write` for a thread that may block: the command line, tests."""
        future: Future[Any] = Future()
        self._put(_Job(command, lambda value, error: _settle(future, value, error)))
        return future.result()

    def close(self) -> None:
        """Finish what was accepted, then stop; later writes are refused. May be called twice."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            self._queue.put(None)
        self._thread.join()
        self._connection.close()
        self._write_engine.dispose()
        self._read_engine.dispose()

    def _put(self, job: _Job) -> None:
        with self._closing:
            if self._is_closed:
                raise UnavailableError("the server is shutting down", code="shutting_down")
            try:
                self._queue.put_nowait(job)
            except queue.Full:
                raise UnavailableError(
                    "too many writes are waiting", code="overloaded", waiting=QUEUE_MAX
                ) from None

    def _run(self) -> None:
        while True:
            jobs = [self._queue.get()]
            while len(jobs) < BATCH_MAX:
                try:
                    jobs.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            batch = [job for job in jobs if job is not None]
            try:
                if batch and not self._commit(batch):
                    for job in batch:
                        self._commit([job])
            except BaseException as error:
                _die(error)
            if len(batch) < len(jobs):
                return

    def _commit(self, jobs: list[_Job]) -> bool:
        """Run and commit; False when a batch of several must be taken apart instead."""
        replies: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            self._begin_again()
            with self._connection.begin():
                tx = Tx(self._connection, self.clock())
                for job in jobs:
                    tx.is_dirty = False
                    try:
                        replies.append((job, job.command(tx), None))
                    except ScontoError as error:
                        if tx.is_dirty:
                            raise
                        replies.append((job, None, error))
                journal.append(tx.connection, tx.entries)
                destinations = exchange.append(tx.connection, self.source, tx.now_ms, tx.events)
        except Exception as error:
            if _is_sync_failure(error):
                _die(error)
            if len(jobs) > 1:
                return False
            jobs[0].reply(None, _as_answer(error))
            return True
        for callback in tx.callbacks:
            callback()
        for job, value, refusal in replies:
            job.reply(value, refusal)
        if destinations:
            self.on_commit(destinations)
        return True

    def _begin_again(self) -> None:
        """A new connection where the database took the last one away."""
        if self._connection.invalidated or self._connection.closed:
            self._connection.close()
            self._connection = self._write_engine.connect()


def _settle(future: Any, value: Any, error: BaseException | None) -> None:
    if future.done():  # the caller went away; what was committed stays committed
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


def _as_answer(error: Exception) -> Exception:
    """What a caller is told when its transaction failed."""
    if isinstance(error, IntegrityError) or not isinstance(error, DBAPIError):
        return error  # our own mistake, or a ScontoError: as it is
    text = str(error.orig)
    if "full" in text:
        return UnavailableError(
            "the disk is full; nothing was changed", code="storage_full", retry_after_s=30
        )
    return UnavailableError("the database does not answer", code="storage_unavailable")


def _is_sync_failure(error: Exception) -> bool:
    return isinstance(error, OperationalError) and "disk I/O error" in str(error.orig)


def _die(error: BaseException) -> NoReturn:
    """End the process: what the log holds is the truth, and only a restart reads it again."""
    sys.stderr.write(f"sconto: the writer cannot go on, the process ends: {error!r}\n")
    sys.stderr.flush()
    os._exit(70)
