"""What waits in the inbox has an index of its own, whose size is that of the backlog and not of the inbox."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the index."""
    op.execute("create index inbox_waiting on inbox (feed, attempts, inbox) where state = 'waiting'")
