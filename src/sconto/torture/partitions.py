"""Partitions: the hub in a network namespace of its own, and frames that reach nobody.

A wrong link address for the other end makes the kernel drop every packet of that direction without
a word, as a broken network does; so no firewall is needed. Each partition is of both directions, or
of either. The merchant sells on, as quickly as before, and all is settled after each healing.
Control: a merchant that gives up a report when it cannot be delivered. Needs root and `ip`.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sconto.base.errors import UnavailableError
from sconto.demo.network import free_ports
from sconto.torture.alone import CONTROL
from sconto.torture.outcome import Bound, Options, Outcome, Trial, outcome, say, skipped
from sconto.torture.places import LOOPBACK, Place, make_place
from sconto.torture.power import run, why_not
from sconto.torture.together import Together, judged, together

CAP = 1_000_000
CONTROL_ROUNDS = 2
#: The network is our own, by the number of our process: two runs do not meet.
OURS, HUBS = (f"10.231.{os.getpid() % 250}.{host}" for host in (1, 2))
NOBODY = "02:00:00:00:00:01"
#: Longest partition, in seconds.
AWAY_S = 3.0
WAYS = ("both", "to the hub", "to the merchant")


@dataclass
class Cable:
    """Two ends of a virtual cable: ours, and that of the hub's namespace."""

    namespace: str
    name: str

    def cut(self, way: str) -> None:
        """From here on packets of this way reach nobody."""
        if way != "to the merchant":
            self._ours("neigh", "replace", HUBS, "lladdr", NOBODY, "dev", self.name)
        if way != "to the hub":
            self._hubs("neigh", "replace", OURS, "lladdr", NOBODY, "dev", "hub")

    def heal(self) -> None:
        """Both ends ask for each other's address again."""
        with contextlib.suppress(UnavailableError):
            self._ours("neigh", "del", HUBS, "dev", self.name)
        with contextlib.suppress(UnavailableError):
            self._hubs("neigh", "del", OURS, "dev", "hub")

    def lay(self) -> None:
        """Make the namespace and both ends."""
        run("ip", "netns", "add", self.namespace)
        self._hubs("link", "set", "lo", "up")
        run("ip", "link", "add", self.name, "type", "veth", "peer", "name", "hub",
            "netns", self.namespace)  # fmt: skip
        self._ours("addr", "add", f"{OURS}/24", "dev", self.name)
        self._ours("link", "set", self.name, "up")
        self._hubs("addr", "add", f"{HUBS}/24", "dev", "hub")
        self._hubs("link", "set", "hub", "up")

    def remove(self) -> None:
        with contextlib.suppress(UnavailableError):
            run("ip", "link", "del", self.name)
        with contextlib.suppress(UnavailableError):
            run("ip", "netns", "del", self.namespace)

    def _ours(self, *arguments: str) -> None:
        run("ip", *arguments)

    def _hubs(self, *arguments: str) -> None:
        run("ip", "-n", self.namespace, *arguments)


@asynccontextmanager
async def apart(folder: Path) -> AsyncIterator[tuple[Place, Place, Cable]]:
    """A hub in a namespace, a merchant here; each finds the other's URL on its own loopback.

    What listens there is a tunnel through the cable, since plain http is for loopback only.
    """
    number = os.getpid() % 100_000
    cable = Cable(f"sconto-{number}", f"sconto{number}")
    hub_port, shop_port = free_ports(2)
    hub = make_place("hub", folder / "hub", port=hub_port, bind=f"{HUBS}:{hub_port}")
    shop = make_place("merchant", folder / "shop", port=shop_port, bind=f"{OURS}:{shop_port}")
    inside = ["ip", "netns", "exec", cable.namespace]
    hub.prefix = inside
    proxy = [sys.executable, "-m", "sconto.torture.proxy"]
    tunnels: list[subprocess.Popen[bytes]] = []
    try:
        cable.lay()
        for command in (
            [*proxy, f"{LOOPBACK}:{hub_port}", f"{HUBS}:{hub_port}"],
            [*inside, *proxy, f"{LOOPBACK}:{shop_port}", f"{OURS}:{shop_port}"],
        ):
            tunnels.append(subprocess.Popen(command))
        yield hub, shop, cable
    finally:
        for tunnel in tunnels:
            tunnel.kill()
            tunnel.wait()
        cable.remove()


async def partitions(options: Options, folder: Path) -> Outcome:
    """`--partitions` partitions."""
    if why := why_not("ip"):
        return skipped("partitions", why)
    bound = Bound(options)

    async def trial(name: str, rounds: int, flaw: str | None) -> Trial:
        async with (
            apart(folder / name) as (hub, shop, cable),
            together(hub, [shop], cap=CAP, flaw=flaw, seed=options.seed) as net,
            judged(net),
        ):
            await _rounds(net, cable, rounds, bound, name)
            await net.finish()
        return net.trial

    try:
        control = await trial(f"partitions{CONTROL}", CONTROL_ROUNDS, "forgetful")
    except UnavailableError as error:
        if not str(error).startswith("ip "):
            raise
        return skipped("partitions", f"there are no network namespaces here: {error}")
    kept = await trial("partitions", options.partitions, None)
    return outcome("partitions", bound, kept, control, of=options.partitions)


async def _rounds(net: Together, cable: Cable, rounds: int, bound: Bound, name: str) -> None:
    loop, times = asyncio.get_running_loop(), net.load.times
    without: list[float] = []
    slowest, meanwhile = 0.0, 0
    await net.load.acknowledges(200)
    normal = [seconds for _, seconds in times]
    for number in range(1, rounds + 1):
        if bound.is_over:
            break
        await asyncio.sleep(net.random.uniform(0.0, 0.3))
        cable.cut(net.random.choice(WAYS) if not name.endswith(CONTROL) else "both")
        start, before = loop.time(), len(net.observer.acknowledged)
        await net.load.acknowledges(5)  # nobody waits for the hub
        await asyncio.sleep(net.random.uniform(0.2, AWAY_S))
        if name.endswith(CONTROL):
            await asyncio.sleep(12.0)  # until its patience with the hub is over
        without += [seconds for at, seconds in times if at >= start]
        meanwhile += len(net.observer.acknowledged) - before
        cable.heal()
        slowest = max(slowest, await net.settled())
        net.trial.rounds = number
        if net.trial.lost:
            break
        if number % 10 == 0:
            say(f"{name}: {number}/{rounds}, settled after {slowest:.1f} s at most")
    net.trial.figures |= {
        "acknowledged_in_partitions": meanwhile,
        "settled_after_healing_s_max": round(slowest, 1),
        "p99_ms_before": _p99_ms(normal),
        "p99_ms_in_partitions": _p99_ms(without),
    }


def _p99_ms(seconds: list[float]) -> float:
    return round(sorted(seconds)[len(seconds) * 99 // 100] * 1000, 1) if seconds else 0.0
