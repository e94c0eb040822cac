"""What the servers have of the world, replaced for the time of one run.

The wall clock, the HTTP client, the datastore's thread, the lock of the home and randomness belong
to the process; while a world runs they belong to its seed. `migrate` does nothing, since a
simulated disk starts as a copy of a migrated one. One world runs in a process at a time.
"""

import contextlib
import logging
import random
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy.engine import Engine

from sconto.servers import app
from sconto.store import writer
from sconto.store.database import migrate, open_engine
from sconto.store.writer import Store

#: Disks are files in memory where the machine has such a place.
MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108


@contextlib.contextmanager
def replaced(
    *,
    seed: str,
    wall_clock_ms: Callable[[], int],
    make_http: Callable[[], Any],
    make_store: Callable[..., Store],
) -> Iterator[None]:
    """Replace the ports of all servers of this process, and put them back."""
    bytes_of = Random(f"{seed}/servers")
    before_random = random.getstate()
    random.seed(f"{seed}/jitter")
    ports: list[tuple[Any, str, Any]] = [
        (app, "wall_clock_ms", wall_clock_ms),
        (app, "make_http", make_http),
        (app, "Store", make_store),
        (app, "migrate", lambda url: None),
        (app, "lock_home", lambda home: contextlib.nullcontext()),
        (writer, "open_engine", _engine),
        (secrets, "token_bytes", lambda size=32: bytes_of.randbytes(size or 32)),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in ports]
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    for owner, name, port in ports:
        setattr(owner, name, port)
    try:
        yield
    finally:
        for owner, name, port in before:
            setattr(owner, name, port)
        logging.disable(level)
        random.setstate(before_random)


@cache
def folder() -> Path:
    """Where the disks of this process's worlds are, one world after another."""
    made = Path(tempfile.mkdtemp(prefix="sconto-sim-", dir=MEMORY))
    # Not `atexit`: the workers of a pool do not run it.
    Finalize(None, shutil.rmtree, (made, True), exitpriority=1)
    return made


@cache
def _engine(url: str, *, read_only: bool = False) -> Engine:
    """Disks have the same names in every world, so that statements are compiled once."""
    return open_engine(url, read_only=read_only)


@cache
def blank_disk() -> bytes:
    """A migrated, empty database, made once per process."""
    path = folder() / "blank.db"
    migrate(f"sqlite:///{path}")
    return path.read_bytes()
