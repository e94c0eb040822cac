"""The network of the simulation: a request and its reply meet their fates separately.

A request is delivered, lost, delayed, or delivered twice (and executed twice); its reply is
delivered, lost, delayed, or cut off after the server has done its work. Links can be cut in one
direction or both; a clogged host gets its messages when it is unclogged. A request that arrives is
one task of the server, which goes on when the caller has hung up.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

import httpx

from sconto.simulate.loop import LIFE, Life, Loop
from sconto.simulate.trace import Trace

CONNECT_S = 3.0
READ_S = 10.0


class Request(NamedTuple):
    """An HTTP request on its way."""

    method: str
    #: Scheme and host; then path and query as they are on the wire.
    origin: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @classmethod
    def of(cls, method: str, url: str, headers: Mapping[str, str], body: bytes) -> "Request":
        """From an absolute URL without a fragment."""
        scheme, _, rest = url.partition("://")
        host, slash, target = rest.partition("/")
        lines = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
        lines.append((b"host", host.encode()))
        lines.append((b"content-length", str(len(body)).encode()))
        return cls(method, f"{scheme}://{host}", slash + target or "/", lines, body)


@dataclass
class Response:
    """What came back, with what our servers ask of an `httpx.Response`."""

    status_code: int
    headers: dict[str, str]
    content: bytes

    @property
    def reason_phrase(self) -> str:
        return httpx.codes.get_reason_phrase(self.status_code)

    @property
    def text(self) -> str:
        return self.content.decode()

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        yield self.content

    async def aclose(self) -> None:
        """Nothing is open."""


class Station(Protocol):
    """Whoever can be called: a host."""

    name: str
    url: str
    life: Life | None
    app: Any


class Audit(Protocol):
    def answered(self, host: str, label: str, status: int, body: bytes) -> None:
        """A server has answered."""


@dataclass
class Weather:
    """Chances of the fates of one message, and delays in seconds."""

    drop: float = 0.0
    late: float = 0.0
    twice: float = 0.0
    reset: float = 0.0
    delay_s: float = 0.02
    late_s: float = 5.0


class Network:
    """Joins the hosts of one world."""

    def __init__(self, loop: Loop, faults: Random, trace: Trace, counts: Counter[str]) -> None:
        self._loop = loop
        self._faults = faults
        self._trace = trace
        self._counts = counts
        self._world = loop.context_of(Life("network"))
        self.weather = Weather()
        self.stations: dict[str, Station] = {}
        self.audit: Audit
        #: (from, to) pairs of names that nothing passes between, in this direction.
        self.cut: set[tuple[str, str]] = set()
        self.clogged: set[str] = set()
        self._open: dict[str, list[asyncio.Future[Response]]] = {}

    async def send(self, request: Request) -> Response:
        """Send in the name of the host that runs; raises what httpx raises when no answer comes."""
        source = LIFE.get().host
        station = self.stations.get(request.origin)
        if station is None:
            raise httpx.ConnectError("there is no such host")
        label = f"{request.method} {_place(request.target)} {source}>{station.name}"
        answer: asyncio.Future[Response] = self._loop.create_future()
        self._depart(source, station, request, label, answer)
        try:
            async with asyncio.timeout(READ_S):
                return await answer
        except TimeoutError:
            self._note("timed_out", source, label)
            raise httpx.ReadTimeout("no answer came") from None

    def crashed(self, name: str) -> None:
        """A host's connections are reset, or nobody tells the callers."""
        for answer in self._open.pop(name, []):
            if not answer.done() and self._faults.random() < 0.5:
                answer.set_exception(httpx.ReadError("connection reset"))

    def _depart(
        self,
        source: str,
        station: Station,
        request: Request,
        label: str,
        answer: "asyncio.Future[Response]",
    ) -> None:
        if self._draw(self.weather.drop):
            self._note("request_lost", source, label)
            return
        arrive = (source, station, request, label)
        self._later(self._delay("request"), self._arrive, *arrive, answer)
        if self._draw(self.weather.twice):
            self._note("request_doubled", source, label)
            self._later(self._delay("request"), self._arrive, *arrive, None)

    def _arrive(
        self,
        source: str,
        station: Station,
        request: Request,
        label: str,
        answer: "asyncio.Future[Response] | None",
    ) -> None:
        if (source, station.name) in self.cut:
            self._note("request_cut", station.name, label)
            return
        if station.name in self.clogged:
            self._note("clogged", station.name, label)
            self._later(
                self._faults.uniform(0.1, 0.5),
                self._arrive, source, station, request, label, answer,
            )  # fmt: skip
            return
        life = station.life
        if life is None or life.is_over:
            self._note("refused_connection", station.name, label)
            if answer is not None and not answer.done():
                answer.set_exception(httpx.ConnectError("connection refused"))
            return
        self._note("arrived", station.name, label)
        if answer is not None:
            self._open.setdefault(station.name, []).append(answer)
        self._loop.create_task(
            self._serve(source, station, life, request, label, answer),
            context=self._loop.context_of(life),
        )

    async def _serve(
        self,
        source: str,
        station: Station,
        life: Life,
        request: Request,
        label: str,
        answer: "asyncio.Future[Response] | None",
    ) -> None:
        status, headers, content = await call_app(station.app, request)
        self._note("answered", station.name, f"{label} {status}")
        self.audit.answered(station.name, label, status, content)
        if answer is None:
            return
        if station.name in self._open and answer in self._open[station.name]:
            self._open[station.name].remove(answer)
        response = Response(status, headers, content)
        if (station.name, source) in self.cut:
            self._note("reply_cut", station.name, label)
        elif self._draw(self.weather.drop):
            self._note("reply_lost", station.name, label)
        elif self._draw(self.weather.reset):
            self._note("reply_reset", station.name, label)
            self._later(0.001, _fail, answer, httpx.ReadError("connection reset"))
        else:
            self._later(self._delay("reply"), _fulfil, answer, response)

    def _delay(self, what: str) -> float:
        if self._draw(self.weather.late):
            self._counts[f"{what}_late"] += 1
            return self._faults.uniform(self.weather.delay_s, self.weather.late_s)
        return self._faults.uniform(0.0005, self.weather.delay_s)

    def _draw(self, chance: float) -> bool:
        return chance > 0 and self._faults.random() < chance

    def _later(self, delay_s: float, callback: Any, *args: Any) -> None:
        self._loop.call_later(delay_s, callback, *args, context=self._world.copy())

    def _note(self, kind: str, host: str, label: str) -> None:
        self._counts[kind] += 1
        self._trace.add(kind, host, label)


class Wire:
    """What a server sends with: the part of `httpx.AsyncClient` that our servers use."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def build_request(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes = b""
    ) -> Request:
        return Request.of(method, url, headers, content)

    async def send(self, request: Request, *, stream: bool) -> Response:
        return await self._network.send(request)

    async def aclose(self) -> None:
        """Nothing is open."""


async def call_app(app: Any, request: Request) -> tuple[int, dict[str, str], bytes]:
    """One request to an ASGI application: status, headers, body."""
    raw_path, _, query = request.target.partition("?")
    scheme, _, host = request.origin.partition("://")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": scheme,
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": request.headers,
        "client": ("192.0.2.1", 1),
        "server": (host, 443),
    }
    inbox = [{"type": "http.request", "body": request.body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        return inbox.pop() if inbox else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    content = b"".join(one.get("body", b"") for one in sent[1:])
    headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in sent[0]["headers"]}
    return sent[0]["status"], headers, content


def _place(target: str) -> str:
    """A short name of what is asked for: `/v1/events` is `events`."""
    return target.partition("?")[0].split("/", 3)[2][:24]


def _fulfil(answer: "asyncio.Future[Response]", response: Response) -> None:
    if not answer.done():
        answer.set_result(response)


def _fail(answer: "asyncio.Future[Response]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
