"""How alembic runs: on the connection that ``callus.service.database`` gives it."""

from __future__ import annotations

from alembic import context

from callus.service.tables import Table

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Table.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
