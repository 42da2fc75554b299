"""Other hospitals' Patients whom a hospital's Encounters named, to be counted (decision record 0019)."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Create the table."""
    op.execute(
        "create table stranger_claim (organisation bigint not null, holder bigint not null, at bigint not null,"
        " primary key (organisation, holder))"
    )
