"""Dates longer than a day have an index of their own."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the index where the first schema did not have it yet."""
    op.execute(
        "create index if not exists index_date_long on index_date (parameter, high) where high - low > 86400000000"
    )
