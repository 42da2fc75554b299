"""Composite parameters: all parts of a value are met by one and the same element.

https://hl7.org/fhir/R4/search.html#composite
"""

from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from ehr.definitions import RESOURCE_TYPES, search_parameters
from ehr.errors import BadSearch
from ehr.row_filter import AllOf, CustodianIn, Everything
from ehr.search import parse
from ehr.store import Store
from tests.search_record import START_US, Kept, ask, ask_all, fill

pytestmark = pytest.mark.database
LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"


def coded(code: str, *more: str, system: str = LOINC) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": each} for each in (code, *more)]}


def amount(value: str, code: str = "mm[Hg]") -> dict[str, Any]:
    return {"value": Decimal(value), "system": UCUM, "code": code}


def observation(name: str, code: str, *components: tuple[str, dict[str, Any]], **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"resourceType": "Observation", "id": name, "status": "final", "code": coded(code)}
    if components:
        found["component"] = [{"code": coded(part)} | value for part, value in components]
    return found | fields


def quantity(value: str, code: str = "mm[Hg]") -> dict[str, Any]:
    return {"valueQuantity": amount(value, code)}


def concept(code: str, system: str = "urn:v") -> dict[str, Any]:
    return {"valueCodeableConcept": coded(code, system=system)}


def context(code: str, **value: Any) -> dict[str, Any]:
    return {"code": {"system": "urn:c", "code": code}} | value


RESOURCES: list[dict[str, Any]] = [
    observation("crossed", "bp", ("sys", quantity("80")), ("dia", quantity("140"))),
    observation("usual", "bp", ("sys", quantity("140")), ("dia", quantity("80"))),
    observation("plain", "sys", **quantity("140")),
    observation("other-unit", "sys", **quantity("140", "kPa")),
    # the code of one element, the value of another
    observation("split", "sys", ("dia", quantity("140"))),
    observation("concepts", "panel", ("a", concept("yes")), ("b", concept("no"))),
    observation("concept", "a", **concept("yes")),
    observation("text", "note", valueString="A long remark on what the patient said yesterday"),
    observation("dated", "due", valueDateTime="2020-05-06"),
    observation("period", "due", valuePeriod={"start": "2020-05-06", "end": "2020-05-07"}),
    observation("two-codes", "x", **quantity("141")) | {"code": coded("x", "sys")},
    {"resourceType": "Group", "id": "g", "type": "person", "actual": True, "characteristic": [
        {"code": coded("sex"), "valueCodeableConcept": coded("f", system="urn:v"), "exclude": False},
        {"code": coded("smokes"), "valueBoolean": False, "exclude": False}]},
    {"resourceType": "ValueSet", "id": "v", "status": "active", "useContext": [
        context("age", valueRange={"low": {"value": 10}, "high": {"value": 20}}),
        context("focus", valueCodeableConcept=coded("flu", system="urn:v")),
        context("weight", valueQuantity={"value": 5})]},
    {"resourceType": "DocumentReference", "id": "d", "status": "current", "content": [{"attachment": {}}],
     "relatesTo": [
        {"code": "replaces", "target": {"reference": "DocumentReference/old"}},
        {"code": "signs", "target": {"reference": "DocumentReference/signed"}}]},
    {"resourceType": "MolecularSequence", "id": "m", "coordinateSystem": 0,
     "referenceSeq": {"chromosome": coded("1", system="urn:chr"), "referenceSeqId": coded("NC", system="urn:seq"),
                      "windowStart": 100, "windowEnd": 900},
     "variant": [{"start": 110, "end": 120}, {"start": 310, "end": 320}]},
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _filled(store: Store, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    rows = [Kept(one, START_US + n, 0, custodian=1 + n % 2) for n, one in enumerate(RESOURCES)]
    await fill(connection, store.hasher, rows)
    await connection.close()


FOUND = {
    "Observation?component-code-value-quantity=sys$gt100": {"usual"},
    f"Observation?component-code-value-quantity={LOINC}|dia$gt100": {"crossed", "split"},
    "Observation?component-code-value-quantity=sys$gt100,dia$lt100": {"usual"},
    "Observation?component-code-value-quantity=sys$gt100,sys$lt100": {"usual", "crossed"},
    "Observation?combo-code-value-quantity=sys$gt100": {"usual", "plain", "other-unit", "two-codes"},
    f"Observation?combo-code-value-quantity=sys$140|{UCUM}|mm[Hg]": {"usual", "plain"},
    "Observation?combo-code-value-quantity=sys$140||kPa": {"other-unit"},
    f"Observation?combo-code-value-quantity=sys$gt100|{UCUM}|kPa": {"other-unit"},
    f"Observation?component-code-value-quantity=sys$gt18|{UCUM}|kPa": {"usual"},
    f"Observation?component-code-value-quantity=dia$ge18|{UCUM}|kPa": {"crossed", "split"},
    "Observation?combo-code-value-quantity=sys$ne140": {"crossed", "two-codes"},
    "Observation?code-value-quantity=sys$gt100": {"plain", "other-unit", "two-codes"},
    f"Observation?code-value-quantity={LOINC}|sys$140||mm[Hg]": {"plain"},
    "Observation?code-value-quantity=x$141,sys$140||kPa": {"two-codes", "other-unit"},
    "Observation?component-code-value-concept=a$yes": {"concepts"},
    "Observation?component-code-value-concept=a$no": set(),
    "Observation?combo-code-value-concept=a$urn:v|yes": {"concepts", "concept"},
    "Observation?combo-code-value-concept=b$yes,b$no": {"concepts"},
    "Observation?code-value-concept=a$yes": {"concept"},
    "Observation?code-value-string=note$a long remark": {"text"},
    "Observation?code-value-string=note$a long remark on what the patient said": {"text"},
    "Observation?code-value-string=note$a long remark on what the physician said": set(),
    "Observation?code-value-string=due$a long": set(),
    "Observation?code-value-date=due$2020-05-06": {"dated"},
    "Observation?code-value-date=due$ge2020-05-06": {"dated", "period"},
    "Observation?code-value-date=note$2020-05-06": set(),
    "Group?characteristic-value=sex$urn:v|f": {"g"},
    "Group?characteristic-value=smokes$false": {"g"},
    "Group?characteristic-value=sex$false": set(),
    "ValueSet?context-type-quantity=age$gt15": {"v"},
    "ValueSet?context-type-quantity=age$5": set(),
    "ValueSet?context-type-quantity=weight$5": {"v"},
    "ValueSet?context-type-value=urn:c|focus$flu": {"v"},
    "ValueSet?context-type-value=age$flu": set(),
    "DocumentReference?relationship=DocumentReference/old$replaces": {"d"},
    "DocumentReference?relationship=old$http://hl7.org/fhir/document-relationship-type|replaces": {"d"},
    "DocumentReference?relationship=DocumentReference/old$signs": set(),
    "MolecularSequence?chromosome-variant-coordinate=1$ge100$lt121": {"m"},
    "MolecularSequence?chromosome-variant-coordinate=1$ge300$lt121": set(),
    "MolecularSequence?chromosome-variant-coordinate=2$ge100$lt121": set(),
    "MolecularSequence?referenceseqid-variant-coordinate=urn:seq|NC$310$320": {"m"},
    "MolecularSequence?chromosome-window-coordinate=urn:chr|1$le100$ge900": {"m"},
    "MolecularSequence?referenceseqid-window-coordinate=NC$101$900": set(),
    "Observation?component-code-value-quantity=sys$gt100&code=bp": {"usual"},
    "Observation?component-code-value-quantity=sys$gt100&combo-code-value-quantity=dia$gt100": set(),
}


@pytest.mark.parametrize("asked", FOUND)
async def test_one_element_meets_all_parts(store: Store, asked: str) -> None:
    kind = asked.partition("?")[0]
    assert {name.removeprefix(f"{kind}/") for name in await ask_all(store, asked)} == FOUND[asked]
    for exact in ("_total=accurate&_count=1", "_summary=count"):
        assert (await ask(store, f"{asked}&{exact}")).total == len(FOUND[asked]), exact


async def test_hidden_rows_are_neither_found_nor_counted(store: Store) -> None:
    asked = "Observation?combo-code-value-quantity=sys$gt100"
    found = set()
    for custodian in (1, 2):
        sees = AllOf((Everything(), CustodianIn(frozenset({custodian}))))
        result = await ask(store, f"{asked}&_total=accurate", sees)
        assert result.total == len(result.matches) < len(FOUND[asked])
        found |= {match.resource_id for match in result.matches}
    assert found == FOUND[asked]


def _sample(kind: str) -> str:
    return {"token": "x", "reference": "Patient/1", "string": "x", "date": "2020", "number": "1", "quantity": "1"}[kind]


def test_every_composite_of_r4_is_taken_and_needs_its_parts() -> None:
    number = 0
    for resource_type in RESOURCE_TYPES:
        parameters = search_parameters(resource_type)
        by_address = {parameter.url: parameter for parameter in parameters.values()}
        for code, parameter in parameters.items():
            if parameter.kind != "composite":
                continue
            number += 1
            parts = [_sample(by_address[address].kind) for address, _ in parameter.components]
            assert parse(resource_type, [(code, "$".join(parts))]).clauses, (resource_type, code)
            for wrong in ("$".join(parts[1:]), "$".join([*parts, "x"]), "$".join([*parts[:-1], ""]), "$" * len(parts)):
                with pytest.raises(BadSearch, match=code):
                    parse(resource_type, [(code, wrong)])
            for modifier in ("missing", "not", "text", "exact"):
                with pytest.raises(BadSearch, match="Unknown modifier"):
                    parse(resource_type, [(f"{code}:{modifier}", "true")])
    assert number == 72


def test_a_part_that_cannot_be_read_is_named() -> None:
    for value, named in (("x$much", "value-quantity"), ("a|b|c$5", "code"), ("x$5|mg", "value-quantity")):
        with pytest.raises(BadSearch, match=f"code-value-quantity: {named}"):
            parse("Observation", [("code-value-quantity", value)])
