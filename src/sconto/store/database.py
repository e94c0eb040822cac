"""Opening a database: SQLite with full durability, or PostgreSQL, by its URL; and its schema.

SQLite older than 3.51.3 can corrupt a WAL database when several connections write or checkpoint,
so exactly one connection does both and all others are opened read-only. A reader has one view of
the data from its first question on, in both databases.
"""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, OperationalError

from sconto.base.errors import InvalidInputError, UnavailableError

#: Seconds that PostgreSQL may take to answer one statement before we give up on it.
STATEMENT_TIMEOUT_S = 30
#: Seconds after which PostgreSQL gives up a transaction in which nothing happens.
IDLE_IN_TRANSACTION_S = 10
CONNECT_TIMEOUT_S = 5
READERS_MAX = 8

#: A server that is cut off from PostgreSQL notices within about 25 seconds.
_KEEPALIVE = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}


def open_engine(url: str, *, read_only: bool = False) -> Engine:
    """An engine for a database URL, `sqlite:///path` or `postgresql+psycopg://…`.

    Raises InvalidInputError for another kind of database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise _not_a_database("this") from None
    if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return _sqlite(Path(str(parsed.database)), read_only=read_only)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed, read_only=read_only)
    raise _not_a_database(parsed.get_backend_name())


def connect(engine: Engine) -> sa.Connection:
    """A connection; UnavailableError, with the database's words, where none can be made."""
    try:
        return engine.connect()
    except OperationalError as error:
        raise UnavailableError(
            f"the database cannot be opened: {error.orig}",
            code="storage_unavailable",
            field="database_url",
        ) from None


def _not_a_database(what: str) -> InvalidInputError:
    return InvalidInputError(
        f"{what} is not a database that we know",
        field="database_url",
        remedy="use sqlite:///path or postgresql://user@host/name",
    )


def _postgresql(url: URL, *, read_only: bool) -> Engine:
    options = [f"-c statement_timeout={STATEMENT_TIMEOUT_S * 1000}", "-c timezone=UTC"]
    # A process that stands still must not keep its locks from the others.
    options.append(f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_S * 1000}")
    if read_only:
        options.append("-c default_transaction_read_only=on")
        options.append(r"-c default_transaction_isolation=repeatable\ read")
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=READERS_MAX if read_only else 1,
        max_overflow=0,
        hide_parameters=True,  # an error's text goes to the log, and parameters may be tokens
        pool_pre_ping=read_only,
        connect_args={"options": " ".join(options), **_KEEPALIVE},
    )


def _sqlite(path: Path, *, read_only: bool) -> Engine:
    def open_file() -> sqlite3.Connection:
        if not read_only:
            # Ours alone from the start: it may hold shoppers' keys. The log inherits the mode.
            # Never open one that exists: closing it again would drop SQLite's own locks on it.
            with contextlib.suppress(OSError):  # SQLite says better what is wrong
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        return sqlite3.connect(
            f"file:{quote(str(path))}?mode={'ro' if read_only else 'rw'}",
            uri=True,
            timeout=10,
            check_same_thread=False,
            cached_statements=256,
        )

    engine = sa.create_engine(
        "sqlite://",
        creator=open_file,
        pool_size=READERS_MAX if read_only else 1,
        max_overflow=0,
        hide_parameters=True,
        poolclass=sa.QueuePool,
    )

    @sa.event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        cursor = connection.cursor()
        if not read_only:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            # A statement of many rows keeps what it may have to undo: not in a file for each.
            cursor.execute("PRAGMA temp_store=MEMORY")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA cache_size=-65536")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if read_only:  # it only notes the wish and cannot fail: no need for SQLAlchemy's 40 us
            driver: Any = connection.connection.driver_connection
            driver.execute("BEGIN")
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


_MIGRATIONS = Path(__file__).parent / "migrations"


def newest_version() -> str:
    """The schema's newest version: migrations are numbered by the start of their file's name."""
    return max(file.name for file in (_MIGRATIONS / "versions").glob("*.py")).partition("_")[0]


def migrate(url: str) -> None:
    """Bring the schema of a database to the newest version; nothing happens when it is there."""
    engine = open_engine(url)
    try:
        with connect(engine) as connection, connection.begin():
            if _version(connection) != newest_version():
                _upgrade(connection)
    finally:
        engine.dispose()


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command  # takes longer to import than most servers need it for
    from alembic.config import Config

    if connection.dialect.name == "postgresql":  # one step may take long, and nobody waits for it
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
