"""How many rows a datastore has: asked before and after what must leave nothing behind."""

import sqlalchemy as sa

from sconto.store.schema import metadata

#: One question: SQLAlchemy would take longer to write fifty than a database to answer them.
_COUNTS = sa.text(
    " UNION ALL ".join(
        f"SELECT '{table.name}', count(*) FROM \"{table.name}\"" for table in metadata.sorted_tables
    )
)


def rows_of(connection: sa.Connection) -> dict[str, int]:
    """The number of rows of each table, by its name."""
    return dict(connection.execute(_COUNTS).all())
