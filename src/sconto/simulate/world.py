"""One seed: its topology, how its servers meet, its rough time, and the healing at the end.

1. A hub, one to four merchants, one wallet server; one to three promotions of one or two brands,
   with caps of 1, 2, 3, 10 or a million uses, or in money; they are introduced in calm weather.
2. Shoppers come while the nemesis works. The auditor looks after every commit.
3. All is healed, shoppers finish, and everything must be delivered within `CALM_S` seconds: then
   hub, merchants and wallet must have the same statistics.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from sconto.base.errors import InvariantError
from sconto.frames import FrameOffer, build_frame, encode_bundle, frame_key
from sconto.servers.config import create_home
from sconto.servers.principal import make_api_key
from sconto.simulate import ablations, outside
from sconto.simulate.auditor import Auditor
from sconto.simulate.host import START_MS, Host, remove
from sconto.simulate.loop import Life, Loop
from sconto.simulate.nemesis import Nemesis
from sconto.simulate.network import Network, Wire
from sconto.simulate.shoppers import Offer, Places, Shop, Shoppers, ask
from sconto.simulate.trace import Trace
from sconto.store import access
from sconto.terms import terms_digest, terms_from

HUB = "https://hub.example"
WALLET = "https://wallet.example"
CAPS = (1, 2, 3, 10, 1_000_000)
#: Simulated seconds after the healing within which everything must be delivered.
CALM_S = 240.0
UNLIMITED = 10**15


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


def simulate(seed: str, ablation: str | None = None) -> Run:
    """Run one seed to its end; `ablation` is the name of a safeguard that is taken out."""
    folder = outside.folder() / "world"
    remove(folder)
    return World(seed, folder, ablation).run()


class World:
    """The parts of one run."""

    def __init__(self, seed: str, folder: Path, ablation: str | None) -> None:
        self.run_of = Run(seed)
        self.counts = self.run_of.counts
        self._ablation = ablation
        self._folder = folder
        self._workload = Random(f"{seed}/workload")
        self._faults = Random(f"{seed}/faults")
        #: What it lacks of a loop is what must not happen here.
        self.loop = Loop(Random(f"{seed}/schedule"))  # type: ignore[abstract]
        self.trace = Trace(lambda: (round(self.loop.time() * 1e6), self.loop.steps))
        self.network = Network(self.loop, self._faults, self.trace, self.counts)
        self.hosts: list[Host] = []
        self._is_over = False
        #: For ablations: disks that lose acknowledged commits, and what else runs in the world.
        self.disks_forget = False
        self.also: list[Callable[[], Coroutine[Any, Any, None]]] = []
        #: Faults that an ablation needs to do harm.
        self.at_least: tuple[str, ...] = ()

    def run(self) -> Run:
        with ExitStack() as stack:
            stack.enter_context(
                outside.replaced(
                    seed=self.run_of.seed,
                    wall_clock_ms=lambda: START_MS + int(self.loop.time() * 1000),
                    make_http=lambda: httpx.AsyncClient(transport=Wire(self.network)),
                    make_store=self._make_store,
                )
            )
            if self._ablation is not None:
                stack.enter_context(ablations.ABLATIONS[self._ablation](self))
            self._make_hosts()
            try:
                main = self._start("world", self._course())
                self.loop.run_until(main.done)
                if (error := main.exception()) is not None:
                    raise error
            except InvariantError as error:
                self.auditor.violated(f"stuck: {error}")
            finally:
                self._finish()
        return self.run_of

    # --- the parts --------------------------------------------------------------------------------

    def _make_hosts(self) -> None:
        draw = self._workload
        self._shop_names = [f"shop{i}" for i in range(1, draw.randint(1, 4) + 1)]
        self._terms = [_terms(i, draw) for i in range(1, draw.randint(1, 3) + 1)]
        self._accounts = tuple(f"a{i}" for i in range(1, draw.randint(1, 6) + 1))
        caps = {}
        for terms in self._terms:
            limit = terms["limits"][0]
            caps[terms["promotion_id"]] = (
                limit.get("uses", UNLIMITED),
                limit.get("amount_minor", UNLIMITED),
            )
        self.auditor = Auditor(caps, self.counts)
        self.network.audit = self.auditor
        bytes_of = Random(f"{self.run_of.seed}/homes")
        for name in ["hub", *self._shop_names, "wallet"]:
            kind = name if name in ("hub", "wallet") else "merchant"
            home = create_home(
                self._folder / name,
                kind=kind,
                name=name,
                url=f"https://{name}.example",
                now_ms=START_MS,
                random=bytes_of.randbytes,
                frames_url="https://frames.example" if kind == "hub" else None,
            )
            host = Host(name, home, self.loop, self._faults, self.trace, self.counts)
            host.disk.forgets = self.disks_forget
            host.on_commit = self.auditor.committed
            host.on_crash = self._crashed
            self.hosts.append(host)
            self.network.stations[home.url] = host
        self.nemesis = Nemesis(
            self._faults, self.hosts, self.network, self.trace, self.counts, self.loop.time
        )
        self.nemesis.choose(self.at_least)
        self.run_of.faults = self.nemesis.chosen

    def _make_store(
        self, url: str, *, source: str, clock: Callable[[], int], process: int | None
    ) -> Any:
        host = next(host for host in self.hosts if host.url == source)
        return host.make_store(url, source=source, clock=clock)

    def _crashed(self, host: Host) -> None:
        self.auditor.crashed(host)
        after_s = self.nemesis.crashed(host)
        self.loop.call_later(
            after_s, self._restart, host, context=self.loop.context_of(Life("world"))
        )

    def _restart(self, host: Host) -> None:
        if not self._is_over:
            self.auditor.check_promises(host)
            host.start()

    def _start(self, name: str, course: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        context = self.loop.context_of(Life(name))
        task: asyncio.Task[Any] = self.loop.create_task(course, context=context)
        return task

    def _finish(self) -> None:
        self._is_over = True
        run, loop = self.run_of, self.loop
        run.violations = self.auditor.violations
        run.steps, run.simulated_s = loop.steps, loop.time()
        run.trace_hash, run.events = self.trace.digest(), self.trace.length
        run.last = {name: list(events) for name, events in sorted(self.trace.last.items())}
        for why in loop.failures:
            self.auditor.violated(f"an error that nobody caught: {why}")
        for host in self.hosts:
            if host.life is not None:
                host.end()
        self.auditor.close()
        loop.finish()

    # --- the course -------------------------------------------------------------------------------

    async def _course(self) -> None:
        for host in self.hosts:
            host.start()
        await self._until(lambda: all(host.is_up for host in self.hosts), 10)
        places = await self._introduce()
        shoppers = Shoppers(self._workload, self.network, places, self.auditor, self.counts)
        self.nemesis.begin()
        rough = self._start("world", self.nemesis.run())
        for course in self.also:
            self._start("world", course())
        visits = self._workload.randint(4, 16)
        shopping = self._start("shoppers", shoppers.run(visits, self.nemesis.rough_s))
        await self._until(lambda: rough.done() or self._is_broken, 1e6)
        for task in (rough, shopping):
            if task.done() and task.exception() is not None:
                raise InvariantError(repr(task.exception()))
        healed_s = self.loop.time()
        is_calm = await self._until(lambda: shopping.done() and self._is_quiet(), CALM_S)
        if self._is_broken:
            return
        if shopping.done() and shopping.exception() is not None:
            raise InvariantError(f"the workload is wrong: {shopping.exception()!r}")
        if not is_calm:
            waiting = [host.name for host in self.hosts if not self.auditor.is_quiet(host)]
            self.auditor.violated(f"not delivered {CALM_S} s after healing: {waiting}")
            return
        self.counts["calm"] += 1
        self.trace.add("calm", "world", f"{self.loop.time() - healed_s:.1f}")
        self.auditor.check_end(self.hosts)

    @property
    def _is_broken(self) -> bool:
        return bool(self.auditor.violations)

    def _is_quiet(self) -> bool:
        return all(host.is_up and self.auditor.is_quiet(host) for host in self.hosts)

    async def _until(self, condition: Callable[[], bool], within_s: float) -> bool:
        until_s = self.loop.time() + within_s
        while not condition():
            if self.loop.time() > until_s or self._is_broken:
                return False
            await asyncio.sleep(0.25)
        return True

    async def _introduce(self) -> Places:
        """Keys, peers, promotions, acceptances, frames and accounts, in calm weather."""
        hub, *shops, wallet = self.hosts
        keys = {host.name: await self._key(host, "operator", "admin") for host in self.hosts}
        for shop in shops:
            await self._meet(hub, shop, keys)
            await self._meet(shop, hub, keys)
            await self._meet(wallet, shop, keys)
        await self._meet(hub, wallet, keys)
        await self._meet(wallet, hub, keys)
        brand = await self._key(hub, "brand", "promotions:read", "promotions:write")
        for terms in self._terms:
            new = {"terms": terms, "launch": True}
            await self._ask("POST", f"{HUB}/v1/promotions", new, brand)
        await self._quiet()
        for shop in shops:
            asked = {"hub": HUB, "all": True}
            await self._ask("POST", f"{shop.url}/v1/acceptances", asked, keys[shop.name])
        await self._quiet()
        accounts = {"account_ids": list(self._accounts)}
        await self._ask("POST", f"{WALLET}/v1/accounts/batch", accounts, keys["wallet"])
        return Places(
            hub=HUB,
            wallet=WALLET,
            wallet_key=keys["wallet"],
            accounts=self._accounts,
            shops=tuple([await self._open_shop(shop, keys[shop.name]) for shop in shops]),
            offers=tuple(
                Offer(t["promotion_id"], f"brand{i}", t["access"]["type"] == "token")
                for i, t in enumerate(self._terms, 1)
            ),
        )

    async def _key(self, host: Host, tenant: str, *scopes: str) -> str:
        random = Random(f"{self.run_of.seed}/keys/{host.name}/{tenant}")

        def command(tx: Any) -> str:
            kind = tenant if tenant == "operator" else "brand"
            access.add_tenant(tx, tenant, kind, tenant)
            return make_api_key(tx, tenant, frozenset(scopes), "simulation", random.randbytes)

        return str(await host.run(host.server.base.store.write(command)))

    async def _meet(self, host: Host, peer: Host, keys: dict[str, str]) -> None:
        new = {"url": peer.url, "kind": peer.home.kind, "tenant_id": peer.name}
        await self._ask("POST", f"{host.url}/v1/peers", new, keys[host.name])

    async def _open_shop(self, shop: Host, key: str) -> Shop:
        offers = [
            FrameOffer(
                id=t["promotion_id"], promotion_id=t["promotion_id"], terms_digest=_digest(t)
            )
            for t in self._terms
            if t["access"]["type"] == "token"
        ]
        frame_id = ""
        if offers:
            frame = build_frame(
                shop.home.key,
                merchant=shop.url,
                hub=HUB,
                not_before_s=START_MS // 1000 - 3600,
                expires_s=START_MS // 1000 + 86_400,
                sequence=1,
                offers=offers,
                files={"index.html": b"<h1>Offers</h1>"},
            )
            path = f"/v1/frames/{frame_key(frame.frame_id)}"
            put = shop.server.base.client.call("PUT", HUB, path, body=encode_bundle(frame))
            await shop.run(put)
            frame_id = frame.frame_id
        return Shop(shop.name, shop.url, key, frame_id)

    async def _ask(self, method: str, url: str, document: Any, key: str) -> Any:
        reply = await ask(self.network, method, url, document, key)
        if reply.status not in (200, 201):
            raise InvariantError(f"{method} {url} answered {reply}")
        return reply.json

    async def _quiet(self) -> None:
        if not await self._until(self._is_quiet, 60):
            raise InvariantError(f"no calm at the beginning: {self.auditor.violations}")


def _terms(number: int, draw: Random) -> dict[str, Any]:
    """One unit of money off one brand, for everybody or for holders of a token."""
    cap = draw.choice(CAPS)
    in_money = draw.random() < 0.25
    return {
        "promotion_id": f"promo{number}",
        "title": f"1.00 off brand {number}",
        "currency": "USD",
        "access": {"type": draw.choice(["token", "automatic"])},
        "benefits": [
            {
                "type": "amount_off",
                "amount_minor": 100,
                "items": {"include": [{"brands": [f"brand{number}"]}]},
            }
        ],
        "funding": {"shares": [{"party": f"brand{draw.randint(1, 2)}", "basis_points": 10_000}]},
        "limits": [{"amount_minor": cap * 130} if in_money else {"uses": cap}],
    }


def _digest(terms: dict[str, Any]) -> str:
    return str(terms_digest(terms_from(terms)))
