"""The edge of every server: who asks, is the document right, what is answered.

An endpoint is a function of a server and a `Call`; everything around it happens here, once:
1. the body is read to its bound and decoded strictly, unknown and doubled keys refused;
2. the caller is an API key, a signed-in browser, or a peer by its signature; its scope is checked;
3. the answer, a refusal or an error becomes JSON, the latter by the table in `problems.py`.
Endpoints are bare ASGI handlers: a till's request passes through as little code as possible.
"""

import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from sconto.base.clock import to_ms
from sconto.base.documents import decode
from sconto.base.errors import (
    InvalidInputError,
    LocalError,
    NotAuthenticatedError,
    NotFoundError,
    ScontoError,
    UnavailableError,
)
from sconto.servers import problems
from sconto.servers.limits import source_of
from sconto.servers.principal import Principal
from sconto.store import access
from sconto.store.writer import Tx

log = logging.getLogger("sconto.http")

#: Bytes of a body that has no larger bound of its own.
BODY_BYTES_MAX = 1 << 20
#: An oversized body is read and thrown away up to here, so that its sender hears the answer.
DRAIN_BYTES_MAX = 64 << 20
#: First instant of the year 9000: everything that is counted from an instant still has a date.
INSTANT_MAX_MS = 221_845_392_000_000
JSON = "application/json"
_QUERY_BYTES_MAX = 8192
#: What the frames' own origin has, and nothing else.
FRAMES_PATH = "/frames/"


class Answer(NamedTuple):
    """What an endpoint answers when it is not simply a document with the endpoint's status."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Stream(NamedTuple):
    """A body that is made while it is sent, because it would be too large to hold.

    An error on the way cuts the connection: the status is gone already.
    """

    chunks: AsyncGenerator[bytes]
    media_type: str
    headers: tuple[tuple[str, str], ...] = ()
    status: int = 200


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path, with all that the OpenAPI document says of it."""

    method: str
    path: str
    run: Callable[[Any, "Call"], Awaitable[Any]]
    summary: str
    #: Scope that the caller needs; `peer` for a signed request of a registered server; "" nobody's.
    scope: str
    #: Type of the document in the body, which is strict JSON unless `read` reads something else.
    accepts: Any = None
    #: A base of `accepts` that most bodies are, where only that can be decoded quickly.
    accepts_usually: Any = None
    accepts_type: str = JSON
    read: Callable[[bytes], Any] | None = None
    returns: Any = None
    status: int = 200
    max_bytes: int = BODY_BYTES_MAX
    media_type: str = JSON
    accepts_example: Any = None
    example: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    #: Errors about signatures are about the document, not about the caller.
    is_about_document: bool = False
    #: A page for people: errors are HTML too (see pages/), the path is not in the API document.
    is_page: bool = False
    #: Whether it is refused at once while more wait for the writer than it can do soon.
    is_refused_when_busy: bool = False
    #: How errors are written, where a standard has its own form for them (OAuth); else a problem.
    write_error: Callable[[ScontoError], Answer] | None = None


def endpoint(
    method: str, path: str, *, summary: str, scope: str, **options: Any
) -> Callable[[Callable[[Any, "Call"], Awaitable[Any]]], Endpoint]:
    """Declare an endpoint; `options` are the fields of `Endpoint`."""

    def declare(run: Callable[[Any, Call], Awaitable[Any]]) -> Endpoint:
        return Endpoint(method, path, run, summary, scope, **options)

    return declare


class Call:
    """One request, read and authenticated."""

    __slots__ = (
        "body",
        "client",
        "document",
        "endpoint",
        "header_list",
        "headers",
        "is_read",
        "method",
        "now_ms",
        "params",
        "principal",
        "query",
        "raw_target",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        scope: Scope,
        body: bytes,
        now_ms: int,
    ) -> None:
        self.endpoint = endpoint
        self.body = body
        self.now_ms = now_ms
        self.method: str = scope["method"]  # type: ignore[typeddict-item]
        #: The other end of the connection, as the server that listens says it.
        self.client = scope.get("client")
        self.header_list: list[tuple[bytes, bytes]] = list(scope["headers"])
        self.headers = dict(self.header_list)
        self.params: dict[str, Any] = scope.get("path_params", {})
        if any("\0" in value for value in self.params.values()):  # PostgreSQL has no such text
            raise NotFoundError("there is nothing at this address")
        raw_query = scope.get("query_string", b"")
        path = scope.get("raw_path") or scope["path"].encode()
        self.raw_target: str = path.decode("latin-1") + (
            f"?{raw_query.decode('latin-1')}" if raw_query else ""
        )
        self.query: dict[str, str] = _query(raw_query) if raw_query else {}
        self.document: Any = None
        #: Whether the caller and the form of the body were found right.
        self.is_read = False
        self.principal: Principal = NOBODY

    @property
    def source(self) -> str:
        """Whom to count wrong guesses against: the network address that the call came from."""
        return source_of(self.client)

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def cookies(self) -> dict[str, str]:
        """Cookies by name; of two with one name, the first."""
        result: dict[str, str] = {}
        for part in (self.header(b"cookie") or "").split(";"):
            name, separator, value = part.strip().partition("=")
            if separator:
                result.setdefault(name, value)
        return result

    def form(self) -> dict[str, str]:
        """The fields of a submitted HTML form."""
        return _query(self.body) if self.body else {}

    def at_ms(self, at: datetime | None) -> int:
        """The instant that the business happens at: now, or what a `replay` caller says."""
        if at is None:
            return self.now_ms
        self.principal.require("replay")
        return instant_ms(at)

    def limit(self, default: int = 50, most: int = 1000) -> int:
        """`limit` of a list, bounded."""
        text = self.query.get("limit")
        if text is None:
            return default
        is_number = text.isascii() and text.isdigit() and len(text) <= 9
        if not is_number or not 1 <= int(text) <= most:
            raise InvalidInputError(f"limit must be 1 to {most}", field="limit")
        return int(text)

    def require_media_type(self, expected: str) -> None:
        """A body that says what it is must be what is wanted; one that does not say is tried."""
        stated = self.header(b"content-type")
        if stated is None or stated.partition(";")[0].strip().lower() == expected:
            return
        raise InvalidInputError(
            f"the body must be {expected}",
            code="unsupported_media_type",
            field="Content-Type",
            remedy=f"send it with Content-Type: {expected}",
        )

    def body_hash(self) -> bytes:
        return hashlib.sha256(self.body).digest()

    def once(self, command: Callable[[Tx], Any]) -> Callable[[Tx], Any]:
        """The command, run once per `Idempotency-Key`: repeated, it gives the first reply.

        Without the header it is the command. The reply is kept in the command's transaction.
        """
        key = self.header(b"idempotency-key")
        if key is None:
            return command
        if not 1 <= len(key) <= 128 or not key.isascii() or not key.isprintable():
            raise InvalidInputError(
                "an Idempotency-Key has 1 to 128 printable ASCII characters",
                field="Idempotency-Key",
            )
        operation = f"{self.endpoint.method} {self.endpoint.path}"
        body_hash = hashlib.sha256(self.raw_target.encode() + b"\n" + self.body).digest()
        tenant_id = self.principal.tenant_id

        def run(tx: Tx) -> Any:
            known = access.replied(tx, tenant_id, operation, key, body_hash)
            if known is not None:
                return Answer(known.body, known.status)
            answer = encode_answer(self.endpoint, command(tx))
            reply = access.Reply(answer.status, answer.body)
            access.keep_reply(tx, tenant_id, operation, key, body_hash, reply)
            return answer

        return run


def instant_ms(at: datetime, field: str = "at") -> int:
    """Milliseconds of an instant in a document; InvalidInputError for one that cannot be meant."""
    if at.tzinfo is None:
        raise InvalidInputError("at needs a UTC offset", field=field, remedy="end it with Z")
    at_ms = to_ms(at)
    if not 0 <= at_ms <= INSTANT_MAX_MS:
        raise InvalidInputError("at is not between the years 1970 and 9000", field=field)
    return at_ms


NOBODY = Principal("", "nobody", frozenset())


def encode_answer(endpoint: Endpoint, value: Any) -> Answer:
    """An endpoint's result as bytes."""
    if isinstance(value, Answer):
        return value
    if value is None:
        return Answer(b"", 204)
    return Answer(msgspec.json.encode(value), endpoint.status, endpoint.media_type)


def handler(server: Any, endpoints: Mapping[str, Endpoint]) -> ASGIApp:
    """The ASGI handler of one path; `endpoints` by method.

    `server.base` authenticates callers and renders the error pages.
    """

    is_of_frames = next(iter(endpoints.values())).path.startswith(FRAMES_PATH)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        method = scope["method"]  # type: ignore[typeddict-item]
        found = endpoints.get("GET" if method == "HEAD" else method)
        answer: Answer | Stream
        call: Call | None = None
        frames_url = server.base.home.frames_url
        if frames_url is not None and not is_of_frames and _is_asked_by(scope, frames_url):
            answer = not_found_answer()
        elif found is None:
            answer = _method_not_allowed(endpoints)
        else:
            answer, call = await _answer(server, found, scope, receive)
        await _send(send, answer, is_head=method == "HEAD")
        if log.isEnabledFor(logging.INFO):
            log.info(
                "request",
                extra={
                    "method": method,
                    "route": (found or next(iter(endpoints.values()))).path,
                    "status": answer.status,
                    "ms": round((time.perf_counter() - started) * 1000, 1),
                    "tenant": call.principal.tenant_id if call else "",
                },
            )

    return handle


def _is_asked_by(scope: Scope, url: str) -> bool:
    """Whether a request came to the host of this URL."""
    host = urlsplit(url).netloc.encode()
    headers: Any = scope["headers"]
    return any(name == b"host" and value.lower() == host for name, value in headers)


async def _answer(
    server: Any, endpoint: Endpoint, scope: Scope, receive: Receive
) -> tuple[Answer | Stream, Call | None]:
    call: Call | None = None
    try:
        body = await read_body(scope, receive, endpoint.max_bytes)
        if endpoint.is_refused_when_busy:  # before any work: there are many of these then
            server.base.store.check_not_overloaded()
        call = Call(endpoint, scope, body, server.base.clock())
        if endpoint.scope:
            call.principal = await server.base.authenticate(call)
            if endpoint.scope == "peer":
                if call.principal.peer_url is None:
                    raise NotAuthenticatedError(
                        "only a registered server may do this, by a signed request",
                        code="signature_missing",
                        field="Signature",
                    )
            elif endpoint.scope != "any":
                call.principal.require(endpoint.scope)
        if endpoint.read is not None:
            call.document = endpoint.read(body)
        elif endpoint.accepts is not None:
            call.require_media_type(endpoint.accepts_type)
            call.document = decode(
                body,
                endpoint.accepts,
                max_bytes=endpoint.max_bytes,
                what="body",
                usual=endpoint.accepts_usually,
            )
        call.is_read = True
        value = await endpoint.run(server, call)
        return value if isinstance(value, Stream) else encode_answer(endpoint, value), call
    except ScontoError as error:
        answer = await problem_answer(server, endpoint, call, error)
        return answer, call
    except Exception:
        log.exception("a request failed by our own mistake", extra={"route": endpoint.path})
        mistake = ScontoError(
            "this server made a mistake; nothing was changed", code="internal_error"
        )
        document = problems.problem(mistake) | {"status": 500}
        return Answer(problems.encode(document), 500, problems.MEDIA_TYPE), call


async def problem_answer(
    server: Any, endpoint: Endpoint, call: Call | None, error: ScontoError
) -> Answer:
    """An error as a problem document, or as a page where people look at it."""
    if endpoint.write_error is not None:
        return endpoint.write_error(error)
    is_document = (
        endpoint.is_about_document
        and call is not None
        and call.is_read
        and isinstance(error, InvalidInputError)
    )
    document = problems.problem(error, is_document=is_document)
    headers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, UnavailableError):
        headers = (("retry-after", str(error.retry_after_s)),)
    if endpoint.is_page and call is not None:
        page: Answer = server.base.pages.error(call, document)
        return page._replace(headers=(*page.headers, *headers))
    if document["status"] == 401:
        headers = (("www-authenticate", "Bearer"),)
    return Answer(problems.encode(document), document["status"], problems.MEDIA_TYPE, headers)


async def read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """The body, up to its bound.

    Raises InvalidInputError (`too_large`) after throwing the rest away, so that the sender is
    still there to hear it. How long it may take, the protocol says (`protocol.py`).
    """
    message: Any = await receive()
    if message["type"] == "http.disconnect":
        raise InvalidInputError("the request was cut off", code="cut_off")
    if not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) <= max_bytes:
            return body
        raise _too_large(max_bytes)
    chunks = [message.get("body", b"")]
    size = len(chunks[0])
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidInputError("the request was cut off", code="cut_off")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= max_bytes:
            chunks.append(chunk)
        else:
            chunks.clear()
        if size > DRAIN_BYTES_MAX:
            break
    if size > max_bytes:
        raise _too_large(max_bytes)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> InvalidInputError:
    return InvalidInputError(
        f"the body is larger than {max_bytes} bytes",
        code="too_large",
        field="body",
        remedy="send less, or several requests",
        limit_bytes=max_bytes,
    )


def _query(raw: bytes) -> dict[str, str]:
    if len(raw) > _QUERY_BYTES_MAX:
        raise InvalidInputError("the query is too long", code="too_large", field="query")
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50
        )
    except ValueError:
        raise InvalidInputError("the query cannot be read", field="query") from None
    for name, value in pairs:
        if "\0" in value:
            raise InvalidInputError(f"{name[:100]} has a NUL in it", field=name[:100])
    return dict(pairs)


def _method_not_allowed(endpoints: Mapping[str, Endpoint]) -> Answer:
    allowed = ", ".join(sorted(endpoints))
    error = LocalError(
        "this path has no such method", code="method_not_allowed", remedy=f"use {allowed}"
    )
    document = problems.problem(error)
    return Answer(problems.encode(document), 405, problems.MEDIA_TYPE, (("allow", allowed),))


def not_found_answer() -> Answer:
    """The answer of a path that no endpoint has."""
    error = NotFoundError("there is nothing at this address", remedy="see /schema")
    return Answer(problems.encode(problems.problem(error)), 404, problems.MEDIA_TYPE)


_SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    # `no-referrer` would make a form of ours come from the origin "null".
    (b"referrer-policy", b"same-origin"),
)


async def _send(send: Send, answer: Answer | Stream, *, is_head: bool) -> None:
    headers = list(_SAFE_HEADERS)
    if isinstance(answer, Stream) or answer.body:
        headers.append((b"content-type", answer.media_type.encode()))
    if isinstance(answer, Answer):
        headers.append((b"content-length", str(len(answer.body)).encode()))
    has_cache = False
    for name, value in answer.headers:
        has_cache = has_cache or name == "cache-control"
        headers.append((name.encode(), value.encode()))
    if not has_cache:
        headers.append((b"cache-control", b"no-store"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = b"" if is_head or isinstance(answer, Stream) else answer.body
    if isinstance(answer, Stream):
        async with contextlib.aclosing(answer.chunks) as chunks:
            if not is_head:
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": body, "more_body": False})
