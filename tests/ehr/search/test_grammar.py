"""What the grammar takes and refuses: https://hl7.org/fhir/R4/search.html#errors."""

from datetime import UTC, datetime

import pytest

from ehr.errors import BadSearch, TooCostly
from ehr.search import limits, parse
from ehr.search.page import self_query
from ehr.search.query import Chain, Criterion, DateValue, Has, ReferenceValue, TokenValue

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("resource_type", "name", "value", "named"),
    [
        ("Patient", "colour", "x", "colour"),
        ("Patient", "_content", "x", "_content"),
        ("Patient", "_filter", "x", "_filter"),
        ("Patient", "_query", "x", "_query"),
        ("Observation", "code-value-quantity", "a$b", "code-value-quantity"),
        ("Patient", "name:fuzzy", "x", "name:fuzzy"),
        ("Patient", "gender:exact", "male", "gender:exact"),
        ("Patient", "birthdate:not", "2000", "birthdate:not"),
        ("Patient", "_id:missing", "true", "_id:missing"),
        ("Patient", "gender:missing", "maybe", "gender:missing"),
        ("Patient", "gender", "", "gender"),
        ("Patient", "gender", "male,", "gender"),
        ("Patient", "gender", "a|b|c", "gender"),
        ("Patient", "gender", "|", "gender"),
        ("Patient", "_id", "urn:x|1", "_id"),
        ("Patient", "birthdate", "2000-13-01", "birthdate"),
        ("Patient", "birthdate", "2000-02-30", "birthdate"),
        ("Patient", "birthdate", "xx2000", "birthdate"),
        ("Patient", "birthdate", "1; drop table resource", "birthdate"),
        ("Observation", "value-quantity", "five", "value-quantity"),
        ("Observation", "value-quantity", "1e999", "value-quantity"),
        ("Observation", "value-quantity", "NaN", "value-quantity"),
        ("Observation", "value-quantity", "١", "value-quantity"),
        ("Observation", "value-quantity", "５", "value-quantity"),
        ("Observation", "date", "٢٠٢٠", "date"),
        ("Observation", "date", "2020-01-14T1０:00", "date"),
        ("Patient", "_count", "１", "_count"),
        ("Observation", "_include", "Observation:subject:", "_include"),
        ("Observation", "_revinclude", "Observation:focus:", "_revinclude"),
        ("Observation", "value-quantity", "5|mg", "value-quantity"),
        ("Observation", "subject", "Patient/1/_history/2", "subject"),
        ("Observation", "subject", "Nonsense/1", "subject"),
        ("Observation", "subject:Practitioner", "1", "subject:Practitioner"),
        ("Observation", "encounter:mdm", "1", "encounter:mdm"),
        ("Observation", "subject.name.x", "1", "subject.name.x"),
        ("Observation", "code.name", "1", "code.name"),
        ("Observation", "subject:Patient.colour", "1", "subject:Patient.colour"),
        ("Observation", "subject:Practitioner.name", "1", "subject:Practitioner.name"),
        ("Patient", "_has:Observation:subject", "1", "_has:Observation:subject"),
        ("Patient", "_has:Observation:code:status", "1", "_has:Observation:code:status"),
        ("Patient", "_has:Observation:subject:_has:Provenance:agent:_id", "1", "Provenance.agent"),
        ("Patient", "_has:Observation:subject:encounter.colour", "1", "encounter.colour"),
        ("Observation", "subject:Patient.organization.colour", "1", "organization.colour"),
        ("Observation", "subject:Patient.organization:Patient.name", "1", "organization:Patient"),
        ("Observation", "subject:Patient.name.family", "1", "name is not a reference"),
        ("Observation", "patient._has:Condition:subject:", "1", "_has"),
        ("Observation", "patient._has:Condition:encounter:code", "1", "Condition.encounter"),
        ("Patient", "_sort", "colour", "_sort"),
        ("Patient", "_count", "-1", "_count"),
        ("Patient", "_count", "ten", "_count"),
        ("Patient", "_summary", "some", "_summary"),
        ("Patient", "_total", "yes", "_total"),
        ("Patient", "_elements", "colour", "_elements"),
        ("Patient", "_include", "Observation:subject", "_include"),
        ("Patient", "_include", "Patient:name", "_include"),
        ("Patient", "_include:iterate", "Patient:name", "_include:iterate"),
        ("Patient", "_include:iterate", "Patient:link:Nonsense", "_include:iterate"),
        ("Patient", "_include:iterate", "Patient:organization:Patient", "_include:iterate"),
        ("Patient", "_include:recurse", "Patient:link", "_include:recurse"),
        ("Patient", "_revinclude:iterate", "Provenance", "_revinclude:iterate"),
        ("Patient", "_include:iterate", "AuditEvent:entity", "_include:iterate"),
        ("Patient", "_revinclude", "Observation:encounter", "_revinclude"),
        ("Patient", "name", "a\x00b", "character"),
        ("Patient", "name", "\ud800", "character"),
        ("Patient", "name", "\u0301", "name"),
    ],
)
def test_what_is_unknown_is_named(resource_type: str, name: str, value: str, named: str) -> None:
    with pytest.raises(BadSearch, match=named):
        parse(resource_type, [(name, value)], now=NOW)


def test_lenient_reports_and_drops() -> None:
    query = parse("Patient", [("colour", "red"), ("gender", "male"), ("_sort", "x")], lenient=True, now=NOW)
    assert [clause.code for clause in query.clauses if isinstance(clause, Criterion)] == ["gender"]
    assert [issue.severity for issue in query.issues] == ["warning", "warning"]
    assert "colour" in query.issues[0].diagnostics
    assert self_query(query.pairs) == "gender=male"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gender", ",".join("x" for _ in range(limits.OR_VALUES + 1))),
        ("name", "x" * (limits.VALUE_LENGTH + 1)),
        ("name:contains", "x" * (limits.CONTAINS_LENGTH + 1)),
        ("_sort", ",".join(["gender"] * (limits.SORT_KEYS + 1))),
    ],
)
def test_bounds_are_refused_as_too_costly(name: str, value: str) -> None:
    with pytest.raises(TooCostly):
        parse("Patient", [(name, value)], now=NOW)


def test_many_parameters_and_untyped_references_are_bounded() -> None:
    with pytest.raises(TooCostly):
        parse("Patient", [("gender", "male")] * (limits.CRITERIA + 1), now=NOW)
    with pytest.raises(TooCostly):
        parse("Provenance", [("target", ",".join(str(n) for n in range(1000)))], now=NOW)
    every = [("_revinclude", f"{name}:*") for name in ("Observation", "Encounter", "Task", "Procedure", "Condition")]
    assert len(parse("Patient", every, now=NOW).includes) == len(every)
    with pytest.raises(TooCostly):
        parse("Patient", every * 3, now=NOW)


@pytest.mark.parametrize(
    ("resource_type", "names"),
    [
        ("Organization", [".".join(["partof"] * limits.CHAIN_DEPTH) + ".partof.name"]),
        ("Provenance", ["target.target.target.target._id"]),
        ("Provenance", [f"target.{code}" for code in ("_id", "_lastUpdated", "_tag")]),
        ("Patient", ["_has:Observation:focus:" * (limits.CHAIN_DEPTH + 1) + "code"]),
        ("Patient", ["general-practitioner:Practitioner._id"] * (limits.CHAINS + 1)),
    ],
)
def test_chains_are_bounded_in_depth_and_number(resource_type: str, names: list[str]) -> None:
    with pytest.raises(TooCostly):
        parse(resource_type, [(name, "x" if "_lastUpdated" not in name else "2020") for name in names], now=NOW)


def test_page_size_is_capped() -> None:
    assert parse("Patient", [("_count", "99999999")], now=NOW).count == limits.LARGEST_PAGE
    assert parse("Patient", [], now=NOW).count == limits.PAGE_SIZE


def test_escapes_separate_values_from_text() -> None:
    query = parse("Patient", [("identifier", r"urn:a|x\,y,b\|c,d\\e")], now=NOW)
    (clause,) = query.clauses
    assert isinstance(clause, Criterion)
    assert [v.text for v in clause.values if isinstance(v, TokenValue)] == ["urn:a|x,y", "b|c", "d\\e"]


def test_own_absolute_references_equal_relative_ones() -> None:
    query = parse("Observation", [("subject", "http://me/fhir/Patient/1")], now=NOW, base_url="http://me/fhir")
    (clause,) = query.clauses
    assert isinstance(clause, Criterion)
    assert clause.values == (ReferenceValue((("Patient", "1"),)),)


def test_approximate_dates_widen_by_a_tenth_of_the_gap_to_now() -> None:
    (clause,) = parse("Patient", [("birthdate", "ap2016-01-01T00:00:00Z")], now=NOW).clauses
    assert isinstance(clause, Criterion)
    (value,) = clause.values
    assert isinstance(value, DateValue)
    ten_years_us = (NOW - datetime(2016, 1, 1, tzinfo=UTC)).total_seconds() * 1e6
    start_us = datetime(2016, 1, 1, tzinfo=UTC).timestamp() * 1e6
    assert value.low_us == pytest.approx(start_us - ten_years_us / 10, abs=10)


def test_dates_without_a_zone_are_in_the_given_one() -> None:
    (clause,) = parse("Patient", [("birthdate", "2020-01-01")], now=NOW, zone=UTC).clauses
    assert isinstance(clause, Criterion)
    (value,) = clause.values
    assert isinstance(value, DateValue)
    assert value.low_us == datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1e6


def test_chains_take_each_fitting_type_and_has_takes_id() -> None:
    (chain,) = parse("Observation", [("subject.name", "x")], now=NOW).clauses
    assert isinstance(chain, Chain)
    assert {inner.resource_type for inner in chain.alternatives} == {"Patient", "Location"}
    (long,) = parse("Observation", [("subject.organization.partof.name", "x")], now=NOW).clauses
    assert isinstance(long, Chain)
    assert {inner.resource_type for inner in long.alternatives} == {"Patient", "Device", "Location"}
    (mixed,) = parse("Observation", [("patient._has:Condition:subject:encounter.status", "x")], now=NOW).clauses
    assert isinstance(mixed, Chain)
    (has,) = mixed.alternatives
    assert isinstance(has, Has)
    assert isinstance(has.inner, Chain)
    (has,) = parse("Patient", [("_has:Observation:subject:_lastUpdated", "gt2020")], now=NOW).clauses
    assert isinstance(has, Has)
    assert has.inner.code == "_lastUpdated"
