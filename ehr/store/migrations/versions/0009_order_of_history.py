"""Earlier versions of a type, and of all types, by when they were made: history of type and system."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the indexes."""
    op.execute("create index resource_history_updated on resource_history (type, last_updated, key, version)")
