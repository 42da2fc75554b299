"""By which label sets the stored rows are labelled."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table with its one row; sets that are not known are compared at the next start."""
    op.execute(
        "create table label_state (\"only\" boolean default true not null primary key, sets text default '' not null,"
        " wanted text default '' not null, in_doubt boolean default false not null)"
    )
    op.execute("insert into label_state default values")
