"""Attachments: which rows point to a Binary."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table where the first schema did not have it yet."""
    op.execute(
        'create table if not exists attachment (referrer bigint not null, "binary" bigint not null,'
        ' custodian bigint not null, primary key (referrer, "binary"))'
    )
    op.execute('create index if not exists attachment_binary on attachment ("binary")')
