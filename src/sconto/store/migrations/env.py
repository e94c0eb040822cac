"""Alembic's entry: runs migrations on the connection that `sconto.store.migrate` opened.

To change the schema, change `schema.py` and let Alembic write the first draft of the migration,
against an empty database that it brings up to date first; then read and mend it:

    alembic -x url=sqlite:////tmp/scratch.db upgrade head
    alembic -x url=sqlite:////tmp/scratch.db revision --autogenerate --rev-id 0002 -m "what changes"
"""

from alembic import context
from sqlalchemy import Connection

from sconto.store.database import open_engine
from sconto.store.schema import metadata


def run(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=metadata, compare_type=True, render_as_batch=True
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    engine = open_engine(context.get_x_argument(as_dictionary=True)["url"])
    with engine.begin() as opened:
        run(opened)
    engine.dispose()
