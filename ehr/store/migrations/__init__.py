"""Alembic environment and steps of the schema."""
