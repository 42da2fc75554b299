"""From the inbox to the record, on a real database: every kind of feed, quarantine with its cause, replay."""

import gc
import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from consent import Consent
from consent.internal import feed_write_scope, internal_scope
from ehr.errors import Invalid, Unavailable
from ehr.store import Store, migrate
from ehr.store.inbox import InboxMessage
from ehr.store.operations import OrderKey, WriteOperation
from hospital_adapters.feeds import Feed, read_feed
from hospital_adapters.hl7v2.convert import Conversion, convert
from hospital_adapters.hl7v2.parse import Message, parse
from hospital_adapters.intake import messages_of_file
from hospital_adapters.mllp.door import inbox_message
from hospital_adapters.mllp.frames import Frame
from hospital_adapters.worker import ConversionWorker, without_repetitions
from tests.ehr.store.record_fixtures import NOTE

pytestmark = pytest.mark.database
CSV_FEED = """
feed: clinic
organisation: clinic
kind: csv
row: id
code_maps:
  sex: {m: male}
resources:
  - type: Patient
    identity: [id]
    elements:
      gender: {column: sex, map: sex}
      birthDate: {column: born, date: "%Y-%m-%d"}
"""


class Door:
    """One store with its worker and feeds that a test may change."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        (folder / "clinic.yaml").write_text(CSV_FEED, encoding="utf-8")
        self.feeds = {
            "hospital": Feed("hospital", "hospital", "hl7v2"),
            "clinic": read_feed(folder / "clinic.yaml"),
            "bundles": Feed("bundles", "county", "fhir"),
        }
        self.worker = ConversionWorker(store, lambda: self.feeds)

    async def take(self, *messages: InboxMessage) -> None:
        await self.store.inbox.accept(messages)
        while await self.worker.convert_waiting():
            pass

    async def file(self, feed: str, name: str, content: str) -> None:
        path = self.folder / name
        path.write_text(content, encoding="utf-8")
        await self.take(*messages_of_file(self.feeds[feed], path))

    async def quarantined(self, feed: str) -> list[tuple[str | None, str | None]]:
        return [(row.place, row.cause) for row in await self.store.inbox.quarantined(100, feed=feed)]

    async def count(self, resource_type: str, organisation: str) -> int:
        from ehr.definitions import type_number  # noqa: PLC0415 - only here

        return int(
            await self.store.pool.fetchval(
                "select count(*) from resource where type = $1 and id like $2 and not deleted",
                type_number(resource_type),
                f"{organisation}.%",
            )
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    folder = tmp_path_factory.mktemp("door")
    await migrate(database_url)
    decisions = Consent("cn-county")
    store = await Store.open(database_url, keys_path=folder / "index.key", projections=decisions.projections())
    await decisions.open(store)
    yield Door(store, folder)
    await store.close()


def admission(control_id: str, number: str = "1") -> Frame:
    header = f"MSH|^~\\&|HIS|H|K|R|20260102030405+0800||ADT^A01^ADT_A01|{control_id}|P|2.5.1"
    return Frame(
        f"{header}\rEVN|A01|20260102030405+0800\rPID|1||{number}^^^H^MR||Z^W\rPV1|1|I||||||||||||||||V{number}\r".encode()
    )


async def test_a_message_becomes_records_and_is_done_once(door: Door) -> None:
    message = inbox_message(door.feeds["hospital"], admission("C1"))
    await door.take(message, message)
    await door.take(message)
    assert await door.count("Patient", "hospital") == 1
    assert await door.count("Provenance", "hospital") == 1
    assert (await door.store.inbox.counts(feed="hospital")) == {("hospital", "done"): 1}


async def test_a_message_of_a_feed_that_is_gone_waits_in_quarantine_and_comes_back(door: Door) -> None:
    feed = door.feeds.pop("hospital")
    await door.take(inbox_message(feed, admission("C2", "2")))
    [(_, cause)] = await door.quarantined("hospital")
    assert cause is not None
    assert "no feed 'hospital'" in cause
    door.feeds["hospital"] = feed
    rows = await door.store.inbox.quarantined(10, feed="hospital")
    await door.store.inbox.release_for_replay([row.inbox for row in rows])
    await door.worker.convert_waiting()
    assert await door.quarantined("hospital") == []
    assert await door.count("Patient", "hospital") == 2


async def test_bad_rows_wait_with_their_line_and_are_replayed_after_a_change_of_the_map(door: Door) -> None:
    await door.file("clinic", "a.csv", "id,sex,born,more\n1,m,1970-01-02,x\n2,f,1970-01-02,\n3,m\n4,m,1970-02-30,\n")
    places = dict(await door.quarantined("clinic"))
    assert sorted(str(place) for place in places) == ["line 3", "line 4", "line 5"]
    assert "'f' is not in the code map" in str(places["line 3"])
    assert await door.count("Patient", "clinic") == 1
    changed = replace(door.feeds["clinic"], code_maps={"sex": {"m": "male", "f": "female"}})
    door.feeds["clinic"] = changed
    rows = await door.store.inbox.quarantined(10, feed="clinic")
    await door.store.inbox.release_for_replay([row.inbox for row in rows])
    await door.worker.convert_waiting()
    assert sorted(str(place) for place, _ in await door.quarantined("clinic")) == ["line 4", "line 5"]
    assert await door.count("Patient", "clinic") == 2
    assert [loss for _, loss in await door.store.inbox.losses(10, feed="clinic") if loss] == [["more"]]


async def test_a_mended_file_clears_what_it_mends_and_nothing_else(door: Door) -> None:
    patients = await door.count("Patient", "clinic")
    long = random.Random(1).randbytes(4000).hex()  # noqa: S311 - no secret: a key that no index would hold
    bad = f"id,sex,born,more\n11,m,1970-02-30,\n12,m\n13,m,1970-01-02,\n14,m,1971-02-30,\n{long},m,soon,\n"
    await door.file("clinic", "mend.csv", bad)
    before = len(await door.quarantined("clinic"))
    mended = bad.replace("1970-02-30", "1970-02-03").replace("12,m\n", "12,m,1970-01-02,\n")
    await door.file("clinic", "mend.csv", mended)
    assert len(await door.quarantined("clinic")) == before - 2
    assert await door.count("Patient", "clinic") == patients + 3
    await door.file("clinic", "mend.csv", mended)
    assert await door.count("Patient", "clinic") == patients + 3
    counts = await door.store.inbox.counts(feed="clinic")
    assert counts["clinic", "replaced"] == 2


async def test_fhir_files_go_in_and_a_batch_keeps_its_good_entries(door: Door) -> None:
    good = {"resourceType": "Patient", "id": "county.p1", "gender": "male"}
    bad = {"resourceType": "Patient", "id": "county.p2", "gender": "unknowable"}
    foreign = {"resourceType": "Patient", "id": "elsewhere.p3"}
    batch = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"resource": r, "request": {"method": "PUT", "url": f"Patient/{r['id']}"}} for r in (good, bad)],
    }
    lines = [json.dumps(batch), json.dumps({**good, "id": "county.p4"}), json.dumps(foreign), "{not json"]
    await door.file("bundles", "x.ndjson", "\n".join(lines))
    assert await door.count("Patient", "county") == 2
    causes = dict(await door.quarantined("bundles"))
    assert sorted(str(place) for place in causes) == ["line 1", "line 3, Bundle.entry[0].resource", "line 4"]
    assert "entry 1" in str(causes["line 1"])
    assert await door.count("Patient", "elsewhere") == 0


def operation(content: str, at_us: int, identity: str = "x") -> WriteOperation:
    resource = {"resourceType": "Organization", "id": identity, "name": content}
    return WriteOperation("update", "Organization", identity, resource=resource, order_key=OrderKey(at_us, f"C{at_us}"))


def test_only_what_the_next_event_says_again_is_left_out() -> None:
    first, second, other, again = operation("A", 1), operation("A", 2), operation("B", 3), operation("A", 4)
    elsewhere = operation("A", 1, "y")
    given = [[again], [first, elsewhere], [other], [second]]
    assert without_repetitions(given) == [[again], [elsewhere], [other], [second]]


async def test_a_refused_neighbour_costs_the_others_nothing(door: Door) -> None:
    """The newest row would write the ward for both, but is refused: the older one still writes it."""
    ward = {"type": "Location", "identity": ["=ward"], "elements": {"name": "=Ward 7"}}
    patient = {"type": "Patient", "identity": ["id"], "elements": {"gender": {"column": "sex", "map": "sex"}}}
    settings = {"row": "id", "event_time": {"column": "at", "date": "%Y-%m-%d"}, "resources": [ward, patient]}
    maps = {"sex": {"m": "male", "f": "no such code"}}
    door.feeds["wards"] = Feed("wards", "wards", "csv", code_maps=maps, settings=settings)
    await door.file("wards", "w.csv", "id,sex,at\n1,m,2026-01-01\n2,f,2026-01-02\n")
    assert await door.count("Location", "wards") == 1
    assert await door.count("Patient", "wards") == 1
    [(place, _)] = await door.quarantined("wards")
    assert place == "line 3, Patient.gender"


def of_patient(event: str, control: str, number: str, hour: str = "03", sex: str = "\u5148\u751f") -> InboxMessage:
    header = f"MSH|^~\\&|HIS|H|K|R|20260102{hour}0405+0800||ADT^{event}|{control}|P|2.5.1||||||UNICODE UTF-8"
    frame = Frame(f"{header}\rPID|1||{number}^^^H^MR||Z^W{hour}|||{sex}\r".encode())
    return inbox_message(Feed("hospital", "hospital", "hl7v2"), frame)


async def versions(door: Door, reference: str) -> list[bytes]:
    scope = internal_scope("people")
    page = await door.store.history(scope, *reference.split("/"), NOTE)
    return [version.body or b"" for version in page.versions]


async def release(door: Door, *controls: str) -> None:
    rows = await door.store.pool.fetch("select inbox from inbox where control_id = any($1::text[])", list(controls))
    await door.store.inbox.release_for_replay([row["inbox"] for row in rows])
    while await door.worker.convert_waiting():
        pass


def patient_of(message: InboxMessage) -> str:
    read = parse(message.body)
    assert isinstance(read, Message)
    conversion = convert(read, Feed("hospital", "hospital", "hl7v2", code_maps={"MSH-9": {"ADT^Z08": "ADT^A08"}}))
    assert isinstance(conversion, Conversion)
    return conversion.patients[0]


async def test_a_local_event_waits_until_the_map_takes_it_for_one_that_is_known(door: Door) -> None:
    message = of_patient("Z08", "Z1", "77")
    assert b"MSA|AR|Z1" in (message.answer or b"")
    plain = door.feeds["hospital"]
    await door.take(message)
    assert len(await door.quarantined("hospital")) == 1
    await release(door, "Z1")
    assert len(await door.quarantined("hospital")) == 1
    door.feeds["hospital"] = replace(plain, code_maps={"MSH-9": {"ADT^Z08": "ADT^A08"}})
    await release(door, "Z1")
    assert await door.quarantined("hospital") == []
    assert len(await versions(door, patient_of(message))) == 1
    before = await door.count("Patient", "hospital")
    await release(door, "Z1")
    assert await door.count("Patient", "hospital") == before
    assert len(await versions(door, patient_of(message))) == 1
    door.feeds["hospital"] = plain


async def test_a_replay_after_a_change_of_the_map_updates_the_same_records_once(door: Door) -> None:
    plain = door.feeds["hospital"]
    older, newer = of_patient("A04", "R1", "88", "03"), of_patient("A08", "R2", "88", "05")
    await door.take(newer)
    await door.take(older)
    reference = patient_of(newer)
    assert [b"gender" in body for body in await versions(door, reference)] == [False, False]
    before = await door.count("Patient", "hospital")
    for maps, wanted in (({}, 2), ({"PID-8": {"\u5148\u751f": "male"}}, 3), ({"PID-8": {"\u5148\u751f": "male"}}, 3)):
        door.feeds["hospital"] = replace(plain, code_maps=maps)
        await release(door, "R1", "R2")
        found = await versions(door, reference)
        assert len(found) == wanted, "the older message is in the history already, and stays what it was"
    assert b'"gender":"male"' in found[0]
    assert await door.count("Patient", "hospital") == before
    door.feeds["hospital"] = plain


async def test_a_replay_brings_nothing_back_that_people_took_away_since(door: Door) -> None:
    header = "MSH|^~\\&|HIS|H|K|R|20260102030405+0800||ADT^A40|M1|P|2.5.1"
    body = f"{header}\rPID|1||91^^^H^MR||Z^W\rMRG|92^^^H^MR\r".encode()
    await door.take(inbox_message(door.feeds["hospital"], Frame(body)))
    merges = "select count(*) from person_merge"
    assert await door.store.pool.fetchval(merges) == 1
    await door.store.pool.execute("delete from person_merge")
    gone = patient_of(inbox_message(door.feeds["hospital"], Frame(body)))
    await door.store.write(feed_write_scope("hospital", "hospital"), [WriteOperation("delete", *gone.split("/"))], NOTE)
    await release(door, "M1")
    assert await door.store.pool.fetchval(merges) == 0
    assert (await versions(door, gone))[0] == b""


async def test_a_feed_file_that_is_being_edited_stops_nothing(door: Door) -> None:
    def broken() -> dict[str, Feed]:
        raise Invalid("hospital.yaml: not a readable YAML file")

    await door.take(of_patient("A04", "B1", "93"))
    reading, door.worker.feeds = door.worker.feeds, broken
    await door.take(of_patient("A04", "B2", "94"))
    door.worker.feeds = reading
    states = await door.store.pool.fetch("select state from inbox where control_id = 'B2'")
    assert [row["state"] for row in states] == ["done"]


async def test_cycles_are_looked_for_again_after_a_batch_however_it_ends(door: Door) -> None:
    await door.take(inbox_message(door.feeds["hospital"], admission("C1c", "1c")))
    assert gc.isenabled()
    await door.store.inbox.accept([inbox_message(door.feeds["hospital"], admission("C1d", "1d"))])
    with pytest.raises(Unavailable):
        await ConversionWorker(door.store, _unreadable).convert_waiting()
    assert gc.isenabled()
    await door.worker.convert_waiting()


def _unreadable() -> dict[str, Feed]:
    raise Invalid("a feed file is being edited")
