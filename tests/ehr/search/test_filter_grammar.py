"""What `_filter` takes, refuses and means: https://hl7.org/fhir/R4/search_filter.html."""

import pytest

from ehr.errors import BadSearch, TooCostly
from ehr.search import limits, parse
from ehr.search.query import Chain, Clause, Criterion, DateValue, Has, Joined, Negated, TokenValue


def read(resource_type: str, text: str) -> tuple[Clause, ...]:
    return parse(resource_type, [("_filter", text)]).clauses


def shape(clause: Clause) -> str:
    """A clause as a short text."""
    match clause:
        case Joined(operator=operator, clauses=clauses):
            return f"({f' {operator} '.join(map(shape, clauses))})"
        case Negated(clause=negated):
            return f"not {shape(negated)}"
        case Chain(code=code, alternatives=alternatives):
            return f"{code}.{'|'.join(map(shape, alternatives))}"
        case Has(code=code, inner=inner):
            return f"has {code} {shape(inner)}"
        case Criterion():
            return clause.code + (f":{clause.modifier}" if clause.modifier else "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('given eq "peter" and birthdate ge 2014-10-10', ["given", "birthdate"]),
        ("gender eq male or gender eq female and active eq true", ["(gender or gender)", "active"]),
        ("gender eq male or (gender eq female and active eq true)", ["(gender or (gender and active))"]),
        ("gender eq male and active eq true or _id eq 1", ["((gender and active) or _id)"]),
        ("not (gender eq male)", ["not gender"]),
        ("not(not(gender eq male))", ["not not gender"]),
        ("  ( ( gender eq male ) )  ", ["gender"]),
        ("gender ne male", ["gender:missing", "not gender"]),
        ("_id ne 5", ["not _id"]),
        ("birthdate pr false", ["birthdate:missing"]),
        ('name co "a b" or name sw x or name ew y', ["((name:contains or name) or name:contains)"]),
        ("organization.partof.name eq x", ["organization.partof.name"]),
        ('organization[name eq "(a) and ]"].partof.name eq x', ["organization.(name and partof.name)"]),
        ("organization[name eq x or active eq true].partof[active eq true].name eq y",
         ["organization.((name or active) and partof.(active and name))"]),
        ("general-practitioner:Practitioner.name eq x", ["general-practitioner.name"]),
        ("_has:Observation:patient:encounter.type eq x", ["has patient encounter.type|type"]),
        ("organization re Organization/1 and link eq Patient/1", ["organization", "link"]),
        ("_lastUpdated gt 2020 and _tag eq urn:x|y", ["_lastUpdated", "_tag"]),
    ],
)  # fmt: skip
def test_what_is_read(text: str, expected: list[str]) -> None:
    assert [shape(clause) for clause in read("Patient", text)] == expected


def test_values_hold_separators_of_parameters() -> None:
    (clause,) = read("Patient", r'identifier eq "urn:a|x,y$z"')
    assert isinstance(clause, Criterion)
    assert clause.values == (TokenValue("urn:a|x,y$z", "x,y$z"),)
    (clause,) = read("Patient", r'name eq "say \"hi\" \u674e"')
    assert isinstance(clause, Criterion)
    assert clause.values[0].text == 'say "hi" 李'  # type: ignore[union-attr] # a string's value


def test_overlap_does_not_widen() -> None:
    (clause,) = read("Patient", "birthdate po 2014")
    (equal,) = read("Patient", "birthdate eq 2014")
    assert isinstance(clause, Criterion)
    assert isinstance(equal, Criterion)
    (value,), (other,) = clause.values, equal.values
    assert isinstance(value, DateValue)
    assert isinstance(other, DateValue)
    assert (value.prefix, value.low_us, value.high_us) == ("ap", other.low_us, other.high_us)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("gender", "operator"),
        ("gender eq", "value"),
        ("gender eq ", "value"),
        ("gender is male", "operator .*not is"),
        ("gender eq male and", "search parameter"),
        ("gender eq male or or", "operator"),
        ("gender eq male xor active eq true", "xor"),
        ("(gender eq male", "and, or, or \\)"),
        ("gender eq male)", "and, or, or the end"),
        ("not gender eq male", "operator"),
        ("colour eq red", "colour"),
        ("name eq 'x", ""),
        ('name eq "x', "value"),
        (r'name eq "\q"', "quotes"),
        ("name gt x", "gt is not offered for name, a string"),
        ("gender co x", "co is not offered for gender, a token"),
        ("birthdate co 2014", "co is not offered for birthdate"),
        ("birthdate eq ge2014", "prefix"),
        ("birthdate eq soon", "birthdate"),
        ("birthdate po ge2014", "prefix"),
        ("gender pr maybe", "pr"),
        ("_id pr true", "_id"),
        ("name:exact eq x", "operators"),
        ("organization..name eq x", "path"),
        ("organization[name eq x] eq Organization/1", "dot"),
        ("gender[active eq true].x eq y", "gender is not a reference"),
        ("organization[colour eq x].name eq y", "colour"),
        ("_filter eq x", "_filter"),
        ("organization._filter eq x", "_filter"),
        ("]", "search parameter"),
        ("gender re male", "re is not offered"),
    ],
)
def test_what_is_no_filter_is_named(text: str, named: str) -> None:
    if text == "name eq 'x":  # a token that begins with a quote
        assert read("Patient", text)
        return
    with pytest.raises(BadSearch, match=named):
        read("Patient", text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * (limits.FILTER_DEPTH + 1) + "gender eq male" + ")" * (limits.FILTER_DEPTH + 1),
        " and ".join(["gender eq male"] * (limits.CRITERIA + 1)),
        "name eq " + "x" * limits.FILTER_LENGTH,
        ".".join(["organization", *["partof"] * limits.CHAIN_DEPTH, "name"]) + " eq x",
    ],
)
def test_filters_are_bounded(text: str) -> None:
    with pytest.raises(TooCostly):
        read("Patient", text)


def test_open_references_in_brackets_are_bounded() -> None:
    deep = "target[_id eq 1]." * 6 + "_id eq 1"
    with pytest.raises(TooCostly):
        read("Provenance", deep)


def test_lists_are_named_by_id() -> None:
    (clause,) = parse("Patient", [("_list", "42,43")]).clauses
    assert isinstance(clause, Has)
    assert shape(clause) == "has item _id"
    for value in ("$current-allergies", "urn:x|1", "a,"):
        with pytest.raises(BadSearch, match=r"_list|_id"):
            parse("Patient", [("_list", value)])
    with pytest.raises(BadSearch):
        parse("Patient", [("_list:not", "42")])
