"""Servers on one loop: what a beginning (`beginning.py`) and a seed (`world.py`) share.

In: the name of the seed, homes and disks. It owns the loop, the network and the hosts, and lets go
of all of them at the end.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from random import Random
from typing import Any

from sconto.base.errors import InvariantError
from sconto.servers.config import Home
from sconto.simulate import outside
from sconto.simulate.auditor import Auditor
from sconto.simulate.host import START_MS, Host
from sconto.simulate.loop import Life, Loop
from sconto.simulate.network import Network, Wire
from sconto.simulate.rules import Rules
from sconto.simulate.trace import Trace


class Stage:
    """`begins_s` is the simulated time before or after `START_MS` at which it all begins."""

    def __init__(
        self, seed: str, terms: Iterable[Mapping[str, Any]], *, begins_s: float = 0.0
    ) -> None:
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self.faults = Random(f"{seed}/faults")
        #: What it lacks of a loop is what must not happen here.
        self.loop = Loop(Random(f"{seed}/schedule"), begins_s)  # type: ignore[abstract]
        self.trace = Trace(lambda: (round(self.loop.time() * 1e6), self.loop.steps))
        self.network = Network(self.loop, self.faults, self.trace, self.counts)
        self.auditor = Auditor(map(Rules, terms), self.counts)
        self.network.audit = self.auditor
        self.hosts = self.auditor.hosts
        self.is_over = False

    def add(self, home: Home, image: bytes) -> Host:
        """A server that is down yet; `image` is what is on its disk."""
        host = Host(home, image, self.loop, self.faults, self.trace, self.counts)
        host.on_commit = self.auditor.committed
        self.hosts.append(host)
        self.network.stations[home.url] = host
        return host

    def host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def play(
        self,
        course: Callable[[], Coroutine[Any, Any, None]],
        *changes: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Run a course to its end, with changes of the code in force; then clear away."""
        with ExitStack() as stack:
            stack.enter_context(
                outside.replaced(
                    seed=self.seed,
                    wall_clock_ms=lambda: START_MS + int(self.loop.time() * 1000),
                    make_http=lambda: Wire(self.network),
                    make_store=self._make_store,
                )
            )
            for change in changes:
                stack.enter_context(change())
            try:
                main = self.start("world", course())
                self.loop.run_until(main.done)
                if (error := main.exception()) is not None:
                    raise error
            except InvariantError as error:
                self.auditor.violated(f"stuck: {error}")
            finally:
                self._clear_away()

    def start(self, name: str, course: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Begin something that goes on beside the servers, under a name."""
        context = self.loop.context_of(Life(name))
        task: asyncio.Task[Any] = self.loop.create_task(course, context=context)
        return task

    async def until(self, condition: Callable[[], bool], within_s: float) -> bool:
        """Wait; False when it took too long, or when something is wrong already."""
        until_s = self.loop.time() + within_s
        while not condition():
            if self.loop.time() > until_s or self.is_broken:
                return False
            await asyncio.sleep(0.25)
        return True

    @property
    def is_broken(self) -> bool:
        return bool(self.auditor.violations)

    @property
    def is_quiet(self) -> bool:
        """Whether everybody is up, and nothing waits or is reserved."""
        return all(host.is_up and self.auditor.is_quiet(host) for host in self.hosts)

    def _make_store(
        self, url: str, *, source: str, clock: Callable[[], int], process: int | None
    ) -> Any:
        host = next(host for host in self.hosts if host.url == source)
        return host.make_store(url, source=source, clock=clock)

    def _clear_away(self) -> None:
        self.is_over = True
        for why in self.loop.failures:
            self.auditor.violated(f"an error that nobody caught: {why}")
        for host in self.hosts:
            host.end()
        self.auditor.close()
        self.loop.finish()


def disk_of(name: str) -> Path:
    """The file of a host's disk: the same in all worlds of a process."""
    return outside.folder() / name / "sconto.db"
