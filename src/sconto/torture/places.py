"""Servers in processes of their own, that can be killed, traced and put behind something."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sconto.base.errors import UnavailableError
from sconto.cli.setup import init_server
from sconto.client import Client, HubClient, MerchantClient
from sconto.demo.network import free_ports
from sconto.servers.config import load_home
from sconto.terms import Terms, terms_from

START_S = 60.0
STOP_S = 30.0
LOOPBACK = "127.0.0.1"
PROMOTION = "torture"
CODE = "TORTURE"
DISCOUNT_MINOR = 100


@dataclass
class Place:
    """One server: its home, how to reach it, and its process."""

    kind: str
    home: Path
    url: str
    api_key: str
    #: host:port where it listens, when something stands before its URL.
    bind: str | None = None
    #: What runs it: `strace …`, `ip netns exec …`.
    prefix: Sequence[str] = ()
    #: A safeguard that is taken out (`faulty.py`).
    flaw: str | None = None
    #: Processes that share its datastore.
    processes: int = 1
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Where we reach it ourselves."""
        return self.url if self.bind is None else f"http://{self.bind}"

    @property
    def database_url(self) -> str:
        return load_home(self.home).database_url

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start its process; what it says goes to `server.log` in its home."""
        log = (self.home / "server.log").open("ab")
        self.process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", *self._module()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()

    def _module(self) -> list[str]:
        behind = [] if self.bind is None else [self.bind]
        if self.flaw is not None:
            return ["sconto.torture.faulty", self.flaw, self.kind, str(self.home), *behind]
        listen = [] if self.bind is None else ["--bind", self.bind]
        if self.processes > 1:
            listen += ["--processes", str(self.processes)]
        home = ["--home", str(self.home)]
        return ["sconto", self.kind, "serve", *home, "--log-level", "warning", *listen]

    def kill(self) -> None:
        """kill -9, it and whatever runs it."""
        if self.process is None:
            return
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        """It does nothing more; what it has in a system call goes on."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGSTOP)

    def stop(self) -> None:
        """Ask it to finish, and wait."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    async def ready(self) -> None:
        """Wait until it answers; UnavailableError with its last words when it ends before."""
        deadline = time.monotonic() + START_S
        async with Client(self.address, self.api_key) as client:
            while time.monotonic() < deadline and self.is_running:
                if await client.is_ready():
                    return
                await asyncio.sleep(0.02)
        raise UnavailableError(f"the {self.kind} did not start: {self.last_words()}")

    async def start_again(self) -> float:
        """Start it and wait until it answers; seconds that it took."""
        start = time.monotonic()
        self.start()
        await self.ready()
        return time.monotonic() - start

    def last_words(self) -> str:
        """The end of its log."""
        text = (self.home / "server.log").read_text(errors="replace")
        return " | ".join(text.splitlines()[-3:])

    def check(self) -> str:
        """What `db check` and `ledger check` find wrong with its datastore, while it is stopped."""
        return self.command("db", "check") or self.command("ledger", "check")

    def back_up(self, to: Path) -> None:
        """Copy its SQLite datastore, also while it serves."""
        source = sqlite3.connect(f"file:{self._sqlite}?mode=ro", uri=True)
        with closing(source), closing(sqlite3.connect(to)) as copy:
            source.backup(copy)

    def put_back(self, backup: Path) -> str:
        """Restore a backup while it is stopped; gives the URL of the datastore that was lost.

        Raises UnavailableError when `restore` fails.
        """
        lost = self.home / "lost"
        lost.mkdir()
        for file in self.home.glob("sconto.db*"):
            file.rename(lost / file.name)
        shutil.copy(backup, self._sqlite)
        if wrong := self.command("restore"):
            raise UnavailableError(wrong)
        return f"sqlite:///{lost / 'sconto.db'}"

    @property
    def _sqlite(self) -> Path:
        return self.home / "sconto.db"

    def command(self, *words: str) -> str:
        """Run `sconto hub|merchant …` on the home of the stopped server; what went wrong."""
        done = subprocess.run(
            [sys.executable, "-m", "sconto", self.kind, *words, "--home", str(self.home)],
            capture_output=True,
            text=True,
            check=False,
        )
        return "" if done.returncode == 0 else (done.stderr or done.stdout).strip()[-300:]


def make_place(
    kind: str,
    home: Path,
    *,
    port: int | None = None,
    bind: str | None = None,
    database_url: str | None = None,
) -> Place:
    """A new home, at a free port where none is given."""
    ports = free_ports(2)
    made = init_server(
        home,
        kind=kind,
        name=home.name,
        url=f"http://{LOOPBACK}:{port or ports[0]}",
        frames_url=f"http://{LOOPBACK}:{ports[1]}" if kind == "hub" else None,
        database_url=database_url,
    )
    return Place(kind, home, made["url"], made["api_key"], bind)


def torture_terms(cap: int) -> Terms:
    """1.00 off for whoever names a code and takes two items; `cap` times."""
    return terms_from(
        {
            "promotion_id": PROMOTION,
            "title": "1.00 off two items",
            "currency": "USD",
            "access": {"type": "code", "code": CODE},
            "conditions": [{"type": "quantity", "min": 2}],
            "benefits": [{"type": "amount_off", "amount_minor": DISCOUNT_MINOR}],
            "limits": [{"uses": cap}],
        }
    )


async def sell_alone(shop: Place, cap: int) -> None:
    """A merchant's own promotion, in force."""
    async with MerchantClient(shop.address, shop.api_key) as client:
        await client.add_promotion(torture_terms(cap), launch=True)


async def introduce(hub: Place, shops: Sequence[Place], cap: int) -> None:
    """A hub, its promotion, and merchants that take part and have something to spend."""
    async with HubClient(hub.address, hub.api_key) as client:
        for i, shop in enumerate(shops):
            await client.add_peer(shop.url, kind="merchant", tenant_id=f"merchant-{i}")
            async with MerchantClient(shop.address, shop.api_key) as merchant:
                await merchant.add_peer(hub.url, kind="hub", tenant_id="hub")
        await client.add_promotion(torture_terms(cap), launch=True)
    for shop in shops:
        async with MerchantClient(shop.address, shop.api_key) as merchant:
            await _patiently(merchant, hub.url)
    for shop in shops:
        await _can_spend(shop)


async def _patiently(merchant: MerchantClient, hub: str) -> None:
    """Accept the promotion once the hub has told of it."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        answer = await merchant.promotions()
        if answer["promotions"]:
            await merchant.accept(hub, [PROMOTION])
            return
        await asyncio.sleep(0.05)
    raise UnavailableError("the hub does not tell of its promotion")


async def _can_spend(shop: Place) -> None:
    """Wait until a merchant has a part of the budget."""
    deadline = time.monotonic() + START_S
    cart = {
        "currency": "USD",
        "lines": [{"id": "1", "sku": "a", "quantity": 2, "price_minor": 500}],
        "codes": [CODE],
    }
    async with MerchantClient(shop.address, shop.api_key) as client:
        while time.monotonic() < deadline:
            answer = await client.evaluate(cart)
            if answer["evaluation"].get("applied"):
                return
            await asyncio.sleep(0.05)
    raise UnavailableError("a merchant gets no part of the budget")
