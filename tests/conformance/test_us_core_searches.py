"""The searches that US Core 3.1.1 asks of a server, as Inferno makes them, over Synthea records.

Each combination of parameters takes its values from a resource, and must find that resource again; dates with each
comparator a day off, tokens with and without their system, references with and without their type.
"""

from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import yaml

from ehr.fhirpath import compile as compile_path
from ehr.search import parse
from ehr.store import Store, migrate
from tests.search_record import SHARED_DATA, SYNTHEA, ask_all, fill, kept, synthea

METADATA = SHARED_DATA / "us-core" / "v3.1.1" / "metadata.yml"
pytestmark = [
    pytest.mark.database,
    pytest.mark.skipif(not (METADATA.exists() and SYNTHEA.exists()), reason="the given data is not there"),
]
Json = dict[str, Any]
_RARE = {"AllergyIntolerance", "Device", "DocumentReference", "Goal", "Location", "PractitionerRole", "Provenance"}
"""Types of which few Synthea patients have resources."""


@pytest.fixture(scope="module")
def resources() -> list[Json]:
    return synthea(2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(
    database_url: str, resources: list[Json], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Store]:
    await migrate(database_url)
    keys: Path = tmp_path_factory.mktemp("keys") / "index.key"
    opened = await Store.open(database_url, keys_path=keys)
    connection = await asyncpg.connect(database_url)
    await fill(connection, opened.hasher, kept(resources))
    await connection.close()
    yield opened
    await opened.close()


def groups() -> list[Json]:
    found: list[Json] = yaml.safe_load(METADATA.read_text(encoding="utf-8"))[":groups"]
    return found


def words(value: Any) -> Iterator[str]:
    """How a value is written in a search, the loosest form first."""
    match value:
        case str() | bool():
            yield str(value)
        case {"coding": [{"code": code, **more}, *_]} | {"code": code, **more}:
            yield code
            yield f"{more.get('system', '')}|{code}"
        case {"reference": reference}:
            yield reference.rpartition("/")[2]
            yield reference
        case {"value": number, **more}:
            yield number
            if "system" in more:
                yield f"{more['system']}|{number}"
        case {"family": family}:
            yield family
        case {"city": city} | {"line": [city, *_]}:
            yield city
        case {"start": start}:
            yield f"gt{shifted(start, -1)}"  # a Period lies within no moment: Inferno asks for what goes on after it


def shifted(moment: str, days: int) -> str:
    if len(moment) < 10:
        return moment
    found = datetime.fromisoformat(moment) + timedelta(days=days)
    return found.isoformat()[:10] if len(moment) == 10 else found.isoformat(timespec="seconds")


def values_of(resource: Json, definition: Json) -> list[str]:
    """The values of one parameter in a resource, dates with each comparator."""
    path = next((path for path in definition[":full_paths"] if path.startswith(resource["resourceType"])), None)
    if path is None:
        return []
    path = path.replace("[x]", "")
    found = compile_path(path, context_type=resource["resourceType"])(resource)
    texts = list(words(found[0])) if found else []
    moment = texts[0].removeprefix("gt") if texts else ""
    days = {"gt": -1, "ge": -1, "lt": 2, "le": 2}
    return texts + [
        f"{comparator}{shifted(moment, days[comparator])}"
        for comparator in definition[":comparators"]
        if comparator in days and len(moment) >= 10
    ]


def written(text: str) -> str:
    return text.replace("+", "%2B").replace("&", "%26").replace("#", "%23")


@pytest.mark.parametrize("group", groups() if METADATA.exists() else [], ids=lambda group: group[":name"])
async def test_each_combination_finds_its_resource(store: Store, resources: list[Json], group: Json) -> None:
    resource_type = group[":resource"]
    of_type = [each for each in resources if each["resourceType"] == resource_type]
    if not of_type:
        assert resource_type in _RARE
    definitions = {name.lstrip(":"): definition for name, definition in group[":search_definitions"].items()}
    for search in group[":searches"]:
        names = search[":names"]
        held = ((each, [values_of(each, definitions[name]) for name in names]) for each in of_type)
        resource, values = next(((each, found) for each, found in held if all(found)), (None, []))
        if resource is None:
            for name in names:
                assert parse(resource_type, [(name, "2020" if "date" in name else "x")]), name
            continue
        for turn in range(max(len(texts) for texts in values)):
            pairs = [
                f"{name}={written(texts[min(turn, len(texts) - 1)])}" for name, texts in zip(names, values, strict=True)
            ]
            query = f"{resource_type}?{'&'.join(pairs)}&_count=1000"
            assert f"{resource_type}/{resource['id']}" in await ask_all(store, query), query


@pytest.mark.parametrize("group", groups() if METADATA.exists() else [], ids=lambda group: group[":name"])
def test_includes_and_alternatives_are_taken(group: Json) -> None:
    resource_type = group[":resource"]
    for value in group[":include_params"]:
        assert parse(resource_type, [("_include", value)]).includes
    for value in group[":revincludes"]:
        assert parse(resource_type, [("_revinclude", value)]).includes
    for name, definition in group[":search_definitions"].items():
        values = ",".join(definition[":values"][:5]) or ("2020,2021" if definition[":comparators"] else "a,b")
        assert parse(resource_type, [(name.lstrip(":"), values)]).clauses
