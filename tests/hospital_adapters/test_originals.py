"""The original message: kept once, named by the Provenance of its conversion, read by its custodian and nobody else."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from consent import Caller, Consent
from ehr.errors import Forbidden, NotAllowed, NotFound
from ehr.keys import row_key
from ehr.store import Store, migrate
from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2.convert import Conversion, convert
from hospital_adapters.hl7v2.parse import Message, parse
from hospital_adapters.mllp.door import inbox_message
from hospital_adapters.mllp.frames import Frame
from hospital_adapters.worker import ConversionWorker
from tests.consent.house import HE, LI, LOADER, MACHINE, NOTE, OTHERS, WANG, House, caller, consent, resident

pytestmark = pytest.mark.database
FEED = Feed("first-hospital", "first-hospital", "hl7v2")
FIRST = caller("first-hospital", "machine-client", "first-hospital", scopes="system/*.cruds")
LI_IN_EMERGENCY = caller("dr.li", "clinician", "county-hospital", purpose="BTG", reason="unconscious")
RESULT = (
    "MSH|^~\\&|LIS|H|K|R|20260102030405+0800||ORU^R01^ORU_R01|R1|P|2.5.1||||||GB18030\r"
    "PID|1||P1^^^H^MR||王^芳||19800101|F\rOBR|1|O1|O1|718-7^Hb^LN|||20260102\r"
    "OBX|1|NM|718-7^Hb^LN||130|g/L|||||F\r"
).encode("gb18030")


def becomes(content: bytes) -> Conversion:
    message = parse(content)
    assert isinstance(message, Message)
    conversion = convert(message, FEED)
    assert isinstance(conversion, Conversion)
    return conversion


def named_by_provenance(content: bytes) -> tuple[str, str]:
    """The Provenance of a message, and the original that it names."""
    (provenance,) = (
        e["resource"] for e in becomes(content).bundle["entry"] if e["resource"]["resourceType"] == "Provenance"
    )
    return f"Provenance/{provenance['id']}", provenance["entity"][0]["what"]["reference"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    await migrate(database_url)
    decisions = Consent("cn-county")
    keys: Path = tmp_path_factory.mktemp("keys") / "index.key"
    store = await Store.open(database_url, keys_path=keys, projections=decisions.projections())
    await decisions.open(store)
    house = House(store, decisions)
    names = ("first-hospital", "county-hospital")
    await house.put(LOADER, *({"resourceType": "Organization", "id": name, "name": name} for name in names))
    await take(house, RESULT)
    yield house
    await store.close()


async def take(house: House, *contents: bytes) -> None:
    await house.store.inbox.accept([inbox_message(FEED, Frame(content)) for content in contents])
    worker = ConversionWorker(house.store, lambda: {FEED.name: FEED})
    while await worker.convert_waiting():
        pass


async def read(house: House, who: Caller, reference: str) -> dict[str, Any]:
    scope = await house.decisions.read_scope(who, interaction="read")
    version = await house.store.read(scope, *reference.split("/"), NOTE)
    assert version.body is not None
    binary: dict[str, Any] = json.loads(version.body)
    return binary


async def test_the_custodian_reads_the_bytes_as_they_came(house: House) -> None:
    provenance, original = named_by_provenance(RESULT)
    for who in (WANG, FIRST, LOADER):
        binary = await read(house, who, original)
        assert base64.b64decode(binary["data"]) == RESULT
        assert f"Binary/{binary['id']}" == original
        assert binary["contentType"] == "x-application/hl7-v2+er7"
        assert binary["securityContext"] == {"reference": provenance}


async def test_nobody_else_does_whatever_opens_the_record_to_him(house: House) -> None:
    _, original = named_by_provenance(RESULT)
    patient = becomes(RESULT).patients[0].removeprefix("Patient/")
    observation = next(
        f"Observation/{e['resource']['id']}"
        for e in becomes(RESULT).bundle["entry"]
        if e["resource"]["resourceType"] == "Observation"
    )
    permit = consent(patient, base="OPTIN")
    await house.put(LOADER, {**permit, "id": "opens-all"})
    assert await house.sees(LI, observation)
    assert await house.sees(resident(patient), observation)
    for who in (LI, LI_IN_EMERGENCY, MACHINE, HE, resident(patient), *OTHERS.values()):
        assert not await house.sees(who, original, persons=(patient,)), who.subject
    assert await house.sees(WANG, original)


async def test_who_is_denied_the_record_is_denied_the_message(house: House) -> None:
    other = RESULT.replace(b"|R1|", b"|R2|").replace(b"P1^^^H", b"P2^^^H").replace(b"O1", b"O2")
    await take(house, other)
    _, original = named_by_provenance(other)
    assert await house.sees(WANG, original)
    patient = becomes(other).patients[0].removeprefix("Patient/")
    denied = consent(patient, base="OPTIN", provision=[{"type": "deny", "actor": ["Organization/first-hospital"]}])
    await house.put(LOADER, {**denied, "id": "denies-one"})
    assert not await house.sees(WANG, original)


async def test_the_tokens_own_scopes_hold(house: House) -> None:
    _, original = named_by_provenance(RESULT)
    for scopes, sees in (
        ("user/Binary.r", True),
        ("user/Provenance.rs user/Observation.rs", False),
        ("user/Binary.cud", False),
    ):
        who = caller("dr.wang", "clinician", "first-hospital", scopes=scopes)
        assert await house.sees(who, original) == sees, scopes


async def test_it_is_audited_like_any_read_and_absent_looks_like_hidden(house: House) -> None:
    _, original = named_by_provenance(RESULT)
    holder = row_key("Patient", becomes(RESULT).patients[0].removeprefix("Patient/"))
    absent = f"Binary/first-hospital.m{'0' * 20}"

    async def logged() -> list[tuple[int, list[int]]]:
        rows = await house.store.pool.fetch("select outcome, holders from audit_row order by sequence desc limit 3")
        return [(row["outcome"], row["holders"]) for row in reversed(rows)]

    await read(house, WANG, original)
    for who, reference in ((LI, original), (WANG, absent)):
        with pytest.raises(NotFound, match="There is no Binary with this id"):
            await read(house, who, reference)
    shown, hidden, missing = await logged()
    assert shown[1] == [holder]
    assert hidden == missing
    assert hidden[1] == []


async def test_its_address_is_nobodys_to_write(house: House) -> None:
    _, original = named_by_provenance(RESULT)
    for reference in (original, f"Binary/first-hospital.m{'1' * 20}"):
        forged = {"resourceType": "Binary", "id": reference.split("/")[1], "contentType": "text/plain"}
        for who in (FIRST, LOADER, WANG):
            with pytest.raises((NotAllowed, Forbidden)):
                await house.put(who, forged)
    assert base64.b64decode((await read(house, FIRST, original))["data"]) == RESULT


async def test_a_replay_names_the_same_original(house: House) -> None:
    _, original = named_by_provenance(RESULT)
    before = await read(house, FIRST, original)
    number = await house.store.pool.fetchval("select inbox from inbox where control_id = 'R1'")
    await house.store.inbox.release_for_replay([number])
    await take(house, RESULT)
    assert await read(house, FIRST, original) == before
