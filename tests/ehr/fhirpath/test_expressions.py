"""What the official suite leaves out: errors, limits, environment, values as callers get them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from ehr import fhirpath
from ehr.fhirpath import FhirPathError
from ehr.fhirpath.quantity import unit_of
from ehr.fhirpath.temporal import Temporal

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p",
    "contained": [{"resourceType": "Organization", "id": "o", "name": "Hospital"}],
    "name": [{"family": "Zhang", "given": ["Wei", "W"]}, {"text": "张伟"}],
    "_birthDate": {"extension": [{"url": "u", "valueDateTime": "1990-01-01T00:00:00+08:00"}]},
    "deceasedBoolean": False,
    "managingOrganization": {"reference": "#o"},
    "generalPractitioner": [{"reference": "Practitioner/1"}, {"reference": "https://x/fhir/Organization/2"}],
    "multipleBirthInteger": 2,
}


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("name.given", ["Wei", "W"]),
        ("Patient.deceased", [False]),
        ("deceased is boolean", [True]),
        ("birthDate", [None]),
        ("birthDate.hasValue()", [False]),
        ("birthDate.extension('u').value is dateTime", [True]),
        ("managingOrganization.resolve().name", ["Hospital"]),
        ("generalPractitioner.where(resolve() is Practitioner).reference", ["Practitioner/1"]),
        ("generalPractitioner.where(resolve() is Organization).reference", ["https://x/fhir/Organization/2"]),
        ("multipleBirth + 1", [3]),
        ("name.select($index)", [0, 1]),
        ("%resource.id & '/' & %context.id", ["p/p"]),
        ("name.text.matches('^张')", [True]),
        ("iif(name.count() > 1, 'many', 'one')", ["many"]),
        ("contained.ofType(Organization).name", ["Hospital"]),
        ("descendants().where($this is Reference).count()", [3]),
        ("name.family.replaceMatches('(Zh)(ang)', '$2')", ["ang"]),
        ("nothing.here", []),
        ("@2020-02-29 + 1 year = @2021-02-28", [True]),
        ("5 'mg' < 1 'g'", [True]),
        ("1 'L' = 10 'dL'", [True]),
        ("10 'mm[Hg]' > 1 'kPa'", [True]),
    ],
)
def test_values(expression: str, found: list[Any]) -> None:
    assert fhirpath.compile(expression)(PATIENT) == found


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "name.",
        "name[",
        "(1",
        "'open",
        "1 +",
        "name..given",
        "nosuch()",
        "name.where()",
        "a.as(Nope)",
        "@2020-13",
        "#",
    ],
)
def test_what_cannot_be_read_is_refused(expression: str) -> None:
    with pytest.raises(FhirPathError):
        fhirpath.compile(expression)(PATIENT)


@pytest.mark.parametrize(
    "expression",
    ["(" * 200 + "1" + ")" * 200, "name.repeat($this | $this.given)" * 1, "'x'.matches('(')", "1 'x'.power(2)"],
)
def test_what_cannot_be_evaluated_ends_with_an_error_or_a_value(expression: str) -> None:
    try:
        fhirpath.compile(expression)(PATIENT)
    except FhirPathError as error:
        assert str(error).startswith("FHIRPath")  # noqa: PT017 - both ways are right


def test_unknown_constants_are_refused_and_given_ones_are_used() -> None:
    with pytest.raises(FhirPathError, match="known"):
        fhirpath.compile("%level")(PATIENT)
    assert fhirpath.compile("%level + 1")(PATIENT, variables={"level": 3}) == [4]


def test_trace_sees_what_passes_and_changes_nothing() -> None:
    seen: list[tuple[str, int]] = []
    found = fhirpath.compile("name.trace('names').given")(
        PATIENT, trace=lambda name, items: seen.append((name, len(items)))
    )
    assert found == ["Wei", "W"]
    assert seen == [("names", 2)]


def test_the_clock_is_the_callers() -> None:
    now = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert fhirpath.compile("today() = @2026-02-03 and now() = @2026-02-03T04:05:06Z")(PATIENT, now=now) == [True]


def test_the_resolver_finds_what_is_not_contained() -> None:
    target = {"resourceType": "Practitioner", "id": "1", "active": True}
    found = fhirpath.compile("generalPractitioner.resolve().active")(PATIENT, resolver={"Practitioner/1": target}.get)
    assert found == [True]


def test_an_element_without_resource_takes_its_type_from_the_caller() -> None:
    period = {"start": "2020"}
    assert fhirpath.compile("start <= @2021", context_type="Period")(period) == [True]
    assert fhirpath.compile("value is Quantity", context_type="Observation.component")({"valueQuantity": {}}) == [True]


def test_decimals_keep_their_digits() -> None:
    quantity = {"value": Decimal("72.50")}
    assert str(fhirpath.compile("value", context_type="Quantity")(quantity)[0]) == "72.50"
    assert fhirpath.compile("value = 72.5", context_type="Quantity")(quantity) == [True]


@pytest.mark.parametrize("text", ["2020-02-30", "2020-1", "20", "2020-01-01T25:00", "2020-01-01T10:00:00+15:00"])
def test_impossible_dates_are_none(text: str) -> None:
    assert Temporal.date_time(text) is None


@pytest.mark.parametrize("code", ["mm[Hg]", "10*3/uL", "mmol/L", "mg/dL", "{score}", "/min", "kg/m2", "ug/kg/h", "%"])
def test_common_units_are_understood(code: str) -> None:
    assert unit_of(code) is not None
