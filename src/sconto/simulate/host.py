"""One server of the simulation: the real server on a simulated machine.

The machine has a clock that may be wrong, a disk that may be slow or full, and no mercy: a crash
drops the process as it stands, also between a commit and its reply, and what starts again is built
from the disk, where nothing is but what was committed.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, cast

import sqlalchemy as sa

from sconto.servers.app import Server, build_app
from sconto.servers.config import Home
from sconto.servers.hub import Hub
from sconto.servers.merchant import Merchant
from sconto.servers.wallet import Wallet
from sconto.simulate.loop import Life, Loop
from sconto.simulate.trace import Trace
from sconto.store.writer import BATCH_MAX, Store

#: Simulated time starts here: 2026-12-01, three seconds before a day begins in Los Angeles.
START_MS = 1_796_111_997_000


class Crashed(BaseException):
    """The process ends here, without a word."""


@dataclass
class Disk:
    """How a disk behaves, and where the process dies at a commit."""

    path: Path
    delay_s: float = 0.002
    batch_max: int = BATCH_MAX
    is_full: bool = False
    #: Chances of a crash at each commit.
    crash_before: float = 0.0
    crash_after: float = 0.0
    #: Ablation: a crash loses commits that were acknowledged (SQLite's synchronous=NORMAL).
    forgets: bool = False

    def image(self) -> bytes:
        """What is durable on it."""
        source = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        target = sqlite3.connect(":memory:")
        try:
            source.backup(target)
            return target.serialize()
        finally:
            source.close()
            target.close()

    def write(self, image: bytes) -> None:
        """Put an image on it, in place of what was there."""
        self.path.parent.mkdir(exist_ok=True)
        for end in ("", "-wal", "-shm"):  # a new file: who has the old one open keeps that
            Path(f"{self.path}{end}").unlink(missing_ok=True)
        self.path.write_bytes(image)


class _Store(Store):
    """A datastore whose readers are kept: there is one thread, so none waits for another."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._readers: list[sa.Connection] = []

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        connection = self._readers.pop() if self._readers else self._read_engine.connect()
        try:
            with connection.begin():
                yield connection
        finally:
            self._readers.append(connection)

    def close(self) -> None:
        for connection in self._readers:
            connection.close()
        self._readers.clear()
        super().close()


class _Slot:
    """Stands for the server that runs at an application now, so that one is built per process."""

    def __init__(self, kind: type[Any]) -> None:
        self._kind = kind
        self.server: Any = None

    @property
    def endpoints(self) -> Any:
        return self._kind.endpoints

    def __getattr__(self, name: str) -> Any:
        return getattr(self.server, name)


KINDS = {"hub": Hub, "merchant": Merchant, "wallet": Wallet}
#: Applications by the name of the host: routes are the same in every world.
_APPS: dict[str, tuple[_Slot, Any]] = {}


def _app_of(name: str, server: Any) -> Any:
    """The application of a host, with `server` in it."""
    if name not in _APPS:
        slot = _Slot(type(server))
        slot.server = server
        _APPS[name] = (slot, build_app(cast(Server, slot)))
    slot, app = _APPS[name]
    slot.server = server
    return app


class Host:
    """A hub, a merchant or a wallet server, in one life after another."""

    def __init__(
        self,
        home: Home,
        image: bytes,
        loop: Loop,
        faults: Random,
        trace: Trace,
        counts: Counter[str],
    ) -> None:
        self.name = home.name
        self.home = home
        self.url = home.url
        self.life: Life | None = None
        self.server: Any = None
        self.skew_ms = 0
        self.disk = Disk(Path(home.database_url.removeprefix("sqlite:///")))
        self.first_image = image
        self.disk.write(image)
        #: Told after each durable commit, before anybody hears of it.
        self.on_commit: Callable[[Host], None] = lambda host: None
        self.on_crash: Callable[[Host], None] = lambda host: None
        self._loop = loop
        self._faults = faults
        self._trace = trace
        self._counts = counts
        self._store: Store | None = None
        self._starting: Life | None = None
        self._is_writing = False
        self._is_offline = False
        self._images: list[bytes] = []
        self.app: Any = None

    @property
    def is_up(self) -> bool:
        return self.life is not None and not self.life.is_over

    def clock(self) -> int:
        """What this machine believes the time to be, in milliseconds."""
        return START_MS + int(self._loop.time() * 1000) + self.skew_ms

    def make_store(self, url: str, *, source: str, clock: Callable[[], int]) -> Store:
        """The datastore of the server that is being started, without a thread."""
        self._store = _Store(url, source=source, clock=clock, on_queued=self._queued)
        self._store.on_point = self._point
        return self._store

    def start(self) -> Life:
        """Start a new life from the disk; the server is up once its own start has run."""
        life = Life(self.name)
        self.life = None
        self._is_writing = False
        context = self._loop.context_of(life)
        self._trace.add("start", self.name, "")

        async def run() -> None:
            await self.server.start()
            self.life = life

        def begin() -> None:
            kind = KINDS[self.home.kind]
            self.server = kind(self.home, self.clock)
            self.server.base.wall_clock = self.clock
            self.app = _app_of(self.name, self.server)
            self._loop.create_task(run())

        self._starting = life
        context.run(begin)
        return life

    def offline(self, work: Callable[[Any], Any]) -> None:
        """Build the server while it does not serve, as the command line does, and work with it."""
        self._is_offline = True
        server = self._loop.context_of(Life(self.name)).run(
            KINDS[self.home.kind], self.home, self.clock
        )
        work(server)
        server.base.store.close()
        self._is_offline = False

    def run(self, coroutine: Any) -> Any:
        """Run something inside this host's process, as a task of it."""
        if self.life is None:
            raise RuntimeError(f"{self.name} is not up")
        return self._loop.create_task(coroutine, context=self._loop.context_of(self.life))

    def crash(self, why: str) -> None:
        """End the process at once. Nothing of it runs any more."""
        if not self.is_up:
            return
        self._counts[f"crash_{why}"] += 1
        self._trace.add("crash", self.name, why)
        self.end()
        if self.disk.forgets and len(self._images) > 1:
            self.disk.write(self._images[-2])
        self.on_crash(self)

    def end(self) -> None:
        """Let go of the process and its handles on the disk."""
        if self._starting is not None:
            self._starting.is_over = True
        self.life = None
        if self._store is not None:
            self._store.close()

    # --- the writer -------------------------------------------------------------------------------

    def _queued(self) -> None:
        if self._is_offline and self._store is not None:
            self._store.run_batch()
        elif not self._is_writing:
            self._is_writing = True
            self._loop.call_later(self._faults.uniform(0.0002, self.disk.delay_s), self._write)

    def _write(self) -> None:
        store = self._store
        if store is None:
            return
        size_max = self._faults.randint(1, self.disk.batch_max)
        self._is_writing = False
        try:
            if store.run_batch(size_max) == size_max:
                self._queued()
        except Crashed as crashed:
            self.crash(str(crashed))

    def _point(self, point: str) -> None:
        """Before and after each commit."""
        disk = self.disk
        if self._is_offline:
            return
        if point == "committing":
            if disk.is_full:
                self._counts["disk_full"] += 1
                raise _full()
            if self._dies(disk.crash_before):
                raise Crashed("before_commit")
            return
        self._trace.add("commit", self.name, "")
        if disk.forgets:
            self._images = [*self._images[-3:], disk.image()]
        self.on_commit(self)
        if self._dies(disk.crash_after):
            raise Crashed("before_reply")

    def _dies(self, chance: float) -> bool:
        return self.is_up and chance > 0 and self._faults.random() < chance


def _full() -> sa.exc.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return sa.exc.OperationalError("COMMIT", None, error)
