"""A whole small network in process: a real hub, a real shop, and the wallet server under test.

Each is its ASGI application; a `Wire` joins them and can lose a request or its reply, or change
what comes back. Hub and shop run on SQLite, the wallet on what the test asks for.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.servers.counts import rows_of

from sconto.base.keys import SigningKey
from sconto.frames import Frame, FrameOffer, build_frame, encode_bundle, frame_key
from sconto.servers import app as app_module
from sconto.servers.app import build_app
from sconto.servers.config import Home, create_home
from sconto.servers.hub import Hub
from sconto.servers.merchant import Merchant
from sconto.servers.principal import make_api_key
from sconto.servers.wallet import Wallet
from sconto.statistics import Counters
from sconto.store import access, exchange, journal
from sconto.terms import terms_digest, terms_from

HUB = "https://hub.example"
SHOP = "https://shop.example"
WALLET = "https://wallet.example"


@dataclass
class Cut:
    """What is lost next."""

    path: str
    when: str  # before | after


class Wire:
    """Joins the servers; whoever is not plugged in cannot be reached."""

    def __init__(self) -> None:
        self.apps: dict[str, httpx.ASGITransport] = {}
        self.cuts: list[Cut] = []
        self.changes: dict[str, Callable[[Any], Any]] = {}
        self.requests: list[str] = []

    def cut(self, path: str, when: str) -> None:
        """Lose the next request to a path (`before`), or the reply to it (`after`)."""
        self.cuts.append(Cut(path, when))

    async def handle(self, request: httpx.Request) -> httpx.Response:
        origin = f"{request.url.scheme}://{request.url.netloc.decode()}"
        path = request.url.path
        self.requests.append(f"{request.method} {origin}{path}")
        cut = next((c for c in self.cuts if path.startswith(c.path)), None)
        if cut is not None:
            self.cuts.remove(cut)
        if origin not in self.apps or (cut is not None and cut.when == "before"):
            raise httpx.ConnectError("nobody is there", request=request)
        response = await self.apps[origin].handle_async_request(request)
        if cut is not None:
            await response.aread()
            raise httpx.ReadError("cut off", request=request)
        change = next((c for p, c in self.changes.items() if path.startswith(p)), None)
        if change is None or response.status_code >= 400:
            return response
        changed = change(json.loads(await response.aread()))
        return httpx.Response(response.status_code, json=changed)


class Reply:
    """An answer, with what tests ask of it."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        is_json = "json" in response.headers.get("content-type", "")
        self.json: Any = json.loads(response.content) if is_json and response.content else None

    def __getitem__(self, name: str) -> Any:
        return self.json[name]

    def __repr__(self) -> str:
        return f"{self.status} {self.json}"

    @property
    def problem(self) -> tuple[int, str, str | None]:
        """Status, code and field of the problem document that this must be."""
        assert self.headers["content-type"] == "application/problem+json", self
        assert self.json["status"] == self.status, self
        return self.status, self.json["code"], self.json.get("field")


class Served:
    """A server on the wire, and its operator's key."""

    def __init__(self, server: Any, wire: Wire) -> None:
        self.server = server
        self.store = server.base.store
        self.url = server.base.home.url
        wire.apps[self.url] = httpx.ASGITransport(app=build_app(server))
        self.http = httpx.AsyncClient(transport=wire.apps[self.url], base_url=self.url)
        self.key = self.make_key("operator", "admin", "replay", kind="operator")

    def make_key(self, tenant_id: str, *scopes: str, kind: str = "brand") -> str:
        def command(tx: Any) -> str:
            access.add_tenant(tx, tenant_id, kind, tenant_id)
            return make_api_key(tx, tenant_id, frozenset(scopes), "test", secrets.token_bytes)

        return str(self.store.write_now(command))

    async def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        key: str | None = "",
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """A request; `key` "" is the operator's, None sends none."""
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key or self.key}"
        if document is not None:
            content = json.dumps(document).encode()
        if content is not None:
            sent.setdefault("Content-Type", "application/json")
        return Reply(await self.http.request(method, path, content=content, headers=sent))

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.call("GET", path, **options)

    async def post(self, path: str, document: Any = None, **options: Any) -> Reply:
        return await self.call("POST", path, document, **options)

    def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        with self.store.read() as connection:
            return rows_of(connection)

    def totals(self) -> Counters:
        """Statistics over everything, which are a recount of the journal."""
        with self.store.read() as connection:
            cells = dict(journal.cells(connection))
            assert cells == journal.recount(connection).cells
            assert journal.first_broken(connection) is None
        total = Counters()
        for counters in cells.values():
            total = total.plus(counters)
        return total

    def parked(self) -> list[str]:
        with self.store.read() as connection:
            return [row["reason"] for row in exchange.parked(connection)]

    def set_keys(self, *keys: SigningKey) -> None:
        """Sign with other keys from now on, and publish them."""
        home = self.server.base.home
        object.__setattr__(home, "keys", keys)


class World:
    """Hub, shop and wallet, introduced to each other, and what usually comes first."""

    def __init__(self, wire: Wire, clock: Any, home: Home) -> None:
        self.wire = wire
        self.clock = clock
        self.wallet_home = home
        self.sequence = 0
        self.hub: Served
        self.shop: Served
        self.wallet: Served

    async def introduce(self) -> None:
        servers = {
            "hub": (self.hub, "hub-operator"),
            "merchant": (self.shop, "shop"),
            "wallet": (self.wallet, "wallets"),
        }
        for kind, (peer, tenant) in servers.items():
            for server, _ in servers.values():
                if server is peer:
                    continue
                new = {"url": peer.url, "kind": kind, "tenant_id": tenant}
                if kind == "wallet":
                    new["scopes"] = ["wallet", "replay"]  # type: ignore[assignment]
                made = await server.post("/v1/peers", new)
                assert made.status == 201, made
                assert made["has_keys"], made
        self.brand = self.hub.make_key("oaty", "promotions:read", "promotions:write")

    async def start_wallet(self) -> None:
        server = Wallet(self.wallet_home, self.clock)
        await server.start()
        self.wallet = Served(server, self.wire)

    async def stop_wallet(self) -> None:
        await self.wallet.http.aclose()
        await self.wallet.server.stop()
        del self.wire.apps[WALLET]

    async def restart_wallet(self) -> None:
        """What was in memory is gone."""
        await self.stop_wallet()
        await self.start_wallet()

    async def account(self, account_id: str = "ada") -> str:
        """A new account's API key."""
        made = await self.wallet.post("/v1/accounts", {"account_id": account_id})
        assert made.status == 201, made
        return str(made["api_key"])

    async def promise(self, promotion_id: str = "oaty-10", **changes: Any) -> dict[str, Any]:
        """An active token promotion that the shop takes part in."""
        terms = terms_of(promotion_id, **changes)
        made = await self.hub.post(
            "/v1/promotions", {"terms": terms, "launch": True}, key=self.brand
        )
        assert made.status == 201, made
        await self.settle()
        asked = {"hub": HUB, "promotion_ids": [promotion_id]}
        accepted = await self.shop.post("/v1/acceptances", asked)
        assert accepted.status == 200, accepted
        await self.settle()
        return terms

    async def publish(self, *promised: dict[str, Any], **changes: Any) -> str:
        """The id of a frame of the shop, published at the hub."""
        frame = self.build(*promised, **changes)
        await self.shop.server.base.client.call(
            "PUT",
            HUB,
            f"/v1/frames/{frame_key(frame.frame_id)}",
            body=encode_bundle(frame),
        )
        return frame.frame_id

    def build(self, *promised: dict[str, Any], **changes: Any) -> Frame:
        self.sequence += 1
        now_s = self.clock() // 1000
        options: dict[str, Any] = {
            "merchant": SHOP,
            "hub": HUB,
            "not_before_s": now_s - 3600,
            "expires_s": now_s + 90 * 86_400,
            "sequence": self.sequence,
            "offers": [
                FrameOffer(id=f"o{i}", promotion_id=t["promotion_id"], terms_digest=digest_of(t))
                for i, t in enumerate(promised)
            ],
            "files": {"index.html": b"<h1>Oaty</h1>"},
        }
        return build_frame(self.shop.server.base.home.key, **(options | changes))

    async def clip(
        self,
        key: str = "",
        *,
        frame_id: str,
        promotion_id: str = "oaty-10",
        clip_id: str = "clip-1",
        **more: Any,
    ) -> Reply:
        document = {
            "clip_id": clip_id,
            "hub": HUB,
            "frame_id": frame_id,
            "promotion_id": promotion_id,
        }
        return await self.wallet.post("/v1/clips", document | more, key=key)

    async def settle(self) -> None:
        """Wait until every server has heard everything that can be delivered."""
        for _ in range(2000):
            waiting = 0
            for server in (self.hub, self.shop, self.wallet):
                with server.store.read() as connection:
                    streams = exchange.streams(connection)
                waiting += sum(
                    s.acked_sequence != s.last_sequence
                    for s in streams
                    if s.destination in self.wire.apps
                )
            if not waiting:
                return
            await asyncio.sleep(0.01)
        failures = [s.server.base.deliverer.failures for s in (self.hub, self.shop, self.wallet)]
        raise AssertionError(f"the outboxes do not empty: {failures}")


def terms_of(promotion_id: str, **changes: Any) -> dict[str, Any]:
    """1.00 off oat milk, for the holder of a token, 100 times."""
    return {
        "promotion_id": promotion_id,
        "title": "1.00 off Oaty",
        "currency": "USD",
        "access": {"type": "token"},
        "benefits": [
            {
                "type": "amount_off",
                "amount_minor": 100,
                "items": {"include": [{"brands": ["oaty"]}]},
            }
        ],
        "funding": {"shares": [{"party": "oaty", "basis_points": 10_000}]},
        "limits": [{"uses": 100}],
    } | changes


def digest_of(terms: dict[str, Any]) -> str:
    return terms_digest(terms_from(terms))


def cart(*amounts: int) -> dict[str, Any]:
    """Oat milk at these prices; one of 5.25 where none is given."""
    return {
        "currency": "USD",
        "lines": [
            {"id": str(i), "sku": "oaty-1l", "brand": "oaty", "price_minor": amount}
            for i, amount in enumerate(amounts or (525,), 1)
        ],
    }


@pytest.fixture
def make_cart() -> Callable[..., dict[str, Any]]:
    return cart


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """SQLite, or what a test asks for by `BOTH_DATABASES`; the world is started for each test."""
    kind = getattr(request, "param", "sqlite")
    name = "sqlite_database" if kind == "sqlite" else "postgres_database"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    made = Wire()
    monkeypatch.setattr(
        app_module,
        "make_http",
        lambda: httpx.AsyncClient(transport=httpx.MockTransport(made.handle)),
    )
    return made


def make_home(folder: Path, kind: str, url: str, database_url: str | None = None) -> Home:
    return create_home(
        folder,
        kind=kind,
        name=f"The {kind}",
        url=url,
        now_ms=1_700_000_000_000,
        random=secrets.token_bytes,
        database_url=database_url,
        frames_url="https://frames.example" if kind == "hub" else None,
    )


@pytest.fixture
def other_database(migrated_sqlite: Path, tmp_path: Path) -> Callable[[str], str]:
    """A fresh SQLite datastore for one of the others."""

    def make(name: str) -> str:
        path = tmp_path / f"{name}.sqlite"
        path.write_bytes(migrated_sqlite.read_bytes())
        return f"sqlite:///{path}"

    return make


@pytest.fixture
async def world(
    tmp_path: Path,
    database_url: str,
    other_database: Callable[[str], str],
    wire: Wire,
    clock: Any,
) -> AsyncIterator[World]:
    world = World(wire, clock, make_home(tmp_path / "wallet", "wallet", WALLET, database_url))
    hub = Hub(make_home(tmp_path / "hub", "hub", HUB, other_database("hub")), clock)
    shop = Merchant(make_home(tmp_path / "shop", "merchant", SHOP, other_database("shop")), clock)
    await hub.start()
    await shop.start()
    world.hub = Served(hub, wire)
    world.shop = Served(shop, wire)
    await world.start_wallet()
    await world.introduce()
    try:
        yield world
    finally:
        await world.stop_wallet()
        for served in (world.shop, world.hub):
            await served.http.aclose()
            await served.server.stop()
