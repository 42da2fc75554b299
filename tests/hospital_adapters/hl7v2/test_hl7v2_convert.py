from itertools import permutations
from typing import Any

import pytest

from ehr.validation import check
from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2 import tables
from hospital_adapters.hl7v2.convert import convert, warm_up
from hospital_adapters.hl7v2.parse import Message, parse
from hospital_adapters.hl7v2.problems import ParseProblem
from tests.hospital_adapters.hl7v2.hl7v2_messages import Convert, all_of, message_text, only

PID = "PID|1||7^^^A&1.2.3&ISO^MR||Wang^Ming||19800101|M"
PV1 = "PV1|1|I|W1^R2^B3^First||||D1^Li^Na||||||||||||V9^^^A"
OBR = "OBR|1|P1|F1|GLU|||20240601"


def ids(conversion: Any, kind: str) -> list[str]:
    return [resource["id"] for resource in all_of(conversion, kind)]


def test_patient_elements(converted: Convert) -> None:
    card = "11010519491231002X"
    pid = (
        f"PID|1|OLD1|7^^^A&1.2.3&ISO^MR~{card}^^^^NI||王&&&&李^小明^二^Jr^Dr^PhD^L||194912310815+0800|F"
        "||2106-3^White^HL70005|1 Road&Long Road^Flat 2^Beijing^BJ^100000^CN^H||(010)1234^PRN^PH~^NET^Internet^a@b.cn"
        "|||M^Married|BUD|ACC1|||||||2"
    )
    patient = only(converted("ADT^A08", pid), "Patient")
    assert patient["identifier"][1]["system"] == "urn:oid:1.2.3"
    assert patient["identifier"][2]["system"] == "urn:oid:2.16.156.10011.1.3"
    assert patient["name"][0]["family"] == "王"
    assert patient["name"][0]["given"] == ["小明", "二"]
    assert patient["name"][0]["use"] == "official"
    assert patient["birthDate"] == "1949-12-31"
    assert patient["_birthDate"]["extension"][0]["valueDateTime"] == "1949-12-31T08:15:00+08:00"
    assert patient["gender"] == "female"
    assert patient["address"][0]["line"] == ["1 Road", "Long Road", "Flat 2"]
    assert patient["address"][0]["use"] == "home"
    assert [(t["system"], t["value"]) for t in patient["telecom"]] == [("phone", "(010)1234"), ("email", "a@b.cn")]
    assert patient["maritalStatus"]["coding"][0]["code"] == "M"
    assert patient["managingOrganization"] == {"reference": "Organization/first-hospital"}


def test_ids_rest_on_the_record_not_on_the_message(converted: Convert) -> None:
    one = converted("ADT^A01", PID, PV1, control="1")
    two = converted("ADT^A08", PID, PV1, control="2", header="20240701080000+0800")
    result = converted("ORU^R01", PID, PV1, OBR, "OBX|1|NM|GLU||5||||||F")
    for kind in ("Patient", "Encounter", "Practitioner", "Location"):
        assert ids(one, kind) == ids(two, kind) == ids(result, kind)
    assert all(i.startswith("first-hospital.") and len(i) <= 64 for i in ids(one, "Patient"))
    assert ids(one, "MessageHeader") != ids(two, "MessageHeader")


def test_the_record_number_identifies_whatever_its_place(converted: Convert) -> None:
    other = "PID|1||999^^^SSA^SS~7^^^A&1.2.3&ISO^MR||Wang^Ming"
    assert ids(converted("ADT^A08", PID), "Patient") == ids(converted("ADT^A08", other), "Patient")


def test_any_adt_supersedes_what_a_result_says_of_the_patient(converted: Convert) -> None:
    early = converted("ADT^A01", "EVN|A01|20240101", PID, PV1)
    late = converted("ORU^R01", PID, PV1, OBR, "OBX|1|NM|GLU||5||||||F")

    def key(conversion: Any, kind: str) -> Any:
        entries = zip(conversion.bundle["entry"], conversion.order_keys, strict=True)
        return next(k for e, k in entries if e["resource"]["resourceType"] == kind)

    for kind in ("Patient", "Encounter"):
        assert key(early, kind) > key(late, kind)
    assert key(late, "Observation") == (1, "2024-06-01T00:00:00.000000Z", "C1")
    assert early.order_key.event_time == "2023-12-31T16:00:00.000000Z"


def test_a_merge_writes_the_old_patient_as_sent(converted: Convert) -> None:
    conversion = converted("ADT^A40", "EVN|A40|20240601", PID, "MRG|6^^^A&1.2.3&ISO^MR||||||Wang^Old")
    new, old = all_of(conversion, "Patient")
    assert old["active"] is False
    assert old["identifier"][0]["value"] == "6"
    assert old["name"][0]["family"] == "Wang"
    assert old["link"] == [{"other": {"reference": f"Patient/{new['id']}"}, "type": "replaced-by"}]
    assert new["link"] == [{"other": {"reference": f"Patient/{old['id']}"}, "type": "replaces"}]
    assert conversion.merged == ((f"Patient/{old['id']}", f"Patient/{new['id']}"),)


def test_several_merges_in_one_message(converted: Convert) -> None:
    other = "PID|1||8^^^A&1.2.3&ISO^MR||Zhao^Li"
    conversion = converted("ADT^A40", PID, "MRG|6^^^A^MR", other, "MRG|5^^^A^MR")
    assert len(conversion.merged) == 2
    assert len(conversion.patients) == 2


@pytest.mark.parametrize(
    ("event", "pv1", "status"),
    [
        ("A01", "PV1|1|I", "in-progress"),
        ("A02", "PV1|1|I", "in-progress"),
        ("A03", "PV1|1|I", "finished"),
        ("A04", "PV1|1|O", "arrived"),
        ("A05", "PV1|1|P", "planned"),
        ("A11", "PV1|1|I", "cancelled"),
        ("A08", "PV1|1|I", "unknown"),
        ("A08", "PV1|1|I" + "|" * 42 + "20240601", "in-progress"),
        ("A08", "PV1|1|I" + "|" * 43 + "20240601", "finished"),
    ],
)
def test_encounter_status(converted: Convert, event: str, pv1: str, status: str) -> None:
    assert only(converted(f"ADT^{event}", PID, pv1), "Encounter")["status"] == status


def test_locations_lie_in_each_other(converted: Convert) -> None:
    locations = {location["name"]: location for location in all_of(converted("ADT^A01", PID, PV1), "Location")}
    assert set(locations) == {"First", "W1", "R2", "B3"}
    assert locations["B3"]["partOf"] == {"reference": f"Location/{locations['R2']['id']}"}
    assert "partOf" not in locations["First"]


@pytest.mark.parametrize(
    ("segment", "kind", "element"),
    [
        ("NK1|1|Li^Na|SPO^Spouse^HL70063|||010", "RelatedPerson", "relationship"),
        ("AL1|1|DA|PCN^Penicillin^L|SV|Rash~Hives", "AllergyIntolerance", "reaction"),
        ("AL1|1|MC|PCN|SV", "AllergyIntolerance", "reaction"),
        ("DG1|1||I10^Hypertension^I10||20240101|A", "Condition", "code"),
        ("PR1|1||P1^Biopsy^L|Biopsy|20240101", "Procedure", "performedDateTime"),
        ("IN1|1|PLAN^Plan A|C1|Insurer|||||||||20240101|20231231||||||||||||||||||||||POL1", "Coverage", "payor"),
        ("IN1|1|SELF", "Coverage", "payor"),
        ("GT1|1|9|Li^Na", "Account", "guarantor"),
        ("ACC|20240101||Crossing|||N", "Observation", "component"),
        ("PDA|I21^Infarction^I10||Y", "Observation", "valueCodeableConcept"),
        ("DB1|1|PT|D1|Y|20240101", "Observation", "valueBoolean"),
        ("RF1|A|R|LAB|||R1", "ServiceRequest", "identifier"),
        ("ARV|1|A|DEM|PAT|text", "Patient", "extension"),
        ("PD1|||Clinic|D7^Sun^Yi", "Patient", "generalPractitioner"),
        ("ROL|1|AD|PP|D7^Sun^Yi", "PractitionerRole", "practitioner"),
        ("NTE|1||a word", "Patient", "extension"),
    ],
)
def test_segments_of_an_admission(converted: Convert, segment: str, kind: str, element: str) -> None:
    conversion = converted("ADT^A01", PID, segment)
    assert any(element in resource for resource in all_of(conversion, kind))
    for entry in conversion.bundle["entry"]:
        assert check(entry["resource"]) == [], entry["resource"]


def test_what_has_no_rule_is_in_the_loss_report_by_place(converted: Convert) -> None:
    conversion = converted("ADT^A01", PID + "|||||||||||||||||||||||||||||||||||||x^y", "ZPI|1|own&value^2")
    assert [lost.path for lost in conversion.loss] == [
        "PID[1]-45[1].1",
        "PID[1]-45[1].2",
        "ZPI[1]-1[1].1",
        "ZPI[1]-2[1].1.1",
        "ZPI[1]-2[1].1.2",
        "ZPI[1]-2[1].2",
    ]


def test_refused_values_are_lost_not_invented(converted: Convert) -> None:
    conversion = converted("ADT^A01", "PID|1||7^^^A^MR||Wang||soon|Q")
    assert [lost.path for lost in conversion.loss] == ["PID[1]-7[1].1", "PID[1]-8[1].1"]
    assert any("PID-8" in warning for warning in conversion.warnings)


def test_a_feed_maps_its_own_codes_and_keeps_the_ids(converted: Convert) -> None:
    pid = "PID|1||7^^^A^MR||Wang||19800101|先生"
    plain = converted("ADT^A01", pid)
    feed = Feed(
        "lab",
        "first-hospital",
        "hl7v2",
        code_maps={"PID-8": {"先生": "male"}, "OBX-3": {"血糖": "http://loinc.org|2345-7"}},
    )
    mapped = converted("ADT^A01", pid, feed=feed)
    assert "gender" not in only(plain, "Patient")
    assert only(mapped, "Patient")["gender"] == "male"
    assert [e["request"] for e in plain.bundle["entry"]] == [e["request"] for e in mapped.bundle["entry"]]
    result = converted("ORU^R01", PID, OBR, "OBX|1|NM|血糖||5||||||F", feed=feed)
    assert {"system": "http://loinc.org", "code": "2345-7"} in only(result, "Observation")["code"]["coding"]


@pytest.mark.parametrize(
    ("kind", "segments", "code"),
    [
        ("SIU^S12", [PID], 200),
        ("ADT^A45", [PID], 201),
        ("ADT^A01", ["EVN|A01"], 100),
        ("ADT^A01", ["PID|1"], 101),
        ("ADT^A40", [PID], 100),
        ("^^", [PID], 200),
    ],
)
def test_not_understood_is_a_value(feed: Feed, kind: str, segments: list[str], code: int) -> None:
    message = parse(message_text(kind, *segments).encode())
    problem = convert(message, feed) if isinstance(message, Message) else message
    assert isinstance(problem, ParseProblem)
    assert problem.code in (code, 101)
    assert problem.header


def test_a_result_without_patient_belongs_to_its_message(converted: Convert) -> None:
    one = converted("ORU^R01", OBR, "OBX|1|NM|GLU||5||||||F")
    two = converted("ORU^R01", OBR, "OBX|1|NM|GLU||6||||||F")
    assert ids(one, "Patient") != ids(two, "Patient")
    assert one.warnings


def test_every_extension_in_a_rule_is_listed() -> None:
    warm_up()
    with pytest.raises(tables.RuleError, match="not listed"):
        tables.SegmentTable({"fields": {1: "ST -> ext(never-heard-of)"}}, "ZZZ[Patient]")
    with pytest.raises(tables.RuleError, match="no converter"):
        tables.SegmentTable({"fields": {1: "NOPE -> name"}}, "ZZZ[Patient]")
    with pytest.raises(tables.RuleError, match="not 'converter"):
        tables.SegmentTable({"fields": {1: "ST name"}}, "ZZZ[Patient]")


def test_the_end_is_the_same_in_every_order(converted: Convert) -> None:
    messages = [
        converted("ADT^A01", "EVN|A01|202406010800", PID, PV1, control="1"),
        converted("ADT^A08", "EVN|A08|202406010900", PID.replace("Ming", "Mingming"), PV1, control="2"),
        converted("ADT^A03", "EVN|A03|202406030900", PID, PV1, control="3"),
        converted("ORU^R01", PID.replace("Ming", "M."), PV1, OBR, "OBX|1|NM|GLU||5||||||F", header="20240701"),
        converted("ADT^A40", "EVN|A40|202407020900", PID, "MRG|6^^^A&1.2.3&ISO^MR", control="5"),
    ]
    ends = []
    for order in permutations(messages):
        record: dict[str, tuple[Any, Any]] = {}
        for conversion in order:
            for entry, key in zip(conversion.bundle["entry"], conversion.order_keys, strict=True):
                known = record.get(entry["request"]["url"])
                if known is None or key >= known[0]:
                    record[entry["request"]["url"]] = (key, entry["resource"])
        ends.append(record)
    assert all(end == ends[0] for end in ends)
    patient = next(
        resource for url, (_, resource) in ends[0].items() if url == f"Patient/{ids(messages[0], 'Patient')[0]}"
    )
    assert patient["name"][0]["given"] == ["Ming"]
    assert "link" in patient
    encounter = next(resource for url, (_, resource) in ends[0].items() if url.startswith("Encounter/"))
    assert encounter["status"] == "finished"
