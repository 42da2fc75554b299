"""Profiles: what each kind of rule refuses and what it lets through; every profile here has a case of both kinds."""

import asyncio
import copy
import json

import pytest

from ehr.definitions import codes_of
from ehr.errors import BadSearch, Issue, TooCostly
from ehr.json_text import parse
from ehr.search.terminology import Chosen
from ehr.validation import check
from ehr.validation.profiles import check_against, findings, load, profiles_named
from tests.ehr.validation.profile_rules import BASE, COLOURS, RULES, URL, Json, at, patient, profile, slicing


class Written:
    """Definitions as a record would hold them."""

    def __init__(self, *definitions: Json) -> None:
        self.bodies = {each["url"]: json.dumps(each).encode() for each in definitions}

    async def body(self, resource_type: str, address: str) -> bytes | None:
        assert resource_type == "StructureDefinition"
        return self.bodies.get(address.partition("|")[0])

    async def value_set(self, address: str) -> Chosen:
        if address == COLOURS:
            return Chosen(frozenset({("urn:colours", "red"), ("urn:colours", "blue")}))
        own = codes_of(address)
        if own is None:
            raise BadSearch(f"{address} is not stored")
        return Chosen(own)


def found(resource: Json, *definitions: Json, asked: tuple[str, ...] | None = None) -> list[Issue]:
    """What the first of the definitions finds in a resource."""
    named = (definitions[0]["url"],) if asked is None else asked
    read = parse(json.dumps(resource).encode())
    loaded = asyncio.run(load([*named, *profiles_named(read)], Written(*definitions)))
    return check_against(read, named, loaded)


def told(issues: list[Issue]) -> list[tuple[str, str, str | None]]:
    return [(issue.severity, issue.code, issue.expression) for issue in issues]


@pytest.mark.parametrize("name", RULES)
def test_each_rule(name: str) -> None:
    definition, good, bad, (code, place) = RULES[name]
    for resource in (good, bad):
        assert not check(parse(json.dumps(resource).encode())), "the base definitions let both through"
    assert [issue for issue in found(good, definition) if issue.severity == "error"] == []
    assert ("error", code, place) in told(found(bad, definition))


def test_differentials_upon_each_other() -> None:
    low = profile("low", "Patient", at("Patient.name", min=1), at("Patient.gender", min=1))
    high = profile(
        "high", "Patient", at("Patient.birthDate", min=1), at("Patient.name.family", min=1), base=URL + "low"
    )
    assert told(found(patient(), high, low)) == [
        ("error", "required", "Patient.name"),
        ("error", "required", "Patient.gender"),
        ("error", "required", "Patient.birthDate"),
    ]
    assert not found(patient(gender="male", birthDate="2000", name=[{"family": "a"}]), high, low)
    issues = found(patient(birthDate="2000"), high)
    assert told(issues) == [("warning", "not-found", "Patient")]
    assert URL + "low" in issues[0].diagnostics


def test_profiles_upon_themselves_end() -> None:
    loop = profile("loop", "Patient", base=URL + "loop")
    assert told(found(patient(), loop)) == [("error", "not-found", "Patient")]
    inner = profile(
        "inner", "Extension", at("Extension.extension", type=[{"code": "Extension", "profile": [URL + "inner"]}])
    )
    deep: Json = {"url": URL + "inner", "valueString": "a"}
    for _ in range(30):
        deep = {"url": URL + "inner", "extension": [deep]}
    assert not found(patient(extension=[deep]), inner, asked=())


def test_what_is_not_stored_or_cannot_be_used() -> None:
    named = patient(meta={"profile": [URL + "p", URL + "nowhere"]})
    asked = found(named, asked=(URL + "p",))
    assert told(asked) == [("error", "not-found", "Patient"), ("warning", "not-found", "Patient.meta.profile[1]")]
    assert URL + "p" in asked[0].diagnostics
    of_other = profile("p", "Group")
    assert told(found(patient(), of_other)) == [("error", "structure", "Patient")]
    assert told(found(patient(), profile("p", "Patient", at("Patient.colour", min=1)))) == [
        ("error", "not-found", "Patient")
    ]
    specialised = {**profile("p", "Patient"), "derivation": "specialization"}
    assert told(found(patient(), specialised)) == [("error", "not-found", "Patient")]
    assert not found(patient(), asked=(BASE + "Patient", BASE + "DomainResource"))
    assert told(found(patient(), asked=(BASE + "Group",))) == [("error", "structure", "Patient")]


def test_what_cannot_be_looked_at_is_a_warning() -> None:
    unbound = profile(
        "p", "Patient", at("Patient.language", binding={"strength": "required", "valueSet": "urn:nowhere"})
    )
    unread = profile(
        "p",
        "Patient",
        at("Patient.name", constraint=[{"key": "x", "severity": "error", "human": "a", "expression": "((("}]),
    )
    for definition in (unbound, unread):
        issues = found(patient(language="a", name=[{"text": "a"}]), definition)
        assert [issue.severity for issue in issues] == ["warning"]
    weaker = profile("p", "Patient", at("Patient.language", binding={"strength": "extensible", "valueSet": COLOURS}))
    assert not found(patient(language="a"), weaker)
    advice = profile(
        "p",
        "Patient",
        at("Patient.name", constraint=[{"key": "x", "severity": "warning", "human": "a", "expression": "false"}]),
    )
    assert told(found(patient(name=[{"text": "a"}]), advice)) == [("warning", "invariant", "Patient.name[0]")]


def test_extensions_are_checked_where_their_profile_is_stored() -> None:
    extension = profile(
        "way",
        "Extension",
        at("Extension.url", fixedUri=URL + "way"),
        at("Extension.value[x]", min=1, type=[{"code": "code"}]),
    )
    holder = patient(birthDate="2000", _birthDate={"extension": [{"url": URL + "way", "valueString": "a"}]})
    assert told(found(holder, extension, asked=())) == [("error", "structure", "Patient.birthDate.extension[0].value")]
    holder["_birthDate"]["extension"][0] = {"url": URL + "way", "valueCode": "a"}
    assert not found(holder, extension, asked=())


def test_modifiers_stand_where_modifiers_do() -> None:
    plain, modifier = profile("plain", "Extension"), profile("not", "Extension")
    modifier["differential"]["element"][0]["isModifier"] = True
    right = {
        "extension": [{"url": URL + "plain", "valueCode": "a"}],
        "modifierExtension": [{"url": URL + "not", "valueCode": "a"}],
    }
    assert not found(patient(**right), plain, modifier, asked=())
    wrong = {"extension": right["modifierExtension"], "modifierExtension": right["extension"]}
    assert told(found(patient(**wrong), plain, modifier, asked=())) == [
        ("error", "structure", "Patient.extension[0]"),
        ("error", "structure", "Patient.modifierExtension[0]"),
    ]


def test_resources_within_name_profiles_of_their_own() -> None:
    named = profile("named", "Patient", at("Patient.name", min=1))
    inner = patient(meta={"profile": [URL + "named"]})
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": inner}]}
    assert told(found(bundle, named, asked=())) == [("error", "required", "Bundle.entry[0].resource.name")]
    inner["name"] = [{"text": "a"}]
    assert not found(bundle, named, asked=())


def test_garbage_in_the_resource_ends_in_no_error() -> None:
    """The base check names it; profiles must only bear it."""
    for definition, good, _, _ in RULES.values():
        for name in list(good):
            for value in (None, 5, "x", [], [None], {}, [[]], [{"coding": 5}], {"coding": [5]}, {"extension": [7]}):
                broken = copy.deepcopy(good)
                broken[name] = value
                found(broken, definition)


def test_rules_that_take_long_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "LONGEST_S", 0.005)
    slow = profile(
        "p",
        "Patient",
        at(
            "Patient.name",
            constraint=[
                {
                    "key": "x",
                    "severity": "error",
                    "human": "a",
                    "expression": "given.select($this.toChars()).distinct().count() >= 0",
                }
            ],
        ),
    )
    names = [{"given": ["abcdefghij" * 20]} for _ in range(500)]
    with pytest.raises(TooCostly):
        found(patient(name=names), slow)


@pytest.mark.parametrize("expression", ["(" * 5_000, "text" + ".text" * 20_000, "true" + " or true" * 20_000])
def test_rules_that_nobody_can_read_are_told(expression: str) -> None:
    constraint = {"key": "x", "severity": "error", "human": "a", "expression": expression}
    by_rule = profile("p", "Patient", at("Patient.name", constraint=[constraint]))
    assert told(found(patient(name=[{"text": "a"}]), by_rule)) == [("warning", "not-supported", "Patient.name[0]")]
    told_apart = {"discriminator": [{"type": "value", "path": expression}], "rules": "open"}
    by_path = profile("p", "Patient", at("Patient.name", slicing=told_apart), at("Patient.name:a", min=1))
    assert told(found(patient(name=[{"text": "a"}]), by_path)) == [("error", "required", "Patient.name")]


def test_more_slices_than_can_be_told_apart_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "LONGEST_S", 0.05)
    slices = [at(f"Patient.name:s{n}.text", fixedString=str(n)) for n in range(200)]
    many = profile("p", "Patient", at("Patient.name", slicing=slicing(("value", "text"))), *slices)
    with pytest.raises(TooCostly):
        found(patient(name=[{"text": "a"}] * 1_000), many)


def test_many_warnings_hide_no_error() -> None:
    entries = [{"resource": patient(meta={"profile": [f"{URL}nowhere-{n}"]})} for n in range(150)]
    entries.append({"resource": patient(meta={"profile": [URL + "named"]})})
    named = profile("named", "Patient", at("Patient.name", min=1))
    issues = found({"resourceType": "Bundle", "type": "collection", "entry": entries}, named, asked=(URL + "named",))
    assert ("error", "structure", "Bundle") in told(issues)
    few = {"resourceType": "Bundle", "type": "collection", "entry": [entries[0]] * 150 + entries[-1:]}
    issues = found(few, named, asked=())
    assert ("error", "required", "Bundle.entry[150].resource.name") in told(issues)
    assert sum(issue.severity == "warning" for issue in issues) == 100
    many = found({"resourceType": "Bundle", "type": "collection", "entry": entries}, named, asked=())
    assert any("more than 100 profiles" in issue.diagnostics for issue in many)
