"""What the writer does when the process, the disk or the database server fails under it.

The processes that die are real ones: a child writes and says what was acknowledged on a pipe.
"""

import itertools
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from sconto.base.errors import UnavailableError
from sconto.ledger import Entry
from sconto.store import Store, exchange, journal
from sconto.store.schema import tenants
from sconto.store.writer import Tx

PEER = "https://hub.example"
numbers = itertools.count()

#: A child's start: `store` on the URL in its arguments, and a command with a row of every kind.
CHILD = """
import os, sys, threading
import sqlalchemy as sa
from sconto.ledger import Entry
from sconto.store import Store
from sconto.store.schema import tenants

store = Store(sys.argv[1], source="https://shop.example", clock=lambda: 1)

def write(name):
    def command(tx):
        tx.write(sa.insert(tenants).values(
            tenant_id=name, kind="brand", name=name, created_at_ms=1))
        tx.record(Entry(kind="shown", promotion_id=name, merchant="m", at_ms=1, day="1970-01-01"))
        tx.send("https://hub.example", "sconto.test.v1", name, {})
    store.write_now(command)
"""


def run_child(text: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + text, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write_one(tx: Tx, name: str, size: int = 0) -> str:
    """A row of every kind, of about `size` bytes."""
    tx.write(sa.insert(tenants).values(tenant_id=name, kind="brand", name=name, created_at_ms=1))
    tx.record(
        Entry(
            kind="shown",
            promotion_id=name,
            merchant="m",
            at_ms=1,
            day="1970-01-01",
            reason="x" * size,
        )
    )
    tx.send(PEER, "sconto.test.v1", name, {})
    return name


def next_one(size: int = 0) -> Callable[[Tx], str]:
    name = f"t{next(numbers):06}"
    return lambda tx: write_one(tx, name, size)


def kept(store: Store) -> list[str]:
    """The names of what is there, after a look at whether it is whole: all rows of it or none."""
    with store.read() as connection:
        names = set(connection.execute(sa.select(tenants.c.tenant_id)).scalars())
        entries = {entry.promotion_id for _, entry in journal.entries(connection)}
        cells = {cell.promotion_id for cell, _ in journal.cells(connection)}
        pending = exchange.pending(connection, PEER, 1_000_000)
        assert names == entries == cells
        assert len(pending) == len(names)
        assert [number for number, _ in pending] == list(range(1, len(names) + 1))
        assert journal.first_broken(connection) is None
    return sorted(names)


# --- the process is killed ------------------------------------------------------------------------


def test_kill_9_loses_nothing_that_was_acknowledged(
    sqlite_database: str, open_store: Callable[[str], Store]
) -> None:
    """Goal: "yes" survives the process. Method: four threads write in a child and tell each ack;
    kill it in the middle, a few times over on the same file; open what it left.
    """
    open_store(sqlite_database).close()
    child_text = """
def work(worker):
    for number in range(1_000_000):
        name = f"r{sys.argv[2]}-w{worker}-{number:06}"
        write(name)
        os.write(1, f"{name}\\n".encode())

for worker in range(4):
    threading.Thread(target=work, args=(worker,)).start()
"""
    acknowledged: set[str] = set()
    for turn in range(3):
        child = run_child(child_text, sqlite_database, str(turn))
        assert child.stdout is not None
        for line in child.stdout:
            acknowledged.add(line.strip())
            if len(acknowledged) == 60 * (turn + 1):
                child.send_signal(signal.SIGKILL)
                break
        # What was in the pipe when it died was acknowledged too; the last line may be cut off.
        acknowledged.update(line.strip() for line in child.stdout if line.endswith("\n"))
        child.wait(10)
        child.stdout.close()
        if child.stderr is not None:
            child.stderr.close()
        names = kept(open_store(sqlite_database))
        assert acknowledged <= set(names)
        # At most one write of each thread was under way: committed, and nobody was told.
        assert len(names) <= len(acknowledged) + 4 * (turn + 1)


# --- the disk -------------------------------------------------------------------------------------


def test_a_full_disk_is_an_answer_and_nothing_is_half_written(
    small_disk: Path, open_store: Callable[[str], Store]
) -> None:
    """Goal: "storage_full", then on as before. Method: fill a small disk, and make room again."""
    store = open_store(f"sqlite:///{small_disk / 'sconto.db'}")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(256 * 1024))
    written = []
    with pytest.raises(UnavailableError) as full:
        while True:
            written.append(store.write_now(next_one(size=20_000)))
    assert full.value.code == "storage_full"
    assert full.value.retry_after_s > 1
    assert kept(store) == written
    with pytest.raises(UnavailableError):
        store.write_now(next_one(size=200_000))
    ballast.unlink()
    written.append(store.write_now(next_one(size=20_000)))
    assert kept(store) == written


def test_a_failed_sync_ends_the_process(
    sqlite_database: str, open_store: Callable[[str], Store]
) -> None:
    """Goal: no second try after a failed fsync. Method: the child's third commit fails; it ends,
    says why, tells nobody "yes", and the file holds what it acknowledged before.
    """
    open_store(sqlite_database).close()
    child = run_child(
        """
import sqlite3

def fail(connection):
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    raise error

write("a")
write("b")
print("a b", flush=True)
store._write_engine.dialect.do_commit = fail
try:
    write("c")
finally:
    print("told", flush=True)
""",
        sqlite_database,
    )
    out, errors = child.communicate(timeout=20)
    assert child.returncode == 70
    assert out == "a b\n"
    assert "the process ends" in errors
    assert "disk I/O error" in errors
    assert kept(open_store(sqlite_database)) == ["a", "b"]


def test_a_database_that_another_process_holds_is_an_answer(sqlite_store: Store) -> None:
    """Goal: a backup tool that holds the lock too long does no harm. Method: hold it."""
    path = sqlite_store._connection.exec_driver_sql("PRAGMA database_list").one()[2]
    sqlite_store._connection.rollback()
    sqlite_store._connection.exec_driver_sql("PRAGMA busy_timeout=20")
    sqlite_store._connection.rollback()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError) as refused:
        sqlite_store.write_now(next_one())
    assert refused.value.code == "storage_unavailable"
    other.execute("ROLLBACK")
    other.close()
    name = sqlite_store.write_now(next_one())
    assert kept(sqlite_store) == [name]


# --- the database server --------------------------------------------------------------------------


class Killer:
    """Ends the writer's connection from the server's side, and can refuse new ones."""

    def __init__(self, store: Store) -> None:
        self.url = store._write_engine.url.set(drivername="postgresql").render_as_string()
        self.store = store

    def kill(self) -> None:
        driver: Any = self.store._connection.connection.driver_connection
        self.execute("SELECT pg_terminate_backend(%s, 5000)", driver.info.backend_pid)

    def execute(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement, values)


def test_a_connection_lost_between_writes_is_made_anew(postgres_store: Store) -> None:
    """Goal: a restarted PostgreSQL costs nobody an error. Method: end the idle connection."""
    written = [postgres_store.write_now(next_one())]
    Killer(postgres_store).kill()
    written.append(postgres_store.write_now(next_one()))
    assert kept(postgres_store) == written


def test_a_connection_lost_before_the_commit_changed_nothing_and_runs_again(
    postgres_store: Store,
) -> None:
    killer = Killer(postgres_store)
    runs = []

    def command(tx: Tx) -> str:
        write_one(tx, "acme")
        runs.append("run")
        if len(runs) == 1:
            killer.kill()
        return "acme"

    assert postgres_store.write_now(command) == "acme"
    assert runs == ["run", "run"]
    assert kept(postgres_store) == ["acme"]


def test_a_connection_that_is_lost_each_time_is_an_answer_to_everybody(
    postgres_store: Store,
) -> None:
    """Goal: "storage_unavailable", then on as before. Method: a command that kills each time."""
    killer = Killer(postgres_store)
    seen: list[str] = []

    def command(tx: Tx) -> None:
        write_one(tx, "acme")
        killer.kill()

    with pytest.raises(UnavailableError) as refused:
        postgres_store.write_now(command)
    seen.append(refused.value.code)
    assert seen == ["storage_unavailable"]
    name = postgres_store.write_now(next_one())
    assert kept(postgres_store) == [name]


@pytest.mark.parametrize("is_kept", [True, False], ids=["committed", "not committed"])
def test_a_commit_whose_answer_was_lost_happens_once(
    postgres_store: Store, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    """Goal: a lost "yes" is neither a "no" nor a second time. Method: the connection ends just
    after, or just before the commit reaches the server; a batch of two waits for its answer.
    """
    killer = Killer(postgres_store)
    dialect = postgres_store._write_engine.dialect
    do_commit = dialect.do_commit
    runs = []

    def lose(connection: Any) -> None:
        monkeypatch.setattr(dialect, "do_commit", do_commit)
        if is_kept:
            do_commit(connection)
        killer.kill()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(dialect, "do_commit", lose)

    def command(tx: Tx) -> str:
        runs.append("run")
        return write_one(tx, "acme")

    assert postgres_store.write_now(command) == "acme"
    assert len(runs) == (1 if is_kept else 2)
    assert kept(postgres_store) == ["acme"]


def test_a_commit_of_unknown_outcome_ends_the_process(
    postgres_database: str, open_store: Callable[[str], Store]
) -> None:
    """Goal: nobody is told a guess. Method: the child's server is gone in the middle of a commit
    and does not come back; the process ends, and its callers ask again with the same ids.
    """
    open_store(postgres_database).close()
    child = run_child(
        """
import psycopg
import sconto.store.writer as writer

writer.OUTCOME_WAIT_S = 0.3

def gone(*args, **kwargs):
    raise psycopg.OperationalError("server closed the connection unexpectedly")

write("a")
engine = store._write_engine
real = engine.dialect.do_commit

def lose(connection):
    real(connection)
    connection.driver_connection.close()
    engine.dialect.connect = gone
    gone()

engine.dialect.do_commit = lose
try:
    write("b")
finally:
    print("told", flush=True)
""",
        postgres_database,
    )
    out, errors = child.communicate(timeout=20)
    assert (child.returncode, out) == (70, ""), errors
    assert "outcome" in errors
    assert kept(open_store(postgres_database)) == ["a", "b"]


def test_a_full_disk_of_the_server_is_an_answer_too(postgres_store: Store) -> None:
    """Goal: PostgreSQL's words for it are understood. Method: it raises its own error 53100."""
    raise_it = "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'no space'; END $$"
    with pytest.raises(UnavailableError) as full:
        postgres_store.write_now(lambda tx: tx.write(sa.text(raise_it)))
    assert full.value.code == "storage_full"


def test_a_value_that_the_database_cannot_hold_is_not_an_outage(postgres_store: Store) -> None:
    """Goal: our own mistake looks like one, not like "try again". Method: a name far too long."""
    with pytest.raises(sa.exc.DataError):
        postgres_store.write_now(lambda tx: write_one(tx, "x" * 65))
    assert kept(postgres_store) == []


def test_readers_recover_too(postgres_store: Store) -> None:
    name = postgres_store.write_now(next_one())
    assert kept(postgres_store) == [name]
    Killer(postgres_store).execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert kept(postgres_store) == [name]


def test_writes_go_on_while_connections_are_killed(postgres_store: Store) -> None:
    """Goal: exactly what was acknowledged is there. Method: four threads write, a fifth kills."""
    killer = Killer(postgres_store)
    done = threading.Event()
    acknowledged: list[str] = []

    def work(_: int) -> None:
        while not done.is_set():
            try:
                acknowledged.append(postgres_store.write_now(next_one()))
            except UnavailableError:
                continue

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, n) for n in range(4)]
        for _ in range(5):
            target = len(acknowledged) + 20
            while len(acknowledged) < target and not any(w.done() for w in workers):
                done.wait(0.01)
            killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        done.set()
        for worker in workers:
            worker.result(10)
    assert kept(postgres_store) == sorted(acknowledged)
