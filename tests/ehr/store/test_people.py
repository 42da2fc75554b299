import asyncio
import itertools

import asyncpg
import pytest

from ehr.errors import Forbidden, NotFound
from ehr.keys import row_key
from ehr.store import PatientMerge, Store, WriteOperation
from ehr.store.people import IDENTITY_NUMBER_SYSTEM, identity_number, is_valid_identity_number
from tests.ehr.store.record_fixtures import NOTE, AboutNamedPatient, clinician, feed

pytestmark = pytest.mark.database

NUMBER = "11010519491231002X"
BORN, SEX = "1949-12-31", "female"


def patient(resource_id: str, number: str = NUMBER, born: str = BORN, sex: str = SEX) -> WriteOperation:
    return WriteOperation(
        "update",
        "Patient",
        resource_id,
        resource={
            "resourceType": "Patient",
            "id": resource_id,
            "identifier": [{"system": IDENTITY_NUMBER_SYSTEM, "value": number}],
            "birthDate": born,
            "gender": sex,
        },
    )


@pytest.mark.parametrize(
    ("number", "valid"),
    [
        (NUMBER, True),
        ("110105194912310021", False),
        ("11010519491231002x", True),
        ("1101051949123100", False),
        ("", False),
    ],
)
def test_the_check_digit_of_an_identity_number(number: str, valid: bool) -> None:  # noqa: FBT001 - a table's column
    assert is_valid_identity_number(number) is valid


def test_a_number_counts_only_where_birth_date_and_sex_agree() -> None:
    assert identity_number(patient("x").resource or {}) == NUMBER
    assert identity_number(patient("x", born="1950-01-01").resource or {}) is None
    assert identity_number(patient("x", sex="male").resource or {}) is None


async def person_of(connection: asyncpg.Connection, resource_id: str) -> int:
    holder = row_key("Patient", resource_id)
    return int(await connection.fetchval("select person from holder_person where holder = $1", holder))


async def test_the_same_number_links_hospitals_and_its_correction_parts_them(
    store: Store, connection: asyncpg.Connection, projection: AboutNamedPatient
) -> None:
    projection.persons_told.clear()
    await asyncio.gather(
        store.write(feed(), [patient("first-hospital.a")], NOTE),
        store.write(feed("county-hospital"), [patient("county-hospital.a")], NOTE),
    )
    assert await person_of(connection, "first-hospital.a") == await person_of(connection, "county-hospital.a")
    assert projection.persons_told
    await store.write(feed(), [patient("first-hospital.a", "440524188001010014", "1880-01-01", "male")], NOTE)
    assert await person_of(connection, "first-hospital.a") != await person_of(connection, "county-hospital.a")


async def test_a_clinicians_patient_links_nobody(store: Store, connection: asyncpg.Connection) -> None:
    await store.write(feed("county-hospital"), [patient("county-hospital.b", "44052418800101001X")], NOTE)
    await store.write(feed("county-hospital"), [patient("county-hospital.victim")], NOTE)
    await store.write(feed(), [patient("first-hospital.plain", "1")], NOTE)
    before = await person_of(connection, "first-hospital.plain")
    await store.write(clinician(), [patient("first-hospital.plain")], NOTE)
    assert await person_of(connection, "first-hospital.plain") == before
    assert await person_of(connection, "county-hospital.victim") != before


async def test_a_merge_moves_reach_and_is_taken_back(store: Store, connection: asyncpg.Connection) -> None:
    old, new = (row_key("Patient", f"first-hospital.{name}") for name in ("old", "new"))
    await store.write(feed(), [patient("first-hospital.old", "1"), patient("first-hospital.new", "2")], NOTE)
    await connection.execute("insert into reach values (7, $1, 99, $1, 1, 0), (7, $2, 98, $2, 1, 0)", old, new)
    rows = await connection.fetchval("select sum(version) from resource")
    merge = PatientMerge("first-hospital.new", "first-hospital.old", "MSH|A40")
    await store.write(feed(), [], NOTE, merges=[merge])
    assert await person_of(connection, "first-hospital.old") == await person_of(connection, "first-hospital.new")
    assert await connection.fetchval("select count(distinct person) from reach where organisation = 7") == 1
    async with connection.transaction():
        await store.people.unmerge(connection, new, old)
    assert await person_of(connection, "first-hospital.old") == old
    assert await connection.fetchval("select count(distinct person) from reach where organisation = 7") == 2
    assert await connection.fetchval("select sum(version) from resource") == rows
    with pytest.raises(NotFound):
        await store.people.unmerge(connection, new, old)


async def test_a_hospital_merges_its_own_patients_only(store: Store) -> None:
    await store.write(feed("county-hospital"), [patient("county-hospital.m", "1")], NOTE)
    await store.write(feed(), [patient("first-hospital.m", "1")], NOTE)
    with pytest.raises(Forbidden):
        await store.write(feed(), [], NOTE, merges=[PatientMerge("first-hospital.m", "county-hospital.m", "x")])
    with pytest.raises(NotFound):
        await store.write(feed(), [], NOTE, merges=[PatientMerge("first-hospital.m", "first-hospital.none", "x")])


async def test_links_give_the_same_person_in_every_order(store: Store, connection: asyncpg.Connection) -> None:
    persons = set()
    for order in itertools.permutations(("a", "b", "c")):
        await connection.execute("truncate holder_person, identity_claim, person_merge, person")
        for name in order:
            await store.write(feed(name), [patient(f"{name}.perm")], NOTE)
        found = {await person_of(connection, f"{name}.perm") for name in order}
        assert len(found) == 1
        persons |= found
    assert len(persons) == 1
