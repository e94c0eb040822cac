"""Statements of the hot path: compiled once for a dialect, then handed to the driver as they are.

SQLAlchemy takes 60 to 300 microseconds to build, look up and wrap a statement that SQLite answers
in 10. What a checkout or an arriving event runs is prepared; what runs seldom is not worth it.
Types, errors and transactions are those of `Connection.execute`; rows are plain tuples. A list of
values for `IN` goes in as one parameter (`one_of`). The connection must be in a transaction (a
`Tx`, `Store.read`).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles

from sconto.base.errors import invariant

#: SQLite takes 32,766 parameters; longer statements save nothing more.
PARAMETERS_MAX = 2048

#: A statement, or how to make it with the `insert` of a dialect, for `ON CONFLICT`.
Statement = sa.Executable | Callable[[Any], sa.Executable]
Row = tuple[Any, ...]


class _Compiled(NamedTuple):
    sql: str
    #: Values of the statement's own literals.
    fixed: dict[str, Any]
    #: Names in the order of the question marks; None where the driver takes names.
    names: list[str] | None
    #: How a value is made fit for the driver, and what the driver gives for us.
    binds: dict[str, Callable[[Any], Any]]
    #: The values in that order, where nothing else is to be done to them.
    pick: Callable[[Any], Any] | None
    results: list[tuple[int, Callable[[Any], Any]]]
    #: How to say it for many rows at once, where that is known.
    insert: "_Insert | None"


class _Insert(NamedTuple):
    """An INSERT of SQLite's that can take several rows: it steps through Python once for all."""

    before: str
    row: str
    after: str
    rows_max: int

    def sql(self, rows: int) -> str:
        return f"{self.before}{', '.join([self.row] * rows)}{self.after}"


class Prepared:
    """One statement with named parameters (`sa.bindparam`)."""

    __slots__ = ("_by_dialect", "_statement")

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self._by_dialect: dict[str, _Compiled] = {}

    def run(self, connection: sa.Connection, **values: Any) -> int:
        """Change; gives the number of rows."""
        cursor, _ = self._execute(connection, values)
        count: int = cursor.rowcount
        cursor.close()
        return count

    def run_many(self, connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> int:
        """Change once for each row of values; gives the number of rows changed."""
        compiled = self._compiled(connection)
        driver: Any = connection.connection.driver_connection
        values = [_fit(compiled, row) for row in rows]
        count = 0
        try:
            cursor = driver.cursor()
            if compiled.insert is None or len(values) == 1:
                cursor.executemany(compiled.sql, values)
                count = cursor.rowcount
            else:
                for some in _chunks(values, compiled.insert.rows_max):
                    cursor.execute(compiled.insert.sql(len(some)), [*chain.from_iterable(some)])
                    count += cursor.rowcount
            cursor.close()
        except connection.dialect.loaded_dbapi.Error as error:
            raise _told(connection, compiled.sql, error) from error
        return count

    def rows(self, connection: sa.Connection, **values: Any) -> list[Row]:
        """Ask, or change with RETURNING; gives all rows."""
        cursor, compiled = self._execute(connection, values)
        found: list[Row] = cursor.fetchall()
        cursor.close()
        if not compiled.results:
            return found
        return [_read(compiled, row) for row in found]

    def first(self, connection: sa.Connection, **values: Any) -> Row | None:
        """The first row, None where there is none."""
        found = self.rows(connection, **values)
        return found[0] if found else None

    def _execute(self, connection: sa.Connection, values: dict[str, Any]) -> tuple[Any, _Compiled]:
        compiled = self._compiled(connection)
        driver: Any = connection.connection.driver_connection
        try:
            return driver.execute(compiled.sql, _fit(compiled, values)), compiled
        except connection.dialect.loaded_dbapi.Error as error:
            raise _told(connection, compiled.sql, error) from error

    def _compiled(self, connection: sa.Connection) -> _Compiled:
        name = connection.dialect.name
        found = self._by_dialect.get(name)
        if found is None:
            found = self._by_dialect[name] = _compile(self._statement, connection.dialect)
        return found


class NewRows:
    """Very many new rows of one table, each a tuple of the named columns' values.

    For texts, numbers and bytes: values go to the driver as they are.
    """

    __slots__ = ("_insert", "_sql")

    def __init__(self, table: sa.Table, *names: str) -> None:
        columns = ", ".join(names)
        row = f"({', '.join('?' * len(names))})"
        before = f"INSERT INTO {table.name} ({columns}) VALUES "  # noqa: S608
        self._insert = _Insert(before, row, "", PARAMETERS_MAX // len(names))
        self._sql = f"COPY {table.name} ({columns}) FROM STDIN"

    def add(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        """Insert them all."""
        driver: Any = connection.connection.driver_connection
        try:
            cursor = driver.cursor()
            if connection.dialect.name == "sqlite":
                for some in _chunks(rows, self._insert.rows_max):
                    cursor.execute(self._insert.sql(len(some)), [*chain.from_iterable(some)])
            else:
                with cursor.copy(self._sql) as copy:
                    for one in rows:
                        copy.write_row(one)
            cursor.close()
        except connection.dialect.loaded_dbapi.Error as error:
            raise _told(connection, self._sql, error) from error


def insert_into(table: sa.Table, *names: str) -> sa.Insert:
    """An INSERT with a parameter for each column, or for the named ones."""
    columns = names or tuple(table.c.keys())
    return sa.insert(table).inline().values({name: sa.bindparam(name) for name in columns})


class _Texts(sa.types.TypeDecorator[list[str]]):
    """A list of texts as one parameter."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: list[str] | None, dialect: sa.Dialect) -> Any:
        if dialect.name != "sqlite" or value is None:
            return value
        return msgspec.json.encode(value).decode()


class _OneOf(sa.ColumnElement[bool]):
    inherit_cache = True
    type = sa.Boolean()

    def __init__(self, column: sa.ColumnElement[str], values: sa.BindParameter[list[str]]) -> None:
        self.column, self.values = column, values

    def self_group(self, against: Any = None) -> Any:
        """As it is: with `= 1` behind it, as SQLAlchemy would write, SQLite uses no index."""
        return self


def one_of(column: sa.ColumnElement[str], name: str) -> sa.ColumnElement[bool]:
    """Whether a column has one of the texts in the list that the parameter `name` is."""
    return _OneOf(column, sa.bindparam(name, type_=_Texts()))


@compiles(_OneOf, "sqlite")
def _one_of_sqlite(element: _OneOf, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(one, **options) for one in (element.column, element.values))
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608


@compiles(_OneOf, "postgresql")
def _one_of_postgresql(element: _OneOf, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(one, **options) for one in (element.column, element.values))
    return f"{column} = ANY(CAST({values} AS TEXT[]))"


def _compile(statement: Statement, dialect: sa.Dialect) -> _Compiled:
    """Bytes go in and come out as they are: both drivers take and give `bytes`."""
    if callable(statement):
        statement = statement(sqlite.insert if dialect.name == "sqlite" else postgresql.insert)
    compiled: Any = cast(sa.ClauseElement, statement).compile(dialect=dialect)
    invariant(not compiled.post_compile_params, "a prepared statement has no list of values")
    fixed, binds = {}, {}
    for parameter, name in compiled.bind_names.items():
        if not parameter.required:
            fixed[name] = compiled.params[name]
        process = parameter.type.dialect_impl(dialect).bind_processor(dialect)
        if process is not None and not isinstance(parameter.type, sa.LargeBinary):
            binds[name] = process
    results = []
    for place, column in enumerate(getattr(statement, "exported_columns", ())):
        read = column.type.dialect_impl(dialect).result_processor(dialect, None)
        if read is not None and not isinstance(column.type, sa.LargeBinary):
            results.append((place, read))
    names: list[str] | None = compiled.positiontup
    is_ready = names is not None and len(names) > 1 and not fixed and not binds
    pick = itemgetter(*names) if names is not None and is_ready else None
    insert = _insert(str(compiled), names) if names is not None else None
    return _Compiled(str(compiled), fixed, names, binds, pick, results, insert)


def _insert(sql: str, names: list[str]) -> _Insert | None:
    found = _ONE_ROW.fullmatch(sql)
    if found is None or found["row"].count("?") != len(names):
        return None
    return _Insert(found["before"], found["row"], found["after"], PARAMETERS_MAX // len(names))


#: An INSERT of one row of question marks; what follows it has none.
_ONE_ROW = re.compile(
    r"(?P<before>INSERT INTO [^?]* VALUES )(?P<row>\(\?(?:, \?)*\))(?P<after>[^?]*)"
)


def _chunks(rows: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    """Parts of 2^n rows: so there are few different statements, which the driver keeps ready."""
    start = 0
    while start < len(rows):
        size = 1 << min(len(rows) - start, most).bit_length() - 1
        yield rows[start : start + size]
        start += size


def _fit(compiled: _Compiled, values: Mapping[str, Any]) -> Any:
    if compiled.pick is not None:
        return compiled.pick(values)
    ready = {**compiled.fixed, **values}
    for name, process in compiled.binds.items():
        ready[name] = process(ready[name])
    return ready if compiled.names is None else [ready[name] for name in compiled.names]


def _read(compiled: _Compiled, row: Row) -> Row:
    values = list(row)
    for place, read in compiled.results:
        values[place] = read(values[place])
    return tuple(values)


def _told(connection: sa.Connection, sql: str, error: Any) -> BaseException:
    """The driver's error as SQLAlchemy would raise it; a lost connection is given up."""
    dialect = connection.dialect
    is_lost = dialect.is_disconnect(error, connection.connection, None)
    told: BaseException = DBAPIError.instance(
        sql,
        None,
        error,
        dialect.loaded_dbapi.Error,
        connection_invalidated=is_lost,
        dialect=dialect,
    )
    if is_lost:
        connection.invalidate(error)
    return told
