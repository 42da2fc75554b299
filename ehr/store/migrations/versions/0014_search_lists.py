"""Ids of searches' results, from which later pages are read; not logged, since a crash may forget them."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Create the table."""
    op.execute(
        "create unlogged table search_list (list bytea not null primary key, at bigint not null, size integer not null,"
        " keys bigint[] not null)"
    )
