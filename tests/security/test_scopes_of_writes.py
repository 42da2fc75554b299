"""What a token may write, and what it may learn by writing (attacks 7, 17 and 18)."""

from dataclasses import replace

import pytest

from consent.break_glass import open_record
from ehr.errors import Forbidden, TooCostly
from ehr.scopes import WriteScope
from ehr.search import parse
from ehr.store import WriteOperation
from tests.consent.house import NOTE, House, caller, observation, patient

pytestmark = [pytest.mark.database, pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.parametrize(
    ("scopes", "kind"),
    [
        ("user/Observation.c", "created"),
        ("user/Observation.c user/Patient.cruds", "created"),
        ("user/Observation.c user/Observation.rs?category=laboratory", "created"),
        ("user/Observation.cs", "matched"),
        ("user/Observation.cud", "matched"),
        ("user/*.cruds", "matched"),
    ],
)
async def test_conditions_match_only_what_the_token_may_touch(house: House, scopes: str, kind: str) -> None:
    name = f"first-hospital.o{len(scopes)}"
    await house.feed("first-hospital", patient("first-hospital.p"), observation(name, "first-hospital.p"))
    who = caller("dr.wang", "clinician", "first-hospital", scopes=scopes)
    operation = WriteOperation(
        "create",
        "Observation",
        resource={k: v for k, v in observation("x", "first-hospital.p").items() if k != "id"},
        condition=parse("Observation", [("_id", name)]),
    )
    (outcome,) = await house.store.write(await house.decisions.write_scope(who), [operation], NOTE)
    assert outcome.kind == kind


async def test_scopes_about_one_patient_give_nothing_beside_wider_ones(house: House) -> None:
    await house.feed("first-hospital", patient("first-hospital.p"))

    async def held(scopes: str) -> WriteScope:
        wang = replace(caller("dr.wang", "clinician", "first-hospital", scopes=scopes), patient="first-hospital.p")
        return await house.decisions.write_scope(wang)

    mixed = await held("patient/Observation.cud user/Condition.cud")
    assert (mixed.types, mixed.own_person_holders) == (frozenset({"Condition"}), None)
    alone = await held("patient/Observation.cud")
    assert alone.types == frozenset({"Observation"})
    assert alone.own_person_holders
    with pytest.raises(Forbidden):
        await house.decisions.write_scope(caller("dr.wang", "clinician", "first-hospital", scopes="user/Patient.rs"))


async def test_the_limit_of_break_glass_does_not_tell_who_is_known(house: House) -> None:
    await house.feed("first-hospital", patient("first-hospital.p"))
    who = caller("dr.li", "clinician", "county-hospital", purpose="BTG", reason="unconscious")
    used_up = replace(house.decisions.policy, break_glass_openings_a_day=0)
    for name in ("first-hospital.p", "first-hospital.nobody"):
        with pytest.raises(TooCostly):
            await open_record(house.store, used_up, who, name)
