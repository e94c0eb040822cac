"""A whole network on this machine: one hub, three merchants, one wallet server, each a process.

In: a folder. Out: running servers with SQLite stores on free loopback ports, that know each other.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from sconto.base.errors import UnavailableError
from sconto.cli.setup import init_server
from sconto.client import HubClient, MerchantClient, WalletClient
from sconto.servers.config import load_home

START_S = 60.0
STOP_S = 30.0


@dataclass
class Running:
    """One server: where it is, how to ask it, and its process."""

    kind: str
    name: str
    home: Path
    url: str
    api_key: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start its process; what it says goes to `server.log` in its home."""
        log = (self.home / "server.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sconto", self.kind, "serve", "--home", str(self.home),
             "--log-level", "warning"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        log.close()

    def kill(self) -> None:
        """As if the power had gone."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> None:
        """Ask it to finish and end."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def log_tail(self) -> str:
        """The last lines that it wrote."""
        text = (self.home / "server.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-5:])


@dataclass
class Network:
    """The servers of the demo and their clients."""

    folder: Path
    hub: Running
    merchants: list[Running]
    wallet: Running
    hub_client: HubClient = field(init=False)
    merchant_clients: list[MerchantClient] = field(init=False)
    wallet_client: WalletClient = field(init=False)

    @property
    def hub_frames_url(self) -> str:
        """Origin of the frames at the hub."""
        return load_home(self.hub.home).frames_url or ""

    @property
    def servers(self) -> list[Running]:
        return [self.hub, *self.merchants, self.wallet]

    async def start(self) -> None:
        """Start every process, wait until it answers, and introduce the servers to each other."""
        for server in self.servers:
            server.start()
        self.hub_client = HubClient(self.hub.url, self.hub.api_key)
        self.merchant_clients = [MerchantClient(m.url, m.api_key) for m in self.merchants]
        self.wallet_client = WalletClient(self.wallet.url, self.wallet.api_key)
        for server in self.servers:
            await self.wait_ready(server)
        for i, merchant in enumerate(self.merchants):
            await self.hub_client.add_peer(
                merchant.url,
                kind="merchant",
                tenant_id=f"merchant-{i}",
                scopes=["promotions:read", "frames:write", "replay"],
            )
            await self.merchant_clients[i].add_peer(self.hub.url, kind="hub", tenant_id="hub")
        await self.hub_client.add_peer(
            self.wallet.url, kind="wallet", tenant_id="wallet", scopes=["wallet", "replay"]
        )
        await self.wallet_client.add_peer(self.hub.url, kind="hub", tenant_id="hub")

    async def wait_ready(self, server: Running) -> None:
        """Wait until a server answers; UnavailableError with its last words when it does not."""
        client = self._client_of(server)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if server.process is not None and server.process.poll() is not None:
                break
            if await client.is_ready():
                return
            await asyncio.sleep(0.05)
        raise UnavailableError(
            f"the {server.name} did not start: {server.log_tail()}", field=str(server.home)
        )

    async def wait_delivered(self, timeout_s: float = 120.0) -> None:
        """Wait until no server has anything left to deliver to another."""
        deadline = time.monotonic() + timeout_s
        quiet = 0
        while quiet < 2:
            waiting = 0
            for server in self.servers:
                exchange = await self._client_of(server).exchange()
                waiting += sum(s["sent"] - s["acked"] for s in exchange["streams"])
                if exchange["parked"]:
                    raise UnavailableError(
                        f"the {server.name} parked an event: {exchange['parked'][0]}"
                    )
            # Twice in a row: what one server has just received may make it send something.
            quiet = 0 if waiting else quiet + 1
            if time.monotonic() > deadline:
                raise UnavailableError(f"{waiting} events are not delivered")
            await asyncio.sleep(0.02 if quiet else 0.1)

    async def stop(self) -> None:
        """Close the clients and stop the processes gracefully."""
        for server in self.servers:
            await self._client_of(server).aclose()
        await asyncio.gather(*(asyncio.to_thread(server.stop) for server in self.servers))

    def _client_of(self, server: Running) -> HubClient | MerchantClient | WalletClient:
        if server is self.hub:
            return self.hub_client
        if server is self.wallet:
            return self.wallet_client
        return self.merchant_clients[self.merchants.index(server)]


def make_network(folder: Path, merchants: int) -> Network:
    """Homes, keys and datastores of all servers, in a new folder."""
    hub_port, frames_port, wallet_port, *merchant_ports = free_ports(merchants + 3)
    hub = _make("hub", "hub", folder, hub_port, frames_url=_url(frames_port))
    shops = [
        _make("merchant", f"merchant-{i}", folder, port) for i, port in enumerate(merchant_ports)
    ]
    wallet = _make("wallet", "wallet", folder, wallet_port)
    return Network(folder, hub, shops, wallet)


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now."""
    sockets = []
    for _ in range(count):
        one = socket.socket()
        one.bind(("127.0.0.1", 0))
        sockets.append(one)
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _make(kind: str, name: str, folder: Path, port: int, frames_url: str | None = None) -> Running:
    home = folder / name
    made = init_server(
        home, kind=kind, name=name, url=_url(port), frames_url=frames_url, replay=True
    )
    # The demo hands this key out again; a real operator notes it down and keeps it elsewhere.
    key_file = home / "api-key"
    descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(made["api_key"] + "\n")
    return Running(kind, name, home, made["url"], made["api_key"])


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"
