"""A proxy between two servers: it passes on, or repeats requests, delays and loses answers.

python -m sconto.torture.proxy HOST:PORT TO_HOST:PORT      only passes bytes on

The servers sign each request, so a copy is the same request again, as a network or a retrying
gateway would make it: it is refused as a replay where it is recognised. What comes again with a new
signature is what the sender repeats, because its answer was lost.
"""

import asyncio
import random
import sys
from contextlib import suppress
from dataclasses import dataclass, field

READ_BYTES = 65536
HEAD_BYTES_MAX = 65536
_HUNG_UP = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


@dataclass
class Faults:
    """What may happen to a request, and what has."""

    random: random.Random
    is_on: bool = False
    copies_max: int = 5
    #: A request, and each copy, waits up to so long before it is passed on.
    delay_s: float = 0.05
    #: Of the answers, this part gets lost after the request was executed.
    lose: float = 0.25
    counts: dict[str, int] = field(
        default_factory=lambda: {"requests": 0, "copies": 0, "lost_answers": 0}
    )


class FaultProxy:
    """Listens on a port and passes HTTP/1.1 requests on to another, each 1 to 5 times."""

    def __init__(self, port: int, to_port: int, faults: Faults) -> None:
        self.port, self.to_port, self.faults = port, to_port, faults
        self._server: asyncio.Server | None = None
        self._late: set[asyncio.Task[bytes]] = set()
        self._connections: set[asyncio.Task[None] | None] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=HEAD_BYTES_MAX
        )

    async def stop(self) -> None:
        """Stop listening; what is under way is given up."""
        if self._server is not None:
            self._server.close()
        tasks = [task for task in (*self._late, *self._connections) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(task := asyncio.current_task())
        with suppress(*_HUNG_UP, asyncio.CancelledError):
            while await self._pass_on(reader, writer):
                pass
        self._connections.discard(task)
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; False: hang up."""
        request = await read_message(reader)
        faults = self.faults
        if not faults.is_on:
            writer.write(await self._execute(request, 0))
            await writer.drain()
            return True
        faults.counts["requests"] += 1
        copies = faults.random.randint(1, faults.copies_max)
        faults.counts["copies"] += copies - 1
        delays = [faults.random.uniform(0, faults.delay_s) for _ in range(copies)]
        # The copies may be late by far more, and come between later requests.
        tasks = [
            asyncio.create_task(self._execute(request, delay * (1 if i == 0 else 10)))
            for i, delay in enumerate(delays)
        ]
        for task in tasks[1:]:
            self._late.add(task)
            task.add_done_callback(self._done)
        answer = await tasks[0]
        if faults.random.random() < faults.lose:
            faults.counts["lost_answers"] += 1
            return False
        writer.write(answer)
        await writer.drain()
        return True

    def _done(self, task: asyncio.Task[bytes]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()

    async def _execute(self, request: bytes, delay_s: float) -> bytes:
        if delay_s:
            await asyncio.sleep(delay_s)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.to_port, limit=HEAD_BYTES_MAX
        )
        try:
            writer.write(request)
            await writer.drain()
            return await read_message(reader)
        finally:
            writer.close()


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """Head and body of one HTTP/1.1 message with a length; our servers make no others."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    return head + await reader.readexactly(length)


async def tunnel(listen: str, to: str) -> None:
    """Pass bytes on, for ever: an address of ours that leads into another namespace."""
    host, _, port = to.rpartition(":")

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(READ_BYTES):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, back), copy(there, writer))

    at, _, at_port = listen.rpartition(":")
    server = await asyncio.start_server(serve, at, int(at_port))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(tunnel(*sys.argv[1:3]))
