"""The preset cn-strict on a real record: own rows, what consent permits, and broken glass."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from consent import Consent
from ehr.store import Store, migrate
from tests.consent.house import LI, LOADER, WANG, House, caller, consent, encounter, observation, patient, resident

pytestmark = pytest.mark.database
F = "first-hospital."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    await migrate(database_url)
    decisions = Consent("cn-strict")
    keys: Path = tmp_path_factory.mktemp("keys") / "index.key"
    store = await Store.open(database_url, keys_path=keys, projections=decisions.projections())
    await decisions.open(store)
    house = House(store, decisions)
    names = ("first-hospital", "county-hospital")
    await house.put(LOADER, *({"resourceType": "Organization", "id": name, "name": name} for name in names))
    yield house
    await store.close()


async def test_own_rows_and_what_consent_permits(strict: House) -> None:
    zhang = F + "strict"
    row = f"Observation/{zhang}.o"
    await strict.feed("first-hospital", patient(zhang), observation(f"{zhang}.o", zhang))
    await strict.feed("county-hospital", encounter("county-hospital.strict", zhang))
    assert await strict.sees(WANG, row)
    assert await strict.sees(resident(zhang), row)
    assert await strict.sees(LI, "Encounter/county-hospital.strict"), "its own row"
    assert not await strict.sees(LI, row), "treating a person opens nothing"
    explained = await strict.decisions.explain(LI, row)
    assert (explained.visible, explained.policy, explained.rule[0]) == (False, "cn-strict", "6")
    permit = {"type": "permit", "actor": ["Organization/county-hospital"], "purpose": ["TREAT"]}
    given = consent(zhang, base="preset", dateTime="2026-01-01", provision=[permit])
    filed = (await strict.put(resident(zhang), given))[0]
    assert await strict.sees(LI, row)
    await strict.put(resident(zhang), {**given, "id": filed.resource_id, "status": "inactive"})
    assert not await strict.sees(LI, row)


async def test_broken_glass_opens_one_person(strict: House) -> None:
    zhang, liu = F + "strict-a", F + "strict-b"
    for name in (zhang, liu):
        await strict.feed("first-hospital", patient(name), observation(f"{name}.o", name))
    breaking = caller("dr.li", "clinician", "county-hospital", purpose="BTG", reason="unconscious")
    assert await strict.sees(breaking, f"Patient/{zhang}", (zhang,))
    assert await strict.sees(breaking, f"Observation/{zhang}.o")
    assert not await strict.sees(breaking, f"Observation/{liu}.o")
