"""Quantities with units of UCUM are compared in base units: https://hl7.org/fhir/R4/search.html#quantity."""

from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from ehr.row_filter import AllOf, CustodianIn, Everything
from ehr.store import Store
from tests.search_record import START_US, Kept, ask, ask_all, fill, plain

pytestmark = pytest.mark.database
UCUM = "http://unitsofmeasure.org"


def observation(name: str, value: str) -> dict[str, Any]:
    return plain(f'{{"resourceType": "Observation", "id": "{name}", "status": "final", {value}}}')


def measured(name: str, value: str, code: str, system: str = UCUM) -> dict[str, Any]:
    return observation(name, f'"valueQuantity": {{"value": {value}, "system": "{system}", "code": "{code}"}}')


ROWS = [
    measured("mg", "5.4", "mg"),
    measured("g", "0.0054", "g"),
    measured("ug", "5400", "ug"),
    measured("near", "5.44", "mg"),
    measured("beyond", "5.45", "mg"),
    measured("volume", "5.4", "mL"),
    measured("strange", "5.4", "mg/foo"),
    measured("elsewhere", "5.4", "mg", "urn:other"),
    observation("bare", '"valueQuantity": {"value": 5.4, "unit": "mg"}'),
    measured("celsius", "37.0", "Cel"),
    measured("fahrenheit", "98.6", "[degF]"),
    measured("kelvin", "310.15", "K"),
    measured("long", "1.234567890123456789012345678901234", "[mi_us]"),
    measured("large", "1e300", "Ym"),
    observation("less", f'"valueQuantity": {{"value": 1, "comparator": "<", "system": "{UCUM}", "code": "g"}}'),
    observation(
        "component",
        f'"component": [{{"code": {{"text": "x"}},"valueQuantity": {{"value": 6, "system": "{UCUM}", "code": "mg"}}}}]',
    ),
]
FOUND = {
    f"value-quantity=5.4|{UCUM}|mg": {"mg", "g", "ug", "near"},
    f"value-quantity=0.0054|{UCUM}|g": {"mg", "g", "ug", "near"},
    f"value-quantity=5.40|{UCUM}|mg": {"mg", "g", "ug"},
    f"value-quantity=0.00540|{UCUM}|g": {"mg", "g", "ug"},
    f"value-quantity=5400|{UCUM}|ug": {"mg", "g", "ug"},
    f"value-quantity=gt5.44|{UCUM}|mg": {"beyond", "less"},
    f"value-quantity=ge5.44|{UCUM}|mg": {"near", "beyond", "less"},
    f"value-quantity=lt5440|{UCUM}|ug": {"mg", "g", "ug", "less"},
    f"value-quantity=sa5.4|{UCUM}|mg": {"near", "beyond"},
    f"value-quantity=ne0.0054|{UCUM}|g": {"beyond", "less"},
    f"value-quantity=ap5|{UCUM}|mg": {"mg", "g", "ug", "near", "beyond", "less"},
    f"value-quantity=5.4|{UCUM}|mL": {"volume"},
    f"value-quantity=0.0054|{UCUM}|L": {"volume"},
    f"value-quantity=5.4|{UCUM}|mg/foo": {"strange"},
    f"value-quantity=0.0054|{UCUM}|g/foo": set(),
    "value-quantity=5.4|urn:other|mg": {"elsewhere"},
    "value-quantity=0.0054|urn:other|g": set(),
    "value-quantity=5.4||mg": {"mg", "near", "elsewhere", "bare"},
    "value-quantity=5.4||g": set(),
    "value-quantity=5.4": {"mg", "near", "volume", "strange", "elsewhere", "bare"},
    "value-quantity=0.0054": {"g"},
    f"value-quantity=1.234567890123456789012345678901234|{UCUM}|[mi_us]": {"long"},
    f"value-quantity=1.234567890123456789012345678901235|{UCUM}|[mi_us]": set(),
    "value-quantity=1.234567890123456789012345678901234": {"long"},
    "value-quantity=1.234567890123456789012345678901233": set(),
    f"value-quantity=gt1|{UCUM}|km": {"long", "large"},
    f"value-quantity=37.0|{UCUM}|Cel": {"celsius", "fahrenheit", "kelvin"},
    f"value-quantity=98.6|{UCUM}|[degF]": {"celsius", "fahrenheit", "kelvin"},
    f"value-quantity=310.2|{UCUM}|K": {"celsius", "fahrenheit", "kelvin"},
    f"value-quantity=5.4|{UCUM}|mL,37.0|{UCUM}|Cel,5.4||g": {"volume", "celsius", "fahrenheit", "kelvin"},
    f"combo-value-quantity=0.006|{UCUM}|g": {"component"},
    f"combo-value-quantity=ge0.00545|{UCUM}|g": {"beyond", "less", "component"},
    f"component-value-quantity=6000|{UCUM}|ug": {"component"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _filled(store: Store, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    rows = [Kept(one, START_US + n, 0, custodian=1 + n % 2) for n, one in enumerate(ROWS)]
    await fill(connection, store.hasher, rows)
    await connection.close()


@pytest.mark.parametrize("asked", FOUND)
async def test_what_is_the_same_amount_is_found(store: Store, asked: str) -> None:
    names = await ask_all(store, f"Observation?{asked}")
    assert {name.removeprefix("Observation/") for name in names} == FOUND[asked]
    assert len(names) == len(FOUND[asked])
    assert (await ask(store, f"Observation?{asked}&_total=accurate&_count=1")).total == len(names)


async def test_hidden_amounts_are_not_found(store: Store) -> None:
    asked = f"Observation?value-quantity=5.4|{UCUM}|mg"
    found: set[str] = set()
    for custodian in (1, 2):
        sees = AllOf((Everything(), CustodianIn(frozenset({custodian}))))
        result = await ask(store, asked, sees)
        assert len(result.matches) == result.total == 2
        found |= {match.resource_id for match in result.matches}
    assert found == FOUND[f"value-quantity=5.4|{UCUM}|mg"]
