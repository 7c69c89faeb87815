"""Alembic migrations, packaged with the hub: `hub.database.migrate` runs them."""
