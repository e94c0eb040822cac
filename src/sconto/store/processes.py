"""Several processes of one server over one PostgreSQL: who commits beside whom, and the news.

Each process has a writer of its own. Three rules keep what a single writer gave:

1. A checkout's transaction runs *beside* those of other processes: guarded updates and unique
   constraints decide between them. Any other transaction runs *alone*, so what it has read holds
   until it commits.
2. Transactions that run beside each other commit one after the other from the moment when they
   number their journal entries and events: one gapless chain, and one gapless stream to each peer.
   A closure, which runs alone, is then after everything that was spent from what it closes.
3. What a process keeps in memory is announced when it changes, and read again by the others. It
   is only for speed: nothing is spent by it.

The locks are PostgreSQL's advisory ones and end with their transaction: a process that dies lets
go at once, one that stands still after `database.IDLE_IN_TRANSACTION_S`.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from sconto.base.errors import UnavailableError
from sconto.store.prepared import Prepared

log = logging.getLogger("sconto.store")

#: The pause after a lost connection for the news, or news that could not be taken up.
AGAIN_S = 0.5
#: How often a quiet connection is tried.
QUIET_S = 5.0

_CHANNEL = "sconto"
_ROOM, _TAIL = 7_305_001, 7_305_002


class Change(NamedTuple):
    """Something that processes keep in memory, and that is different now."""

    kind: str
    subject: str


#: After a lost connection, or news that could not be taken up: anything may have changed.
ANYTHING = Change("anything", "")


def enter(connection: sa.Connection, *, alone: bool) -> None:
    """Begin a transaction: beside the others that are so too, or alone."""
    (_ALONE if alone else _BESIDE).rows(connection)


def enter_tail(connection: sa.Connection) -> None:
    """From here to the commit there is one process at a time."""
    _QUEUE.rows(connection)


def announce(connection: sa.Connection, process: int, changes: Iterable[Change]) -> None:
    """Tell the other processes, when the transaction commits."""
    for kind, subject in changes:
        _NOTIFY.rows(connection, payload=f"{process} {kind} {subject}")


def _locking(function: Callable[..., Any], key: int) -> Prepared:
    # As text: psycopg would rather not read what is void.
    return Prepared(sa.select(sa.cast(function(sa.literal_column(str(key))), sa.Text)))


_BESIDE = _locking(sa.func.pg_advisory_xact_lock_shared, _ROOM)
_ALONE = _locking(sa.func.pg_advisory_xact_lock, _ROOM)
_QUEUE = _locking(sa.func.pg_advisory_xact_lock, _TAIL)
_NOTIFY = Prepared(
    sa.select(
        sa.cast(
            sa.func.pg_notify(
                sa.literal_column(f"'{_CHANNEL}'"), sa.bindparam("payload", type_=sa.Text)
            ),
            sa.Text,
        )
    )
)


class News:
    """A thread that hears what other processes announce; `heard` is called in it."""

    def __init__(self, url: str, process: int, heard: Callable[[Change], None]) -> None:
        self._url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._process = process
        self._heard = heard
        self._is_over = threading.Event()
        self._connection: psycopg.Connection | None = None
        self._listen()
        self._thread = threading.Thread(target=self._run, name="news", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _listen(self) -> None:
        self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
        self._connection.execute(f"LISTEN {_CHANNEL}")

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                if self._connection is None:
                    self._listen()
                    self._tell(ANYTHING)
                self._hear()
            except psycopg.Error as error:
                log.warning("no news of other processes", extra={"why": str(error)})
                self._hang_up()
                self._is_over.wait(AGAIN_S)
        self._hang_up()

    def _hear(self) -> None:
        connection = self._connection
        if connection is None:
            return
        quiet_s = 0.0
        while not self._is_over.is_set():
            is_quiet = True
            for notice in connection.notifies(timeout=AGAIN_S):
                is_quiet = False
                process, kind, subject = notice.payload.split(" ", 2)
                if int(process) != self._process:
                    self._tell(Change(kind, subject))
                if self._is_over.is_set():
                    break
            quiet_s = quiet_s + AGAIN_S if is_quiet else 0.0
            if quiet_s >= QUIET_S:  # a server that is gone without a word says nothing either
                connection.execute("SELECT 1")
                quiet_s = 0.0

    def _tell(self, change: Change) -> None:
        """Until it is taken up: after a failure everything is read again, so nothing stays old."""
        while not self._is_over.is_set():
            try:
                self._heard(change)
                return
            except UnavailableError as error:
                log.warning("a change was not taken up", extra={"why": str(error)})
            except Exception:
                log.exception("a change was not taken up", extra={"what": " ".join(change)})
            change = ANYTHING
            self._is_over.wait(AGAIN_S)

    def _hang_up(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None
