"""How alembic runs inside the hub: on the connection that `hub.database.migrate` hands over, in one transaction."""

from __future__ import annotations

from alembic import context

from hub.database import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter most things in place; batch mode copies the table.
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
