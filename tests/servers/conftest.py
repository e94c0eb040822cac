"""What tests of servers share: a server in process, a clock that we set, a network that we are.

`start_merchant` serves a merchant without a socket: its ASGI application is called directly, on a
fresh database of each kind. `hub` is another server as the merchant sees it: a URL, a key that an
operator registered, and a stream of signed events. Nothing here leaves the process.
"""

import contextlib
import itertools
import json
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import make_url
from tests.servers.counts import rows_of

from sconto.base.canonical import ni
from sconto.base.clock import rfc3339
from sconto.base.ids import handle_of, new_id
from sconto.base.keys import SigningKey, sign_detached
from sconto.federation.events import EVENTS_TYPE, Event, encode_batch
from sconto.federation.signatures import PROFILE_PATH, sign_request
from sconto.servers import app as app_module
from sconto.servers.app import build_app
from sconto.servers.config import create_home
from sconto.servers.merchant import Merchant
from sconto.servers.principal import make_api_key
from sconto.servers.promotions import TERMS_TYPE
from sconto.store import access, exchange, journal, schema
from sconto.store.database import migrate
from sconto.terms import encode_terms, terms_digest, terms_from
from sconto.tokens import (
    Confirmation,
    Status,
    StatusReference,
    TokenClaims,
    issue_token,
    make_proof,
)

SHOP = "https://shop.example"
HUB = "https://hub.example"
#: The fake clock starts at the real time: tokens and proofs are about real time.
DAY_MS = 86_400_000
PROBLEM = "application/problem+json"

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty datastore with the newest schema, to copy."""
    path = tmp_path_factory.mktemp("template") / "sconto.sqlite"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_database(migrated_sqlite: Path, tmp_path: Path) -> str:
    path = tmp_path / "sconto.sqlite"
    shutil.copy(migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> str:
    """URL of a database with the newest schema. To empty it is far quicker than to make one."""
    with _administrator(postgres_url) as connection:
        connection.execute("CREATE DATABASE servers")
    url = make_url(postgres_url).set(database="servers").render_as_string()
    migrate(url)
    return url


@pytest.fixture
def postgres_database(migrated_postgres: str) -> str:
    with _administrator(migrated_postgres) as connection:
        connection.execute(_EMPTY_ALL)
    return migrated_postgres


_EMPTY_ALL = sql.SQL("; ").join(
    sql.SQL("DELETE FROM {}").format(sql.Identifier(table.name))
    for table in reversed(schema.metadata.sorted_tables)
)


def _administrator(url: str) -> psycopg.Connection:
    plain = make_url(url).set(drivername="postgresql").render_as_string()
    return psycopg.connect(plain, autocommit=True)


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as the servers do."""
    return "asyncio"


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now_ms = time.time_ns() // 1_000_000

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Network:
    """The other servers, by URL; whoever is not here cannot be reached."""

    def __init__(self) -> None:
        self.servers: dict[str, Callable[[httpx.Request], Awaitable[httpx.Response]]] = {}
        self.requests: list[httpx.Request] = []

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        server = self.servers.get(f"{request.url.scheme}://{request.url.netloc.decode()}")
        if server is None:
            raise httpx.ConnectError("nobody is there", request=request)
        return await server(request)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    made = Network()
    monkeypatch.setattr(
        app_module,
        "make_http",
        lambda: httpx.AsyncClient(transport=httpx.MockTransport(made.handle)),
    )
    return made


class Reply:
    """An answer, with what tests ask of it."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.content = response.content
        self.media_type = response.headers.get("content-type", "")
        is_json = "json" in self.media_type
        self.json: Any = json.loads(response.content) if is_json and response.content else None

    def __getitem__(self, name: str) -> Any:
        return self.json[name]

    def __repr__(self) -> str:
        return f"{self.status} {self.content[:800]!r}"

    @property
    def problem(self) -> tuple[int, str, str | None]:
        """Status, code and field of a problem document, which this must be."""
        assert self.media_type == PROBLEM, self
        assert self.json["type"].endswith(self.json["code"]), self
        assert self.json["status"] == self.status, self
        return self.status, self.json["code"], self.json.get("field")


class Served:
    """A server in process and a client that holds the operator's key."""

    def __init__(self, server: Any, clock: Clock) -> None:
        self.server = server
        self.store = server.base.store
        self.clock = clock
        self.url = server.base.home.url
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=build_app(server)), base_url=self.url
        )
        #: A key for everything, also for saying when something happened.
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
        """A request; `key` "" is the operator's, None sends no key at all."""
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

    def entries(self, kind: str | None = None) -> list[Any]:
        """The journal, or its entries of a kind."""
        with self.store.read() as connection:
            found = [entry for _, entry in journal.entries(connection)]
        return [entry for entry in found if kind in (None, entry.kind)]

    def outbox(self, destination: str, type_: str = "") -> list[dict[str, Any]]:
        """The data of the events that wait for a peer."""
        with self.store.read() as connection:
            waiting = exchange.pending(connection, destination, 10_000)
        events = [json.loads(event) for _, event in waiting]
        return [event["data"] for event in events if type_ in event["type"]]

    def audit(self) -> None:
        """Statistics are a recount of the journal, the chain holds, budgets and parts add up."""
        with self.store.read() as connection:
            assert journal.first_broken(connection) is None
            recount = journal.recount(connection)
            kept = dict(journal.cells(connection))
            assert kept == recount.cells
            reasons: dict[str, int] = {}
            for (_, reason), number in recount.refusals.items():
                reasons[reason] = reasons.get(reason, 0) + number
            assert journal.refusals(connection) == reasons
            self._audit_budgets(connection)

    def _audit_budgets(self, connection: sa.Connection) -> None:
        """Open units are what the parts have left and what reservations hold."""
        for row in connection.execute(sa.select(schema.budgets)).mappings():
            promotion_id = row["promotion_id"]
            parts = connection.execute(
                sa.select(schema.allotments).where(
                    schema.allotments.c.promotion_id == promotion_id,
                    schema.allotments.c.state == "open",
                )
            ).all()
            used = connection.execute(
                sa.select(schema.redemptions).where(
                    schema.redemptions.c.promotion_id == promotion_id
                )
            ).all()
            held = [one for one in used if one.state == "reserved"]
            spent = [one for one in used if one.state in ("redeemed", "reversed")]
            uses = sum(one.state == "redeemed" for one in spent)
            minor = sum(one.amount_minor - one.reversed_minor for one in spent)
            assert (row["spent_uses"], row["spent_minor"]) == (uses, minor), promotion_id
            assert row["open_uses"] == sum(p.left_uses for p in parts) + len(held), promotion_id
            left = sum(p.left_minor for p in parts)
            assert row["open_minor"] == left + sum(one.amount_minor for one in held), promotion_id


class Hub:
    """A hub as a merchant sees it: its URL, its key, and what it sends."""

    def __init__(self, clock: Clock, url: str = HUB) -> None:
        self.url = url
        self.key = SigningKey.from_seed(secrets.token_bytes(32))
        self.clock = clock
        #: Last number of the stream to each merchant.
        self.sequence = 0
        self._ids = itertools.count(1)

    def register(self, shop: Served, *scopes: str) -> None:
        """What an operator does once: trust this URL; its keys are known from then on."""

        def command(tx: Any) -> None:
            tenant_id = self.url.removeprefix("https://").replace(".", "-")
            access.add_tenant(tx, tenant_id, "operator", "hub")
            access.add_peer(tx, self.url, "hub", tenant_id, frozenset(scopes))
            keys = [{**self.key.public.jwk, "kid": self.key.kid}]
            access.keep_peer_keys(tx, self.url, keys, "incarnation")

        shop.store.write_now(command)
        shop.server.base.directory.reload()

    # --- events ---------------------------------------------------------------------------

    def event(self, type_: str, data: dict[str, Any], **changed: Any) -> Event:
        """The next event of the stream."""
        self.sequence += 1
        values: dict[str, Any] = {
            "id": f"e{self.sequence}",
            "source": self.url,
            "type": type_,
            "subject": "test",
            "time_ms": self.clock(),
            "sequence": self.sequence,
            "data": data,
        }
        return Event(**{**values, **changed})

    async def send(self, shop: Served, *events: Event, **signing: Any) -> Reply:
        """Deliver a batch, signed by the hub."""
        return await self.send_bytes(shop, encode_batch(list(events)), **signing)

    async def send_bytes(self, shop: Served, body: bytes, **signing: Any) -> Reply:
        headers = self.sign(shop, "POST", "/v1/events", body, media_type=EVENTS_TYPE, **signing)
        return await shop.call("POST", "/v1/events", content=body, headers=headers, key=None)

    def sign(
        self,
        shop: Served,
        method: str,
        path: str,
        body: bytes,
        *,
        media_type: str = "application/json",
        key: SigningKey | None = None,
        url: str | None = None,
        created_s: int | None = None,
    ) -> dict[str, str]:
        """Headers of a request that this hub makes."""
        return dict(
            sign_request(
                key or self.key,
                method,
                shop.url + path,
                {"Content-Type": media_type} if body else {},
                body,
                profile_url=(url or self.url) + PROFILE_PATH,
                created_s=int(time.time()) if created_s is None else created_s,
                idempotency_key=secrets.token_urlsafe(8),
            )
        )

    def promotion_changed(self, terms: dict[str, Any], status: str = "active") -> Event:
        document = encode_terms(terms_from(terms))
        return self.event(
            "sconto.promotion.changed.v1",
            {
                "promotion_id": terms["promotion_id"],
                "terms": json.loads(document),
                "signature": sign_detached(self.key, TERMS_TYPE, document),
                "status": status,
            },
        )

    def granted(
        self, shop: Served, promotion_id: str, uses: int, amount_minor: int = 10**9, **changed: Any
    ) -> Event:
        data = {
            "allotment_id": new_id(self.clock(), secrets.token_bytes(10)),
            "promotion_id": promotion_id,
            "uses": uses,
            "amount_minor": amount_minor,
            "incarnation": shop.server.base.home.incarnation,
            "epoch": "incarnation",
        }
        return self.event("sconto.allotment.granted.v1", {**data, **changed})

    async def offer(self, shop: Served, terms: dict[str, Any], uses: int | None = None) -> str:
        """A promotion that the shop has accepted and can give `uses` times; its terms digest."""
        promotion_id = terms["promotion_id"]
        assert (await self.send(shop, self.promotion_changed(terms))).status == 200
        asked = {"hub": self.url, "promotion_ids": [promotion_id]}
        assert (await shop.post("/v1/acceptances", asked)).status == 200
        if uses is not None:
            assert (await self.send(shop, self.granted(shop, promotion_id, uses))).status == 200
        return terms_digest(terms_from(terms))

    # --- tokens ---------------------------------------------------------------------------

    def issue(
        self, shop: Served, terms: dict[str, Any], holder: "Holder", **changed: Any
    ) -> "Token":
        """A token for this shop and holder; `changed` are other claims."""
        now_s = int(time.time())
        values: dict[str, Any] = {
            "iss": self.url,
            "aud": shop.url,
            "jti": new_id(self.clock(), secrets.token_bytes(10)),
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + 30 * 86_400,
            "promotion_id": terms["promotion_id"],
            "terms_digest": terms_digest(terms_from(terms)),
            "frame": ni(b"a frame"),
            "cnf": Confirmation(jkt=holder.key.kid),
            "sub": holder.subject,
            "uses": 1,
            "status": Status(status_list=StatusReference(idx=5, uri=f"{self.url}/status/0")),
        }
        claims = TokenClaims(**{**values, **changed})
        return Token(claims, issue_token(self.key, claims), holder)

    def issued(self, token: "Token", **changed: Any) -> Event:
        """The coupon information of a token."""
        claims = token.claims
        data = {
            "token_id": claims.jti,
            "promotion_id": claims.promotion_id,
            "terms_digest": claims.terms_digest,
            "frame_id": claims.frame,
            "client": claims.sub,
            "holder_jkt": claims.cnf.jkt,
            "uses": claims.uses,
            "handle": handle_of(claims.jti),
            "clipped_at": rfc3339(claims.iat * 1000),
            "expires_at": rfc3339(claims.exp * 1000),
        }
        return self.event("sconto.token.issued.v1", {**data, **changed})

    def revoked(self, token: "Token") -> Event:
        return self.event(
            "sconto.token.revoked.v1", {"token_id": token.claims.jti, "reason": "test"}
        )


class Holder:
    """A shopper with a key, under one pseudonym at the shop."""

    def __init__(self, subject: str) -> None:
        self.key = SigningKey.from_seed(secrets.token_bytes(32))
        self.subject = subject


class Token:
    """A token, its claims, and who holds it."""

    def __init__(self, claims: TokenClaims, jws: str, holder: Holder) -> None:
        self.claims = claims
        self.jws = jws
        self.holder = holder
        self.id = claims.jti
        self.handle = handle_of(claims.jti)

    def prove(
        self,
        shop: Served,
        order: str,
        *,
        path: str = "/v1/redemptions",
        nonce: str | None = None,
        key: SigningKey | None = None,
        issued_at_ms: int | None = None,
        method: str = "POST",
    ) -> str:
        """A fresh proof by the holder for one request."""
        return make_proof(
            key or self.holder.key,
            self.jws,
            method=method,
            url=shop.url + path,
            order=order,
            nonce=nonce,
            issued_at_ms=time.time_ns() // 1_000_000 if issued_at_ms is None else issued_at_ms,
            proof_id=secrets.token_urlsafe(8),
        )

    def present(self, shop: Served, order: str, **options: Any) -> dict[str, str]:
        """As it stands in `presented` of a checkout."""
        return {"token": self.jws, "proof": self.prove(shop, order, **options)}


StartMerchant = Callable[[str], Awaitable[Served]]


@contextlib.asynccontextmanager
async def run_merchant(folder: Path, url: str, database_url: str, clock: Clock) -> Any:
    """A merchant with its operator's key, until the block ends."""
    home = create_home(
        folder,
        kind="merchant",
        name="Shop",
        url=url,
        now_ms=clock(),
        random=secrets.token_bytes,
        database_url=database_url,
    )
    merchant = Merchant(home, clock)
    await merchant.start()
    served = Served(merchant, clock)
    try:
        yield served
    finally:
        await served.http.aclose()
        await merchant.stop()


@pytest.fixture
async def shop(
    database_url: str, tmp_path: Path, clock: Clock, network: Network
) -> AsyncIterator[Served]:
    """A merchant's server that knows no hub yet, on each kind of database."""
    async with run_merchant(tmp_path / "shop", SHOP, database_url, clock) as served:
        yield served


@pytest.fixture
def hub(shop: Served, clock: Clock) -> Hub:
    """A hub that the shop trusts and that cannot be reached: what is for it waits."""
    made = Hub(clock)
    made.register(shop)
    return made


@pytest.fixture
def holder() -> Holder:
    return Holder("pseudonym-1")


@pytest.fixture
def make_hub(clock: Clock) -> Callable[..., Hub]:
    return lambda url=HUB: Hub(clock, url)


@pytest.fixture
def make_holder() -> Callable[[str], Holder]:
    return Holder


@pytest.fixture
def make_cart() -> Callable[..., dict[str, Any]]:
    return cart


@pytest.fixture
def make_terms() -> Callable[..., dict[str, Any]]:
    return percent_off


def cart(*lines: tuple[int, int], codes: tuple[str, ...] = ()) -> dict[str, Any]:
    """Lines of (quantity, unit price); none given: two of 5.25."""
    return {
        "currency": "USD",
        "lines": [
            {"id": str(i), "sku": "oaty-1l", "brand": "oaty", "quantity": q, "price_minor": p}
            for i, (q, p) in enumerate(lines or ((2, 525),), 1)
        ],
        "codes": list(codes),
    }


def percent_off(promotion_id: str, basis_points: int = 1000, **more: Any) -> dict[str, Any]:
    """10 % off everything, for everybody, without limit."""
    return {
        "promotion_id": promotion_id,
        "title": f"{promotion_id}: {basis_points} basis points off",
        "currency": "USD",
        "benefits": [{"type": "percent_off", "basis_points": basis_points}],
        **more,
    }


@pytest.fixture
def events_of() -> Iterator[Callable[..., list[Any]]]:
    """Each kind of event, as text, that a batch on the wire has."""

    def read(body: bytes) -> list[Any]:
        return list(json.loads(body))

    yield read
