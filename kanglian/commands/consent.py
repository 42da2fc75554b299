"""`kanglian consent`: give and withdraw as a resident, and explain which rule lets somebody see a row."""

import argparse
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec

from ehr.errors import Invalid
from kanglian.commands.database import database_url
from kanglian.commands.get import target
from kanglian.commands.identity import add_identity_arguments, base_url, issue_token, read_claims
from kanglian.commands.request import Answered, RequestError, ask
from kanglian.settings import Settings

NAME = "consent"
HELP = "give or withdraw a resident's consent, explain a decision"
_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_BASE_POLICY = "urn:kanglian:base-policy"
_SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    give = actions.add_parser("give", help="let an organisation read, as a resident")
    give.add_argument("--user", required=True, metavar="U", help="the resident's account, such as zhang.wei")
    give.add_argument("--to", required=True, metavar="ORGANISATION", help="such as county-hospital")
    give.add_argument("--for", dest="purposes", action="append", metavar="P", help="purpose of use (default: TREAT)")
    give.add_argument("--label", action="append", default=[], metavar="L", help="open rows of this label too: HIV, PSY")
    give.add_argument("--until", metavar="DATE", help="the consent ends then, such as 2027-12-31")
    withdraw = actions.add_parser("withdraw", help="withdraw what was given to an organisation")
    withdraw.add_argument("--user", required=True, metavar="U", help="the resident's account")
    withdraw.add_argument("--to", required=True, metavar="ORGANISATION", help="such as county-hospital")
    explain = actions.add_parser("explain", help="say which rule decides whether somebody sees a row")
    explain.add_argument("reference", metavar="TYPE/ID", help='such as "Observation/first-hospital.x" or "Patient/y"')
    add_identity_arguments(explain)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do one action; 1 where it was refused or changed nothing."""
    if arguments.action == "explain":
        return _explain(arguments, settings)
    resident = _Resident(arguments.user, settings)
    return _give(resident, arguments) if arguments.action == "give" else _withdraw(resident, arguments.to)


class _Resident:
    """One resident at the FHIR API."""

    def __init__(self, account: str, settings: Settings) -> None:
        self._address = base_url(settings)
        named = argparse.Namespace(user=account, client=None, purpose=None, reason=None)
        token = issue_token(named, settings, self._address)
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/fhir+json",
            "Content-Type": "application/fhir+json",
        }
        patient = read_claims(token).get("patient")
        if not patient:
            raise Invalid(f"{account} is no resident's account; zhang.wei and liu.yang are")
        self.patient = str(patient)

    def ask(self, method: str, path: str, resource: dict[str, Any] | None = None) -> dict[str, Any]:
        body = None if resource is None else msgspec.json.encode(resource)
        answer: Answered = ask(self._address, method, target(path, self._address), body, self._headers)
        if answer.status >= 400:
            raise RequestError(f"{method} {path}: HTTP {answer.status} {answer.reason}\n{answer.readable()}")
        answered: dict[str, Any] = msgspec.json.decode(answer.content)
        return answered


def _coded(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _require_organisation(resident: _Resident, organisation: str) -> None:
    """A consent to nobody would be filed as it stands: the record does not check references."""
    found = resident.ask("GET", "Organization?_count=1000&_elements=name")
    known = {entry["resource"]["id"]: entry["resource"].get("name", "") for entry in found.get("entry", ())}
    if organisation not in known and "next" not in {link["relation"] for link in found["link"]}:
        listed = ", ".join(f"{identity} ({name})" for identity, name in sorted(known.items()))
        raise Invalid(f"there is no organisation '{organisation}'; there are: {listed}")


def _give(resident: _Resident, arguments: argparse.Namespace) -> int:
    _require_organisation(resident, arguments.to)
    provision: dict[str, Any] = {
        "type": "permit",
        "actor": [
            {"role": _coded(_PARTICIPATION, "PRCP"), "reference": {"reference": f"Organization/{arguments.to}"}},
        ],
        "purpose": [{"system": _ACT_REASON, "code": code} for code in arguments.purposes or ["TREAT"]],
    }
    if arguments.label:
        provision["securityLabel"] = [{"system": _ACT_CODE, "code": code} for code in arguments.label]
    root: dict[str, Any] = {"provision": [provision]}
    if arguments.until:
        root["period"] = {"end": arguments.until}
    filed = resident.ask(
        "POST",
        "Consent",
        {
            "resourceType": "Consent",
            "status": "active",
            "scope": _coded(_SCOPE, "patient-privacy"),
            "category": [_coded("http://loinc.org", "59284-0")],
            "patient": {"reference": f"Patient/{resident.patient}"},
            "dateTime": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "policyRule": _coded(_BASE_POLICY, "preset"),
            "provision": root,
        },
    )
    print(f"given to {arguments.to}: Consent/{filed['id']}")
    return 0


def _withdraw(resident: _Resident, organisation: str) -> int:
    # the search parameter `actor` of R4 reads the root provision only; grants stand in nested ones
    found = resident.ask("GET", "Consent?status=active&_count=1000")
    named = f"Organization/{organisation}"
    consents = [
        entry["resource"]
        for entry in found.get("entry", ())
        if entry["resource"]["resourceType"] == "Consent" and named in _actors(entry["resource"].get("provision", {}))
    ]
    for consent in consents:
        resident.ask("PUT", f"Consent/{consent['id']}", {**consent, "status": "inactive"})
        print(f"withdrawn from {organisation}: Consent/{consent['id']}")
    if not consents:
        print(f"there is no consent in force that names {organisation}", file=sys.stderr)
        return 1
    return 0


def _actors(provision: dict[str, Any]) -> set[str]:
    """References to everybody whom a provision or one nested in it names."""
    named = {str(actor.get("reference", {}).get("reference")) for actor in provision.get("actor", ())}
    return named.union(*(_actors(nested) for nested in provision.get("provision", ())))


def _explain(arguments: argparse.Namespace, settings: Settings) -> int:
    import asyncio

    return asyncio.run(_explained(arguments, settings))


async def _explained(arguments: argparse.Namespace, settings: Settings) -> int:
    from fhir_api.access_token import caller_of
    from kanglian.wiring import record

    caller = caller_of(read_claims(issue_token(arguments, settings, base_url(settings))))
    async with record(settings, database_url(settings)) as opened:
        print((await opened.consent.explain(caller, arguments.reference)).text())
    return 0
