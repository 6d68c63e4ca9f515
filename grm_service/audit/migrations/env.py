"""Alembic entry point: migrates the connection that `Database.migrate` passes in."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
