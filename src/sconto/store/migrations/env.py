"""Alembic's entry: runs migrations on the connection that `sconto.store.migrate` opened."""

from alembic import context

from sconto.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    render_as_batch=True,
)
context.run_migrations()
