"""Attack 18: a thousand emergencies a minute by one clinician open no more records than the day's limit."""

import asyncio

import pytest

from ehr.errors import TooCostly
from tests.consent.house import House, caller, observation, patient

pytestmark = [pytest.mark.database, pytest.mark.asyncio(loop_scope="module")]


async def test_emergencies_at_once_are_counted_like_emergencies_in_turn(house: House) -> None:
    names = [f"first-hospital.crowd-{number}" for number in range(60)]
    await house.feed("first-hospital", *(patient(name) for name in names), *(observation(f"{n}.o", n) for n in names))
    hasty = caller("dr.hasty", "clinician", "county-hospital", purpose="BTG", reason="all of them unconscious")

    async def opens(name: str) -> bool:
        try:
            return await house.sees(hasty, f"Patient/{name}", (name,))
        except TooCostly:
            return False

    limit = house.decisions.policy.break_glass_openings_a_day
    assert sum(await asyncio.gather(*(opens(name) for name in names))) == limit
    opened = await house.store.pool.fetchval("select count(*) from emergency where actor = 'dr.hasty'")
    assert opened == limit
    assert sum(await asyncio.gather(*(opens(name) for name in names))) == limit, (
        "those that are open stay so, no others"
    )
