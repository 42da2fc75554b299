"""Alembic environment: prints the SQL of the steps (offline mode); `ehr.store.migration` runs it over asyncpg.

https://alembic.sqlalchemy.org/en/latest/offline.html
"""

from alembic import context

from ehr.store.schema import metadata

context.configure(
    dialect_name="postgresql",
    target_metadata=metadata,
    literal_binds=True,
    starting_rev=context.config.attributes.get("starting_rev"),
)
context.run_migrations()
