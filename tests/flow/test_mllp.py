"""Hospitals at the doors: MLLP framing and acknowledgement modes, duplicates, quarantine and replay, files."""

import base64
import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from hospital_adapters.mllp.frames import FrameDecoder
from tests.flow.messages import Person, adt, message, pv1, result, somebody
from tests.flow.running import Running, resources, total, until

pytestmark = pytest.mark.flow

CONDITIONS = ("", "AL", "NE", "ER", "SU")
FEED = """
feed: {name}
organisation: township-clinic
kind: csv
encoding: utf-8
delimiter: ";"
timezone: Asia/Shanghai
row: number
code_maps:
  sex: {{{sexes}}}
resources:
  - type: Patient
    identity: [number]
    elements:
      identifier[0].system: "=urn:kanglian:township-clinic:flow"
      identifier[0].value: number
      name[0].text: name
      gender: {{column: sex, map: sex}}
      birthDate: {{column: born, date: "%Y-%m-%d"}}
"""


class Wire:
    """One MLLP connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._decoder = FrameDecoder(1 << 20)
        self._answers: list[bytes] = []

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.connection.sendall(part)

    def answer(self) -> bytes:
        """The next answer on this connection."""
        while not self._answers:
            data = self.connection.recv(65_536)
            assert data, "closed without an answer"
            self._answers += [frame.content for frame in self._decoder.feed(data)]
        return self._answers.pop(0)


@contextmanager
def wired(platform: Running) -> Iterator[Wire]:
    with socket.create_connection(("127.0.0.1", platform.mllp_port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Wire(connection)


def framed(content: bytes) -> bytes:
    return b"\x0b" + content + b"\x1c\r"


def code_of(answer: bytes) -> tuple[str, str]:
    """MSA-1 and MSA-2."""
    fields = next(line for line in answer.decode().split("\r") if line.startswith("MSA")).split("|")
    return fields[1], fields[2]


def state_of(platform: Running, control: str) -> list[str]:
    return [row["state"] for row in platform.rows("select state from inbox where control_id = $1", control)]


def _due(condition: str, *, good: bool) -> bool:
    return condition in {"AL", "SU" if good else "ER"}


@pytest.mark.parametrize("good", [True, False])
def test_each_mode_of_acknowledgement_answers_as_it_was_asked(platform: Running, good: bool) -> None:  # noqa: FBT001 - a parameter
    accepted, applied = ("CA", "AA") if good else ("CR", "AR")
    expected, got, controls = [], [], []
    with wired(platform) as wire:
        for accept in CONDITIONS:
            for application in CONDITIONS:
                control = f"M{good:d}-{accept or 'x'}-{application or 'x'}"
                controls.append(control)
                one = somebody()
                kind = "ADT^A04" if good else "QRY^Q01"
                sent = message(kind, one.pid(), pv1(one), control=control, accept=accept, application=application)
                wire.send(framed(sent))
                if not accept and not application:
                    expected.append((applied, control))
                    continue
                expected += [(accepted, control)] if _due(accept, good=good) else []
                expected += [(applied, control)] if _due(application, good=good) else []
        wire.send(framed(message("ADT^A04", somebody().pid(), control="LAST")))
        while (latest := code_of(wire.answer())) != ("AA", "LAST"):
            got.append(latest)
    assert got == expected
    for control in controls:  # asked for no answer or not: kept all the same
        assert state_of(platform, control)[0] in ({"waiting", "done"} if good else {"quarantined"})
    platform.settled()


def test_a_duplicate_gets_the_same_answer_and_is_stored_once(platform: Running) -> None:
    one = somebody()
    sent = adt(one, "A04")
    answers = platform.send(sent, sent, adt(one, "A08", given="婧"), sent)
    assert answers[0] == answers[1] == answers[3] != answers[2]
    platform.settled()
    assert len(platform.rows("select 1 from inbox where body = $1", sent)) == 1
    assert platform.send(sent) == answers[:1]
    history = platform.client("first-hospital").get(f"Patient/{one.patient}/_history").json()
    assert history["total"] == 2


def test_the_provenance_leads_the_custodian_and_nobody_else_to_the_message(platform: Running) -> None:
    one = somebody()
    sent = adt(one, "A04")
    platform.take_in(sent)
    found = resources(platform.client("dr.wang").get("Provenance", params={"target": f"Patient/{one.patient}"}))
    (address,) = {entity["what"]["reference"] for provenance in found for entity in provenance["entity"]}
    for who in ("dr.wang", "first-hospital"):
        answer = platform.client(who).get(address)
        assert answer.status_code == 200
        assert base64.b64decode(answer.json()["data"]) == sent
    for client in (platform.client("dr.li"), platform.client("county-hospital"), platform.resident(one.patient)):
        assert client.get(address).status_code == 404
    assert platform.client("first-hospital").put(address, content=json.dumps(answer.json())).status_code == 405


@pytest.mark.parametrize("charset", ["GB 18030-2000", "UNICODE UTF-8"])
def test_chinese_names_in_both_character_sets(platform: Running, charset: str) -> None:
    one = somebody(family="欧阳", given="䶮")
    sent = message("ADT^A04", one.pid(), pv1(one), charset=charset)
    platform.take_in(sent)
    name = platform.client("dr.wang").get(f"Patient/{one.patient}").json()["name"][0]
    assert (name["family"], name["given"]) == ("欧阳", ["䶮"])


def test_frames_in_odd_splits_and_several_in_one_packet(platform: Running) -> None:
    people = [somebody() for _ in range(5)]
    sent = [adt(one, "A04") for one in people]
    with wired(platform) as wire:
        first = framed(sent[0])
        wire.send(*(first[at : at + 7] for at in range(0, len(first), 7)))  # inside fields, segments, the end block
        assert code_of(wire.answer())[0] == "AA"
        wire.send(framed(sent[1]) + framed(sent[2]) + framed(sent[3])[:-2])
        assert [code_of(wire.answer())[0] for _ in range(2)] == ["AA", "AA"]
        wire.send(b"\x1c")
        assert code_of(wire.answer())[0] == "AA"
        wire.send(b"\r\n noise \r" + framed(sent[4]))
        assert code_of(wire.answer())[0] == "AA"
    platform.settled()
    for one in people:
        assert platform.client("dr.wang").get(f"Patient/{one.patient}").status_code == 200


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_other_ends_of_segments(platform: Running, ending: bytes) -> None:
    one = somebody()
    platform.take_in(adt(one, "A01").replace(b"\r", ending), result(one).replace(b"\r", ending))
    assert total(platform.client("dr.wang").get("Observation", params={"patient": one.patient})) == 1


def test_no_end_block_is_kept_but_not_accepted(platform: Running) -> None:
    one = somebody()
    with wired(platform) as wire:
        wire.send(b"\x0b" + adt(one, "A04"), framed(adt(one, "A08")))
        assert [code_of(wire.answer())[0] for _ in range(2)] == ["AE", "AA"]
    platform.settled()


def test_a_control_id_used_twice_names_two_messages(platform: Running) -> None:
    one, other = somebody(), somebody()
    sent = [message("ADT^A04", each.pid(), pv1(each), control="TWICE") for each in (one, other)]
    assert [code_of(answer) for answer in platform.send(*sent, *sent)] == [("AA", "TWICE")] * 4
    platform.settled()
    assert state_of(platform, "TWICE") == ["done", "done"]
    hospital = platform.client("first-hospital")
    for each in (one, other):
        assert hospital.get(f"Patient/{each.patient}/_history").json()["total"] == 1


def test_a_lost_answer_is_given_again_to_the_resent_message(platform: Running) -> None:
    one = somebody()
    sent = message("ADT^A04", one.pid(), pv1(one), control="LOST-ANSWER")
    with wired(platform) as wire:
        wire.send(framed(sent))
        wire.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, unread
    until(lambda: state_of(platform, "LOST-ANSWER"), 5)
    answers = platform.send(sent) + platform.send(sent)
    assert code_of(answers[0]) == ("AA", "LOST-ANSWER")
    assert answers[0] == answers[1]
    platform.settled()
    assert state_of(platform, "LOST-ANSWER") == ["done"]
    assert platform.client("first-hospital").get(f"Patient/{one.patient}/_history").json()["total"] == 1


def test_a_declared_character_set_that_is_wrong_or_unknown_loses_no_message(platform: Running) -> None:
    hospital = platform.client("first-hospital")
    for charset, encoding in (("UNICODE UTF-8", "gb18030"), ("GB 18030-2000", "utf-8"), ("KLINGON", "gb18030")):
        one = somebody(family="欧阳")
        header = message("ADT^A04", charset=charset, control=f"{charset}-wrong").decode()
        sent = header.encode() + "\r".join((one.pid(), pv1(one))).encode(encoding)
        assert code_of(platform.send(sent)[0])[0] == "AA"
        platform.settled()
        name = hospital.get(f"Patient/{one.patient}").json()["name"][0]["family"]
        assert name == "欧阳"


def test_many_connections_at_once_each_get_their_own_answer(platform: Running) -> None:
    with ExitStack() as open_wires:
        wires = [open_wires.enter_context(wired(platform)) for _ in range(200)]
        for number, wire in enumerate(wires):
            wire.send(framed(message("ADT^A04", somebody().pid(), control=f"MANY-{number}"))[:-2])
        for wire in wires:
            wire.send(b"\x1c\r")
        assert [code_of(wire.answer()) for wire in wires] == [("AA", f"MANY-{number}") for number in range(200)]
    platform.settled(20)


def test_what_is_not_understood_is_refused_with_err_and_listed(platform: Running) -> None:
    nobody = Person("", family="", given="", born="")
    bad = {
        "NOT-A-TYPE": ("AR", message("ZZZ^Z99", somebody().pid(), control="NOT-A-TYPE")),
        "NO-PATIENT": ("AE", message("ADT^A01", pv1(nobody), control="NO-PATIENT")),
    }
    for control, (code, sent) in bad.items():
        (answer,) = platform.send(sent)
        assert code_of(answer) == (code, control)
        assert b"\rERR|" in answer
        assert state_of(platform, control) == ["quarantined"]
    (answer,) = platform.send(b"this is no HL7 at all")
    assert b"MSA|A" in answer
    assert b"MSA|AA" not in answer
    listed = platform.run("adapter", "check", "first-hospital", "--most", "1000", ok=False)
    assert listed.returncode == 1
    lines = {control: next(line for line in listed.stdout.splitlines() if control in line) for control in bad}
    assert all(line.split("\t")[-1] for line in lines.values()), "each with its cause"


def _csv(platform: Running, folder: Path, name: str, sexes: str, *rows: str) -> Path:
    (platform.data_dir / "feeds" / f"{name}.yaml").write_text(FEED.format(name=name, sexes=sexes), encoding="utf-8")
    path = folder / f"{name}.csv"
    path.write_text("\n".join(("number;name;sex;born", *rows)) + "\n", encoding="utf-8")
    return path


def test_a_bad_row_stays_out_and_comes_in_after_a_change_of_the_map(platform: Running, tmp_path: Path) -> None:
    rows = ("C1;赵一;男;1970-02-01", "C2;钱二;不详;1971-02-01", "C3;孙三;女;1972-02-30", "C4;李四;女;1973-02-01")
    path = _csv(platform, tmp_path, "flow-people", "男: male, 女: female", *rows)
    try:
        taken = platform.run("adapter", "run", "flow-people", str(path), ok=False)
        assert taken.returncode == 1
        assert "2 done, 2 in quarantine" in taken.stderr
        clinic = platform.client("township-clinic")
        found = {"identifier": "urn:kanglian:township-clinic:flow|"}
        assert _numbers(resources(clinic.get("Patient", params=found))) == {"C1", "C4"}
        listed = platform.run("adapter", "check", "flow-people", ok=False).stdout
        assert "line 3" in listed or "[3]" in listed
        ids = {found["id"] for found in resources(clinic.get("Patient", params=found))}

        _csv(platform, tmp_path, "flow-people", "男: male, 女: female, 不详: unknown", *rows)
        replayed = platform.run("adapter", "replay", "flow-people", ok=False)
        assert "1 done, 1 in quarantine" in replayed.stdout
        after = resources(clinic.get("Patient", params=found))
        assert _numbers(after) == {"C1", "C2", "C4"}
        assert ids < {found["id"] for found in after}
        again = platform.run("adapter", "run", "flow-people", str(path), ok=False)
        assert "4 of them known" in again.stderr
        assert {found["id"] for found in resources(clinic.get("Patient", params=found))} == {f["id"] for f in after}
    finally:
        (platform.data_dir / "feeds" / "flow-people.yaml").unlink()


@contextmanager
def _maps(platform: Running, maps: str) -> Iterator[None]:
    """The code maps of first-hospital's feed, for a while."""
    path = platform.data_dir / "feeds" / "first-hospital.yaml"
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}\ncode_maps: {maps}\n", encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


def test_a_refused_message_comes_in_after_a_change_of_the_map(platform: Running) -> None:
    one = somebody()
    local = message("ADT^Z08", one.pid(), pv1(one), control="LOCAL-EVENT")
    (answer,) = platform.send(local)
    assert code_of(answer) == ("AR", "LOCAL-EVENT")
    hospital = platform.client("first-hospital")
    assert hospital.get(f"Patient/{one.patient}").status_code == 404
    with _maps(platform, "{MSH-9: {ADT^Z08: ADT^A08}}"):
        platform.run("adapter", "replay", "first-hospital", ok=False)
        history = hospital.get(f"Patient/{one.patient}/_history").json()
        assert history["total"] == 1, "the id that any other message about this person gives"
        assert state_of(platform, "LOCAL-EVENT") == ["done"]
        assert platform.send(local) == [answer], "a duplicate gets the answer that it got"
        time.sleep(1)  # the listener reads the maps anew once a second
        assert code_of(platform.send(message("ADT^Z08", one.pid(), pv1(one), control="NEXT"))[0]) == ("AA", "NEXT")
    platform.settled()


def test_a_changed_map_updates_what_was_converted_before_under_the_same_ids(platform: Running) -> None:
    one = somebody(sex="小姐")
    sent = [adt(one, "A01"), result(one, code="K^血钾^L")]
    platform.take_in(*sent)
    hospital = platform.client("first-hospital")
    everything = {kind: _ids(hospital, kind, one) for kind in ("Patient", "Encounter", "Observation")}
    assert "gender" not in hospital.get(f"Patient/{one.patient}").json()
    with _maps(platform, "{PID-8: {小姐: female}, OBX-3: {K: 'http://loinc.org|2823-3'}}"):
        for _ in range(2):
            platform.run("adapter", "replay", "first-hospital", "--converted", ok=False, timeout_s=120)
        patient = hospital.get(f"Patient/{one.patient}").json()
        assert (patient["gender"], patient["meta"]["versionId"]) == ("female", "2")
        found = resources(
            hospital.get("Observation", params={"patient": one.patient, "code": "http://loinc.org|2823-3"})
        )
        assert {observation["id"] for observation in found} == everything["Observation"]
        assert {kind: _ids(hospital, kind, one) for kind in everything} == everything


def _ids(client: httpx.Client, kind: str, person: Person) -> set[str]:
    name = "_id" if kind == "Patient" else "patient"
    return {found["id"] for found in resources(client.get(kind, params={name: person.patient}))}


def _numbers(patients: list[dict[str, list[dict[str, str]]]]) -> set[str]:
    return {patient["identifier"][0]["value"] for patient in patients}


def test_a_file_of_fhir_resources(platform: Running, tmp_path: Path) -> None:
    patient = {"resourceType": "Patient", "id": "county-hospital.flow-file", "birthDate": "1966-05-04"}
    observation = {
        "resourceType": "Observation",
        "id": "county-hospital.flow-file-o",
        "status": "final",
        "code": {"text": "weight"},
        "subject": {"reference": "Patient/county-hospital.flow-file"},
    }
    bad = {"resourceType": "Observation", "id": "county-hospital.flow-file-b", "status": "no such status"}
    path = tmp_path / "people.ndjson"
    path.write_text("".join(json.dumps(one) + "\n" for one in (patient, observation, bad)), encoding="utf-8")
    taken = platform.run("adapter", "run", "county-hospital", str(path), ok=False)
    assert taken.returncode == 1
    county = platform.client("county-hospital")
    assert county.get("Patient/county-hospital.flow-file").json()["birthDate"] == "1966-05-04"
    assert county.get("Observation/county-hospital.flow-file-o").status_code == 200
    assert county.get("Observation/county-hospital.flow-file-b").status_code == 404
    listed = platform.run("adapter", "check", "county-hospital", ok=False).stdout
    assert "people.ndjson" in listed


def test_sending_by_the_command_line_prints_each_answer(platform: Running, tmp_path: Path) -> None:
    people = [somebody(), somebody()]
    path = tmp_path / "messages.hl7"
    path.write_bytes(b"".join(adt(one, "A04") for one in people))
    assert platform.run("adapter", "send", str(path)).stdout.count("MSA|AA|") == 2
    until(lambda: all(platform.client("dr.wang").get(f"Patient/{p.patient}").status_code == 200 for p in people), 5)
