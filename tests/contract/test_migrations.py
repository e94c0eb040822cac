"""The schema: made by migrations, the same as `schema.py` says, on both databases."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import IntegrityError

from sconto.base.errors import InvalidInputError, UnavailableError
from sconto.ledger import Amounts
from sconto.store import Store, database, ledger, migrate, open_engine
from sconto.store.ledger import Allotment
from sconto.store.schema import metadata, portions
from sconto.store.writer import Tx


def schema_of(url: str) -> dict[str, list[str]]:
    """Every table with its columns, indexes and constraints, as the database tells them."""
    engine = open_engine(url)
    try:
        found = {}
        look = sa.inspect(engine)
        for table in look.get_table_names():
            columns = [plain(column) for column in look.get_columns(table)]
            others = [
                *look.get_indexes(table),
                *look.get_unique_constraints(table),
                *look.get_check_constraints(table),
                *look.get_foreign_keys(table),
                look.get_pk_constraint(table),
            ]
            found[table] = columns + sorted(plain(one) for one in others)
        return found
    finally:
        engine.dispose()


def plain(value: Any) -> str:
    """Text of what an inspector tells, also of the SQL expressions in it."""
    if isinstance(value, dict):
        return str(sorted((key, plain(one)) for key, one in value.items()))
    return str(value)


def move_to(engine: sa.Engine, how: Callable[[Config, str], None], version: str) -> None:
    """Upgrade or downgrade to a version."""
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        how(config, version)


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    migrate(database_url)
    once = schema_of(database_url)
    migrate(database_url)
    assert schema_of(database_url) == once
    assert once.keys() == {*metadata.tables, "alembic_version"}


def test_migrations_make_the_schema_that_the_code_means(database_url: str) -> None:
    """Goal: no forgotten migration. Method: Alembic finds nothing to add, drop or change."""
    migrate(database_url)
    engine = open_engine(database_url)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            assert compare_metadata(context, metadata) == []
    finally:
        engine.dispose()


def test_migrations_and_create_all_agree_to_the_letter(database_url: str) -> None:
    """Goal: also what Alembic does not compare: CHECK constraints, partial indexes. Method: make
    the schema once by migrations and once from the code, and ask the database for both.
    """
    migrate(database_url)
    migrated = schema_of(database_url)
    del migrated["alembic_version"]
    engine = open_engine(database_url)
    with engine.begin() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
    engine.dispose()
    created = schema_of(database_url)
    del created["alembic_version"]
    assert migrated == created


def test_the_newest_version_is_the_last_migration() -> None:
    folder = ScriptDirectory(str(Path(database.__file__).parent / "migrations"))
    assert folder.get_heads() == [database.newest_version()]


def test_data_survives_another_migration(
    database_url: str, open_store: Callable[[str], Store]
) -> None:
    insert = (
        "INSERT INTO tenants (tenant_id, kind, name, created_at_ms) VALUES ('a', 'brand', 'A', 1)"
    )
    store = open_store(database_url)
    store.write_now(lambda tx: tx.write(sa.text(insert)))
    store.close()
    again = open_store(database_url)
    with again.read() as connection:
        assert connection.execute(sa.text("SELECT name FROM tenants")).scalar_one() == "A"


def test_tokens_survive_that_their_table_is_made_anew(database_url: str) -> None:
    """Goal: SQLite cannot change a CHECK, so the table is copied. Method: a token from before."""
    engine = open_engine(database_url)
    insert = """INSERT INTO tokens (token_id, clip_id, promotion_id, terms_digest, frame_id, hub,
        merchant, wallet, handle, status, clipped_at_ms)
        VALUES (:id, :id, 'p', 'd', 'f', 'h', 'm', 'w', :id, :status, 1)"""

    def add(token_id: str, status: str) -> None:
        with engine.begin() as connection:
            connection.execute(sa.text(insert), {"id": token_id, "status": status})

    try:
        move_to(engine, command.upgrade, "0003")
        add("old", "issued")
        with pytest.raises(IntegrityError):
            add("early", "moved")
        migrate(database_url)
        add("new", "moved")
        for token_id, status in (("old", "issued"), ("other", "lost")):
            with pytest.raises(IntegrityError):
                add(token_id, status)
        with engine.connect() as connection:
            found = connection.execute(sa.text("SELECT token_id, status FROM tokens ORDER BY 1"))
            assert [tuple(row) for row in found] == [("new", "moved"), ("old", "issued")]
    finally:
        engine.dispose()


def test_going_back_loses_no_unit(database_url: str, open_store: Callable[[str], Store]) -> None:
    """Goal: an older version can spend what several processes had. Method: a part with two
    portions and one of a counter, and down to the version before portions, and up again."""
    store = open_store(database_url)
    some = Amounts(10, 100)

    def fill(tx: Tx) -> None:
        for name, counter in (("main", ""), ("shared", "day:2026-11-24")):
            part = Allotment(name, "p", "m", "i", some, Amounts(5, 50), "open", counter=counter)
            ledger.insert(tx, part)
            for process in (0, 1):
                row = {"allotment_id": name, "process": process, "spent_at_ms": 1}
                tx.write(sa.insert(portions).values(**row, left_uses=process, left_minor=7))

    store.write_now(fill)
    store.close()
    engine = open_engine(database_url)
    try:
        move_to(engine, command.downgrade, "0004")
        with engine.connect() as connection:
            query = sa.text("SELECT allotment_id, left_uses, left_minor FROM allotments")
            assert [tuple(row) for row in connection.execute(query)] == [("main", 6, 64)]
    finally:
        engine.dispose()
    migrate(database_url)
    with open_store(database_url).read() as connection:
        assert [part.left for part in ledger.of_promotion(connection, "p")] == [Amounts(6, 64)]


# --- opening --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["mysql://localhost/x", "sqlite://", "sqlite:///:memory:", "nonsense", "", "file:x.db"]
)
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        migrate(url)
    assert refused.value.field == "database_url"
    assert "postgresql://" in str(refused.value.remedy)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////no/such/folder/sconto.db",
        "postgresql://nobody@127.0.0.1:1/nothing",
    ],
)
def test_a_database_that_cannot_be_opened_is_said(url: str) -> None:
    with pytest.raises(UnavailableError) as refused:
        migrate(url)
    assert refused.value.code == "storage_unavailable"


@pytest.mark.parametrize("folder", ["a b", "100%", "who?", "nr#1", "ü", "x&mode=ro"])
def test_any_folder_will_do(
    folder: str, tmp_path: Path, open_store: Callable[[str], Store]
) -> None:
    """Goal: a path is a path. Method: names that mean something in a URL."""
    (tmp_path / folder).mkdir()
    path = tmp_path / folder / "sconto.db"
    store = open_store(sa.URL.create("sqlite", database=str(path)).render_as_string())
    with store.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM tenants")).scalar_one() == 0
    assert path.exists()
    assert sorted(os.listdir(tmp_path)) == [folder]


def test_a_new_sqlite_file_is_its_owners_alone(
    sqlite_database: str, open_store: Callable[[str], Store]
) -> None:
    """Goal: shoppers' keys in it are private. Method: the mode of the file and of its log."""
    store = open_store(sqlite_database)
    folder = Path(str(sa.make_url(sqlite_database).database)).parent
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert {"sconto.sqlite", "sconto.sqlite-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}
    store.close()


def test_sqlite_is_opened_for_full_durability(sqlite_store: Store) -> None:
    connection = sqlite_store._connection
    assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
    assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    connection.rollback()
