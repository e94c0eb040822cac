"""The wire: slow, endless and cut off requests, sent by hand over real sockets to a small app."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from sconto.servers import protocol
from sconto.servers.protocol import BoundedProtocol

pytestmark = pytest.mark.anyio

WITHIN_S = 0.4
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class App:
    """Answers with how long the body was; remembers who was cut off."""

    def __init__(self) -> None:
        self.cut_off = 0
        self.answered = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.cut_off += 1
                return
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        await self.gate.wait()
        body = str(size).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self.answered += 1


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[App, int]]:
    """The app behind the protocol, and its port; a request may take 0.4 seconds here."""
    monkeypatch.setattr(protocol, "REQUEST_WITHIN_S", WITHIN_S)
    app = App()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=BoundedProtocol, ws="none", lifespan="off", log_config=None, loop="none"
    )
    server = uvicorn.Server(config)
    with contextlib.ExitStack() as stack:
        stack.enter_context(listener)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield app, listener.getsockname()[1]
        app.gate.set()
        server.should_exit = True
        await task


class Wire:
    """A client that sends bytes when it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def drip(self, data: bytes, pause_s: float = 0.05) -> None:
        for byte in data:
            await self.send(bytes([byte]))
            await asyncio.sleep(pause_s)

    async def rest(self) -> bytes:
        """Everything until the server closes, which it must do soon."""
        return await asyncio.wait_for(self.reader.read(), 30)


@contextlib.asynccontextmanager
async def connect(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_ordinary_requests_pass_also_on_an_old_connection(served: Any) -> None:
    """Many on one connection, with pauses longer than a single request may take."""
    app, port = served
    async with connect(port) as wire:
        for _ in range(3):
            await wire.send(POST + b"0123456789")
            answer = await wire.reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200")
            assert await wire.reader.readexactly(2) == b"10"
            await asyncio.sleep(WITHIN_S * 1.2)
        await wire.send(POST + b"01234")
        await asyncio.sleep(WITHIN_S / 2)
        await wire.send(b"56789")
        assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert app.answered == 4


async def test_a_body_that_drips_is_cut_off(served: Any) -> None:
    _, port = served
    async with connect(port) as wire:
        dripping = asyncio.create_task(wire.drip(POST[:-1] + b"\n0123456", 0.03))
        answer = await wire.rest()
        dripping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await dripping
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"too_slow"' in answer
    assert b"application/problem+json" in answer


async def test_who_waits_for_the_body_is_woken(served: Any) -> None:
    """Goal: no task waits for ever. Method: the head at once, of the body only a part."""
    app, port = served
    async with connect(port) as wire:
        await wire.send(POST + b"0123")
        answer = await wire.rest()
    assert answer.startswith(b"HTTP/1.1 408 ")
    for _ in range(100):
        if app.cut_off:
            break
        await asyncio.sleep(0.01)
    assert (app.cut_off, app.answered) == (1, 0)


async def test_a_head_that_never_ends_is_cut_off(served: Any) -> None:
    _, port = served
    async with connect(port) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nhost: x\r\nx-a: 1")
        assert (await wire.rest()).startswith(b"HTTP/1.1 408 ")


async def test_a_silent_connection_is_closed(served: Any) -> None:
    _, port = served
    async with connect(port) as wire:
        assert await wire.rest() == b""


async def test_large_headers_are_refused_also_when_they_come_at_once(served: Any) -> None:
    _, port = served
    for size, status in ((60_000, 200), (70_000, 431), (150_000, 431)):
        async with connect(port) as wire:
            await wire.send(b"GET / HTTP/1.1\r\nhost: x\r\nx-b: " + b"a" * size + b"\r\n\r\n")
            answer = await wire.reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 %d " % status), size
    async with connect(port) as wire:
        await wire.send(GET.replace(b"/ HTTP", b"/" + b"a" * 70_000 + b" HTTP"))
        assert (await wire.reader.readline()).startswith(b"HTTP/1.1 4")


async def test_a_large_body_right_behind_the_head_is_no_large_head(served: Any) -> None:
    _, port = served
    async with connect(port) as wire:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n"
        await wire.send(head + b"x" * 200_000)
        assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await wire.reader.readexactly(6) == b"200000"


@pytest.mark.parametrize("line", [b"x-a: " + b"a" * 993 + b"\r\n", b"a" * 1000])
async def test_headers_are_bounded(served: Any, line: bytes) -> None:
    """Many headers, or one without an end: 431 where the sender listens."""
    _, port = served
    async with connect(port) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nhost: x\r\nx-b: ")
        await asyncio.sleep(0.05)
        await wire.send(line * (protocol.HEAD_BYTES_MAX // 1000 + 1))
        assert (await wire.rest()).startswith(b"HTTP/1.1 431 ")


async def test_headers_without_an_end_do_not_fill_the_memory(served: Any) -> None:
    """Whoever does not listen is cut off all the same."""
    _, port = served
    async with connect(port) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nhost: x\r\nx-b: ")
        closed = asyncio.create_task(wire.rest())
        sent = 0
        while not closed.done() and sent < 20_000_000:
            await wire.send(b"a" * 100_000)
            sent += 100_000
            await asyncio.sleep(0)
        await closed
        assert sent < 20_000_000


async def test_what_is_no_http_is_refused(served: Any) -> None:
    _, port = served
    async with connect(port) as wire:
        await wire.send(b"\x16\x03\x01\x02\x00 hello")
        assert (await wire.rest()).startswith(b"HTTP/1.1 400 ")


async def test_an_answer_under_way_is_not_broken_by_a_stalled_second_request(served: Any) -> None:
    """Goal: a 408 is never taken for the answer to the request before. Method: pipelining."""
    app, port = served
    app.gate.clear()
    async with connect(port) as wire:
        await wire.send(GET + b"GET / HTTP/1.1\r\nhos")
        answer = await wire.rest()
    assert b"408" not in answer
    app.gate.set()
