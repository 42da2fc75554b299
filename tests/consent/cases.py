"""Short forms of consents, requests and rows, and the decision of the package for them on a real PostgreSQL."""

from datetime import datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

import asyncpg

from consent.coded import IndexTerms
from consent.decision import Context, Evaluator
from consent.labels import _LEVEL_BIT, ACT_CODE_SYSTEM, CONFIDENTIALITY_SYSTEM, sensitivity_mask
from consent.normalise import BASE_SYSTEM, read_consent
from consent.policy import preset
from consent.rules import ClassRules, NormalConsent, class_of
from ehr.definitions import type_number
from ehr.filter_forms import FilterForms
from ehr.keys import TermHasher, organisation_key
from ehr.person_filter import ClassChoice, EveryPerson, EveryPersonStamped, KeptBy
from ehr.row_filter import EVERYTHING, NOTHING, AllOf, Parameters, RowFacts, RowRule

ZONE = ZoneInfo("Asia/Shanghai")
HASHER = TermHasher(b"k" * 32)
T = "http://terminology.hl7.org/CodeSystem/"
SYSTEMS = {"loinc": "http://loinc.org", "icd10": "http://hl7.org/fhir/sid/icd-10", "sct": "http://snomed.info/sct"}
PERSON, HOLDER = 900, 901


def _coded(short: str) -> dict[str, str]:
    system, _, code = short.partition("|")
    return {"system": SYSTEMS[system], "code": code}


def _class(short: str) -> dict[str, str]:
    if short.startswith("http"):
        return {"system": "urn:ietf:rfc:3986", "code": short}
    if "|" in short:
        return _coded(short)
    return {"system": "http://hl7.org/fhir/resource-types", "code": short}


def _label(short: str) -> dict[str, str]:
    return {"system": CONFIDENTIALITY_SYSTEM if short in "ULMNRV" else ACT_CODE_SYSTEM, "code": short}


def _actor(short: str) -> dict[str, Any]:
    role, _, reference = short.rpartition(" ")
    coding = {"system": T + "v3-ParticipationType", "code": role or "PRCP"}
    return {"role": {"coding": [coding]}, "reference": {"reference": reference}}


def provision(short: dict[str, Any]) -> dict[str, Any]:
    """A FHIR provision from its short form."""
    full: dict[str, Any] = {}
    for name, value in short.items():
        if name == "provision":
            full[name] = [provision(each) for each in value]
        elif name == "actor":
            full[name] = [_actor(each) for each in value]
        elif name == "purpose":
            full[name] = [{"system": T + "v3-ActReason", "code": each} for each in value]
        elif name == "action":
            full[name] = [{"coding": [{"system": T + "consentaction", "code": each}]} for each in value]
        elif name == "class":
            full[name] = [_class(each) for each in value]
        elif name == "code":
            full[name] = [{"coding": [_coded(each)]} for each in value]
        elif name == "label":
            full["securityLabel"] = [_label(each) for each in value]
        else:
            full[name] = value
    return full


def consent(short: dict[str, Any]) -> dict[str, Any]:
    """A FHIR Consent from its short form: base, dateTime, scope, status, filedBy, and the provision's members."""
    full: dict[str, Any] = {
        "resourceType": "Consent",
        "status": short.get("status", "active"),
        "scope": {"coding": [{"system": T + "consentscope", "code": short.get("scope", "patient-privacy")}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/p"},
    }
    if short.get("base", "none") != "none":
        system = BASE_SYSTEM if short["base"] == "preset" else ACT_CODE_SYSTEM
        full["policyRule"] = {"coding": [{"system": system, "code": short["base"]}]}
    if short.get("dateTime"):
        full["dateTime"] = short["dateTime"]
    if short.get("filedBy"):
        full["_filedBy"] = short["filedBy"]
    root = {k: v for k, v in short.items() if k not in ("status", "scope", "base", "dateTime", "filedBy")}
    if root:
        full["provision"] = provision(root)
    return full


def request(short: dict[str, Any]) -> dict[str, Any]:
    """A request with its defaults: a physician of county-hospital who treats at noon."""
    full = {
        "organisation": "county-hospital",
        "practitioner": "dr.li",
        "roles": ["physician"],
        "purpose": "TREAT",
        "action": "access",
        "now": "2026-06-15T12:00:00+08:00",
        "preset": "cn-county",
        **short,
    }
    return {"organisations": [full["organisation"]], **full}


def row(short: dict[str, Any]) -> dict[str, Any]:
    """A row with its defaults: an unlabelled Observation of first-hospital."""
    full = {"type": "Observation", "custodian": "first-hospital", "date": "2026-01-10T08:00:00+08:00", **short}
    if "code" in full:
        coded = _coded(full["code"])
        full["code"] = f"{coded['system']}|{coded['code']}"
    return full


def microseconds(text: str) -> int:
    """Microseconds since 1970 UTC."""
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def normalised(consents: list[dict[str, Any]]) -> tuple[NormalConsent, ...]:
    """The consents that count."""
    import msgspec  # noqa: PLC0415 - one use

    found = []
    for each in consents:
        resource = {k: v for k, v in each.items() if k != "_filedBy"}
        normal, issues = read_consent(resource, ZONE)
        assert not issues, issues
        if normal is not None:
            found.append(msgspec.structs.replace(normal, attested_by=each.get("_filedBy")))
    return tuple(found)


def context(asked: dict[str, Any]) -> Context:
    """The request as the package sees it."""
    return Context(
        actor="me",
        organisation=asked["organisation"],
        organisations=frozenset(asked["organisations"]),
        practitioners=frozenset({asked["practitioner"]}),
        practitioner_roles=frozenset(asked.get("practitioner_roles", ())),
        roles=frozenset(asked["roles"]),
        purpose=asked["purpose"],
        action=asked["action"],
        emergency=bool(asked.get("emergency")),
    )


def rule_of(groups: list[list[dict[str, Any]]], asked: dict[str, Any]) -> RowRule:
    """The filter over rows about a person of this class."""
    now = microseconds(asked["now"])
    rules: ClassRules = class_of(tuple(normalised(group) for group in groups), now)
    evaluator = Evaluator(context(asked), preset(asked["preset"]), IndexTerms(HASHER))
    decision = evaluator.decide(rules, now)
    return KeptBy(
        (organisation_key(asked["organisation"]),),
        ClassChoice(1, (((1,), decision.kept),), NOTHING),
        ClassChoice(1, (((1,), decision.foreign),), NOTHING),
    )


def facts(asked: dict[str, Any], of: dict[str, Any]) -> RowFacts:
    """The row's columns."""
    labels = sensitivity_mask(list(of.get("labels", ()))) | _LEVEL_BIT.get(of.get("level", "N"), 0)
    terms: set[int] = set()
    if "code" in of:
        name = "type" if of["type"] in ("DocumentReference", "Composition") else "code"
        terms.add(HASHER.term(of["type"], name, "token", of["code"]))
    for profile in of.get("profiles", ()):
        terms.add(HASHER.term(of["type"], "_profile", "uri", profile))
    return RowFacts(
        type=type_number(of["type"]),
        custodian=organisation_key(of["custodian"]),
        labels=labels,
        terms=frozenset(terms),
        at=microseconds(of["date"]) if of.get("date") else None,
        consent_class=1,
        reached_by=frozenset({organisation_key(asked["organisation"])} if asked.get("reach") else ()),
        emergency_for=frozenset({"me"} if asked.get("emergency") else ()),
    )


_TABLES = """with resource as (
  select k as key, t::smallint as type, {holder}::bigint as holder, null::bigint[] as others, c as custodian,
    l as labels, 1 as "class", a as at, string_to_array(x, ',')::bigint[] as terms
  from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[]) as g(k, t, c, l, a, x)
), holder_person(holder, person) as (values ({holder}::bigint, {person}::bigint)
), person(person, "class") as (values ({person}::bigint, 1)
), restamp as (select person from person where {restamped}
), reach(organisation, person, source, kind, until) as (
  select o, {person}::bigint, 1::bigint, 1::smallint, 9000000000000000000 from unnest($7::bigint[]) as o
), kept_holder(custodian, holder) as (select distinct custodian, holder from resource
), emergency(actor, person, until) as (
  select e, {person}::bigint, 9000000000000000000 from unnest($8::text[]) as e
) """


def _led(node: RowRule, type_number: int, parameters: Parameters) -> str:
    """The keys of visible rows of a type, as searches find them: the filter settled by type, among the people named."""
    forms = FilterForms(AllOf((EVERYTHING, node)))
    form, sources = cast("RowRule", forms.of_type(type_number)), forms.sources(type_number)
    if sources is None:
        return f"select i.key from resource i where i.type = {type_number} and {form.sql('i', parameters)}"
    return (
        f"select i.key from ({sources.sql(parameters)}) as lead cross join lateral (select i.key from resource i"
        f" where i.holder = lead.holder and i.type = {type_number}"
        f" and {form.sql('i', parameters, sources.columns('lead'))} offset 0) i"
    )


def _named(node: RowRule, type_number: int, parameters: Parameters) -> str:
    """As `_led`, for searches that name the person: whether he can be seen at all is asked before his rows."""
    forms = FilterForms(AllOf((EVERYTHING, node)))
    form, of_person = cast("RowRule", forms.of_type(type_number)), forms.holders(type_number)
    person = f"(select {HOLDER}::bigint as key, {HOLDER}::bigint as holder, null::bigint[] as others) n"
    return (
        f"select i.key from resource i where i.type = {type_number} and {form.sql('i', parameters)}"
        f" and i.holder = any(array(select n.holder from {person} where {of_person.sql('n', parameters)}))"
    )


async def decided_in_sql(
    connection: asyncpg.Connection, rule: RowRule, rows: list[RowFacts], form: str = "narrow"
) -> list[bool]:
    """What PostgreSQL says for each row; `form`: narrow, stamped, restamped, sets, led by people, people named."""
    parameters = Parameters()
    for column in (
        list(range(1, len(rows) + 1)),
        [each.type for each in rows],
        [each.custodian for each in rows],
        [each.labels for each in rows],
        [each.at for each in rows],
        [",".join(map(str, each.terms)) for each in rows],
        sorted(rows[0].reached_by),
        sorted(rows[0].emergency_for),
    ):
        parameters.values.append(column)
    tables = _TABLES.format(holder=HOLDER, person=PERSON, restamped="true" if form == "restamped" else "false")
    parameters.in_sets = form == "sets"
    node: Any = EveryPerson(rule) if form in ("narrow", "led", "named") else EveryPersonStamped(rule)
    if form in ("led", "named", "named stamped"):
        found = _led if form == "led" else _named
        seen = f"r.key in ({' union all '.join(found(node, number, parameters) for number in {r.type for r in rows})})"
    else:
        seen = node.sql("r", parameters)
    statement = f"{tables} select {seen} as seen from resource r order by key"
    return [row["seen"] for row in await connection.fetch(statement, *parameters.values)]
