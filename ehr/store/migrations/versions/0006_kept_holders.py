"""Of whom each organisation keeps rows, so that what it sees can be found by the people it is about.

A trigger keeps the table, so that no way of writing a row can leave its person out: a search that is led by this table
would not find such a row. A pair stays when its last row goes; the search then finds nothing under it.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

_STATEMENTS = """
create table kept_holder (custodian bigint not null, holder bigint not null, primary key (custodian, holder))
;;
insert into kept_holder (custodian, holder) select distinct custodian, holder from resource where holder <> 0
;;
create function note_kept_holders() returns trigger language plpgsql as $$
begin
  if tg_level = 'ROW' then
    insert into kept_holder (custodian, holder) values (new.custodian, new.holder) on conflict do nothing;
  else
    insert into kept_holder (custodian, holder) select distinct w.custodian, w.holder from written w
    where w.holder <> 0 order by 1, 2 on conflict do nothing;
  end if;
  return null;
end $$
;;
create trigger resource_inserted after insert on resource referencing new table as written
for each statement execute function note_kept_holders()
;;
create trigger resource_handed_over after update of custodian, holder on resource for each row
when (new.holder <> 0 and (new.custodian <> old.custodian or new.holder <> old.holder))
execute function note_kept_holders()
;;
create index person_class on person ("class") where "class" <> 0
"""


def upgrade() -> None:
    """Create the table, fill it from the rows there are, and the triggers that keep it."""
    for statement in _STATEMENTS.split(";;"):
        op.execute(statement.strip())
