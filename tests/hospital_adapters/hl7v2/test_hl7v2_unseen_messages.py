"""Messages that nobody has sent yet: every field of the standard, every version, and mutations of it all."""

import random

import pytest

from benchmarks.hl7v2_kept_values import Haystack, values_of
from consent.labels import names_of, read_resource
from ehr.validation import check
from hospital_adapters.hl7v2.convert import Conversion, convert
from hospital_adapters.hl7v2.parse import Message, parse
from tests.hospital_adapters.hl7v2.hl7v2_messages import Convert, all_of, only
from tests.hospital_adapters.hl7v2.mutations import FEED, faults_of, missing, mutated, originals
from tests.hospital_adapters.hl7v2.standard_fields import EVENTS, whole_message

_MUTATED = 250


def converts(data: bytes) -> tuple[Message, Conversion]:
    message = parse(data)
    assert isinstance(message, Message)
    conversion = convert(message, FEED)
    assert isinstance(conversion, Conversion)
    return message, conversion


@pytest.mark.parametrize("event", ["A01", "A40", "R01"])
def test_every_field_and_component_of_the_standard_has_a_place(event: str) -> None:
    message, conversion = converts(whole_message(event).encode())
    haystack = Haystack(conversion.bundle)
    lost = [place for place, text in values_of(message) if not haystack.strict(text)]
    assert lost == []
    assert [each.path for each in conversion.loss if not each.kept] == []
    for entry in conversion.bundle["entry"]:
        assert check(entry["resource"]) == []


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("version", ["2.1", "2.3.1", "2.5", "2.7"])
def test_every_version_and_less_filled_fields(event: str, version: str) -> None:
    message, conversion = converts(whole_message(event, version, components=2).encode())
    assert missing(message, conversion) == []
    assert [each.path for each in conversion.loss if not each.kept] == []


def test_mutated_messages_have_no_faults() -> None:
    texts = originals()
    for seed in range(_MUTATED):
        data = mutated(random.Random(seed), texts)  # noqa: S311 - the same messages each run
        assert faults_of(data) == [], f"seed {seed}"


def test_what_does_not_fit_its_element_is_kept_as_sent_and_reported(converted: Convert) -> None:
    pid = "PID|1||7^^^A^MR||Wang||about 1950|woman||||||||||||||||maybe"
    conversion = converted("ADT^A01", pid)
    patient = only(conversion, "Patient")
    assert "birthDate" not in patient
    (kept,) = (each for each in patient["extension"] if each["url"] == "urn:kanglian:extension:as-sent")
    assert {each["url"]: each["valueString"] for each in kept["extension"]} == {
        "PID-7.1": "about 1950",
        "PID-8.1": "woman",
        "PID-24.1": "maybe",
    }
    assert "PID[1]-7[1].1 as sent" in [lost.line for lost in conversion.loss]


def test_a_value_that_another_mention_contradicts_stays_beside_the_first(converted: Convert) -> None:
    pid = "PID|1||7^^^A^MR||Wang"
    conversion = converted(
        "ADT^A01", pid, "DG1|1||I10^Hypertension^I10||20240101|A", "DG1|2||I10^Hypertension^I10||20250202|A"
    )
    condition = only(conversion, "Condition")
    assert condition["onsetDateTime"] == "2024-01-01"
    assert "2025-02-02" in str(condition["extension"])


@pytest.mark.parametrize(
    ("segment", "system"),
    [
        ("DG1|1|I9|4019|Hypertension", "http://hl7.org/fhir/sid/icd-9-cm"),
        ("DG1|1|I10|I10|Hypertension", "http://hl7.org/fhir/sid/icd-10"),
        ("DG1|1|I9|4019^Hypertension^I10", "http://hl7.org/fhir/sid/icd-10"),
        ("DG1|1|OWN|1|Hypertension", "urn:kanglian:first-hospital:codesystem:OWN"),
    ],
)
def test_a_coding_method_of_the_old_versions_names_the_system(converted: Convert, segment: str, system: str) -> None:
    conversion = converted("ADT^A01", "PID|1||7^^^A^MR||Wang", segment, feed=FEED)
    assert all_of(conversion, "Condition")[0]["code"]["coding"][0]["system"] == system


def test_quantity_and_timing_of_the_versions_before_2_7(converted: Convert) -> None:
    conversion = converted(
        "ORU^R01",
        "PID|1||7^^^A^MR||Wang",
        "ORC|RE|P1|F1||||1^once^^20240601080000+0800^20240602080000+0800^S",
        "OBR|1|P1|F1|GLU|||20240601|||||||||||||||||||1^once^^20240601080000+0800^20240602080000+0800^S",
        "OBX|1|NM|GLU||5||||||F",
    )
    request = only(conversion, "ServiceRequest")
    assert request["priority"] == "stat"
    assert request["occurrencePeriod"]["start"] == "2024-06-01T08:00:00+08:00"


@pytest.mark.parametrize(
    ("sent", "gender"), [("男", "male"), ("女性", "female"), ("1", "male"), ("2", "female"), ("未知", "unknown")]
)
def test_sexes_as_chinese_hospitals_send_them(converted: Convert, sent: str, gender: str) -> None:
    assert only(converted("ADT^A01", f"PID|1||7^^^A^MR||王|||{sent}"), "Patient")["gender"] == gender


def test_a_quantity_that_is_no_number_is_not_lost(converted: Convert) -> None:
    conversion = converted("ORU^R01", "PID|1||7^^^A^MR", "OBR|1|P1|F1|GLU|||20240601||plenty^mL", "SPM|1|S1||BLD")
    assert "plenty" in str(conversion.bundle)
    assert conversion.loss


def test_what_an_order_said_stays_where_another_of_the_same_number_follows(converted: Convert) -> None:
    first, second = "ORC|RE|P1^HIS|||||||20240601|||||||||someone^reason", "ORC|RE|P1^HIS"
    conversion = converted("ORU^R01", "PID|1||7^^^A^MR", first, second, "OBR|1|P1^HIS||GLU|||20240601")
    assert "someone" in str(all_of(conversion, "ServiceRequest"))


def test_what_stands_between_an_order_and_its_request_belongs_to_it(converted: Convert) -> None:
    between = ("NTE|1||said before", "TQ1|1||||||20240601080000+0800", "PRT|1|AD||AT|D1^Li")
    conversion = converted("ORU^R01", "PID|1||7^^^A^MR", "ORC|RE|P1", *between, "OBR|1|P1||GLU|||20240601")
    request = only(conversion, "ServiceRequest")
    assert [note["text"] for note in request["note"]] == ["said before"]
    assert request["occurrencePeriod"]["start"] == "2024-06-01T08:00:00+08:00"
    assert "participant" in str(request["extension"])


def test_a_system_that_has_a_chinese_name_keeps_it_beside_its_uri(converted: Convert) -> None:
    conversion = converted("ORU^R01", "PID|1||7^^^A^MR", "OBR|1|P1|F1|XCG^血常规^院内检验目录|||20240601")
    (coding,) = only(conversion, "DiagnosticReport")["code"]["coding"]
    assert (coding["code"], coding["display"]) == ("XCG", "血常规")
    assert [each["valueString"] for each in coding["extension"]] == ["院内检验目录"]


@pytest.mark.parametrize("type_", ["NNCHN", "NI", "SFZ", "居民身份证", "IdCard"])
def test_an_identity_card_is_known_by_what_hospitals_call_it(converted: Convert, type_: str) -> None:
    card = "11010519491231002x"
    patient = only(converted("ADT^A01", f"PID|1||P7^^^H^MR~{card}^^^GA^{type_}||王||19491231|F"), "Patient")
    assert patient["identifier"][1]["system"] == "urn:oid:2.16.156.10011.1.3"
    assert patient["identifier"][1]["value"] == card.upper()
    wrong = only(converted("ADT^A01", f"PID|1||P7^^^H^MR~110105194912310021^^^GA^{type_}||王"), "Patient")
    assert wrong["identifier"][1]["system"] != "urn:oid:2.16.156.10011.1.3"


def test_a_second_code_stays_a_code_and_keeps_its_label(converted: Convert) -> None:
    conversion = converted("ADT^A01", "PID|1||7^^^A^MR||Wang", "DG1|1||J18.9^Pneumonia^I10~B20^HIV disease^I10")
    condition = only(conversion, "Condition")
    assert [coding["code"] for coding in condition["code"]["coding"]] == ["J18.9", "B20"]
    assert "HIV" in names_of(read_resource(condition).labels)
