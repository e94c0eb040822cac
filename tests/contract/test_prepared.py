"""Prepared statements do what `Connection.execute` does: its types, its errors."""

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError, OperationalError, ProgrammingError

from sconto.base.errors import InvariantError
from sconto.store import Store
from sconto.store.prepared import NewRows, Prepared, insert_into, one_of
from sconto.store.schema import clients, coupon_information, outbox, tenants

ROW = {
    "tenant_id": "acme",
    "kind": "brand",
    "name": "100 % Acme's",
    "created_at_ms": 2**40,
}
ADD = Prepared(insert_into(tenants))
GET = Prepared(
    sa.select(tenants.c.name, tenants.c.created_at_ms).where(
        tenants.c.tenant_id == sa.bindparam("tenant_id"),
        tenants.c.name.startswith("100 %", autoescape=True),
    )
)
RENAME = Prepared(
    sa.update(tenants)
    .where(tenants.c.kind == sa.bindparam("of_kind"))
    .values(name=sa.bindparam("name") + "!")
    .returning(tenants.c.tenant_id, tenants.c.name)
)
PUT = Prepared(
    lambda insert: (
        insert(tenants)
        .values({name: sa.bindparam(name) for name in ROW})
        .on_conflict_do_nothing(index_elements=["tenant_id"])
    )
)


def test_rows_go_in_and_come_out(store: Store) -> None:
    assert store.write_now(lambda tx: ADD.run(tx.changing(), **ROW)) == 1
    with store.read() as connection:
        assert GET.rows(connection, tenant_id="acme") == [("100 % Acme's", 2**40)]
        assert GET.first(connection, tenant_id="acme") == ("100 % Acme's", 2**40)
        assert GET.first(connection, tenant_id="nobody") is None


def test_many_rows_go_in_at_once(store: Store) -> None:
    rows = [{**ROW, "tenant_id": f"t{number}"} for number in range(300)]
    store.write_now(lambda tx: ADD.run_many(tx.changing(), rows))
    with store.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(tenants)).scalar() == 300


def test_very_many_rows_go_in_as_tuples(store: Store) -> None:
    """Goal: every kind of value arrives. Method: 300 rows, with all that a text can have, twice."""
    odd = "\t\\N\n\r\\.é'\"%s?"
    rows = [(f"t{number}", "brand", odd, 2**40) for number in range(300)]
    new = NewRows(tenants, *ROW)
    store.write_now(lambda tx: new.add(tx.changing(), rows))
    with store.read() as connection:
        assert sorted(connection.execute(sa.select(*(tenants.c[n] for n in ROW)))) == sorted(rows)
    with pytest.raises(IntegrityError):
        store.write_now(lambda tx: new.add(tx.changing(), rows[-1:]))
    with pytest.raises(IntegrityError):  # and its constraints hold
        store.write_now(lambda tx: new.add(tx.changing(), [("x", "unheard of", "", 1)]))
    pair = [("h", 1, b"\x00\xff\\"), ("h", 2, b"")]
    store.write_now(
        lambda tx: NewRows(outbox, "destination", "sequence", "event").add(tx.changing(), pair)
    )
    with store.read() as connection:
        found = connection.execute(sa.select(outbox).order_by(outbox.c.sequence))
        assert [(a, b, bytes(c)) for a, b, c in found] == pair


def test_a_list_of_values_is_one_parameter(store: Store) -> None:
    some = Prepared(sa.select(tenants.c.tenant_id).where(one_of(tenants.c.tenant_id, "ids")))
    rename = Prepared(
        sa.update(tenants).where(one_of(tenants.c.tenant_id, "ids")).values(name=sa.bindparam("to"))
    )
    rows = [{**ROW, "tenant_id": f"t{number}\"'"} for number in range(300)]
    ids = [row["tenant_id"] for row in rows]
    store.write_now(lambda tx: ADD.run_many(tx.changing(), rows))
    with store.read() as connection:
        assert some.rows(connection, ids=[]) == []
        assert some.rows(connection, ids=[ids[7], "nobody"]) == [(ids[7],)]
        assert {row[0] for row in some.rows(connection, ids=ids)} == set(ids)
    assert store.write_now(lambda tx: rename.run(tx.changing(), ids=ids[:2], to="x")) == 2


def test_a_list_of_values_is_looked_up_in_the_index(sqlite_store: Store) -> None:
    """Goal: as many steps as values, however large the table. Method: SQLite's own plan."""
    query = sa.select(tenants.c.name).where(one_of(tenants.c.tenant_id, "ids"))
    with sqlite_store.read() as connection:
        text = str(query.compile(dialect=connection.dialect))
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", ("[]",)).all()
    assert plan[0][-1].startswith("SEARCH tenants USING INDEX"), plan


def test_changes_are_counted_and_returned(store: Store) -> None:
    store.write_now(lambda tx: ADD.run(tx.changing(), **ROW))
    assert store.write_now(lambda tx: PUT.run(tx.changing(), **ROW)) == 0
    changed = store.write_now(lambda tx: RENAME.rows(tx.changing(), of_kind="brand", name="x"))
    assert changed == [("acme", "x!")]
    assert store.write_now(lambda tx: RENAME.rows(tx.changing(), of_kind="none", name="x")) == []


def test_values_keep_their_types(store: Store) -> None:
    """Goal: bytes, truth and nothing are the same on both databases. Method: a row with each."""
    names = ("handle", "is_revoked", "uses")
    table = coupon_information
    add = Prepared(insert_into(table))
    get = Prepared(sa.select(*(table.c[name] for name in names)))
    row = {
        name: "x" if isinstance(column.type, sa.String) else 1 for name, column in table.c.items()
    }
    store.write_now(lambda tx: add.run(tx.changing(), **row | {"is_revoked": False}))
    with store.read() as connection:
        (found,) = get.rows(connection)
        assert found == tuple(connection.execute(sa.select(*(table.c[n] for n in names))).one())
    assert found[1] is False
    literals = Prepared(
        sa.select(
            sa.literal(b"\0\xff", sa.LargeBinary),
            sa.literal(None, sa.LargeBinary),
            sa.literal(True, sa.Boolean),
            sa.null(),
        )
    )
    with store.read() as connection:
        assert literals.rows(connection) == [(b"\0\xff", None, True, None)]


def test_errors_are_those_of_sqlalchemy(store: Store) -> None:
    store.write_now(lambda tx: ADD.run(tx.changing(), **ROW))
    with pytest.raises(IntegrityError):
        store.write_now(lambda tx: ADD.run(tx.changing(), **ROW))
    with pytest.raises(IntegrityError):
        store.write_now(lambda tx: ADD.run_many(tx.changing(), [{**ROW, "kind": "king"}]))
    wrong = Prepared(sa.select(sa.column("no_such_column")).select_from(tenants))
    with pytest.raises((OperationalError, ProgrammingError)):
        store.write_now(lambda tx: wrong.rows(tx.connection))


def test_a_value_that_is_too_long_is_an_error_on_postgresql(postgres_store: Store) -> None:
    with pytest.raises(DataError):
        postgres_store.write_now(lambda tx: ADD.run(tx.changing(), **ROW | {"tenant_id": "x" * 65}))


def test_a_missing_value_is_our_mistake(store: Store) -> None:
    with pytest.raises((KeyError, ProgrammingError)):
        store.write_now(lambda tx: PUT.run(tx.changing(), tenant_id="acme"))


def test_a_list_of_values_cannot_be_prepared(store: Store) -> None:
    listed = Prepared(sa.select(clients).where(clients.c.hub.in_(["a", "b"])))
    with store.read() as connection, pytest.raises(InvariantError):
        listed.rows(connection)
