"""Each kind of parameter against the specification's tables: https://hl7.org/fhir/R4/search.html."""

import asyncpg
import pytest
import pytest_asyncio

from ehr.search import frequency
from ehr.store import Store
from tests.search_record import ask_all, fill, kept, plain

pytestmark = pytest.mark.database


def _observation(identifier: str, more: str) -> str:
    head = f'"resourceType":"Observation","id":"{identifier}","status":"final","subject":{{"reference":"Patient/p1"}}'
    return f"{{{head},{more}}}"


def _quantity(identifier: str, value: str, unit: str = '"system":"http://unitsofmeasure.org","code":"mg"') -> str:
    return _observation(
        identifier, f'"code":{{"coding":[{{"system":"s","code":"q"}}]}},"valueQuantity":{{"value":{value},{unit}}}'
    )


def _dated(identifier: str, field: str) -> str:
    return _observation(identifier, f'"code":{{"text":"dated"}},{field}')


PEOPLE_AND_OTHERS = r"""
{"resourceType":"Patient","id":"p1","active":true,"name":[{"family":"Müller-Lüdenscheidt","given":["Jörg Maria"]}],
"gender":"male","birthDate":"1970-02","identifier":[{"system":"urn:ids","value":"A,1"}],
"address":[{"city":"Wuppertal an der Wupper"}],"managingOrganization":{"reference":"Organization/o1"}}

{"resourceType":"Patient","id":"p2","name":[{"text":"王小明","family":"王","given":["小明"]}],"gender":"female",
"birthDate":"1970-02-14","identifier":[{"value":"B$2"},{"system":"urn:other","value":"A,1"}],
"managingOrganization":{"identifier":{"system":"urn:orgs","value":"77"}}}

{"resourceType":"Patient","id":"p3","gender":"unknown","birthDate":"1971",
"managingOrganization":{"reference":"http://elsewhere.org/fhir/Organization/o1"}}

{"resourceType":"Organization","id":"o1","name":"First Hospital"}

{"resourceType":"RiskAssessment","id":"r1","status":"final","subject":{"reference":"Patient/p1"},
"prediction":[{"probabilityDecimal":0.8}]}

{"resourceType":"ValueSet","id":"v1","status":"active","url":"http://example.org/ValueSet/A"}

{"resourceType":"Condition","id":"c1","subject":{"reference":"Patient/p2"},
"code":{"text":"Diabetes mellitus typ 2","coding":[{"system":"urn:icd","code":"E11","display":"Type 2 diabetes"}]},
"meta":{"tag":[{"system":"urn:tags","code":"t"}],"profile":["http://example.org/p"],
"security":[{"system":"urn:sec","code":"R"}],"source":"urn:feed:1"}}
"""
RESOURCES = [
    *PEOPLE_AND_OTHERS.strip().split("\n\n"),
    _quantity("q100", "100"),
    _quantity("q100.0", "100.0"),
    _quantity("q99.6", "99.6"),
    _quantity("q100.4", "100.4"),
    _quantity("q101", "101"),
    _quantity("q5.4", "5.4"),
    _quantity("q-unit", "100", '"unit":"mg"'),
    _quantity("q-other", "100", '"system":"urn:x","code":"mg"'),
    _observation(
        "parts",
        '"code":{"coding":[{"code":"panel"}]},"component":[{"code":{"coding":[{"code":"systole"}]},'
        '"valueQuantity":{"value":121,"unit":"mm","system":"urn:u","code":"mm"}},{"code":{"text":"note"},'
        '"valueCodeableConcept":{"coding":[{"code":"loud"}]}}]',
    ),
    _dated("d-year", '"effectiveDateTime":"2013"'),
    _dated("d-day", '"effectiveDateTime":"2013-01-14"'),
    _dated("d-moment", '"effectiveDateTime":"2013-01-14T10:00:00+08:00"'),
    _dated("d-from", '"effectivePeriod":{"start":"2013-01-01"}'),
    _dated("d-until", '"effectivePeriod":{"end":"2013-01-20"}'),
    _dated("d-after", '"effectiveDateTime":"2014-05-01"'),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _filled(store: Store, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await fill(connection, store.hasher, kept(plain(text) for text in RESOURCES))
    await connection.close()


P = "Patient?"
Q = "Observation?value-quantity="
D = "Observation?code:text=dated&date="
CASES = {
    # token
    P + "gender=male": "p1",
    P + "gender=male,unknown": "p1 p3",
    P + "gender=http://hl7.org/fhir/administrative-gender|male": "p1",
    P + "gender:not=male": "p2 p3",
    P + "identifier=A\\,1": "p1 p2",
    P + "identifier=urn:ids|A\\,1": "p1",
    P + "identifier=urn:ids|": "p1",
    P + "identifier=|B\\$2": "p2",
    P + "identifier=|A\\,1": "",
    P + "identifier:missing=true": "p3",
    P + "identifier:missing=false": "p1 p2",
    P + "active=true": "p1",
    P + "_id=p1,p3": "p1 p3",
    P + "_id:not=p1": "p2 p3",
    "Condition?code:text=diabetes mel": "c1",
    "Condition?code:text=Type 2 DIABETES": "c1",
    "Condition?code:text=D": "c1",
    "Condition?code:text=x": "",
    "Condition?code:text=diabetes mellitus typ 3": "",
    "Condition?_tag=urn:tags|t&_security=R&_profile=http://example.org/p&_source=urn:feed:1": "c1",
    # parameters that others answer
    "Observation?combo-code=systole": "parts",
    "Observation?combo-code=panel": "parts",
    "Observation?combo-code:text=note": "parts",
    "Observation?combo-code=systole&combo-code:not=panel": "",
    "Observation?combo-value-concept=loud": "parts",
    "Observation?combo-value-concept:missing=false": "parts",
    "Observation?combo-value-quantity=121": "parts",
    "Observation?combo-value-quantity=121|urn:u|mm,5.4": "parts q5.4",
    "Observation?combo-value-quantity=121|urn:x|mm": "",
    "Observation?combo-value-quantity=100|urn:x|mg": "q-other",
    "Observation?combo-value-quantity=lt100&_sort=combo-value-quantity": "q5.4 q99.6",
    "Observation?combo-value-quantity:missing=true&code=panel": "",
    P + "phonetic=mull": "p1",
    P + "phonetic:contains=udenscheid": "p1",
    P + "phonetic:exact=王": "p2",
    P + "phonetic:missing=true": "p3",
    # string
    P + "family=mull": "p1",
    P + "family=MÜLLER": "p1",
    P + "family=muller-ludenscheidt": "p1",
    P + "family=muller-ludenscheix": "",
    P + "family=udenscheid": "",
    P + "family:contains=udenscheid": "p1",
    P + "family:contains=ud": "p1",
    P + "family:exact=Müller-Lüdenscheidt": "p1",
    P + "family:exact=müller-lüdenscheidt": "",
    P + "name=王": "p2",
    P + "name:contains=小明": "p2",
    P + "name:contains=明": "p2",
    P + "given=jorg": "p1",
    P + "given=maria": "",
    P + "given=jorg&gender=female": "",
    P + "address=wupp": "p1",
    P + "address-city=wuppertal an der wupper": "p1",
    P + "family=zzz,müller": "p1",
    # reference
    P + "organization=o1": "p1",
    P + "organization=Organization/o1": "p1",
    P + "organization:Organization=o1": "p1",
    P + "organization=http://elsewhere.org/fhir/Organization/o1": "p3",
    P + "organization:identifier=urn:orgs|77": "p2",
    P + "organization=Organization/o2": "",
    "Condition?subject=p2": "c1",
    "Condition?subject:Patient=p2": "c1",
    "Condition?subject:Group=p2": "",
    "Condition?patient=Patient/p2": "c1",
    "Condition?patient:mdm=p2": "c1",
    # chains and _has
    P + "organization.name=first": "p1",
    P + "organization:Organization._id=o1": "p1",
    P + "organization.name:contains=hospital": "p1",
    "Condition?patient.family=王": "c1",
    "Condition?patient.name:contains=小": "c1",
    "Condition?subject:Patient.gender=female": "c1",
    P + "_has:Condition:patient:code=E11": "p2",
    P + "_has:Condition:patient:_id=c1": "p2",
    P + "_has:Condition:patient:code:text=diabetes mellitus t": "p2",
    "Organization?_has:Patient:organization:_lastUpdated=gt2000&_has:Patient:organization:gender=male": "o1",
    "Organization?_has:Patient:organization:gender=female": "",
    # uri
    "ValueSet?url=http://example.org/ValueSet/A": "v1",
    "ValueSet?url=http://example.org/ValueSet/a": "",
    # date
    P + "birthdate=1970": "p1 p2",
    P + "birthdate=1970-02": "p1 p2",
    P + "birthdate=1970-02-14": "p2",
    P + "birthdate=ne1970": "p3",
    P + "birthdate=ge1970-02-14": "p1 p2 p3",
    P + "birthdate=sa1970-02": "p3",
    D + "2013": "d-year d-day d-moment",
    D + "2013-01-14": "d-day d-moment",
    D + "2013-01-14T10:00": "d-moment",
    D + "2013-01-14T02:00:00Z": "d-moment",
    D + "ne2013-01-14": "d-year d-from d-until d-after",
    D + "lt2013-01-14T10:00": "d-year d-day d-from d-until",
    D + "gt2013-01-14T10:00": "d-year d-day d-from d-until d-after",
    D + "ge2013-03-14": "d-year d-from d-after",
    D + "le2013-01-14": "d-year d-day d-moment d-from d-until",
    D + "sa2013-03-14": "d-after",
    D + "eb2013-03-14": "d-day d-moment d-until",
    D + "sa2013&date=lt2015": "d-after",
    # number and quantity
    "RiskAssessment?probability=gt0.7": "r1",
    "RiskAssessment?probability=gt0.8": "",
    "RiskAssessment?probability=0.80": "r1",
    Q + "100||mg": "q100 q100.0 q99.6 q100.4 q-unit q-other",
    Q + "100.0||mg": "q100 q100.0 q-unit q-other",
    Q + "100.00|http://unitsofmeasure.org|mg": "q100 q100.0",
    Q + "gt100|http://unitsofmeasure.org|mg": "q100.4 q101",
    Q + "ge100|http://unitsofmeasure.org|mg": "q100 q100.0 q100.4 q101",
    Q + "lt100": "q99.6 q5.4",
    Q + "le100|http://unitsofmeasure.org|mg": "q100 q100.0 q99.6 q5.4",
    Q + "sa100": "q100.4 q101",
    Q + "eb100": "q99.6 q5.4",
    Q + "ap100|http://unitsofmeasure.org|mg": "q100 q100.0 q99.6 q100.4 q101",
    Q + "ne100": "q101 q5.4",
    Q + "5.4": "q5.4",
    Q + "5.40": "q5.4",
    Q + "5": "q5.4",
    Q + "1e2|urn:x|mg": "q-other",
}


@pytest.mark.parametrize(("query", "expected"), CASES.items())
async def test_kind(store: Store, query: str, expected: str) -> None:
    found = await ask_all(store, query)
    assert sorted(name.partition("/")[2] for name in found) == sorted(expected.split())


async def test_dates_are_ordered_by_their_start(store: Store) -> None:
    found = [name.partition("/")[2] for name in await ask_all(store, "Observation?code:text=dated&_sort=date&_count=2")]
    assert found[0] == "d-until"
    assert set(found[1:3]) == {"d-year", "d-from"}
    assert found[3:] == ["d-day", "d-moment", "d-after"]
    down = [name.partition("/")[2] for name in await ask_all(store, "Observation?code:text=dated&_sort=-date&_count=2")]
    assert down == found[::-1]
    up = await ask_all(store, "Observation?code:not=panel&_sort=value-quantity,date&_count=3")
    assert [name.partition("/")[2] for name in up][:3] == ["q5.4", "q99.6", up[2].partition("/")[2]]
    assert [name.partition("/")[2] for name in up][-6:] == found


async def test_no_identifying_value_lies_in_the_database_in_the_clear(store: Store) -> None:
    async with store.search_pool.acquire() as connection:
        tables = await connection.fetch(
            "select table_name from information_schema.tables"
            " where table_schema = 'public' and table_type = 'BASE TABLE'"
        )
        for row in tables:
            text = await connection.fetchval(f"select string_agg(t::text, ' ') from {row['table_name']} t")
            assert not text or not any(word in text.lower() for word in ("müller", "muller", "wuppertal", "小明"))


async def test_rows_without_main_date_follow_in_pages(store: Store, database_url: str) -> None:
    async def orders() -> list[list[str]]:
        found = [
            await ask_all(store, f"Observation?_sort={sort}&_count=1000&_total=none") for sort in ("date", "-date")
        ]
        for sort, whole in zip(("date", "-date"), found, strict=True):
            assert await ask_all(store, f"Observation?_sort={sort}&_count=2") == whole
            assert await ask_all(store, f"Observation?_sort={sort}&_count=3&_total=none") == whole
        return found

    up, down = await orders()
    dated = {name for name in up if name.startswith("Observation/d-")}
    assert len(dated) == 6 < len(up)
    assert set(up[:6]) == set(down[:6]) == dated
    assert up[6:] == down[6:][::-1]  # equal values follow their keys
    connection = await asyncpg.connect(database_url)
    await connection.execute("analyze resource")
    await connection.close()
    frequency._known.clear()
    assert await orders() == [up, down]  # the order of the index, one plan for all
