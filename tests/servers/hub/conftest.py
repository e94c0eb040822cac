"""A hub in process, with a merchant, a wallet and a brand that are only keys.

Everything goes through the ASGI application: signed requests in, and what the hub sends to its
peers is caught on the way out. Both databases, always.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import sqlalchemy as sa
from tests.servers.counts import rows_of

from sconto.base.clock import MS_PER_SECOND, day_of
from sconto.base.keys import KeySet, SigningKey
from sconto.federation.events import EVENTS_TYPE, Event, decode_batch, encode_batch
from sconto.federation.signatures import PROFILE_PATH, sign_request
from sconto.frames import Frame, FrameOffer, build_frame, encode_bundle, frame_key
from sconto.ledger import Entry
from sconto.servers import app as server_app
from sconto.servers.admin import PEER_SCOPES
from sconto.servers.app import build_app
from sconto.servers.config import create_home
from sconto.servers.hub import Hub
from sconto.servers.principal import make_api_key
from sconto.statistics import Counters
from sconto.store import access, exchange, journal, reports
from sconto.store.writer import Tx
from sconto.terms import terms_digest, terms_from
from sconto.tokens import TokenClaims, make_key_proof, verify_token

HUB = "https://hub.example"
FRAMES = "https://frames.example"
SHOP = "https://shop.example"
WALLET = "https://wallet.example"
GRANT = "urn:ietf:params:oauth:grant-type:pre-authorized_code"
FORM = "application/x-www-form-urlencoded"


@dataclass
class Peer:
    """Another server, as far as a hub can see it: a URL and a key."""

    url: str
    kind: str
    tenant_id: str
    key: SigningKey = field(default_factory=lambda: SigningKey.from_seed(secrets.token_bytes(32)))
    #: Events that the hub delivered, in order.
    events: list[Event] = field(default_factory=list)
    #: Number of the last event that this peer sent.
    sent: int = 0

    @property
    def jwks(self) -> list[dict[str, str]]:
        return [{**self.key.public.jwk, "kid": self.key.kid}]

    def of_type(self, type_: str) -> list[dict[str, Any]]:
        return [event.data for event in self.events if event.type == type_]


class World:
    """The hub under test and everybody around it."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.shop = Peer(SHOP, "merchant", "shop")
        self.wallet = Peer(WALLET, "wallet", "wallets")
        self.peers = {peer.url: peer for peer in (self.shop, self.wallet)}
        #: Peers that cannot be reached now.
        self.away: set[str] = set()
        self.holder = SigningKey.from_seed(secrets.token_bytes(32))
        self.brand_key = ""
        self.admin_key = ""
        self.replay_ms = 0

    # --- the wire ----------------------------------------------------------------------------

    def answer(self, request: httpx.Request) -> httpx.Response:
        """What a peer answers to the hub."""
        origin = f"{request.url.scheme}://{request.url.netloc.decode()}"
        peer = self.peers.get(origin)
        if peer is None or origin in self.away:
            raise httpx.ConnectError("nobody is there", request=request)
        if request.url.path == PROFILE_PATH:
            return httpx.Response(
                200, json={"keys": peer.jwks, "sconto": {"incarnation": "I" * 26}}
            )
        assert request.url.path == "/v1/events", request.url
        events = decode_batch(request.content)
        for event in events:
            if event.sequence == len(peer.events) + 1:
                peer.events.append(event)
        return httpx.Response(200, json={"acked": events[-1].sequence})

    async def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        peer: Peer | None = None,
        key: str | None = None,
        body: bytes | None = None,
        media_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        base_url: str = HUB,
    ) -> httpx.Response:
        """A request to the hub, signed by a peer, with an API key, or by nobody."""
        if body is None:
            body = b"" if document is None else msgspec.json.encode(document)
        sent = dict(headers or {})
        if body:
            sent.setdefault("Content-Type", media_type)
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        if peer is not None:
            sent = sign_request(
                peer.key,
                method,
                HUB + path,
                sent,
                body,
                profile_url=peer.url + PROFILE_PATH,
                created_s=self.hub.base.wall_clock() // MS_PER_SECOND,
                idempotency_key=idempotency_key or secrets.token_urlsafe(16),
            )
        elif idempotency_key is not None:
            sent["Idempotency-Key"] = idempotency_key
        return await self.client.request(method, base_url + path, content=body, headers=sent)

    async def deliver(self, peer: Peer, *events: tuple[str, dict[str, Any]]) -> httpx.Response:
        """Events of a peer, the next ones of its stream."""
        batch = [
            Event(
                id=f"{peer.url}#{peer.sent + number}",
                source=peer.url,
                type=type_,
                subject="about",
                time_ms=self.hub.base.wall_clock(),
                sequence=peer.sent + number,
                data=data,
            )
            for number, (type_, data) in enumerate(events, 1)
        ]
        answer = await self.call(
            "POST", "/v1/events", peer=peer, body=encode_batch(batch), media_type=EVENTS_TYPE
        )
        assert answer.status_code == 200, answer.text
        peer.sent = answer.json()["acked"]
        return answer

    async def settle_outbox(self) -> None:
        """Wait until every peer that is there has everything."""
        for _ in range(500):
            with self.hub.base.store.read() as connection:
                streams = exchange.streams(connection)
            if all(
                s.acked_sequence == s.last_sequence
                for s in streams
                if s.destination not in self.away
            ):
                return
            await server_app.asyncio.sleep(0.01)
        raise AssertionError(f"the outbox does not empty: {streams}")

    # --- what usually comes first -----------------------------------------------------------------

    async def register(self, peer: Peer, *, scopes: frozenset[str] | None = None) -> None:
        """As an operator would, with the peer's keys known already."""

        def command(tx: Tx) -> None:
            access.add_tenant(tx, peer.tenant_id, peer.kind, peer.tenant_id)
            known = PEER_SCOPES[peer.kind] if scopes is None else scopes
            access.add_peer(tx, peer.url, peer.kind, peer.tenant_id, known)
            access.keep_peer_keys(tx, peer.url, peer.jwks, "I" * 26)

        self.peers[peer.url] = peer
        await self.hub.base.store.write(command)
        self.hub.base.directory.reload()

    async def make_key(self, tenant_id: str, kind: str, *scopes: str) -> str:
        """An API key of a tenant, which is made where it is not there."""

        def command(tx: Tx) -> str:
            access.add_tenant(tx, tenant_id, kind, tenant_id)
            return make_api_key(tx, tenant_id, frozenset(scopes), "test", secrets.token_bytes)

        text: str = await self.hub.base.store.write(command)
        return text

    async def promise(self, promotion_id: str = "oaty-10", **changes: Any) -> dict[str, Any]:
        """An active promotion that the shop takes part in; gives its terms."""
        terms = World.terms_of(promotion_id, **changes)
        made = await self.call(
            "POST", "/v1/promotions", {"terms": terms, "launch": True}, key=self.brand_key
        )
        assert made.status_code == 201, made.text
        await self.deliver(
            self.shop, ("sconto.promotion.accepted.v1", {"promotion_id": promotion_id})
        )
        return terms

    def frame(self, *promised: dict[str, Any], peer: Peer | None = None, **changes: Any) -> Frame:
        """A frame of the shop with these promotions."""
        peer = peer or self.shop
        now_s = self.hub.base.clock() // MS_PER_SECOND
        options: dict[str, Any] = {
            "merchant": peer.url,
            "hub": HUB,
            "not_before_s": now_s - 3600,
            "expires_s": now_s + 90 * 86_400,
            "sequence": 1,
            "offers": [
                FrameOffer(
                    id=f"o{i}", promotion_id=t["promotion_id"], terms_digest=World.digest_of(t)
                )
                for i, t in enumerate(promised)
            ],
            "files": {"index.html": b"<h1>Oaty</h1>", "css/a.css": b"h1 { color: green }"},
        }
        return build_frame(peer.key, **(options | changes))

    async def publish(self, frame: Frame, peer: Peer | None = None) -> httpx.Response:
        return await self.call(
            "PUT",
            f"/v1/frames/{frame_key(frame.frame_id)}",
            peer=peer or self.shop,
            body=encode_bundle(frame),
        )

    async def clip(
        self, frame: Frame, promotion_id: str = "oaty-10", clip_id: str = "clip-1", **more: Any
    ) -> httpx.Response:
        document = {"clip_id": clip_id, "frame_id": frame.frame_id, "promotion_id": promotion_id}
        return await self.call("POST", "/v1/clips", document | more, peer=self.wallet)

    # --- OpenID4VCI -----------------------------------------------------------------------------

    async def exchange(self, code: str) -> httpx.Response:
        body = httpx.QueryParams({"grant_type": GRANT, "pre-authorized_code": code})
        return await self.call(
            "POST", "/openid4vci/token", body=str(body).encode(), media_type=FORM
        )

    async def nonce(self) -> str:
        answer = await self.call("POST", "/openid4vci/nonce")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["c_nonce"])

    async def credential(
        self,
        access_token: str,
        holder: SigningKey | None = None,
        *,
        signed: bool = True,
        **more: Any,
    ) -> httpx.Response:
        proof = make_key_proof(
            holder or self.holder,
            audience=HUB,
            nonce=await self.nonce(),
            issued_at_ms=self.hub.base.wall_clock(),
        )
        document = {"credential_configuration_id": "promo-token", "proofs": {"jwt": [proof]}}
        return await self.call(
            "POST",
            "/openid4vci/credential",
            document | more,
            peer=self.wallet if signed else None,
            headers={"Authorization": f"Bearer {access_token}"},
        )

    async def take(self, clipped: httpx.Response, holder: SigningKey | None = None) -> str:
        """The token of a clip."""
        assert clipped.status_code == 201, clipped.text
        exchanged = await self.exchange(World.code_of(clipped))
        assert exchanged.status_code == 200, exchanged.text
        issued = await self.credential(exchanged.json()["access_token"], holder)
        assert issued.status_code == 200, issued.text
        return str(issued.json()["credentials"][0]["credential"])

    def claims(self, token: str, at_ms: int | None = None) -> TokenClaims:
        """As the shop would verify it."""
        keys = {HUB: KeySet([self.hub.base.home.key.public])}
        at_ms = self.hub.base.clock() if at_ms is None else at_ms
        return verify_token(token, keys, audience=SHOP, at_ms=at_ms)

    # --- what the datastore says ------------------------------------------------------------------

    def rows(self) -> dict[str, int]:
        """How many rows each table has, where any; of the outbox, how many it ever had."""
        with self.hub.base.store.read() as connection:
            counts = rows_of(connection)
            counts["outbox"] = sum(s.last_sequence for s in exchange.streams(connection))
        return {name: count for name, count in counts.items() if count}

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Nothing that happens inside leaves a row behind."""
        before = self.rows()
        yield
        assert self.rows() == before

    @staticmethod
    def refused(
        answer: httpx.Response, status: int, code: str, field: str | None = None
    ) -> dict[str, Any]:
        """The problem document of an answer, which must be this refusal."""
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json", answer.headers
        problem = answer.json()
        assert problem["code"] == code, problem
        if field is not None:
            assert problem["field"] == field, problem
        return dict(problem)

    @staticmethod
    def oauth_refused(answer: httpx.Response, status: int, error: str) -> None:
        """The answer is this refusal, in OAuth's form."""
        assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text

    def column(self, column: sa.Column[Any]) -> list[Any]:
        with self.hub.base.store.read() as connection:
            return list(connection.execute(sa.select(column)).scalars())

    def totals(self) -> Counters:
        """Statistics over everything; checked against a recount of the journal."""
        with self.hub.base.store.read() as connection:
            cells = dict(journal.cells(connection))
            assert cells == journal.recount(connection).cells
            assert journal.first_broken(connection) is None
        total = Counters()
        for counters in cells.values():
            total = total.plus(counters)
        return total

    def parked(self) -> list[str]:
        with self.hub.base.store.read() as connection:
            return [row["reason"] for row in exchange.parked(connection)]

    # --- documents ----------------------------------------------------------------------------

    @staticmethod
    def terms_of(promotion_id: str, **changes: Any) -> dict[str, Any]:
        """Terms as a brand writes them: a token promotion with a budget of 100 uses."""
        return {
            "promotion_id": promotion_id,
            "title": "10 % off Oaty",
            "currency": "USD",
            "access": {"type": "token"},
            "benefits": [
                {
                    "type": "percent_off",
                    "basis_points": 1000,
                    "items": {"include": [{"brands": ["oaty"]}]},
                }
            ],
            "limits": [{"uses": 100}],
        } | changes

    @staticmethod
    def digest_of(terms: dict[str, Any]) -> str:
        return terms_digest(terms_from(terms))

    @staticmethod
    def code_of(clipped: httpx.Response) -> str:
        return str(clipped.json()["credential_offer"]["grants"][GRANT]["pre-authorized_code"])

    @staticmethod
    def entry(kind: str, terms: dict[str, Any], at_ms: int, **more: Any) -> dict[str, Any]:
        """Data of a report about one promotion of the shop."""
        zone = terms.get("schedule", {}).get("time_zone", "UTC")
        entry = Entry(
            kind=kind,
            promotion_id=terms["promotion_id"],
            merchant=SHOP,
            at_ms=at_ms,
            day=day_of(at_ms, zone).isoformat(),
            terms_digest=World.digest_of(terms),
            **more,
        )
        return {"entry": msgspec.to_builtins(entry)}


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Hub:
    home = create_home(
        tmp_path / "hub",
        kind="hub",
        name="Test hub",
        url=HUB,
        now_ms=server_app.wall_clock_ms(),
        random=secrets.token_bytes,
        database_url=database_url,
        frames_url=FRAMES,
    )
    return Hub(home)


@pytest.fixture
async def world(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A running hub that knows a brand, the shop and the wallet server."""
    world = World(hub)
    monkeypatch.setattr(
        server_app,
        "make_http",
        lambda: httpx.AsyncClient(transport=httpx.MockTransport(world.answer)),
    )
    app = build_app(hub)
    async with app.lifespan():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport) as world.client:
            await world.register(world.shop)
            await world.register(world.wallet, scopes=PEER_SCOPES["wallet"] | {"replay"})
            world.brand_key = await world.make_key(
                "oaty", "brand", "promotions:read", "promotions:write"
            )
            world.admin_key = await world.make_key("operator", "operator", "admin")
            yield world


class Till:
    """A merchant's checkout, as far as its reports go."""

    def __init__(
        self, world: World, terms: dict[str, Any], frame: Frame, allotment_id: str
    ) -> None:
        self.world, self.terms, self.frame = world, terms, frame
        self.allotment_id = allotment_id

    async def token_id(self, clip_id: str = "clip-1") -> str:
        """A token in a holder's hand."""
        clipped = await self.world.clip(self.frame, self.terms["promotion_id"], clip_id)
        return self.world.claims(await self.world.take(clipped)).jti

    def entry(self, kind: str = "redeemed", **changes: Any) -> dict[str, Any]:
        """A report about a whole dollar, unless `changes` say otherwise."""
        base = {
            "redemption_id": "r1",
            "order_id": "order-1",
            "allotment_id": self.allotment_id,
            "amount_minor": 100,
            "currency": "USD",
            "is_direct": kind == "redeemed",
        }
        at_ms = changes.pop("at_ms", self.world.hub.base.clock())
        return self.world.entry(kind, self.terms, at_ms, **(base | changes))

    async def report(self, *entries: dict[str, Any]) -> None:
        await self.world.deliver(
            self.world.shop, *(("sconto.journal.reported.v1", entry) for entry in entries)
        )

    def state(self, redemption_id: str = "r1") -> tuple[str, str | None] | None:
        with self.world.hub.base.store.read() as connection:
            found = reports.get(connection, redemption_id)
        return None if found is None else (found.state, found.dispute)


@pytest.fixture
def till_of(world: World) -> Callable[..., Awaitable[Till]]:
    """Makes a till for a new promotion; arguments as of `World.promise`."""

    async def make(**changes: Any) -> Till:
        terms = await world.promise(**changes)
        frame = world.frame(terms)
        if terms["access"] == {"type": "token"}:
            assert (await world.publish(frame)).status_code == 201
        await world.settle_outbox()
        granted = world.shop.of_type("sconto.allotment.granted.v1")[-1]
        return Till(world, terms, frame, granted["allotment_id"])

    return make


@pytest.fixture
async def till(till_of: Callable[..., Awaitable[Till]]) -> Till:
    return await till_of()
