"""Opening a database: SQLite with full durability, or PostgreSQL, by its URL; and its schema.

SQLite older than 3.51.3 can corrupt a WAL database when several connections write or checkpoint,
so exactly one connection does both and all others are opened read-only.
"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Engine, make_url

from sconto.base.errors import InvalidInputError

#: Seconds that PostgreSQL may take to answer one statement before we give up on it.
STATEMENT_TIMEOUT_S = 30
READERS_MAX = 8


def open_engine(url: str, *, read_only: bool = False) -> Engine:
    """An engine for a database URL, `sqlite:///path` or `postgresql+psycopg://…`.

    Raises InvalidInputError for another kind of database.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(Path(parsed.database or ""), read_only=read_only)
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
        options = f"-c statement_timeout={STATEMENT_TIMEOUT_S * 1000} -c timezone=UTC"
        return sa.create_engine(
            parsed,
            pool_size=READERS_MAX if read_only else 1,
            max_overflow=0,
            pool_pre_ping=read_only,
            connect_args={"options": options},
        )
    raise InvalidInputError(
        f"{parsed.get_backend_name()} is not a database that we know",
        field="database_url",
        remedy="use sqlite:///path or postgresql://user@host/name",
    )


def _sqlite(path: Path, *, read_only: bool) -> Engine:
    mode = "ro" if read_only else "rwc"
    engine = sa.create_engine(
        f"sqlite:///file:{path}?mode={mode}&uri=true",
        pool_size=READERS_MAX if read_only else 1,
        max_overflow=0,
        poolclass=sa.QueuePool,
        connect_args={"check_same_thread": False, "timeout": 10},
    )

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        cursor = connection.cursor()
        if not read_only:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA cache_size=-65536")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def migrate(url: str) -> None:
    """Bring the schema of a database to the newest version; nothing happens when it is there."""
    engine = open_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
