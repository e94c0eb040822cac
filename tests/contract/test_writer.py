"""The writer: many commands share one commit, and no reply comes before it.

A batch is formed on purpose: a command that waits for a gate keeps the writer busy, what is queued
meanwhile is its next batch. A database listener counts the transactions.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from sconto.base.errors import ConflictError, UnavailableError
from sconto.store import Store, writer
from sconto.store.schema import tenants
from sconto.store.writer import Tx

Command = Callable[[Tx], Any]


class Transactions:
    """What the writer's connection did, as its engine's events tell it."""

    def __init__(self, store: Store) -> None:
        self.log: list[str] = []
        engine = store._write_engine
        sa.event.listen(engine, "begin", lambda _: self.log.append("begin"))
        sa.event.listen(engine, "commit", lambda _: self.log.append("commit"))
        sa.event.listen(engine, "rollback", lambda _: self.log.append("rollback"))


def add(name: str) -> Command:
    """A command that keeps a tenant and answers its name."""

    def command(tx: Tx) -> str:
        tx.write(
            sa.insert(tenants).values(tenant_id=name, kind="brand", name=name, created_at_ms=1)
        )
        return name

    return command


def refuse(tx: Tx) -> None:
    raise ConflictError("no")


def names(store: Store) -> list[str]:
    """The tenants, as a reader sees them now."""
    with store.read() as connection:
        return list(
            connection.execute(sa.select(tenants.c.tenant_id).order_by(tenants.c.tenant_id))
            .scalars()
            .all()
        )


def write_together(store: Store, commands: list[Command]) -> list[Any]:
    """Run commands in one batch, in this order; gives results and exceptions."""

    async def all_of_them() -> list[Any]:
        with busy(store):
            writes = [asyncio.ensure_future(store.write(command)) for command in commands]
            await asyncio.sleep(0)  # each has queued its command, and waits
        return await asyncio.gather(*writes, return_exceptions=True)

    return asyncio.run(all_of_them())


@contextmanager
def busy(store: Store) -> Iterator[None]:
    """The writer works on something until the block ends; nothing else gets into its batch."""
    entered, gate = threading.Event(), threading.Event()

    def wait(tx: Tx) -> None:
        entered.set()
        gate.wait(10)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.write_now, wait)
        entered.wait(10)
        try:
            yield
        finally:
            gate.set()
            waiting.result()


# --- one commit for many --------------------------------------------------------------------------


def test_a_command_gives_its_result_when_it_is_durable(store: Store) -> None:
    assert store.write_now(add("acme")) == "acme"
    assert names(store) == ["acme"]


def test_what_has_queued_up_shares_one_commit(store: Store) -> None:
    """pain 7, sylius #18960: Goal: 100 writes cost one commit, and none waits for the lock of a
    row. Method: queue them behind a busy writer and count."""
    seen = Transactions(store)
    results = write_together(store, [add(f"t{n:03}") for n in range(100)])
    assert results == [f"t{n:03}" for n in range(100)]
    assert seen.log == ["begin", "commit"] * 2  # the waiting command, then the hundred
    assert len(names(store)) == 100


def test_a_batch_has_an_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BATCH_MAX", 40)
    seen = Transactions(store)
    write_together(store, [add(f"t{n:03}") for n in range(100)])
    assert seen.log.count("commit") == 1 + 3


def test_later_commands_of_a_batch_see_what_earlier_ones_did(store: Store) -> None:
    def count(tx: Tx) -> int:
        return int(tx.read(sa.select(sa.func.count()).select_from(tenants)).scalar_one())

    assert write_together(store, [count, add("a"), count, add("b"), count]) == [0, "a", 1, "b", 2]


def test_no_reply_comes_before_the_commit(store: Store) -> None:
    """Goal: "yes" means durable. Method: hold the commit; nobody has been told; let it go."""
    committing, gate = threading.Event(), threading.Event()

    def hold(_: sa.Connection) -> None:
        committing.set()
        gate.wait(10)

    sa.event.listen(store._write_engine, "commit", hold)
    told: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        write = pool.submit(store.write_now, add("acme"))
        write.add_done_callback(lambda _: told.append("caller"))
        assert committing.wait(10)
        assert not told
        assert names(store) == []
        gate.set()
        assert write.result(10) == "acme"
    assert names(store) == ["acme"]


def test_after_the_commit_memory_is_refreshed_before_anybody_is_told(store: Store) -> None:
    """Goal: who hears "yes" finds the new state in memory. Method: note the order of things."""
    order: list[str] = []

    def command(tx: Tx) -> None:
        add("acme")(tx)
        tx.after_commit(lambda: order.append(f"refresh {names(store)}"))

    with ThreadPoolExecutor(1) as pool:
        write = pool.submit(store.write_now, command)
        write.add_done_callback(lambda _: order.append("told"))
        write.result(10)
    assert order == ["refresh ['acme']", "told"]


def test_whoever_delivers_is_woken_once_for_each_batch(store: Store) -> None:
    woken: list[set[str]] = []
    store.on_commit = woken.append

    def tell(peer: str) -> Command:
        return lambda tx: tx.send(peer, "sconto.test.v1", "subject", {})

    write_together(store, [tell("https://a.example"), tell("https://b.example"), add("acme")])
    store.write_now(add("globex"))
    assert woken == [{"https://a.example", "https://b.example"}]


# --- refusals and failures ------------------------------------------------------------------------


def test_a_refusal_leaves_its_neighbours_alone(store: Store) -> None:
    seen = Transactions(store)
    first, refused, last = write_together(store, [add("a"), refuse, add("b")])
    assert (first, last) == ("a", "b")
    assert isinstance(refused, ConflictError)
    assert seen.log == ["begin", "commit"] * 2  # and the batch was not taken apart
    assert names(store) == ["a", "b"]


def test_what_a_refused_command_wanted_done_after_the_commit_is_not_done(store: Store) -> None:
    done: list[str] = []

    def command(tx: Tx) -> None:
        tx.after_commit(lambda: done.append("refused"))
        refuse(tx)

    def other(tx: Tx) -> None:
        tx.after_commit(lambda: done.append("accepted"))

    write_together(store, [other, command, other])
    assert done == ["accepted", "accepted"]


@pytest.mark.parametrize(
    ("fail", "kind"),
    [
        (refuse, ConflictError),
        (lambda tx: {}["key"], KeyError),
        (add("there already"), IntegrityError),
        (lambda tx: tx.read(sa.text("SELECT no_such_column FROM tenants")), DBAPIError),
    ],
    ids=["a refusal", "a mistake", "a constraint", "a bad statement"],
)
def test_a_command_that_fails_after_a_write_is_taken_apart_alone(
    store: Store, fail: Command, kind: type[Exception]
) -> None:
    """Goal: only the guilty one fails, and its write is gone. Method: a neighbour at each side."""
    store.write_now(add("there already"))

    def guilty(tx: Tx) -> None:
        add("half done")(tx)
        fail(tx)

    before, failed, after = write_together(store, [add("a"), guilty, add("b")])
    assert (before, after) == ("a", "b")
    assert isinstance(failed, kind)
    assert not isinstance(failed, UnavailableError)
    assert names(store) == ["a", "b", "there already"]


def test_a_caller_that_went_away_changes_nothing(store: Store) -> None:
    """Goal: the write is kept and the writer lives on. Method: cancel it while it waits."""

    async def give_up() -> None:
        with busy(store):
            write = asyncio.ensure_future(store.write(add("acme")))
            await asyncio.sleep(0)
            write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write

    asyncio.run(give_up())
    store.write_now(add("globex"))
    assert names(store) == ["acme", "globex"]


def test_an_event_loop_that_ended_changes_nothing(store: Store) -> None:
    """Goal: a server that stops does not stop the writer. Method: close the loop that waits."""
    with busy(store):
        loop = asyncio.new_event_loop()
        write = loop.create_task(store.write(add("acme")))
        loop.run_until_complete(asyncio.sleep(0))
        write.cancel()
        loop.run_until_complete(asyncio.gather(write, return_exceptions=True))
        loop.close()
    store.write_now(add("globex"))
    assert names(store) == ["acme", "globex"]


# --- full, and closing ----------------------------------------------------------------------------


def test_a_full_queue_is_said_at_once(
    database_url: str,
    open_store: Callable[[str], Store],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer, "QUEUE_MAX", 3)
    store = open_store(database_url)
    results = write_together(store, [add(f"t{n}") for n in range(5)])
    assert results[:3] == ["t0", "t1", "t2"]
    for refused in results[3:]:
        assert isinstance(refused, UnavailableError)
        assert refused.code == "overloaded"
        assert refused.figures == {"waiting": 3}
    assert store.write_now(add("later")) == "later"
    assert names(store) == ["later", "t0", "t1", "t2"]


def test_who_would_wait_too_long_is_told_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some may always wait, and a crowd that comes while batches are quick; else it is said."""
    monkeypatch.setattr(writer, "WAITING_MIN", 4)
    monkeypatch.setattr(writer, "BATCH_MAX", 4)
    with busy(store), ThreadPoolExecutor(5) as pool:
        monkeypatch.setattr(store, "_batch_s", 60.0)
        three = [pool.submit(store.write_now, add(f"t{n}")) for n in range(3)]
        while store.waiting < 3:
            pass
        store.check_not_overloaded()
        fourth = pool.submit(store.write_now, add("t3"))
        while store.waiting < 4:
            pass
        with pytest.raises(UnavailableError, match="too many writes are waiting") as refused:
            store.check_not_overloaded()
        assert (refused.value.code, refused.value.figures) == ("overloaded", {"waiting": 4})
        monkeypatch.setattr(store, "_batch_s", writer.WAIT_MAX_S / 2)
        store.check_not_overloaded()
        late = pool.submit(store.write_now, add("t4"))  # what is not asked for by anybody goes in
        while store.waiting < 5:
            pass
        monkeypatch.undo()
    assert [one.result(10) for one in (*three, fourth, late)] == [f"t{n}" for n in range(5)]


def test_the_pace_is_that_of_the_last_batch(store: Store) -> None:
    store._batch_s = -1.0
    store.write_now(add("acme"))
    store.write_now(add("globex"))  # the first batch's time is written down before this is begun
    assert store._batch_s >= 0


def test_close_finishes_what_was_accepted_and_refuses_the_rest(store: Store) -> None:
    with ThreadPoolExecutor(12) as pool:
        with busy(store):
            accepted = [pool.submit(store.write_now, add(f"t{n}")) for n in range(10)]
            while store._queue.qsize() < 10:
                pass
            closing = pool.submit(store.close)
            while not store._is_closed:
                pass
            with pytest.raises(UnavailableError) as late:
                store.write_now(add("late"))
        closing.result(10)
        assert sorted(write.result(10) for write in accepted) == [f"t{n}" for n in range(10)]
    assert late.value.code == "shutting_down"
    store.close()  # may be called twice


def test_reads_are_one_view_and_cannot_write(store: Store) -> None:
    """Goal: a reader's two questions agree. Method: write between them; then write by a reader."""
    store.write_now(add("acme"))
    with store.read() as connection:
        count = sa.select(sa.func.count()).select_from(tenants)
        assert connection.execute(count).scalar_one() == 1
        store.write_now(add("globex"))
        assert connection.execute(count).scalar_one() == 1
    assert names(store) == ["acme", "globex"]
    with pytest.raises((DBAPIError, UnavailableError)), store.read() as connection:
        connection.execute(sa.delete(tenants))


def test_many_threads_write_and_none_is_lost(store: Store) -> None:
    def write(n: int) -> Any:
        return store.write_now(add(f"t{n:03}"))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(write, range(200)))
    assert results == names(store) == [f"t{n:03}" for n in range(200)]


def test_a_refusal_reaches_the_thread_that_asked(store: Store) -> None:
    with pytest.raises(ConflictError, match=r"^no$"):
        store.write_now(refuse)
