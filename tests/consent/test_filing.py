"""What a Consent may say, and what is refused with the element and the reason."""

from typing import Any

import pytest

from consent.normalise import check_consent, read_consent
from consent.rules import class_of, decode_class, encode_class
from tests.consent import cases

BASE = {"base": "OPTOUT", "dateTime": "2026-01-01"}
PRACTITIONER = {"reference": {"reference": "Practitioner/x"}, "role": {"coding": [{"system": "x", "code": "y"}]}}


def _nested(**members: Any) -> dict[str, Any]:
    full = cases.consent(BASE)
    full["provision"] = {"provision": [{"type": "permit", **members}]}
    return full


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("Consent.scope", {**cases.consent(BASE), "scope": {"text": "privacy"}}),
    ("Consent.policyRule", {**cases.consent(BASE), "policyRule": {"text": "opt in"}}),
    (
        "Consent.policyRule",
        {**cases.consent(BASE), "policyRule": {"coding": [{"system": cases.ACT_CODE_SYSTEM, "code": "NOPAT"}]}},
    ),
    (
        "Consent.policyRule",
        {**cases.consent(BASE), "policyRule": {"coding": [{"system": "urn:kanglian:base-policy", "code": "OPTIN"}]}},
    ),
    (
        "Consent.policyRule",
        {**cases.consent(BASE), "policyRule": {"coding": [{"system": cases.ACT_CODE_SYSTEM, "code": "preset"}]}},
    ),
    ("Consent.policy", {**cases.consent(BASE), "policy": [{"uri": "https://profiles.ihe.net/ITI/PCF/Policy-deny"}]}),
    ("Consent.patient", {k: v for k, v in cases.consent(BASE).items() if k != "patient"}),
    ("Consent.patient", {**cases.consent(BASE), "patient": {"identifier": {"value": "1"}}}),
    ("Consent.modifierExtension", {**cases.consent(BASE), "modifierExtension": [{"url": "x"}]}),
    ("Consent.provision.type", {**cases.consent(BASE), "provision": {"type": "deny"}}),
    ("Consent.provision", {**cases.consent(BASE), "provision": cases.provision({"purpose": ["TREAT"]})}),
    ("Consent.provision", cases.consent({**BASE, "scope": "treatment", "provision": [{"type": "deny"}]})),
    ("Consent.provision.provision[0].type", {**_nested(), "provision": {"provision": [{}]}}),
    ("Consent.provision.provision[0].data", _nested(data=[{"meaning": "instance"}])),
    ("Consent.provision.provision[0].modifierExtension", _nested(modifierExtension=[{"url": "x"}])),
    ("Consent.provision.provision[0].actor[0].role", _nested(actor=[PRACTITIONER])),
    (
        "Consent.provision.provision[0].actor[0].reference",
        _nested(actor=[cases._actor("Group/x")]),
    ),
    ("Consent.provision.provision[0].actor[0].reference", _nested(actor=[{"role": {"coding": []}}])),
    ("Consent.provision.provision[0].purpose[0]", _nested(purpose=[{"system": "x", "code": "TREAT"}])),
    (
        "Consent.provision.provision[0].purpose[0]",
        _nested(purpose=[{"system": cases.T + "v3-ActReason", "code": "NOSUCH"}]),
    ),
    ("Consent.provision.provision[0].class[0]", _nested(**{"class": [{"system": "urn:ietf:bcp:13", "code": "x"}]})),
    ("Consent.provision.provision[0].class[0]", _nested(**{"class": [cases._class("Organization")]})),
    ("Consent.provision.provision[0].code[0]", _nested(code=[{"text": "blood"}])),
    ("Consent.provision.provision[0].securityLabel[0]", _nested(securityLabel=[cases._label("VIP")])),
    ("Consent.provision.provision[0].securityLabel[1]", _nested(securityLabel=[cases._label("R"), cases._label("V")])),
    ("Consent.provision.provision[0].action[0]", _nested(action=[{"text": "look"}])),
    ("Consent.provision.provision[0].period", _nested(period={"start": "2026-02-02", "end": "2026-01-01"})),
    ("Consent.provision.provision[0].dataPeriod", _nested(dataPeriod={"start": "yesterday"})),
]


@pytest.mark.parametrize(("element", "resource"), REFUSED, ids=[f"{n}-{e}" for n, (e, _) in enumerate(REFUSED)])
def test_refused(element: str, resource: dict[str, Any]) -> None:
    issues = check_consent(resource, cases.ZONE)
    assert element in {issue.expression for issue in issues}
    assert all(issue.diagnostics.startswith(str(issue.expression)) and issue.severity == "error" for issue in issues)
    assert check_consent({**resource, "status": "inactive"}, cases.ZONE) == [], "a withdrawal is never refused"


def test_a_deny_of_collecting_is_refused() -> None:
    deny = cases.consent({**BASE, "provision": [{"type": "deny", "action": ["collect"]}]})
    assert [issue.expression for issue in check_consent(deny, cases.ZONE)] == [
        "Consent.provision.provision[0].action[0]"
    ]


def test_too_deep() -> None:
    short: dict[str, Any] = {"type": "permit"}
    for _ in range(20):
        short = {"type": "permit", "provision": [short]}
    assert check_consent(cases.consent({**BASE, "provision": [short]}), cases.ZONE)


def test_classes_are_shared() -> None:
    def of(*dates: str) -> str:
        shorts = [{"base": "OPTIN", "dateTime": date, "provision": [{"type": "deny"}]} for date in dates]
        return encode_class(class_of((cases.normalised([cases.consent(short) for short in shorts]),), 0))

    assert of("2025-01-01") == of("2026-05-05")
    assert of("2025-01-01", "2025-01-02") == of("2020-01-01", "2026-01-02")
    normal, _ = read_consent(cases.consent(BASE), cases.ZONE)
    assert normal is not None
    rules = class_of(((normal,),), 0)
    assert decode_class(encode_class(rules)) == rules
