"""First schema: the record, its indexes, people, consent state, audit, jobs and inbox."""

from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from ehr.store.schema import metadata

revision = "0001"
down_revision = None

_AFTER = """
alter table resource alter column body set storage external, alter column terms set storage external
alter table resource_history alter column body set storage external, alter column terms set storage external
alter table inbox alter column body set storage external
alter table resource set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02)
alter table resource set (autovacuum_vacuum_insert_scale_factor = 0.2, fillfactor = 95)
alter table job set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200)
alter table inbox set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500)
alter index resource_terms set (fastupdate = on, gin_pending_list_limit = 64)
alter index audit_row_holders set (fastupdate = on, gin_pending_list_limit = 256)
insert into policy_state ("only", epoch, highest_class) values (true, 1, 0)
"""


def upgrade() -> None:
    """Create every table."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
    for table in metadata.sorted_tables:
        op.execute(str(CreateTable(table).compile(dialect=dialect)))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            op.execute(str(CreateIndex(index).compile(dialect=dialect)))
    for statement in _AFTER.strip().splitlines():
        op.execute(statement)
