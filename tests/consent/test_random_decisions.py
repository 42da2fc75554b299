"""Random consents and rows: the rendered predicate on PostgreSQL against the naive reading."""

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.consent import cases, naive

DAYS = ("2026-06-01", "2026-06-15", "2026-06-16")
CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "actor": st.lists(
        st.sampled_from(
            [
                "Organization/county-hospital",
                "Organization/x",
                "Practitioner/dr.li",
                "PractitionerRole/r1",
                "CST Organization/first-hospital",
                "CST Organization/county-hospital",
            ]
        ),
        min_size=1,
        max_size=2,
        unique=True,
    ),
    "purpose": st.lists(st.sampled_from(["TREAT", "ETREAT", "BTG", "HRESCH", "HOPERAT"]), min_size=1, max_size=2),
    "action": st.lists(st.sampled_from(["access", "disclose"]), min_size=1, max_size=2),
    "class": st.lists(
        st.sampled_from(["Observation", "Condition", "loinc|34133-9", "http://example.org/lab"]), min_size=1, max_size=2
    ),
    "code": st.lists(st.sampled_from(["loinc|718-7", "loinc|34133-9"]), min_size=1, max_size=2),
    "label": st.lists(st.sampled_from(["HIV", "PSY"]), max_size=2, unique=True).flatmap(
        lambda sensitivities: st.sampled_from([*"UMNRV", ""]).map(
            lambda level: [*sensitivities, *([level] if level else [])] or ["HIV"]
        )
    ),
    "period": st.sampled_from([{"start": day} for day in DAYS] + [{"end": day} for day in DAYS]),
    "dataPeriod": st.sampled_from([{"start": "2026-01-01"}, {"end": "2026-01-09"}, {"start": "2026-01-10"}]),
}


def _provisions(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    conditions = st.lists(st.sampled_from(sorted(CONDITIONS)), max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: CONDITIONS[name] for name in names})
    )
    nested = st.lists(_provisions(depth - 1), max_size=2) if depth else st.just([])
    return st.tuples(st.sampled_from(["permit", "deny"]), conditions, nested).map(
        lambda drawn: {"type": drawn[0], **drawn[1], **({"provision": drawn[2]} if drawn[2] else {})}
    )


CONSENTS = st.fixed_dictionaries(
    {
        "base": st.sampled_from(["OPTIN", "OPTOUT", "EMRGONLY", "preset", "none"]),
        "dateTime": st.sampled_from(["2026-01-01", "2026-02-01", ""]),
        "scope": st.sampled_from(["patient-privacy", "patient-privacy", "patient-privacy", "research"]),
        "filedBy": st.sampled_from(["", "", "county-hospital", "first-hospital"]),
        "provision": st.lists(_provisions(2), max_size=3),
    }
)
REQUESTS = st.fixed_dictionaries(
    {
        "purpose": st.sampled_from(["TREAT", "TREAT", "ETREAT", "BTG", "HOPERAT", "HRESCH"]),
        "action": st.sampled_from(["access", "access", "disclose"]),
        "reach": st.booleans(),
        "emergency": st.booleans(),
        "preset": st.sampled_from(["cn-county", "cn-strict"]),
        "practitioner": st.sampled_from(["dr.li", "dr.wu"]),
        "practitioner_roles": st.sampled_from([[], ["r1"]]),
        "organisations": st.sampled_from([["county-hospital"], ["county-hospital", "x"]]),
    }
).map(cases.request)
ROWS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["Observation", "Condition", "DiagnosticReport", "DocumentReference"]),
        "custodian": st.sampled_from(["first-hospital", "county-hospital"]),
        "labels": st.sampled_from([[], [], ["HIV"], ["HIV", "PSY"], ["STD"]]),
        "level": st.sampled_from("NNNUMRV"),
        "code": st.sampled_from(["loinc|718-7", "loinc|34133-9", "loinc|4548-4"]),
        "profiles": st.sampled_from([[], ["http://example.org/lab"]]),
        "date": st.sampled_from(["2026-01-10T08:00:00+08:00", "2025-12-31T23:59:59+08:00", None]),
    }
).map(cases.row)


@pytest.fixture(scope="module")
def ask(postgres_url: str) -> Iterator[Any]:
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(
        asyncpg.connect(postgres_url, server_settings={"jit": "off"}, statement_cache_size=0)
    )
    yield lambda rule, rows, form: loop.run_until_complete(cases.decided_in_sql(connection, rule, rows, form))
    loop.run_until_complete(connection.close())
    loop.close()


@pytest.mark.database
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    consents=st.lists(CONSENTS, max_size=3),
    asked=REQUESTS,
    rows=st.lists(ROWS, min_size=6, max_size=6),
    form=st.sampled_from(["narrow", "stamped", "restamped", "sets", "led", "named", "named stamped"]),
)
def test_sql_agrees(
    ask: Any, consents: list[dict[str, Any]], asked: dict[str, Any], rows: list[dict[str, Any]], form: str
) -> None:
    full = [cases.consent(short) for short in consents]
    rule = cases.rule_of([full], asked)
    facts = [cases.facts(asked, row) for row in rows]
    expected = [naive.visible(full, asked, row)[0] for row in rows]
    assert ask(rule, facts, form) == expected
    assert [rule.holds(each) for each in facts] == expected


@settings(max_examples=100, deadline=None)
@given(groups=st.lists(st.lists(CONSENTS, max_size=2), min_size=2, max_size=2), asked=REQUESTS, row=ROWS)
def test_strictest_of_two_after_a_merge(
    groups: list[list[dict[str, Any]]], asked: dict[str, Any], row: dict[str, Any]
) -> None:
    full = [[cases.consent(short) for short in group] for group in groups]
    expected = all(naive.visible(group, asked, row)[0] for group in full)
    assert cases.rule_of(full, asked).holds(cases.facts(asked, row)) is expected
