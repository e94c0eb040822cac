"""One seed: its network, its rough time, and the healing at the end.

1. All servers start from the disks of one of the `beginning.KINDS` networks.
2. Shoppers come while the nemesis works. The auditor looks after every commit.
3. All is healed, shoppers finish, and everything must be delivered within `CALM_S` seconds: then
   hub, merchants and wallet must have the same statistics.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any
from zlib import crc32

from sconto.base.errors import InvariantError
from sconto.simulate import ablations
from sconto.simulate.beginning import KINDS, Beginning, beginning
from sconto.simulate.guest import Guest, Visit
from sconto.simulate.host import Host
from sconto.simulate.loop import Life
from sconto.simulate.nemesis import Nemesis
from sconto.simulate.operators import Operators
from sconto.simulate.shoppers import Shoppers
from sconto.simulate.stage import Stage

#: Simulated seconds after the healing within which everything must be delivered.
CALM_S = 240.0
#: How many shoppers come in a seed.
VISITS = (1, 6)


@dataclass
class Run:
    """What a seed has shown."""

    seed: str
    violations: list[str] = field(default_factory=list)
    trace_hash: str = ""
    steps: int = 0
    events: int = 0
    simulated_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    last: dict[str, list[str]] = field(default_factory=dict)


def simulate(seed: str, ablation: str | None = None, guest: Visit | None = None) -> Run:
    """Run one seed to its end.

    `ablation` is the name of a safeguard that is taken out. `guest` is code under test: it is run
    beside the shoppers, and what it raises is a violation.
    """
    begun = beginning(crc32(seed.encode()) % KINDS)
    # A world is one large knot of coroutines: there is nothing to collect before it is over.
    gc.disable()
    try:
        world = World(seed, begun, ablation, guest)
        return world.run()
    finally:
        gc.enable()


class World:
    """The parts of one run."""

    def __init__(
        self, seed: str, begun: Beginning, ablation: str | None, guest: Visit | None
    ) -> None:
        self.run_of = Run(seed)
        self._ablation = ablation
        self._guest = guest
        self._begun = begun
        self._workload = Random(f"{seed}/workload")
        self._operators = Random(f"{seed}/operators")
        self.stage = stage = Stage(seed, begun.terms)
        #: For ablations: disks that lose acknowledged commits, and what else runs in the world.
        self.disks_forget = False
        self.also: list[Callable[[], Coroutine[Any, Any, None]]] = []
        #: Faults that an ablation needs to do harm.
        self.at_least: tuple[str, ...] = ()
        #: How many shoppers come, for an ablation that does harm only where many do.
        self.visits = VISITS
        for home, image in zip(begun.homes, begun.disks, strict=True):
            stage.add(home, image).on_crash = self._crashed
        self.nemesis = Nemesis(stage)

    def run(self) -> Run:
        changes = []
        if self._ablation is not None:
            changes.append(partial(ablations.ABLATIONS[self._ablation], self))
        run, stage = self.run_of, self.stage
        stage.play(self._course, *changes)
        run.violations = stage.auditor.violations
        run.counts = stage.counts
        run.steps, run.simulated_s = stage.loop.steps, stage.loop.time()
        run.trace_hash, run.events = stage.trace.digest(), stage.trace.length
        run.last = {name: list(events) for name, events in sorted(stage.trace.last.items())}
        return run

    def _crashed(self, host: Host) -> None:
        stage = self.stage
        stage.auditor.crashed(host)
        after_s = self.nemesis.crashed(host)
        context = stage.loop.context_of(Life("world"))
        stage.loop.call_later(after_s, self._restart, host, context=context)

    def _restart(self, host: Host) -> None:
        if not self.stage.is_over:
            self.stage.auditor.check_promises(host)
            host.start()

    async def _visit(self) -> None:
        if self._guest is None:
            return
        draw = Random(f"{self.run_of.seed}/guest")
        try:
            await self._guest(Guest(self._begun.places, draw, self.stage))
        except Exception as error:
            self.stage.auditor.violated(f"the guest: {error!r}")

    async def _course(self) -> None:
        stage = self.stage
        for host in stage.hosts:
            host.disk.forgets = self.disks_forget
            host.start()
        await stage.until(lambda: all(host.is_up for host in stage.hosts), 10)
        shoppers = Shoppers(self._workload, stage, self._begun.places)
        operators = Operators(self._operators, stage, self._begun.places, shoppers, self.at_least)
        self.nemesis.choose(self.at_least)
        self.run_of.faults = self.nemesis.chosen + operators.chosen
        self.nemesis.begin()
        rough = stage.start("world", self.nemesis.run())
        for course in self.also:
            stage.start("world", course())
        visits = self._workload.randint(*self.visits)
        shopping = stage.start("shoppers", shoppers.run(visits, self.nemesis.rough_s))
        working = stage.start("world", operators.run(self.nemesis.rough_s))
        visiting = stage.start("guest", self._visit())
        await stage.until(rough.done, 1e6)
        for task in (rough, shopping, working):
            if task.done() and task.exception() is not None:
                raise InvariantError(repr(task.exception()))
        healed_s = stage.loop.time()
        is_calm = await stage.until(
            lambda: all(map(_is_done, (shopping, working, visiting))) and stage.is_quiet, CALM_S
        )
        if stage.is_broken:
            return
        for task in (shopping, working):
            if task.done() and task.exception() is not None:
                raise InvariantError(f"the workload is wrong: {task.exception()!r}")
        if not is_calm:
            waiting = [host.name for host in stage.hosts if not stage.auditor.is_quiet(host)]
            stage.auditor.violated(f"not delivered {CALM_S} s after healing: {waiting}")
            return
        stage.counts["calm"] += 1
        stage.trace.add("calm", "world", f"{stage.loop.time() - healed_s:.1f}")
        stage.auditor.check_end(stage.hosts)


def _is_done(task: "asyncio.Task[Any]") -> bool:
    return task.done()
