"""The tables of tests/spec/consent: consents, request, row, decision, deciding rule."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.consent import cases, naive

TABLES = sorted((Path(__file__).parents[1] / "spec" / "consent").glob("*.json"))
VECTORS = [
    pytest.param(table, id=f"{path.stem}: {table['name']}")
    for path in TABLES
    for table in json.loads(path.read_text("utf-8"))
]


def test_there_are_enough() -> None:
    assert sum(len(vector.values[0]["cases"]) for vector in VECTORS) >= 120  # type: ignore[index, call-overload, misc]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def connection(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url, server_settings={"jit": "off"})
    yield connection
    await connection.close()


@pytest.mark.parametrize("table", VECTORS)
def test_naive_reading(table: dict[str, Any]) -> None:
    consents = [cases.consent(short) for short in table["consents"]]
    for case in table["cases"]:
        found = naive.visible(consents, cases.request(case["request"]), cases.row(case["row"]))
        assert found == (case["visible"], case["rule"]), case


@pytest.mark.parametrize("table", VECTORS)
def test_facts_in_python(table: dict[str, Any]) -> None:
    consents = [cases.consent(short) for short in table["consents"]]
    for case in table["cases"]:
        asked, row = cases.request(case["request"]), cases.row(case["row"])
        assert cases.rule_of([consents], asked).holds(cases.facts(asked, row)) is case["visible"], case


@pytest.mark.database
@pytest.mark.parametrize("table", VECTORS)
async def test_decision_in_sql(connection: asyncpg.Connection, table: dict[str, Any]) -> None:
    consents = [cases.consent(short) for short in table["consents"]]
    for case in table["cases"]:
        asked, row = cases.request(case["request"]), cases.row(case["row"])
        rule, facts = cases.rule_of([consents], asked), cases.facts(asked, row)
        for form in ("narrow", "stamped", "restamped", "sets", "led", "named"):
            assert await cases.decided_in_sql(connection, rule, [facts], form) == [case["visible"]], (form, case)
