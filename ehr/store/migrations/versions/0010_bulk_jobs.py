"""Bulk exports and imports: what was asked, by whom, how far it is."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Create the table, and what finds the rows that are about several people."""
    op.execute(
        'create table bulk_job (id text collate "C" not null primary key, kind text not null, caller jsonb not null,'
        " request jsonb not null, state text default 'accepted' not null, progress jsonb default '{}' not null,"
        " created_at bigint not null, completed_at bigint, expires_at bigint, job bigint, error text)"
    )
    op.execute("create index resource_others on resource using gin (others) where others is not null")
