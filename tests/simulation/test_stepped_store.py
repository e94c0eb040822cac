"""A store without a thread: whoever made it chooses the moment of a commit, and may die there."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sconto.base.errors import UnavailableError
from sconto.store import access
from sconto.store.database import migrate
from sconto.store.writer import Store


class Died(BaseException):
    """Where a process ends in these tests."""


def add(number: int) -> Any:
    return lambda tx: access.add_tenant(tx, f"t{number}", "brand", "T")


@pytest.fixture
def url(tmp_path: Path) -> str:
    made = f"sqlite:///{tmp_path / 'a.db'}"
    migrate(made)
    return made


def open_store(url: str, queued: list[int]) -> Store:
    return Store(
        url, source="https://a.example", clock=lambda: 1, on_queued=lambda: queued.append(1)
    )


def names(store: Store) -> set[str]:
    with store.read() as connection:
        return {f"t{n}" for n in range(9) if access.tenant_kind(connection, f"t{n}")}


async def write_three(store: Store) -> list["asyncio.Task[Any]"]:
    tasks = [asyncio.ensure_future(store.write(add(number))) for number in range(3)]
    await asyncio.sleep(0)
    return tasks


def test_nothing_happens_until_a_batch_is_run(url: str) -> None:
    queued: list[int] = []
    store = open_store(url, queued)

    async def run() -> None:
        tasks = await write_three(store)
        assert len(queued) == 3
        assert names(store) == set()
        assert store.run_batch(2) == 2
        assert names(store) == {"t0", "t1"}
        assert store.run_batch(2) == 1
        assert store.run_batch(2) == 0
        assert await asyncio.gather(*tasks) == [True, True, True]

    asyncio.run(run())
    store.close()
    with pytest.raises(UnavailableError):
        asyncio.run(store.write(add(1)))


@pytest.mark.parametrize(
    ("point", "kept"), [("committing", set()), ("committed", {"t0", "t1", "t2"})]
)
def test_a_process_may_die_before_and_after_a_commit(url: str, point: str, kept: set[str]) -> None:
    """Goal: before the commit nothing is there, after it everything; nobody was told anything."""
    store = open_store(url, [])

    def die(where: str) -> None:
        if where == point:
            raise Died

    store.on_point = die

    async def run() -> None:
        tasks = await write_three(store)
        with pytest.raises(Died):
            store.run_batch()
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    store.close()
    again = open_store(url, [])
    assert names(again) == kept
    again.close()
