"""What every server is made of, and how its endpoints become an application.

A server (`hub.Hub`, `merchant.Merchant`, `wallet.Wallet`) holds a `Base` and adds its endpoints and
event handlers. `Base` opens the datastore, knows the peers, authenticates, and delivers events.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import IO, Any, Protocol

import msgspec
import sqlalchemy as sa
from litestar import Litestar, Response
from litestar.exceptions import HTTPException
from litestar.handlers import asgi
from sqlalchemy.exc import SQLAlchemyError

import sconto
from sconto.base.errors import InvalidInputError, NotAuthenticatedError, UnavailableError
from sconto.base.keys import PublicKey
from sconto.federation.replay import ReplayGuard
from sconto.federation.signatures import PROFILE_PATH, SignedBy, verify_request
from sconto.servers import endpoint as edge
from sconto.servers import exchange as events
from sconto.servers.config import Home, lock_home
from sconto.servers.endpoint import Answer, Call, Endpoint, endpoint
from sconto.servers.limits import Guesses
from sconto.servers.openapi import openapi_document
from sconto.servers.pages import Pages, session
from sconto.servers.peers import Directory, PeerClient, make_http
from sconto.servers.principal import (
    KeyRing,
    Principal,
    session_key_id,
)
from sconto.store import access
from sconto.store.database import migrate
from sconto.store.processes import AGAIN_S, ANYTHING, Change
from sconto.store.writer import Store, Tx

log = logging.getLogger("sconto.server")

UCP_VERSION = "2026-08-25"


def wall_clock_ms() -> int:
    """The system's clock, in milliseconds."""
    return time.time_ns() // 1_000_000


class Base:
    """The parts that all servers have. `clock` is the business clock, in milliseconds."""

    def __init__(self, home: Home, clock: Callable[[], int] = wall_clock_ms) -> None:
        self.home = home
        self.clock = clock
        #: Freshness of signatures and proofs is about real time, whatever the business clock says.
        self.wall_clock = wall_clock_ms
        self.lock: IO[str] | None = None
        if home.process is None:  # else whoever started the processes has done it
            self.lock = lock_home(home)
            migrate(home.database_url)
        self.store = Store(home.database_url, source=home.url, clock=clock, process=home.process)
        self.store.on_change = self.changed
        self.key_ring = KeyRing()
        self.replays = ReplayGuard()
        self.pages = Pages(home)
        self.key_guesses = Guesses(
            "API keys", burst=100, every_ms=1000, burst_all=2000, every_all_ms=50
        )
        self.started_at_ms = wall_clock_ms()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Open connections to the outside; needs the event loop."""
        if self.home.process is not None:  # first: what is read below may be changed meanwhile
            self._loop = asyncio.get_running_loop()
        self.http = make_http()
        self.client = PeerClient(self.home, self.http, self.real_time_ms)
        self.directory = Directory(self.store, self.http, self.real_time_ms)
        # A merchant that was put back to an old copy must know before it spends.
        self.deliverer = events.Deliverer(
            self.store,
            self.client,
            asks_first=self.home.kind == "merchant",
            delivers=self.home.is_first,
        )
        await self.directory.start()
        await self.deliverer.start()

    def real_time_ms(self) -> int:
        """`wall_clock` as it is now: a simulation replaces it while the server stands."""
        return self.wall_clock()

    async def stop(self) -> None:
        """Stop delivering, finish what was accepted, close the datastore."""
        await self.deliverer.stop()
        await self.directory.stop()
        await self.http.aclose()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        self.store.close()
        if self.lock is not None:
            self.lock.close()

    def changed(self, change: Change) -> None:
        """This or another process has changed what is kept in memory. In any thread."""
        if change.kind == "key":
            self.key_ring.forget(change.subject)
        if change == ANYTHING:
            self.key_ring.forget_all()
        self.soon(self._take_up, change)

    def soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Call something in the event loop, for a change; nothing where this process is alone."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _take_up(self, change: Change) -> None:
        """In the event loop. After a failure everything is read again, so nothing stays old."""
        try:
            self._read_again(change)
        except UnavailableError as error:
            log.warning("a change was not taken up", extra={"why": str(error)})
            asyncio.get_running_loop().call_later(AGAIN_S, self._take_up, ANYTHING)

    def _read_again(self, change: Change) -> None:
        if change.kind == "peers" or change == ANYTHING:
            self.directory.reload()
        if change.kind == "alarm" or change == ANYTHING:
            self.deliverer.look_at_alarms()
        if change.kind == "outbox":
            self.deliverer.wake(change.subject)
        if change.kind == "heard":
            self.deliverer.heard_from(change.subject)
        if change == ANYTHING:
            self.deliverer.wake_all()

    async def authenticate(self, call: Call) -> Principal:
        """Who makes this call: an API key, a session cookie, or a peer by its signature.

        Raises NotAuthenticatedError or InvalidInputError with a code of RFC 9421's profile.
        """
        authorization = call.header(b"authorization")
        if authorization is not None:
            scheme, _, text = authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise NotAuthenticatedError("only bearer keys are accepted", field="Authorization")
            return self.principal_of_key(call, text)
        if call.header(b"signature") is not None:
            return await self.authenticate_peer(call)
        cookie = call.cookies().get(self.pages.cookie)
        if cookie is not None:
            return self._session(call, cookie)
        raise NotAuthenticatedError(
            "this needs an API key or a signed request",
            field="Authorization",
            remedy="send `Authorization: Bearer sconto_…`",
        )

    def principal_of_key(self, call: Call, text: str) -> Principal:
        """The principal of an API key.

        Raises NotAuthenticatedError; UnavailableError (`rate_limited`) after too many wrong keys
        from the caller's address, or from everywhere. A right key always works.
        """
        now_ms = self.wall_clock()
        try:
            return self.key_ring.principal(text, now_ms, self.store.read)
        except NotAuthenticatedError:
            self.key_guesses.failed(call.source, now_ms, field="Authorization")
            raise

    async def authenticate_peer(self, call: Call) -> Principal:
        """The registered server that signed this call; the errors of `verify_request`."""
        named: list[tuple[str, str]] = []

        def lookup(profile_url: str, kid: str) -> PublicKey | None:
            named.append((profile_url.removesuffix(PROFILE_PATH), kid))
            self.directory.trusted(named[0][0])
            return self.directory.known_keys(named[0][0]).get(kid)

        def verify() -> SignedBy:
            return verify_request(
                call.method,
                self.home.url,
                call.raw_target,
                [(k.decode("latin-1"), v.decode("latin-1")) for k, v in call.header_list],
                call.body,
                lookup,
                now_s=self.wall_clock() // 1000,
            )

        try:
            signed = verify()
        except InvalidInputError as error:
            # A key that we do not know yet may have been published since: look once, then again.
            if error.code != "key_not_found" or await self.directory.key(*named[0]) is None:
                raise
            signed = verify()
        peer = self.directory.trusted(signed.peer_url)
        if not self.replays.is_new(signed.signature_id, self.wall_clock()):
            raise NotAuthenticatedError(
                "this signed request was received before",
                code="signature_replayed",
                field="Signature",
                remedy="sign each request anew",
            )
        self.directory.heard_from(peer.url)
        return Principal(peer.tenant_id, peer.kind, peer.scopes, peer_url=peer.url)

    def _session(self, call: Call, cookie: str) -> Principal:
        now_ms = self.wall_clock()
        key_id = session_key_id(self.home.secret, cookie, now_ms)
        key = None if key_id is None else self.key_ring.get(key_id, now_ms, self.store.read)
        if key is None or key.revoked_at_ms is not None:
            raise NotAuthenticatedError(
                "the session is over", field="Cookie", remedy="sign in again"
            )
        self.pages.check_origin(call)
        return Principal(key.tenant_id, key.tenant_kind, key.scopes, key_id=key.key_id)

    def health(self) -> dict[str, Any]:
        """How it stands with the datastore and the peers; raises when it cannot work."""
        try:
            with self.store.read() as connection:
                connection.execute(sa.text("SELECT 1"))
        except SQLAlchemyError:
            raise UnavailableError(
                "the datastore does not answer", code="storage_unavailable"
            ) from None
        return {
            "status": "ready",
            "kind": self.home.kind,
            "version": sconto.__version__,
            "peers_failing": len(self.deliverer.failures),
            **({} if self.home.process is None else {"process": self.home.process}),
            **self._alarms(),
        }

    def _alarms(self) -> dict[str, Any]:
        """Peers that know more of this server than it does: then it must not go on as it is."""
        peers = sorted(self.deliverer.alarms)
        return {"status": events.RESTORED, "restored_for": peers} if peers else {}


class Server(Protocol):
    """What `build_app` needs of a server."""

    base: Base
    endpoints: Iterable[Endpoint]
    event_handlers: Mapping[str, events.Apply]

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def peer_added(self, tx: Tx, peer: access.Peer) -> None: ...


@endpoint(
    "GET", "/healthz", scope="", summary="Whether the process is alive", example={"status": "alive"}
)
async def health(server: Server, call: Call) -> dict[str, Any]:
    return {"status": "alive"}


@endpoint(
    "GET",
    "/readyz",
    scope="",
    summary="Whether requests can be served: the datastore answers",
    example={"status": "ready", "kind": "merchant", "version": "0.1.0", "peers_failing": 0},
)
async def ready(server: Server, call: Call) -> dict[str, Any]:
    return server.base.health()


@endpoint("GET", PROFILE_PATH, scope="", summary="Who this server is and which keys it signs with")
async def profile(server: Server, call: Call) -> Answer:
    home = server.base.home
    document = {
        "ucp": {"version": UCP_VERSION, "services": {}, "capabilities": {}, "payment_handlers": {}},
        "keys": [{**key.public.jwk, "kid": key.kid, "use": "sig"} for key in home.keys],
        "sconto": {
            "kind": home.kind,
            "name": home.name,
            "incarnation": home.incarnation,
            "frames_url": home.frames_url,
        },
    }
    return Answer(msgspec.json.encode(document), headers=(("cache-control", "public, max-age=60"),))


@endpoint("GET", "/schema/openapi.json", scope="", summary="This API as OpenAPI 3.1")
async def openapi(server: Server, call: Call) -> dict[str, Any]:
    return openapi_document(server.base.home, _declared(server))


@endpoint("GET", "/schema", scope="", summary="This API for people to read", is_page=True)
async def reference(server: Server, call: Call) -> Any:
    """A browser gets a page, everybody else the OpenAPI document."""
    if "text/html" not in (call.header(b"accept") or ""):
        return Answer(msgspec.json.encode(openapi_document(server.base.home, _declared(server))))
    return server.base.pages.answer(
        "reference.html", endpoints=[e for e in _declared(server) if not e.is_page]
    )


#: Endpoints that every server has.
COMMON = (
    health,
    ready,
    profile,
    events.receive_events,
    openapi,
    reference,
    *session.ENDPOINTS,
)


def _declared(server: Server) -> list[Endpoint]:
    return [*COMMON, *server.endpoints]


def build_app(server: Server) -> Litestar:
    """The ASGI application of a server: its endpoints and those that all servers have."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for declared in _declared(server):
        methods = by_path.setdefault(declared.path, {})
        if declared.method in methods:
            raise ValueError(f"{declared.method} {declared.path} is declared twice")
        methods[declared.method] = declared

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await server.start()
        log.info("serving", extra={"kind": server.base.home.kind, "url": server.base.home.url})
        try:
            yield
        finally:
            await server.stop()
            log.info("stopped", extra={"kind": server.base.home.kind})

    handlers = {path: edge.handler(server, methods) for path, methods in by_path.items()}
    # Litestar gives a path's parameters without their types.
    templates = {re.sub(r":\w+}", "}", path): handle for path, handle in handlers.items()}

    async def dispatch(scope: Any, receive: Any, send: Any) -> None:
        await templates[scope["path_template"]](scope, receive, send)

    # One handler for all paths: Litestar takes milliseconds for each handler that it is given.
    app = _App(
        [asgi(list(handlers), copy_scope=False)(dispatch)],
        lifespan=[lifespan],
        openapi_config=None,
        exception_handlers={HTTPException: _no_route},
        logging_config=None,
        middleware=[],
    )
    app.direct = {path: handle for path, handle in handlers.items() if "{" not in path}
    _mend_routes(app)
    return app


class _App(Litestar):
    """Litestar, but a path without parameters is looked up here: a till's requests have none."""

    direct: Mapping[str, Any] = {}

    @staticmethod
    def _get_default_plugins(plugins: list[Any]) -> list[Any]:
        """None: they are for handlers with typed parameters, and slow to look for."""
        return plugins

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        handle = self.direct.get(scope["path"]) if scope["type"] == "http" else None
        if handle is None:
            await super().__call__(scope, receive, send)
        else:
            await handle(scope, receive, send)


class _OfAnyMethod(dict[Any, Any]):
    def __missing__(self, method: str) -> Any:
        return self["asgi"]


def _mend_routes(app: Litestar) -> None:
    """Litestar 2.25 looks for a bare ASGI route's path parameters under the request's method, where
    they are not (`parse_path_to_route`): every path with a parameter would be a 500.
    """
    nodes = [app.asgi_router.root_route_map_node]
    while nodes:
        node = nodes.pop()
        if "asgi" in node.path_parameters:
            node.path_parameters = _OfAnyMethod(node.path_parameters)
        nodes += node.children.values()


def _no_route(_: Any, __: HTTPException) -> Any:
    answer = edge.not_found_answer()
    return Response(answer.body, status_code=answer.status, media_type=answer.media_type)
