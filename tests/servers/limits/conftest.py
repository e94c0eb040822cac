"""A hub and its merchants in one process, each on a database of its own, over a wire that we are.

Every request goes through the ASGI application of whom it is for, signed and checked as always. A
server can be away, be stopped and started again, or be put back to a copy of its folder.
"""

import asyncio
import itertools
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import make_url

from sconto.servers import app as app_module
from sconto.servers.app import build_app
from sconto.servers.config import create_home, load_home
from sconto.servers.hub import Hub
from sconto.servers.merchant import Merchant
from sconto.servers.principal import make_api_key
from sconto.servers.wallet import Wallet
from sconto.store import access, books, exchange, ledger, schema
from sconto.store.database import migrate
from sconto.store.writer import Tx

HUB = "https://hub.example"
KINDS = {"hub": Hub, "merchant": Merchant, "wallet": Wallet}


class Databases:
    """New databases with the newest schema, and copies of them."""

    def __init__(self, folder: Path, postgres_url: str | None, template: Path | str) -> None:
        self._folder, self._admin, self._template = folder, postgres_url, template
        self._numbers = itertools.count(1)

    def make(self, copy_of: str | None = None) -> str:
        number = next(self._numbers)
        if self._admin is None:
            path = self._folder / f"{number}.sqlite"
            source = self._template if copy_of is None else make_url(copy_of).database
            for end in ("", "-wal"):
                if Path(f"{source}{end}").exists():
                    shutil.copy(f"{source}{end}", f"{path}{end}")
            return f"sqlite:///{path}"
        name = f"limits_{secrets.token_hex(6)}"
        source = self._template if copy_of is None else make_url(copy_of).database
        with _administrator(self._admin) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(str(source))
                )
            )
        return make_url(self._admin).set(database=name).render_as_string()


def _administrator(url: str) -> psycopg.Connection:
    plain = make_url(url).set(drivername="postgresql").render_as_string()
    return psycopg.connect(plain, autocommit=True)


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    name = "limits_template"
    with _administrator(postgres_url) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    migrate(make_url(postgres_url).set(database=name).render_as_string())
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Databases:
    if request.param == "sqlite":
        return Databases(tmp_path, None, request.getfixturevalue("migrated_sqlite"))
    url = request.getfixturevalue("postgres_url")
    return Databases(tmp_path, url, request.getfixturevalue("postgres_template"))


class Site:
    """One server, which may be running or not."""

    def __init__(self, net: "Net", folder: Path) -> None:
        self.net, self.folder = net, folder
        self.url = load_home(folder).url
        self.key = ""
        #: Requests of others that it is at.
        self.asked = 0

    async def start(self) -> None:
        home = load_home(self.folder)
        self.server: Any = KINDS[home.kind](home, self.net.clock)
        await self.server.start()
        self.store = self.server.base.store
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=build_app(self.server)), base_url=self.url
        )
        if not self.key:
            self.key = self.store.write_now(_operator_key)
        self.net.running[self.url] = self

    async def stop(self) -> None:
        if self.net.running.pop(self.url, None) is not None:
            while self.asked:  # as a real one answers what it has before it stops
                await asyncio.sleep(0.005)
            await self.http.aclose()
            await self.server.stop()

    async def call(self, method: str, path: str, document: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        return await self.http.request(method, path, json=document, headers=headers)

    async def post(self, path: str, document: Any = None, status: int = 200) -> Any:
        answer = await self.call("POST", path, document)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def sell(self, order_id: str, cart: dict[str, Any], **more: Any) -> int:
        """A checkout; how many promotions it used."""
        document = {"order_id": order_id, "cart": cart, **more}
        sold = await self.post("/v1/redemptions", document, 201)
        return len(sold["redemptions"])

    def backup(self) -> str:
        """A copy of the database, taken while the server is stopped; its URL."""
        return self.net.databases.make(load_home(self.folder).database_url)

    def put_back(self, database_url: str) -> None:
        """The folder has this database from now on, as after a restore by hand."""
        path = self.folder / "config.json"
        text = path.read_text()
        path.write_text(text.replace(load_home(self.folder).database_url, database_url))

    @property
    def database_url(self) -> str:
        return load_home(self.folder).database_url

    # --- what the datastore says --------------------------------------------------------------

    def budget(self, promotion_id: str) -> Any:
        with self.store.read() as connection:
            return ledger.budget_of(connection, promotion_id)

    def parts(self, promotion_id: str) -> list[Any]:
        with self.store.read() as connection:
            return ledger.of_promotion(connection, promotion_id)

    def count(self, state: str = "redeemed") -> int:
        query = sa.select(sa.func.count()).where(schema.redemptions.c.state == state)
        with self.store.read() as connection:
            return connection.execute(query).scalar_one()

    def parked(self) -> list[str]:
        with self.store.read() as connection:
            return [row["reason"] for row in exchange.parked(connection)]

    def waits(self) -> bool:
        """Whether something is on its way to a server that is running."""
        if self.url in self.net.away:
            return False
        with self.store.read() as connection:
            return any(
                stream.acked_sequence < stream.last_sequence
                for stream in exchange.streams(connection)
                if stream.destination in self.net.running
                and stream.destination not in self.net.away
            )


def _operator_key(tx: Tx) -> str:
    access.add_tenant(tx, "operator", "operator", "operator")
    return make_api_key(tx, "operator", frozenset({"admin", "replay"}), "test", secrets.token_bytes)


class Net:
    """The servers and what is between them."""

    def __init__(self, folder: Path, databases: Databases, clock: Any) -> None:
        self.folder, self.databases, self.clock = folder, databases, clock
        self.running: dict[str, Site] = {}
        #: Servers that nobody can reach, and that can reach nobody.
        self.away: set[str] = set()
        self.sites: list[Site] = []
        self._orders = itertools.count(1)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        url = f"{request.url.scheme}://{request.url.netloc.decode()}"
        site = self.running.get(url)
        sender = request.headers.get("ucp-agent", "")
        if site is None or url in self.away or any(one in sender for one in self.away):
            raise httpx.ConnectError("nobody is there", request=request)
        site.asked += 1
        try:
            return await site.http._transport.handle_async_request(request)
        finally:
            site.asked -= 1

    async def add(self, kind: str, url: str) -> Site:
        folder = self.folder / url.removeprefix("https://")
        create_home(
            folder,
            kind=kind,
            name=url,
            url=url,
            now_ms=self.clock(),
            random=secrets.token_bytes,
            database_url=self.databases.make(),
        )
        site = Site(self, folder)
        await site.start()
        self.sites.append(site)
        return site

    async def add_merchant(self, name: str) -> Site:
        """A merchant and the hub that know each other."""
        site = await self.add("merchant", f"https://{name}.example")
        hub = self.hub
        await site.post("/v1/peers", {"url": hub.url, "kind": "hub", "tenant_id": "hub"}, 201)
        new = {"url": site.url, "kind": "merchant", "tenant_id": name}
        await hub.post("/v1/peers", new, 201)
        return site

    async def add_wallet(self) -> Site:
        """A wallet server and the hub that know each other."""
        site = await self.add("wallet", "https://wallet.example")
        hub = self.hub
        await site.post("/v1/peers", {"url": hub.url, "kind": "hub", "tenant_id": "hub"}, 201)
        new = {"url": site.url, "kind": "wallet", "tenant_id": "wallets"}
        await hub.post("/v1/peers", new, 201)
        return site

    @property
    def hub(self) -> Site:
        return self.sites[0]

    async def promise(self, promotion_id: str, *takers: Site, **terms: Any) -> None:
        """A promotion of the hub in which some merchants take part, one after the other."""
        document = {
            "promotion_id": promotion_id,
            "title": promotion_id,
            "currency": "USD",
            "benefits": [{"type": "percent_off", "basis_points": 1000}],
            **terms,
        }
        await self.hub.post("/v1/promotions", {"terms": document, "launch": True}, 201)
        await self.settle()
        for site in takers:
            asked = {"hub": self.hub.url, "promotion_ids": [promotion_id]}
            await site.post("/v1/acceptances", asked)
            await self.settle()

    async def settle(self) -> None:
        """Wait until everybody who is there has heard everything."""
        quiet = 0
        for _ in range(2000):
            if any(site.waits() for site in self.running.values()):
                quiet = 0
            else:
                quiet += 1
                if quiet == 3:
                    return
            await asyncio.sleep(0.005)
        raise AssertionError("the network does not come to rest")

    def heal(self) -> None:
        """Everybody can be reached again, and tries at once."""
        self.away.clear()
        for site in self.running.values():
            with site.store.read() as connection:
                streams = exchange.streams(connection)
            for stream in streams:
                site.server.base.deliverer.wake(stream.destination)

    def order_id(self) -> str:
        return f"o-{next(self._orders)}"


@pytest.fixture
async def net(
    tmp_path: Path, databases: Databases, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Net]:
    """A hub that knows nobody yet."""
    made = Net(tmp_path, databases, clock)
    monkeypatch.setattr(
        app_module,
        "make_http",
        lambda: httpx.AsyncClient(transport=httpx.MockTransport(made.handle)),
    )
    await made.add("hub", HUB)
    yield made
    for site in list(made.running.values()):
        with site.store.read() as connection:
            assert books.check(connection).faults == [], site.url
        await site.stop()
