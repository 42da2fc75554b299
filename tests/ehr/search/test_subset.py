"""_summary and _elements cut bodies and keep what stays byte for byte."""

import json
from decimal import Decimal

from ehr.search.subset import cut

PATIENT = (
    b'{"resourceType":"Patient","id":"1","meta":{"versionId":"3","tag":[{"code":"own"}]},'
    b'"text":{"status":"generated","div":"<div>x</div>"},"active":true,"name":[{"family":"Li"}],'
    b'"contact":[{"name":{"family":"Wang"}}],"photo":[{"title":"p"}],"_birthDate":{"id":"b"},"birthDate":"1970-01-01",'
    b'"link":[{"other":{"reference":"Patient/2"},"type":"refer"}]}'
)
OBSERVATION = (
    b'{"resourceType":"Observation","id":"1","meta":{},"status":"final","code":{"text":"c"},"note":[{"text":"n"}],'
    b'"valueQuantity":{"value":72.50},"component":[{"code":{"text":"d"},"valueQuantity":{"value":1.00},'
    b'"dataAbsentReason":{"text":"x"},"referenceRange":[{"low":{"value":0.10}}]}]}'
)
TAG = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}


def test_elements_keep_the_asked_the_required_and_the_modifiers() -> None:
    found = json.loads(cut(PATIENT, "Patient", None, ("birthDate",)))
    assert list(found) == ["resourceType", "id", "meta", "active", "_birthDate", "birthDate", "link"]
    assert found["meta"]["tag"] == [{"code": "own"}, TAG]


def test_elements_name_choices_without_their_type_and_keep_digits() -> None:
    body = cut(OBSERVATION, "Observation", None, ("value",))
    assert b'"valueQuantity":{"value":72.50}' in body
    assert b"component" not in body
    assert b'"status":"final","code":{"text":"c"}' in body


def test_summary_keeps_summary_elements_at_each_depth() -> None:
    found = json.loads(cut(PATIENT, "Patient", "true"))
    assert "text" not in found
    assert "contact" not in found
    assert "photo" not in found
    assert found["name"] == [{"family": "Li"}]
    component = json.loads(cut(OBSERVATION, "Observation", "true"), parse_float=Decimal)["component"][0]
    assert set(component) == {"code", "valueQuantity", "dataAbsentReason"} - {"dataAbsentReason"} | (
        set(component) & {"dataAbsentReason"}
    )
    assert component["valueQuantity"]["value"] == Decimal("1.00")
    assert b'"value":1.00' in cut(OBSERVATION, "Observation", "true")


def test_summary_text_and_data() -> None:
    assert set(json.loads(cut(PATIENT, "Patient", "text"))) == {"resourceType", "id", "meta", "text", "active", "link"}
    assert set(json.loads(cut(PATIENT, "Patient", "data"))) == set(json.loads(PATIENT)) - {"text"}


def test_nothing_asked_leaves_the_bytes_alone() -> None:
    assert cut(PATIENT, "Patient", None) is PATIENT
    assert cut(PATIENT, "Patient", "false") is PATIENT
