"""How much the database looks at for a person who is hidden: as much as for one who does not exist (attacks.md 13).

Pages read are counted, not time: a count is the same on every machine.
"""

import json

import pytest

from ehr.row_filter import Parameters
from ehr.search import parse, sql
from tests.consent.house import LI, House, encounter, observation, patient

pytestmark = [pytest.mark.database, pytest.mark.asyncio(loop_scope="module")]
HIDDEN, UNKNOWN = "first-hospital.hidden", "first-hospital.nobody"
ROWS = 600
FEW_PAGES = 12
"""The person's own row and those that say who it is."""
SEARCHES = (
    ("Observation", "patient={}"),
    ("Observation", "patient=Patient/{}&code=718-7"),
    ("Observation", "subject=Patient/{}&_id=first-hospital.hidden-5"),
    ("Observation", "patient=nobody,{}"),
    ("Observation", "patient:mdm={}"),
    ("Observation", "patient._id={}"),
    ("Observation", "subject:Patient.identifier={}"),
    ("Observation", "encounter.patient={}"),
    ("Patient", "_id={}"),
    ("Patient", "identifier={}"),
    ("Patient", "_id={}&_has:Observation:patient:code=718-7"),
)


@pytest.fixture(scope="module", autouse=True)
async def _region(house: House) -> None:
    identifier = [{"system": "urn:test", "value": HIDDEN}]
    rows = [observation(f"{HIDDEN}-{n}", HIDDEN) for n in range(ROWS)]
    await house.feed("first-hospital", patient(HIDDEN, identifier=identifier), *rows)
    for organisation in ("county-hospital", "first-hospital"):
        for n in range(40):
            one = f"{organisation}.p{n}"
            await house.feed(organisation, patient(one), encounter(f"{one}.e", one), observation(f"{one}.o", one))
    await house.store.pool.execute("analyze")


async def _pages(house: House, resource_type: str, asked: str) -> tuple[int, int]:
    """Rows found and pages of 8 KiB looked at."""
    query = parse(resource_type, [(n, v) for n, _, v in (pair.partition("=") for pair in asked.split("&"))])
    scope = await house.decisions.read_scope(LI, interaction="search", types=[resource_type])
    parameters = Parameters()
    text = sql(query, scope.row_filter, parameters, house.store.hasher)
    async with house.store.keyed_search_pool.acquire() as connection:
        # the first time fills caches of the catalogue
        for _ in range(2):
            plan = await connection.fetchval(f"explain (analyze, buffers, format json) {text}", *parameters.values)
    (top,) = json.loads(plan)
    return int(top["Plan"]["Actual Rows"]), top["Plan"]["Shared Hit Blocks"] + top["Plan"]["Shared Read Blocks"]


@pytest.mark.parametrize(("resource_type", "asked"), SEARCHES)
async def test_no_row_of_a_hidden_person_is_looked_at(house: House, resource_type: str, asked: str) -> None:
    hidden, unknown = [await _pages(house, resource_type, asked.format(one)) for one in (HIDDEN, UNKNOWN)]
    assert hidden[0] == unknown[0] == 0
    assert hidden[1] - unknown[1] <= FEW_PAGES
