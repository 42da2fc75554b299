"""Rows of a type by their main date; indexes without columns that no search reads.

A person's rows are found by holder and type, then compared by terms: the code column served nothing. Keys at the end of
the indexes of ranges kept equal values apart, which PostgreSQL otherwise stores once.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

_STATEMENTS = """
create index resource_at on resource (type, at);
drop index resource_holder;
create index resource_holder on resource (holder, type, at);
drop index index_date_low;
create index index_date_low on index_date (parameter, low);
drop index index_number_low;
create index index_number_low on index_number (parameter, low);
drop index index_quantity_low;
create index index_quantity_low on index_quantity (parameter, code, low);
"""


def upgrade() -> None:
    """Make the indexes anew."""
    for statement in _STATEMENTS.strip().splitlines():
        op.execute(statement.rstrip(";"))
