"""Who treats whom, read from Encounters and referrals (DESIGN 4.3, reach).

Only a hospital's feed or machine client opens reach by an Encounter; a referral opens it for another organisation, and
only while the referring one has reach by an Encounter itself, so what a referral opened cannot be referred on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import Any

import asyncpg

from consent import dates
from consent.persons import split_reference, type_rules
from consent.policy import Policy
from ehr.access.holders import HolderState
from ehr.access.reach import (
    ENCOUNTER,
    NAMED,
    REFERRAL,
    WAITING,
    Reach,
    encounter_reach,
    replace_reach,
    role_organisations,
    settle_referrals,
)
from ehr.access.strangers import believed_claims
from ehr.changes import Change
from ehr.keys import TermHasher, organisation_key, row_key

_DAY_US = 86_400_000_000
_PRESENT = frozenset({"arrived", "triaged", "in-progress", "onleave", "finished"})
_ENDED_AT_ONCE = frozenset({"cancelled", "entered-in-error"})
_REFERRING = frozenset({"active", "completed"})
_PLANNED = frozenset({"proposal", "plan"})
_PLATFORM = organisation_key("platform")


def _us(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)


def _bound(period: object, name: str, zone: tzinfo) -> int | None:
    value = period.get(name) if isinstance(period, dict) else None
    try:
        low, high = dates.instants(value, zone) if isinstance(value, str) else (None, None)
    except (ValueError, OverflowError):
        return None
    return high if name == "end" else low


def encounter_until(resource: Mapping[str, Any], at: datetime, policy: Policy, zone: tzinfo) -> int | None:
    """Until when an Encounter lets its hospital in; None where it does not."""
    if resource.get("status") not in _PRESENT:
        return None
    end = _bound(resource.get("period"), "end", zone)
    if end is None and resource.get("status") != "finished":
        return dates.LATEST
    if end is None:
        end = min(_bound(resource.get("period"), "start", zone) or _us(at), _us(at))
    return end + policy.days_after_encounter * _DAY_US


def referral_until(resource: Mapping[str, Any], at: datetime, policy: Policy, zone: tzinfo) -> int | None:
    """Until when a referral lets its receivers in; None where it does not."""
    if resource.get("status") not in _REFERRING or resource.get("intent") in _PLANNED:
        return None
    authored = min(_bound({"start": resource.get("authoredOn")}, "start", zone) or _us(at), _us(at))
    latest = authored + policy.referral_days_at_most * _DAY_US
    end = _bound(resource.get("occurrencePeriod"), "end", zone)
    return latest if end is None else min(end, latest)


def _performers(resource: Mapping[str, Any], resource_type: str) -> list[str]:
    """Ids of the performers of a request that are of this type."""
    found = []
    for performer in resource.get("performer", ()):
        split = split_reference(str(performer.get("reference", "")))
        if split is not None and split[0] == resource_type:
            found.append(split[1])
    return found


def grantees(resource: Mapping[str, Any]) -> set[int]:
    """Numbers by which the Consent's named actors find it: organisations, and "Practitioner/<id>" and its like."""
    found: set[int] = set()
    pending: list[Any] = [resource.get("provision")]
    while pending:
        provision = pending.pop()
        if isinstance(provision, dict):
            pending.extend(provision.get("provision", ()))
            for actor in provision.get("actor", ()):
                split = split_reference(str(actor.get("reference", {}).get("reference", "")))
                if split is not None and split[0] == "Organization":
                    found.add(organisation_key(split[1]))
                elif split is not None and split[0] in ("Practitioner", "PractitionerRole"):
                    found.add(organisation_key("/".join(split)))
    return found


async def apply(
    connection: asyncpg.Connection,
    changes: Sequence[Change],
    states: Mapping[int, HolderState],
    *,
    policy: Policy,
    zone: tzinfo,
    hasher: TermHasher,
) -> None:
    """Write the reach of the Encounters, referrals and Consents among the changes."""
    touched = [change for change in changes if _touches(change)]
    if not touched:
        return
    requests = [change for change in touched if change.resource_type == "ServiceRequest"]
    others = [change for change in touched if change.resource_type != "ServiceRequest"]
    found = [(change, row) for change in others for row in _rows(change, states, policy, zone)]
    rows = await _believed(connection, found, states, policy)
    await replace_reach(connection, [change.key for change in others], rows)
    encounters = [change for change in others if change.resource_type == "Encounter"]
    if encounters:
        await settle_referrals(connection, (), sorted({holder for each in encounters for holder in _about(each)}))
    if requests:
        roles = await _organisations_of_roles(connection, requests, changes, hasher)
        await _refer(connection, [_referral(change, states, policy, zone, roles) for change in requests], requests)


async def _believed(
    connection: asyncpg.Connection,
    found: Sequence[tuple[Change, Reach]],
    states: Mapping[int, HolderState],
    policy: Policy,
) -> list[Reach]:
    """Leave out Encounters that name more Patients of other hospitals than their hospital is believed in a day."""
    claims = [
        (change, row) for change, row in found if row.kind == ENCOUNTER and _is_stranger(change, states[row.holder])
    ]
    if not claims:
        return [row for _, row in found]
    believed = await believed_claims(
        connection,
        [(row.organisation, row.holder, row.person) for _, row in claims],
        sources=[row.source for _, row in claims],
        now_us=max(_us(change.at) for change, _ in claims),
        at_most=policy.strangers_a_day,
    )
    refused = {row.source for _, row in claims if (row.organisation, row.holder) not in believed}
    return [row for _, row in found if row.source not in refused]


def _is_stranger(change: Change, patient: HolderState) -> bool:
    """Whether the Patient of an Encounter is another hospital's; one that has not come yet is known by its id.

    A Patient that the platform keeps (migrated) is every hospital's: nobody has said whose it is.
    """
    if not patient.custodian:
        return not patient.patient_id.startswith(f"{change.scope.custodian}.")
    return patient.custodian not in (change.access.custodian, _PLATFORM)


async def _refer(
    connection: asyncpg.Connection, referrals: Sequence[Sequence[Reach]], requests: Sequence[Change]
) -> None:
    """Write referrals; those of an organisation without reach by an Encounter wait for it."""
    custodians = {change.key: change.access.custodian for change in requests}
    rows = [row for each in referrals for row in each]
    pairs = sorted({(custodians[row.source], row.person) for row in rows})
    held = await encounter_reach(connection, pairs, max(_us(change.at) for change in requests))
    rows = [row if (custodians[row.source], row.person) in held else replace(row, kind=WAITING) for row in rows]
    await replace_reach(connection, list(custodians), rows)


async def _organisations_of_roles(
    connection: asyncpg.Connection, requests: Sequence[Change], changes: Sequence[Change], hasher: TermHasher
) -> dict[int, list[tuple[int, str]]]:
    """(custodian of the role, organisation) of the PractitionerRoles asked to perform, by row key."""
    asked = {
        row_key("PractitionerRole", role)
        for c in requests
        for role in _performers(c.resource or {}, "PractitionerRole")
    }
    found: dict[int, list[tuple[int, str]]] = {}
    for change in changes if asked else ():
        if change.key in asked:
            named = split_reference(str((change.resource or {}).get("organization", {}).get("reference", "")))
            of = [(change.access.custodian, named[1])] if named is not None and named[0] == "Organization" else []
            found[change.key] = of
    for key, custodian, organisation in await role_organisations(connection, sorted(asked - set(found)), hasher):
        found.setdefault(key, []).append((custodian, organisation))
    return found


def _about(change: Change) -> Iterator[int]:
    """Holders whom an Encounter names, or named before."""
    if change.access.holder:
        yield change.access.holder
    subject = (change.previous or {}).get("subject")
    named = split_reference(str(subject.get("reference", ""))) if isinstance(subject, dict) else None
    if named is not None and named[0] == "Patient":
        yield row_key(*named)


def _touches(change: Change) -> bool:
    if change.resource_type not in {"Encounter", "ServiceRequest"}:  # whose status need not be a code
        return type_rules()[change.resource_type].kind == "consent"
    status = (change.resource or {}).get("status")
    ended = change.resource is None or status in _ENDED_AT_ONCE or status == "revoked"
    opens = change.scope.opens_reach if change.resource_type == "Encounter" else change.scope.opens_referral
    return opens or ended


def _rows(change: Change, states: Mapping[int, HolderState], policy: Policy, zone: tzinfo) -> Iterator[Reach]:
    access, resource = change.access, change.resource
    if resource is None or not access.holder or access.holder not in states:
        return
    person = states[access.holder].person
    if change.resource_type == "Consent":
        for grantee in sorted(grantees(resource)):
            yield Reach(grantee, person, change.key, access.holder, NAMED, dates.LATEST)
    elif change.resource_type == "Encounter":
        until = encounter_until(resource, change.at, policy, zone) if change.scope.opens_reach else None
        if until is not None:
            yield Reach(access.custodian, person, change.key, access.holder, ENCOUNTER, until)


def _referral(
    change: Change,
    states: Mapping[int, HolderState],
    policy: Policy,
    zone: tzinfo,
    roles: Mapping[int, Sequence[tuple[int, str]]],
) -> list[Reach]:
    """What a referral would open: the organisations asked to perform it, and those of the roles asked.

    A role counts where the platform, the referring organisation or the role's own organisation says so.
    """
    access, resource = change.access, change.resource
    if resource is None or access.holder not in states or not change.scope.opens_referral:
        return []
    until = referral_until(resource, change.at, policy, zone)
    if until is None:
        return []
    receivers = {organisation_key(name) for name in _performers(resource, "Organization")}
    for role in _performers(resource, "PractitionerRole"):
        for custodian, name in roles.get(row_key("PractitionerRole", role), ()):
            if custodian in (organisation_key("platform"), access.custodian, organisation_key(name)):
                receivers.add(organisation_key(name))
    person = states[access.holder].person
    return [
        Reach(receiver, person, change.key, access.holder, REFERRAL, until)
        for receiver in sorted(receivers - {access.custodian})
    ]
