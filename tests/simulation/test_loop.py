"""The event loop of the simulation: time, order, crashes, and nothing real."""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from sconto.simulate.loop import Life, Loop


def start(loop: Loop, life: Life, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    task: asyncio.Task[Any] = loop.create_task(coroutine, context=loop.context_of(life))
    return task


def test_time_jumps_to_the_next_timer() -> None:
    loop = Loop(Random("1"))

    async def sleep() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    task = start(loop, Life("a"), sleep())
    loop.run_until(task.done)
    assert task.result() == 86_400


def test_hosts_are_interleaved_by_the_seed_and_each_keeps_its_order() -> None:
    """Goal: another seed, another interleaving; but within a host as asyncio promises."""

    def run(seed: str) -> str:
        loop, seen = Loop(Random(seed)), []
        for name in "abc":
            context = loop.context_of(Life(name))
            for number in range(3):
                loop.call_soon(seen.append, f"{name}{number}", context=context)
        loop.run_until(lambda: len(seen) == 9)
        return " ".join(seen)

    runs = {run(str(seed)) for seed in range(10)}
    assert len(runs) > 5
    assert run("7") == run("7")
    for order in runs:
        assert [one for one in order.split() if one[0] == "b"] == ["b0", "b1", "b2"]


def test_a_crash_runs_no_finally() -> None:
    """Goal: as after kill -9. Method: a host that cleans up dies; another goes on."""
    loop, seen = Loop(Random("1")), []
    mortal = Life("mortal")

    async def work() -> None:
        try:
            await asyncio.sleep(1)
            seen.append("worked")
        finally:
            seen.append("cleaned")

    async def kill() -> None:
        await asyncio.sleep(0.5)
        mortal.is_over = True
        await asyncio.sleep(10)

    start(loop, mortal, work())
    task = start(loop, Life("killer"), kill())
    loop.run_until(task.done)
    assert seen == []
    loop.finish()


def test_work_for_a_thread_is_a_step() -> None:
    loop = Loop(Random("1"))

    async def work() -> int:
        return await asyncio.to_thread(lambda: 42)

    task = start(loop, Life("a"), work())
    loop.run_until(task.done)
    assert task.result() == 42


@pytest.mark.parametrize(
    "real",
    [
        lambda: asyncio.open_connection("127.0.0.1", 1),
        lambda: asyncio.create_subprocess_exec("true"),
        lambda: asyncio.get_running_loop().getaddrinfo("localhost", 1),
    ],
)
def test_what_is_real_is_not_there(real: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    loop = Loop(Random("1"))

    async def work() -> None:
        await real()

    task = start(loop, Life("a"), work())
    loop.run_until(task.done)
    assert isinstance(task.exception(), NotImplementedError)
    loop.finish()
