"""Who treats whom, read from Encounters and referrals (DESIGN 4.3, reach).

Only a hospital's feed or machine client opens reach by an Encounter; a referral opens it for another organisation, and
only while the referring one has reach by an Encounter itself, so what a referral opened cannot be referred on.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

import asyncpg

from consent import dates
from consent.persons import split_reference, type_rules
from consent.policy import Policy
from ehr.access.holders import HolderState
from ehr.access.reach import ENCOUNTER, NAMED, REFERRAL, Reach, encounter_reach, replace_reach
from ehr.changes import Change
from ehr.keys import organisation_key

_DAY_US = 86_400_000_000
_PRESENT = frozenset({"arrived", "triaged", "in-progress", "onleave", "finished"})
_ENDED_AT_ONCE = frozenset({"cancelled", "entered-in-error"})
_REFERRING = frozenset({"active", "completed"})
_PLANNED = frozenset({"proposal", "plan"})


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


def receivers(resource: Mapping[str, Any]) -> list[str]:
    """Ids of the Organizations asked to perform a request."""
    found = []
    for performer in resource.get("performer", ()):
        split = split_reference(str(performer.get("reference", "")))
        if split is not None and split[0] == "Organization":
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
    policy: Policy,
    zone: tzinfo,
) -> None:
    """Write the reach of the Encounters, referrals and Consents among the changes."""
    touched = [change for change in changes if _touches(change)]
    if not touched:
        return
    rows = [row for change in touched for row in _rows(change, states, policy, zone)]
    referrals = [row for row in rows if row.kind == REFERRAL]
    by_key = {change.key: change for change in touched}
    sources = [change.key for change in touched if change.resource_type != "ServiceRequest"]
    await replace_reach(connection, sources, [row for row in rows if row.kind != REFERRAL])
    if len(sources) < len(touched):
        asked = {row.source: (by_key[row.source].access.custodian, row.person) for row in referrals}
        held = await encounter_reach(connection, sorted(set(asked.values())), max(_us(c.at) for c in touched))
        allowed = [row for row in referrals if asked[row.source] in held]
        await replace_reach(connection, set(by_key) - set(sources), allowed)


def _touches(change: Change) -> bool:
    status = (change.resource or {}).get("status")
    ended = change.resource is None or status in _ENDED_AT_ONCE or status == "revoked"
    if change.resource_type == "Encounter":
        return change.scope.opens_reach or ended
    if change.resource_type == "ServiceRequest":
        return change.scope.opens_referral or ended
    return type_rules()[change.resource_type].kind == "consent"


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
    elif change.scope.opens_referral:
        until = referral_until(resource, change.at, policy, zone)
        for receiver in sorted(set(receivers(resource))) if until is not None else ():
            organisation = organisation_key(receiver)
            if organisation != access.custodian and until is not None:
                yield Reach(organisation, person, change.key, access.holder, REFERRAL, until)
