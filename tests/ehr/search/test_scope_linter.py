"""The linter finds each clinical alias that a statement reads without its scope."""

import pytest

from ehr.search.scope_linter import unscoped_aliases


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("select 1 from resource r where (r.key is not null)", []),
        ("select 1 from resource r where r.type = 1 and ((r.key is not null) and r.labels = 0)", []),
        ("select 1 from resource r where (r.key is null)", []),
        ("select 1 from resource r where r.type = 1", ["resource r"]),
        ("select 1 from resource r where r.type = 1 or (r.key is not null)", ["resource r"]),
        ("select 1 from resource r where (s.key is not null)", ["resource r"]),
        ("select 1 from resource", ["resource resource"]),
        (
            "select 1 from resource r where (r.key is not null) and r.key in (select s.holder from resource s)",
            ["resource s"],
        ),
        ("select 1 from page p join resource r on r.key = p.key and (r.key is not null)", []),
        ("select 1 from page p join resource r on r.key = p.key", ["resource r"]),
        ("with a as (select h.key from resource_history h) select * from a", ["resource_history h"]),
        ("select 1 from resource r where ((r.key is not null) and r.labels = 0) or ((r.key is not null) and true)", []),
        ("insert into resource (key) values ($1)", []),
        ("insert into audit_row (holders) select array(select r.holder from resource r)", ["resource r"]),
        ("select 1 from page p cross join lateral (select 1 from resource r where r.key = p.key) x", ["resource r"]),
    ],
)
def test_linter(sql: str, found: list[str]) -> None:
    assert unscoped_aliases(sql) == found
