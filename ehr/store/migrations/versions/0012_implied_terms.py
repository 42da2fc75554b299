"""Terms that others imply are kept once for all rows; the list of pending entries holds some hundred rows.

Rows in place keep the terms they have: searches ask for a term and for those that imply it. An entry of a term that
many rows have is packed anew each time the list is emptied, so it is emptied less often.
"""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the table, and lengthen the list."""
    op.execute("create table implied_term (implied bigint not null, term bigint not null, primary key (implied, term))")
    op.execute("alter index resource_terms set (gin_pending_list_limit = 256)")
