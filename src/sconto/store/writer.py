"""The writer: one thread per process owns all writing, and many commands share one commit.

A *command* is a function of a `Tx`. The thread takes what has queued up (up to `BATCH_MAX`), runs
each command on one transaction, appends the journal, the statistics, the outbox and the
idempotency replies of all of them, and commits once. Only then are the replies released.

1. A command reads and refuses before its first write. A refusal (any ScontoError) then leaves its
   neighbours in the batch alone.
2. A command that fails after a write takes the transaction down with it: the batch is rolled back
   and each command is run again in a transaction of its own, so only the guilty one fails. A
   command may therefore run twice: what it does to anything but the `Tx` must bear that.
3. When the commit itself fails, nobody is told "yes". A full disk is an answer (`unavailable`);
   a failed sync is not: the process ends and recovers from its log, since a second fsync lies.
4. When the connection is lost before the commit, nothing was changed and the batch runs once more.
   When PostgreSQL's answer to the commit is lost, it is asked what became of the transaction; as
   long as that is not known, nobody is told anything.
5. Where several processes write (`store.processes`), a command runs alone unless it is given as
   one that may run beside others. What fails so is run again alone: another process was quicker,
   and what it did is known then.
"""

import asyncio
import contextlib
import os
import queue
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from sconto.base.errors import ScontoError, UnavailableError
from sconto.ledger import Entry
from sconto.store import exchange, journal, processes
from sconto.store.database import connect, open_engine
from sconto.store.processes import Change

#: Commands to one commit.
BATCH_MAX = 128
#: Commands that may wait; above it a caller is told to come back.
QUEUE_MAX = 4096
#: What somebody waits for (`Store.check_not_overloaded`): so many may wait in any case, and more
#: where they take no longer than so many seconds.
WAITING_MIN = 64
WAIT_MAX_S = 0.05
#: Seconds to find out what became of a commit whose answer was lost; then the process ends.
OUTCOME_WAIT_S = 15.0


class Late(Protocol):
    """Changes that a batch collects, to make them all at once."""

    def __init__(self) -> None: ...

    def do(self, tx: "Tx") -> None:
        """Make them, on `tx.apart`."""


L = TypeVar("L", bound=Late)


class Tx:
    """One transaction of the writer: its connection, and what its commands append at the end."""

    def __init__(
        self,
        connection: sa.Connection,
        now_ms: int,
        process: int | None = None,
        subjects: Iterable[str] = (),
    ) -> None:
        #: What the commands of the batch are about, to look for all of it at once.
        self.subjects = dict.fromkeys(subjects)
        #: The connection without what was put off: only for tables that nothing is put off for,
        #: or for who looks at what was put off too.
        self.apart = connection
        self._late: dict[type[Late], Late] = {}
        #: The server's clock at the start of the batch.
        self.now_ms = now_ms
        #: This process's number, where there are several.
        self.process = process
        self.is_dirty = False
        self.entries: list[Entry] = []
        self.events: list[exchange.Draft] = []
        self.callbacks: list[Callable[[], None]] = []
        self.changes: list[Change] = []
        #: What the batch must see of its own appended rows, by a key of the caller's choice.
        self.seen: dict[Any, Any] = {}

    @property
    def connection(self) -> sa.Connection:
        """The connection, on which everything is that the batch has changed so far."""
        if self._late:
            self.catch_up()
        return self.apart

    def late(self, kind: type[L]) -> L:
        """What the batch has put off of a kind, until somebody looks at `connection`.

        Many changes of one row then are one, and many rows go in by one statement; a change that
        turns out to be impossible takes the batch down, as any failed write does.
        """
        found = self._late.get(kind)
        if found is None:
            found = self._late[kind] = kind()
        return found  # type: ignore[return-value]

    def catch_up(self) -> None:
        """Do what was put off."""
        late, self._late = self._late, {}
        for one in late.values():
            one.do(self)

    def read(self, statement: sa.Executable, **params: Any) -> sa.CursorResult[Any]:
        """Ask; allowed at any time."""
        return self.connection.execute(statement, params)

    def write(self, statement: sa.Executable, rows: Any = None) -> sa.CursorResult[Any]:
        """Change; after this the command must not refuse any more."""
        self.is_dirty = True
        return self.connection.execute(statement, rows)

    def changing(self) -> sa.Connection:
        """The connection, for a prepared statement that changes something, like `write`."""
        self.is_dirty = True
        return self.connection

    def changing_apart(self) -> sa.Connection:
        """Like `changing`, for tables that nothing is put off for."""
        self.is_dirty = True
        return self.apart

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

    def announce(self, kind: str, subject: str) -> None:
        """Tell every process of this server, this one too, once the batch is durable."""
        self.changes.append(Change(kind, subject))


class _Job(NamedTuple):
    command: Callable[[Tx], Any]
    #: Both take (value, error) and are settled after the commit, the first one on its loop.
    future: "asyncio.Future[Any] | Future[Any]"
    loop: asyncio.AbstractEventLoop | None = None
    #: Whether it may run beside commands of other processes.
    is_beside: bool = False
    #: The id that it looks for first.
    subject: str = ""


class _Reply(NamedTuple):
    job: _Job
    value: Any
    error: BaseException | None


class Store:
    """One server's datastore: questions from any thread, writes through one.

    `url` is a database URL, `source` the server's public URL (the source of its events), `clock`
    gives milliseconds. `on_commit(destinations)` is called in the writer thread after a commit
    that appended events, to wake whoever delivers them.

    With `on_queued` there is no thread: it is called whenever a command has begun to wait, and
    whoever gave it calls `run_batch`. The simulation chooses the moments of commits in this way.

    `process` is this process's number where several of one server share the database.
    """

    def __init__(
        self,
        url: str,
        *,
        source: str,
        clock: Callable[[], int],
        on_queued: Callable[[], None] | None = None,
        process: int | None = None,
    ) -> None:
        self.process = process
        self.source = source
        self.clock = clock
        self.on_commit: Callable[[set[str]], None] = lambda destinations: None
        #: Called with what a durable batch of this or another process has announced.
        self.on_change: Callable[[Change], None] = lambda change: None
        #: How many batches are durable; it grows before the replies of a batch are released.
        self.commits = 0
        self._write_engine = open_engine(url)
        self._connection = connect(self._write_engine)
        self._read_engine = open_engine(url, read_only=True)
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        #: How long the last batch took, in seconds.
        self._batch_s = 0.0
        self._closing = threading.Lock()
        self._is_closed = False
        self._on_queued = on_queued
        #: Called with `committing` and `committed`, where the simulation lets a process die.
        self.on_point: Callable[[str], None] = lambda point: None
        self._news: processes.News | None = None
        if process is not None:
            self._news = processes.News(url, process, self._heard)
        self._thread: threading.Thread | None = None
        if on_queued is None:
            self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
            self._thread.start()

    @property
    def is_alone(self) -> bool:
        """Whether no other process can write: SQLite's home is locked (`servers.config`)."""
        return self._write_engine.dialect.name == "sqlite"

    @property
    def waiting(self) -> int:
        """How many commands wait for the writer just now, roughly."""
        return self._queue.qsize()

    def check_not_overloaded(self) -> None:
        """Refuse what would wait too long; for requests that somebody waits for, before any work.

        Reckoned from the last batch: a crowd that comes all at once is let in while batches are
        quick, and what comes after it is refused until most of it is through.

        Raises UnavailableError (`overloaded`).
        """
        waiting = self._queue.qsize()
        if waiting >= WAITING_MIN and waiting / BATCH_MAX * self._batch_s > WAIT_MAX_S:
            raise _overloaded(waiting)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A read-only connection with one consistent view.

        Raises UnavailableError when the database does not answer.
        """
        try:
            with self._read_engine.connect() as connection, connection.begin():
                yield connection
        except DBAPIError as error:
            raise _as_answer(error) from error

    async def write(
        self, command: Callable[[Tx], Any], *, is_beside: bool = False, subject: str = ""
    ) -> Any:
        """Run a command and wait until its effect is durable; gives what it returned.

        `is_beside`: it may run beside such commands of other processes; guards and unique
        constraints see to it that it fails where it has read what is not so any more. `subject` is
        the id that it looks for first (`Tx.subjects`).

        Raises what the command raised, or UnavailableError when the queue is full, the store is
        closing or the disk cannot take it; then nothing was changed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._put(_Job(command, future, loop, is_beside, subject))
        return await future

    def write_now(self, command: Callable[[Tx], Any]) -> Any:
        """`write` for a thread that may block: the command line, tests."""
        future: Future[Any] = Future()
        self._put(_Job(command, future))
        return future.result()

    def close(self) -> None:
        """Finish what was accepted, then stop; later writes are refused. May be called twice."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            if self._thread is not None:
                self._queue.put(None)
        if self._thread is not None:
            self._thread.join()
        if self._news is not None:
            self._news.close()
        self._connection.close()
        self._write_engine.dispose()
        self._read_engine.dispose()

    def _put(self, job: _Job) -> None:
        with self._closing:
            if self._is_closed:
                raise UnavailableError("the server is shutting down", code="shutting_down")
            if self._queue.qsize() >= QUEUE_MAX:
                raise _overloaded(QUEUE_MAX)
            self._queue.put(job)
        if self._on_queued is not None:
            self._on_queued()

    def run_batch(self, size_max: int = BATCH_MAX) -> int:
        """Commit at most so many of the commands that wait, in the caller's thread; how many.

        Only of a store with `on_queued`, which has no thread of its own.
        """
        batch: list[_Job] = []
        with contextlib.suppress(queue.Empty):
            while len(batch) < size_max:
                job = self._queue.get_nowait()
                if job is not None:
                    batch.append(job)
        if batch:
            self._work(batch)
        return len(batch)

    def _heard(self, change: Change) -> None:
        self.on_change(change)

    def _run(self) -> None:
        while True:
            jobs = [self._queue.get()]
            while len(jobs) < BATCH_MAX:
                try:
                    jobs.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            batch = [job for job in jobs if job is not None]
            began = time.monotonic()
            try:
                if self.process is None:
                    self._work(batch)
                else:
                    for is_beside, group in groupby(batch, key=lambda job: job.is_beside):
                        self._work(list(group), alone=not is_beside)
            except BaseException as error:
                _die(error)
            self._batch_s = time.monotonic() - began
            if len(batch) < len(jobs):
                return

    def _work(self, batch: list[_Job], *, alone: bool = True) -> None:
        """See that every job of a batch is answered, and that none spoils it for the others."""
        if not batch:
            return
        error = self._commit(batch, alone)
        if error is not None and _is_lost(error):
            error = self._commit(batch, alone)
        if error is None:
            return
        if not alone and not _is_lost(error):
            self._work(batch)
        elif len(batch) == 1 or _is_lost(error):
            _release([_Reply(job, None, _as_answer(error)) for job in batch])
        else:
            for job in batch:
                self._work([job])

    def _commit(self, jobs: list[_Job], alone: bool) -> Exception | None:
        """Run, commit and release the replies; or give the error, and nothing has happened."""
        replies: list[_Reply] = []
        destinations: set[str] = set()
        callbacks: list[Callable[[], None]] = []
        changes: list[Change] = []
        ticket: str | None = None
        try:
            self._begin_again()
            with self._connection.begin():
                if self.process is not None:
                    processes.enter(self._connection, alone=alone)
                subjects = [job.subject for job in jobs if job.subject]
                tx = Tx(self._connection, self.clock(), self.process, subjects)
                for job in jobs:
                    replies.append(self._run_command(tx, job))
                tx.catch_up()
                if not alone and (tx.entries or tx.events):
                    processes.enter_tail(tx.connection)
                journal.append(tx.connection, tx.entries)
                destinations = exchange.append(tx.connection, self.source, tx.now_ms, tx.events)
                callbacks, changes = tx.callbacks, tx.changes
                if self.process is not None:
                    sent = [Change("outbox", one) for one in sorted(destinations)]
                    processes.announce(tx.connection, self.process, [*changes, *sent])
                ticket = self._ticket()
                self.on_point("committing")
        except Exception as error:
            if _sqlite_code(error) == sqlite3.SQLITE_IOERR:
                _die(error)
            if ticket is None or not self._was_committed(ticket):
                return error
        self.commits += 1
        self.on_point("committed")
        for callback in callbacks:
            callback()
        for change in changes:
            self.on_change(change)
        _release(replies)
        if destinations:
            self.on_commit(destinations)
        return None

    def _run_command(self, tx: Tx, job: _Job) -> _Reply:
        tx.is_dirty = False
        callbacks, changes = len(tx.callbacks), len(tx.changes)
        try:
            return _Reply(job, job.command(tx), None)
        except ScontoError as refusal:
            if tx.is_dirty:
                raise
            del tx.callbacks[callbacks:]
            del tx.changes[changes:]
            return _Reply(job, None, refusal)

    def _ticket(self) -> str | None:
        """A name by which PostgreSQL knows the transaction at hand after its connection is lost."""
        if self._connection.dialect.name == "sqlite":
            return None  # its commit has an answer, or the process has ended
        ticket: str | None = self._connection.scalar(_TICKET)
        return ticket

    def _was_committed(self, ticket: str) -> bool:
        """Ask what became of a commit whose answer was lost; ends the process when nobody knows."""
        until = time.monotonic() + OUTCOME_WAIT_S
        status: str | None = None
        while time.monotonic() < until:
            with contextlib.suppress(DBAPIError):
                self._begin_again()
                with self._connection.begin():
                    status = self._connection.scalar(_STATUS, {"ticket": ticket})
                if status in ("committed", "aborted"):
                    return status == "committed"
            time.sleep(0.05)
        _die(RuntimeError(f"the outcome of transaction {ticket} is {status}"))

    def _begin_again(self) -> None:
        """A new connection where the database took the last one away."""
        if self._connection.invalidated or self._connection.closed:
            self._connection.close()
            self._connection = self._write_engine.connect()


_TICKET = sa.text("SELECT CAST(pg_current_xact_id_if_assigned() AS text)")
_STATUS = sa.text("SELECT pg_xact_status(CAST(:ticket AS xid8))")


def _overloaded(waiting: int) -> UnavailableError:
    return UnavailableError("too many writes are waiting", code="overloaded", waiting=waiting)


def _release(replies: list[_Reply]) -> None:
    """Answer the callers, each event loop with one call."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Reply]] = {}
    for reply in replies:
        if reply.job.loop is None:
            _settle([reply])
        else:
            by_loop.setdefault(reply.job.loop, []).append(reply)
    for loop, group in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, group)


def _settle(replies: list[_Reply]) -> None:
    for job, value, error in replies:
        if job.future.done():  # the caller went away; what was committed stays committed
            continue
        if error is None:
            job.future.set_result(value)
        else:
            job.future.set_exception(error)


def _as_answer(error: Exception) -> Exception:
    """What a caller is told when its transaction failed."""
    sqlite_code = _sqlite_code(error)
    sql_state = _sql_state(error)
    if sqlite_code == sqlite3.SQLITE_FULL or sql_state == "53100":
        return UnavailableError(
            "the disk is full; nothing was changed", code="storage_full", retry_after_s=30
        )
    if sqlite_code in _SQLITE_AWAY or sql_state[:2] in _SQL_STATES_AWAY or _is_lost(error):
        return UnavailableError(
            "the database does not answer; nothing was changed", code="storage_unavailable"
        )
    return error  # our own mistake, or a ScontoError: as it is


#: What a database says when it is not the statement's fault: busy, locked, read-only, gone.
_SQLITE_AWAY = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
)
#: Classes of SQLSTATE: connection, transaction rollback, resources, operator, system.
_SQL_STATES_AWAY = ("08", "40", "53", "57", "58")


def _is_lost(error: Exception) -> bool:
    """Whether the connection is gone, or could not be made."""
    return isinstance(error, DBAPIError) and (
        error.connection_invalidated
        or (isinstance(error.orig, psycopg.OperationalError) and _sql_state(error) == "")
    )


def _sqlite_code(error: Exception) -> int | None:
    """Primary result code of an SQLite error."""
    code = getattr(error.orig, "sqlite_errorcode", None) if isinstance(error, DBAPIError) else None
    return None if code is None else code & 0xFF


def _sql_state(error: Exception) -> str:
    return getattr(error.orig, "sqlstate", None) or "" if isinstance(error, DBAPIError) else ""


def _die(error: BaseException) -> NoReturn:
    """End the process: what the log holds is the truth, and only a restart reads it again."""
    sys.stderr.write(f"sconto: the writer cannot go on, the process ends: {error!r}\n")
    sys.stderr.flush()
    os._exit(70)
