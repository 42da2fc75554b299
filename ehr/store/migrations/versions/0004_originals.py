"""Originals of messages are found by the beginning of their SHA-256."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the index."""
    op.execute("create index if not exists inbox_original on inbox (substr(content, 1, 10))")
