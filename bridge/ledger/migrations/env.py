"""Alembic's entry: always runs on the connection that `schema.migrate` opened, in its transaction."""

from alembic import context

from bridge.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
