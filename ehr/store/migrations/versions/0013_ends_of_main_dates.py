"""Both ends of a main date stand in the row where a resource has one at most: no row of its own in the table of dates.

The term of the main code, which no search read, gives its place to the end.
"""

from alembic import op

revision = "0013"
down_revision = "0012"

_MAIN_DATES = (
    (19, -1454940889),  # Claim created
    (28, 971802602),  # Condition onset-date
    (40, 1748992332),  # DiagnosticReport date
    (42, -855321353),  # DocumentReference date
    (44, 45801226),  # Encounter date
    (53, 772787700),  # ExplanationOfBenefit created
    (62, 1269908559),  # Immunization date
    (76, 1641174911),  # MedicationAdministration effective-time
    (79, -453937300),  # MedicationRequest authoredon
    (96, -22355728),  # Observation date
    (110, -115348596),  # Procedure date
)
"""(type, parameter) as they are numbered in rows"""
_GIVEN = "(values {}) as m(type, parameter)".format(", ".join(map(str, _MAIN_DATES)))
_CARRY_OVER = (
    f"update resource r set until = (select max(d.high) from index_date d join {_GIVEN}"
    " on m.parameter = d.parameter where d.key = r.key and m.type = r.type)"
)
_STATEMENTS = (
    "alter table resource_history drop column code",
    "alter table resource rename column code to until",
    "alter table resource alter column until drop not null",
    _CARRY_OVER,
    f"delete from index_date d using {_GIVEN} where d.parameter = m.parameter",
    "drop index index_date_long",
    "create index resource_long on resource (type, until) where until > at + 86400000000",
)


def upgrade() -> None:
    """Carry the ends over, then drop what stood for them."""
    for statement in _STATEMENTS:
        op.execute(statement)
