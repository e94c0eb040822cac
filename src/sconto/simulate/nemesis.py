"""What goes wrong in a seed: each seed has its own faults, at its own rates.

Faults are drawn from the stream `faults` alone, so a changed workload keeps its weather.
"""

import asyncio

from sconto.simulate.host import Disk, Host
from sconto.simulate.network import Weather
from sconto.simulate.stage import Stage

#: Everything that can be switched on in a seed.
FAULTS = (
    "drop", "late", "twice", "reset", "partition", "one_way", "swizzle", "kill", "crash_before",
    "crash_after", "skew", "slow_disk", "full_disk", "small_batches", "restart_all",
)  # fmt: skip
#: A host's clock is wrong by at most this much; signatures allow for a minute between two hosts.
SKEW_MAX_MS = 25_000
ROUGH_S = (2.0, 8.0)


class Nemesis:
    """Makes what a seed has drawn happen, and heals everything at the end."""

    def __init__(self, stage: Stage) -> None:
        self._faults = stage.faults
        self._hosts = stage.hosts
        self._network = stage.network
        self._trace = stage.trace
        self._counts = stage.counts
        self._now = stage.loop.time
        self.chosen: list[str] = []
        self.rough_s = self._faults.uniform(*ROUGH_S)
        self.is_over = False

    def choose(self, at_least: tuple[str, ...] = ()) -> None:
        """Draw the faults of this seed, beside those that there must be."""
        drawn = self._faults.sample(FAULTS, self._faults.randint(0, len(FAULTS)))
        self.chosen = [name for name in FAULTS if name in drawn or name in at_least]

    def begin(self) -> None:
        """Bad weather and bad disks, for as long as it is rough."""
        rate = self._rate
        self._network.weather = Weather(
            drop=rate("drop", 0.3),
            late=rate("late", 0.3),
            twice=rate("twice", 0.4),
            reset=rate("reset", 0.3),
            delay_s=self._faults.choice([0.005, 0.05, 0.3]),
            late_s=self._faults.choice([1.0, 9.0, 400.0]),
        )
        for host in self._hosts:
            disk = host.disk
            disk.crash_before = rate("crash_before", 0.04)
            disk.crash_after = rate("crash_after", 0.04)
            disk.delay_s = 0.5 if "slow_disk" in self.chosen else 0.004
            disk.batch_max = 2 if "small_batches" in self.chosen else disk.batch_max

    async def run(self) -> None:
        """One evil after another, then heal."""
        begun_s = self._now()
        acts = [a for a in self.chosen if hasattr(self, f"_{a}")]
        while self._now() < begun_s + self.rough_s:
            await asyncio.sleep(self._faults.uniform(0.1, 1.5))
            if acts:
                await getattr(self, f"_{self._faults.choice(acts)}")()
        self._heal()

    def crashed(self, host: Host) -> float:
        """How long a host that has crashed stays away, in seconds."""
        self._network.crashed(host.name)
        return 0.2 if self.is_over else self._faults.uniform(0.05, 4.0)

    def _heal(self) -> None:
        self.is_over = True
        self._network.weather = Weather()
        self._network.cut.clear()
        self._network.clogged.clear()
        for host in self._hosts:
            host.skew_ms = 0
            host.disk = Disk(host.disk.path, forgets=host.disk.forgets)
        self._trace.add("healed", "world", "")

    def _rate(self, name: str, most: float) -> float:
        return self._faults.uniform(0.01, most) if name in self.chosen else 0.0

    def _note(self, kind: str, host: str) -> None:
        self._counts[kind] += 1
        self._trace.add(kind, host, "")

    def _names(self) -> list[str]:
        return ["shoppers", *(host.name for host in self._hosts)]

    async def _partition(self) -> None:
        one, two = self._faults.sample(self._names(), 2)
        self._note("partition", one)
        await self._cut_for({(one, two), (two, one)})

    async def _one_way(self) -> None:
        one, two = self._faults.sample(self._names(), 2)
        self._note("one_way", one)
        await self._cut_for({(one, two)})

    async def _cut_for(self, links: set[tuple[str, str]]) -> None:
        self._network.cut |= links
        await asyncio.sleep(self._faults.uniform(0.2, 5.0))
        self._network.cut -= links

    async def _swizzle(self) -> None:
        """Clog some hosts one by one, and unclog them in another order."""
        names = self._names()[1:]
        some = self._faults.sample(names, self._faults.randint(1, len(names)))
        for name in some:
            self._note("swizzle", name)
            self._network.clogged.add(name)
            await asyncio.sleep(self._faults.uniform(0.0, 0.5))
        self._faults.shuffle(some)
        for name in some:
            await asyncio.sleep(self._faults.uniform(0.0, 0.5))
            self._network.clogged.discard(name)

    async def _kill(self) -> None:
        self._faults.choice(self._hosts).crash("kill")

    async def _restart_all(self) -> None:
        for host in self._hosts:
            host.crash("power_cut")

    async def _skew(self) -> None:
        host = self._faults.choice(self._hosts)
        host.skew_ms = self._faults.randint(-SKEW_MAX_MS, SKEW_MAX_MS)
        self._note("skew", host.name)

    async def _full_disk(self) -> None:
        disk = self._faults.choice(self._hosts).disk
        disk.is_full = True
        await asyncio.sleep(self._faults.uniform(0.1, 2.0))
        disk.is_full = False
