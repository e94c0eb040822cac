"""A process that sends requests to one path and times the answers.

`python -m sconto.bench.load` reads a `Load` from standard input and writes an `Outcome` to standard
output. The requests are made by hand over keep-alive connections, since a client library costs more
than the server that it measures. Closed loop: each connection sends its next request when it has
its answer. Open loop (`rate`): requests are due at fixed instants whatever the server does, wait
for a free connection where there is none, and are timed from when they were due; one that is never
answered counts with the time that it waited.

This module imports nothing of the servers: its process starts in a tenth of a second, not in three.
"""

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path
from typing import Protocol

import msgspec
import uvloop

#: Seconds before the measurement in which nothing is counted.
WARM_UP_S = 0.5
#: Seconds after it for the last answers.
DRAIN_S = 10.0


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server listens, and a key that its till has."""

    host: str
    port: int
    api_key: str


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to send."""

    place: Place
    path: str
    #: JSON of carts, sent in turn.
    carts: tuple[str, ...]
    #: Each request is an order of its own, with an id that starts so; None: no order id.
    order_prefix: str | None
    status: int
    connections: int
    seconds: float
    #: Requests per second; None: closed loop.
    rate: float | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came back in the measured time."""

    requests: int
    #: Those before and after it too.
    all_requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    #: Answers with another status than the expected one, and one of them.
    wrong: dict[int, int]
    wrong_body: str
    #: Of this process, to show that it is not what bounds the figure.
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def run(load: Load, server_pid: int) -> tuple[Outcome, float]:
    """Send a load from a process of its own; gives what came back, and the processor time that
    the server took for each request, in microseconds (0 where that is not told).

    Raises RuntimeError where an answer was wrong.
    """
    before = cpu_seconds(server_pid)
    done = subprocess.run(
        [sys.executable, "-m", "sconto.bench.load"],
        input=msgspec.json.encode(load),
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load on {load.path} failed, see above")
    after = cpu_seconds(server_pid)
    outcome = msgspec.json.decode(done.stdout, type=Outcome)
    if outcome.wrong or not outcome.requests:
        raise RuntimeError(
            f"{load.path} answered {outcome.wrong}, expected only {load.status}: "
            f"{outcome.wrong_body}"
        )
    taken = 0.0 if before is None or after is None else after - before
    return outcome, taken / outcome.all_requests * 1e6


def cpu_seconds(pid: int) -> float | None:
    """Processor time that a process and its children have taken; None where that is not told."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    user, system = stat.rpartition(")")[2].split()[11:13]
    own = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_seconds(int(child)) or 0.0 for child in children)


def peak_mib(pid: int) -> float | None:
    """The most memory that a process has had; None where that is not told."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if "VmHWM" in line)


def requests_of(load: Load) -> Iterator[bytes]:
    """The requests, without end."""
    head = (
        f"POST {load.path} HTTP/1.1\r\nhost: {load.place.host}:{load.place.port}\r\n"
        f"authorization: Bearer {load.place.api_key}\r\ncontent-type: application/json\r\n"
    ).encode()
    carts = cycle([cart.encode() for cart in load.carts])
    for number, cart in zip(count(), carts, strict=False):
        order = (
            b""
            if load.order_prefix is None
            else b'"order_id":"%s-%d",' % (load.order_prefix.encode(), number)
        )
        body = b'{%s"cart":%s}' % (order, cart)
        yield b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body)


class Sender(Protocol):
    """Who is told what comes back on a connection."""

    def answered(self, connection: "Connection", status: int, body: bytes) -> None: ...
    def lost(self, error: Exception | None) -> None: ...


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self.buffer = b""
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, request: bytes, since: float) -> None:
        self.since = since
        self.transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head_end = self.buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        at = self.buffer.find(b"content-length: ", 0, head_end) + 16
        body_end = head_end + 4 + int(self.buffer[at : self.buffer.find(b"\r\n", at)])
        if len(self.buffer) < body_end:
            return
        status, body = int(self.buffer[9:12]), self.buffer[head_end + 4 :]
        self.buffer = b""
        self.sender.answered(self, status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.sender.lost(exc)


class _Sender:
    """All connections of one load."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.requests = requests_of(load)
        self.loop = asyncio.get_running_loop()
        self.idle: deque[Connection] = deque()
        #: When the requests were due that no connection was free for.
        self.waiting: deque[float] = deque()
        self.times: list[float] = []
        self.wrong: Counter[int] = Counter()
        self.wrong_body = ""
        self.under_way = 0
        self.sent = 0
        self.is_over = False
        self.drained = self.loop.create_future()

    async def run(self) -> Outcome:
        load, loop = self.load, self.loop
        connections = [
            (
                await loop.create_connection(
                    lambda: Connection(self), load.place.host, load.place.port
                )
            )[1]
            for _ in range(load.connections)
        ]
        start = time.perf_counter()
        self.from_ = start + WARM_UP_S
        self.until = self.from_ + load.seconds
        cpu = _cpu_seconds()
        if load.rate is None:
            for connection in connections:
                self._send(connection, time.perf_counter())
            await asyncio.sleep(self.until - time.perf_counter())
        else:
            self.idle.extend(connections)
            await self._send_when_due(load.rate, start)
        self.is_over = True
        cpu = _cpu_seconds() - cpu
        if self.under_way or self.waiting:
            await self._drain(connections)
        times = sorted(self.times)
        return Outcome(
            requests=len(times),
            all_requests=self.sent,
            seconds=load.seconds,
            p50_ms=_percentile_ms(times, 50),
            p99_ms=_percentile_ms(times, 99),
            wrong=dict(self.wrong),
            wrong_body=self.wrong_body,
            cpu_seconds=cpu,
        )

    async def _send_when_due(self, rate: float, start: float) -> None:
        number = 0
        while (due := start + number / rate) < self.until:
            now = time.perf_counter()
            if due > now:
                await asyncio.sleep(due - now)
            if self.idle:
                self._send(self.idle.popleft(), due)
            else:
                self.waiting.append(due)
            number += 1

    async def _drain(self, connections: list[Connection]) -> None:
        """Wait for the last answers. What has none by then has at least waited for so long."""
        try:
            await asyncio.wait_for(asyncio.shield(self.drained), DRAIN_S)
        except TimeoutError:
            now = time.perf_counter()
            busy = [one.since for one in connections if one not in self.idle]
            unanswered = [since for since in (*self.waiting, *busy) if since >= self.from_]
            self.times += [now - since for since in unanswered]

    def _send(self, connection: Connection, since: float) -> None:
        self.under_way += 1
        self.sent += 1
        connection.send(next(self.requests), since)

    def answered(self, connection: Connection, status: int, body: bytes) -> None:
        now = time.perf_counter()
        self.under_way -= 1
        if status != self.load.status:
            self.wrong[status] += 1
            self.wrong_body = body[:500].decode("utf-8", "replace")
        elif self.load.rate is None:
            if self.from_ <= now < self.until:
                self.times.append(now - connection.since)
        elif connection.since >= self.from_:
            self.times.append(now - connection.since)
        if self.load.rate is None:
            if not self.is_over:
                self._send(connection, now)
        elif self.waiting:
            self._send(connection, self.waiting.popleft())
        else:
            self.idle.append(connection)
        if self.is_over and not self.under_way and not self.waiting and not self.drained.done():
            self.drained.set_result(None)

    def lost(self, error: Exception | None) -> None:
        if not self.drained.done() and (self.under_way or not self.is_over):
            self.drained.set_exception(RuntimeError(f"the server hung up: {error}"))


def _percentile_ms(times: list[float], percent: int) -> float:
    """Nearest rank, in milliseconds; 0 of nothing."""
    if not times:
        return 0.0
    return times[max(0, -(-len(times) * percent // 100) - 1)] * 1000


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _main(load: Load) -> Outcome:
    return await _Sender(load).run()


if __name__ == "__main__":
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_main(given))))
