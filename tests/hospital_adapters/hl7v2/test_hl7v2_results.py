from decimal import Decimal
from typing import Any

import pytest

from tests.hospital_adapters.hl7v2.hl7v2_messages import Convert, all_of, only

PID = "PID|1||7^^^A&1.2.3&ISO^MR||Wang^Ming||19800101|M"
OBR = "OBR|1|P1^PLC|F1^FIL|GLU^Glucose^L|||20240601073000+0800|||||||||||||||20240601080000+0800|||F"


@pytest.mark.parametrize(
    ("kind", "value", "key", "expected"),
    [
        ("NM", "72.50", "valueQuantity", {"value": Decimal("72.50"), "unit": "mmol/L"}),
        ("NM", "<0.5", "valueQuantity", {"value": Decimal("0.5"), "comparator": "<", "unit": "mmol/L"}),
        ("NM", "positive", "valueString", "positive"),
        ("SN", ">^100", "valueQuantity", {"value": Decimal(100), "comparator": ">", "unit": "mmol/L"}),
        ("SN", "^1^:^128", "valueRatio", {"numerator": {"value": Decimal(1)}, "denominator": {"value": Decimal(128)}}),
        (
            "SN",
            "^2^-^10",
            "valueRange",
            {"low": {"value": Decimal(2), "unit": "mmol/L"}, "high": {"value": Decimal(10), "unit": "mmol/L"}},
        ),
        ("SN", "^3^+", "valueString", "^3^+"),
        ("ST", "a\\T\\b", "valueString", "a&b"),
        ("TX", "one~two", "valueString", "one\ntwo"),
        ("FT", "one\\.br\\two", "valueString", "one\ntwo"),
        ("DT", "20240601", "valueDateTime", "2024-06-01"),
        ("TS", "202406010830", "valueDateTime", "2024-06-01T08:30:00+08:00"),
        ("TM", "0830", "valueTime", "08:30:00"),
        ("DR", "20240601^20240602", "valuePeriod", {"start": "2024-06-01", "end": "2024-06-02"}),
        (
            "CWE",
            "A^a^LN^B^b^L",
            "valueCodeableConcept",
            {
                "coding": [
                    {"system": "http://loinc.org", "code": "A", "display": "a"},
                    {"system": "urn:kanglian:lab:codesystem:OBX-5", "code": "B", "display": "b"},
                ]
            },
        ),
        (
            "CE",
            "A^a^99OWN",
            "valueCodeableConcept",
            {"coding": [{"system": "urn:kanglian:lab:codesystem:99OWN", "code": "A", "display": "a"}]},
        ),
        ("XPN", "Wang^Ming", "valueString", "Wang^Ming"),
        ("??", "x", "valueString", "x"),
        ("", "x", "valueString", "x"),
    ],
)
def test_values_by_type(converted: Convert, kind: str, value: str, key: str, expected: Any) -> None:
    conversion = converted("ORU^R01", PID, OBR, f"OBX|1|{kind}|GLU^Glucose^LN||{value}|mmol/L|||||F")
    assert only(conversion, "Observation")[key] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3.9-6.1", {"low": {"value": Decimal("3.9")}, "high": {"value": Decimal("6.1")}}),
        ("70_105", {"low": {"value": Decimal(70)}, "high": {"value": Decimal(105)}}),
        ("<5", {"high": {"value": Decimal(5)}}),
        (">=3", {"low": {"value": Decimal(3)}}),
        ("阴性", {}),
        ("9-1", {}),
    ],
)
def test_reference_ranges_keep_their_text(converted: Convert, text: str, expected: dict[str, Any]) -> None:
    conversion = converted("ORU^R01", PID, OBR, f"OBX|1|NM|GLU||5||{text}|H|||F")
    assert only(conversion, "Observation")["referenceRange"] == [{"text": text, **expected}]


def test_a_result_is_linked_all_round(converted: Convert) -> None:
    conversion = converted(
        "ORU^R01",
        PID,
        "PV1|1|O|||||||||||||||||V9^^^A",
        "ORC|RE|P1^PLC|F1^FIL|||||||||123^Li^Na||||||||Hospital One^L^1",
        OBR,
        "NTE|1||about the order",
        "OBX|1|NM|718-7^Hemoglobin^LN||13.2|g/dL^^UCUM|12-16|N^Normal^HL70078|||F|||20240601073100+0800||T1^Tec",
        "NTE|1||about the result",
        "SPM|1|S1&P^S2&F||BLD^Blood^HL70487|||||||||||||20240601070000+0800",
    )
    observation, report = only(conversion, "Observation"), only(conversion, "DiagnosticReport")
    order, specimen = only(conversion, "ServiceRequest"), only(conversion, "Specimen")
    assert report["result"] == [{"reference": f"Observation/{observation['id']}"}]
    assert report["basedOn"] == [{"reference": f"ServiceRequest/{order['id']}"}]
    assert report["specimen"] == [{"reference": f"Specimen/{specimen['id']}"}]
    assert observation["specimen"] == {"reference": f"Specimen/{specimen['id']}"}
    assert observation["encounter"] == {"reference": f"Encounter/{only(conversion, 'Encounter')['id']}"}
    assert observation["note"] == [{"text": "about the result"}]
    assert order["note"] == [{"text": "about the order"}]
    assert observation["valueQuantity"]["system"] == "http://unitsofmeasure.org"
    assert observation["interpretation"][0]["coding"][0]["code"] == "N"
    assert specimen["collection"]["collectedDateTime"] == "2024-06-01T07:00:00+08:00"
    assert not conversion.loss, [lost.path for lost in conversion.loss]


def test_an_embedded_document(converted: Convert) -> None:
    conversion = converted("ORU^R01", PID, OBR, "OBX|1|ED|PDF^Report^L||LAB^AP^PDF^Base64^JVBERi0=||||||F")
    document = only(conversion, "DocumentReference")
    assert document["content"][0]["attachment"]["contentType"] == "application/pdf"
    assert document["content"][0]["attachment"]["data"] == "JVBERi0="


def test_bad_base64_is_kept_as_it_came(converted: Convert) -> None:
    conversion = converted("ORU^R01", PID, OBR, "OBX|1|ED|PDF||LAB^AP^RTF^Base64^*not base64*||||||F")
    assert only(conversion, "DocumentReference")["content"][0]["attachment"]["data"]


def test_equal_observations_of_one_report_stay_apart(converted: Convert) -> None:
    obx = "OBX|1|NM|GLU||5||||||F"
    assert len(all_of(converted("ORU^R01", PID, OBR, obx, obx), "Observation")) == 2
