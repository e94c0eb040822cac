"""A store on an empty database of each kind, with a clock that the test turns.

A process migrates one database of each kind and empties it for each test; a test that damages the
schema asks for `database_url` and `open_store` instead.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from sconto.store import Store, migrate, open_engine, promotions
from sconto.store.access import add_tenant
from sconto.store.schema import metadata
from sconto.store.writer import Tx

SOURCE = "https://shop.example"
NOON_MS = 1_500_000_000_000


class Clock:
    """Stands still until the test says otherwise."""

    def __init__(self) -> None:
        self.now_ms = NOON_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_store(clock: Clock) -> Iterator[Callable[[str], Store]]:
    """Opens stores by URL, with their schema, and closes them after the test."""
    opened: list[Store] = []

    def open_(url: str) -> Store:
        migrate(url)
        opened.append(Store(url, source=SOURCE, clock=clock))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with the newest schema, for the whole session."""
    url = f"sqlite:///{tmp_path_factory.mktemp('migrated') / 'sconto.db'}"
    migrate(url)
    return url


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> str:
    """The same on PostgreSQL."""
    engine = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE migrated"))
    engine.dispose()
    url = make_url(postgres_url).set(database="migrated").render_as_string()
    migrate(url)
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Store]:
    """A store on an empty database; a test that asks for it runs on both kinds."""
    yield from _empty_store(request.getfixturevalue(f"migrated_{request.param}"), clock)


@pytest.fixture
def sqlite_store(migrated_sqlite: str, clock: Clock) -> Iterator[Store]:
    yield from _empty_store(migrated_sqlite, clock)


@pytest.fixture
def postgres_store(migrated_postgres: str, clock: Clock) -> Iterator[Store]:
    yield from _empty_store(migrated_postgres, clock)


def _empty_store(url: str, clock: Clock) -> Iterator[Store]:
    engine = open_engine(url)
    with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.exec_driver_sql(f'DELETE FROM "{table.name}"')  # no time to compile it
    engine.dispose()
    store = Store(url, source=SOURCE, clock=clock)
    yield store
    store.close()


@pytest.fixture
def promotion(store: Store) -> str:
    """The id of a promotion that a brand has launched."""

    def launch(tx: Tx) -> str:
        add_tenant(tx, "acme", "brand", "Acme")
        version = promotions.Version("10-off", 1, "sha-256=:AAAA:", b"{}", "signature")
        promotions.save(tx, version, tenant_id="acme", hub=None, status="active", is_accepted=True)
        return version.promotion_id

    launched: str = store.write_now(launch)
    return launched


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes, mounted for the test; only root may do that."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk (tmpfs) needs root")
    where = tmp_path / "disk"
    where.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(where)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"this machine does not let root mount a tmpfs: {done.stderr.strip()}")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)
