"""The databases that the fixtures hand out are real, empty and apart from each other."""

import pytest
from sqlalchemy import create_engine, inspect, text


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_an_empty_database_of_either_kind(database_url: str, turn: int) -> None:
    """Goal: nothing leaks from test to test. Method: twice, find no table and leave one."""
    engine = create_engine(database_url)
    try:
        assert inspect(engine).get_table_names() == []
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE kept (turn INTEGER)"))
            connection.execute(text("INSERT INTO kept VALUES (:turn)"), {"turn": turn})
        with engine.connect() as connection:
            assert connection.execute(text("SELECT turn FROM kept")).scalar_one() == turn
    finally:
        engine.dispose()


def test_postgres_is_the_real_one(postgres_database: str) -> None:
    """Goal: the second kind is PostgreSQL 18 and not a stand-in. Method: ask it."""
    engine = create_engine(postgres_database)
    try:
        with engine.connect() as connection:
            version = connection.execute(text("SHOW server_version_num")).scalar_one()
    finally:
        engine.dispose()
    assert int(version) // 10_000 == 18
