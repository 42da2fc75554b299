"""The examination of statements, which every module undergoes, finds what reads clinical rows without a scope."""

import pytest

from tests.statements import Examination

_SCOPED = "((r.key is not null) and r.custodian = 1)"


@pytest.mark.parametrize(
    ("statement", "aliases"),
    [
        (f"select r.id from resource r where {_SCOPED}", []),
        (f"select r.id from resource r where r.type = 7 and {_SCOPED}", []),
        ("select r.id from resource r where r.type = 7", ["resource r"]),
        (f"select r.id from resource r where {_SCOPED} or r.type = 7", ["resource r"]),
        (f"select 1 from resource r, resource_history h where {_SCOPED}", ["resource_history h"]),
        (
            f"select 1 from resource r where {_SCOPED} and exists (select 1 from resource s where s.key = r.key)",
            ["resource s"],
        ),
        ("select ((r.key is not null) and exists (select 1 from resource t)) from parts r", ["resource t"]),
        ("insert into resource select * from given", []),
        ("select 1 from change_log", []),
    ],
)
def test_what_reads_without_a_scope_is_found(statement: str, aliases: list[str]) -> None:
    found = Examination().unscoped([statement])
    assert [alias for listed in found.values() for alias in listed] == aliases


def test_each_form_is_told_once() -> None:
    examination = Examination()
    assert examination.unscoped(["select id from resource where type = 1"])
    assert not examination.unscoped(["select id from resource where type = 2"])
