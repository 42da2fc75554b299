"""Alembic environment: prints the SQL of the steps (offline mode); `ehr.store.migration` runs it over asyncpg.

The steps stand for themselves: nothing here reads `ehr.store.schema` (tests/ehr/store/test_migrations.py compares).
https://alembic.sqlalchemy.org/en/latest/offline.html
"""

from alembic import context

context.configure(
    dialect_name="postgresql", literal_binds=True, starting_rev=context.config.attributes.get("starting_rev")
)
context.run_migrations()
