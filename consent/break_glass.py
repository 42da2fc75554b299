"""Break-glass: one person's record, at most 24 hours, with reason, notice to the resident and review (DESIGN 4.3)."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from consent.caller import EMERGENCY_PURPOSES, Caller, purpose_of, roles_of
from consent.internal import internal_write_scope
from consent.policy import Policy
from consent.projection import REVIEW_SYSTEM
from ehr.access import emergencies
from ehr.access.state import person_of
from ehr.audit_note import AuditNote
from ehr.errors import Forbidden, TooCostly
from ehr.keys import organisation_key
from ehr.store import WriteOperation
from ehr.store.clock import now_us

if TYPE_CHECKING:
    from ehr.store import Store

_PATIENT_PARAMETERS = frozenset({"patient", "subject"})
LONGEST_REASON = 500
_DAY_US = 86_400_000_000
_TOO_MANY = "Too many records were opened by break-glass today; each of them waits for the privacy officer's review."


def named_patients(
    resource_type: str | None, resource_id: str | None, pairs: Sequence[tuple[str, str]]
) -> tuple[str, ...]:
    """Ids of the Patients whom a request names: `Patient/id`, or `patient=` and `subject=` of a search."""
    found: dict[str, None] = {}
    if resource_type == "Patient" and resource_id:
        found[resource_id] = None
    for name, value in pairs:
        if name.split(":")[0] in _PATIENT_PARAMETERS or (resource_type == "Patient" and name == "_id"):
            for each in value.split(","):
                found[each.rsplit("/", 1)[-1]] = None
    return tuple(found)


def asks_for_emergency(caller: Caller) -> bool:
    """Whether the token claims an emergency: BTG always, ETREAT where it gives a reason."""
    purpose = purpose_of(caller)
    return purpose in EMERGENCY_PURPOSES and (purpose == "BTG" or bool(caller.reason))


def check_emergency(caller: Caller) -> None:
    """Forbidden where this caller may not break the glass at all."""
    if not any(role.may_break_glass for role in roles_of(caller)) or caller.organisation is None:
        raise Forbidden("Only a clinician of an organisation may break the glass.")
    if not caller.reason or not caller.reason.strip():
        raise Forbidden("Breaking the glass needs a reason.")


async def open_record(store: "Store", policy: Policy, caller: Caller, patient_id: str) -> bool:
    """Open one person's record to this actor, with notice and review; False where no such person is known.

    Raises:
        Forbidden: the caller may not, or has opened too many records today.
    """
    check_emergency(caller)
    found, now = await person_of(store.pool, patient_id), now_us()
    if found is not None and await emergencies.is_open(store.pool, caller.subject, found[0], now):
        return True
    yesterday, at_most = now - _DAY_US, policy.break_glass_openings_a_day
    if await emergencies.openings_since(store.pool, caller.subject, yesterday) >= at_most:
        raise TooCostly(_TOO_MANY)  # alike for Patients known and unknown
    if found is None:
        return False
    person = found[0]
    hours = policy.break_glass_hours
    opened = await emergencies.open_emergency(
        store.pool,
        actor=caller.subject,
        person=person,
        organisation=organisation_key(caller.organisation or ""),
        opened=now,
        until=now + hours * 3_600_000_000,
        reason=(caller.reason or "")[:LONGEST_REASON],
        since=yesterday,
        at_most=at_most,
    )
    if opened is None:
        raise TooCostly(_TOO_MANY)
    if opened:
        try:
            await _tell(store, caller, patient_id, hours)
        except BaseException:
            # without its notice and review the record stays closed
            await emergencies.close_emergency(store.pool, caller.subject, person)
            raise
    return True


async def _tell(store: "Store", caller: Caller, patient_id: str, hours: int) -> None:
    scope = internal_write_scope("break-glass")
    note = AuditNote(
        "C",
        "create",
        caller.subject,
        caller.client,
        caller.organisation,
        tuple(sorted(caller.roles)),
        purpose_of(caller),
        caller.reason,
        f"break-glass Patient/{patient_id}",
        f"break-glass-{uuid4()}",
        "break-glass: notice and review",
    )
    now = datetime.now(UTC)
    resources = (review_task(caller, patient_id, now, hours), notice(caller, patient_id, now))
    operations = [WriteOperation("create", resource["resourceType"], resource=resource) for resource in resources]
    await store.write(scope, operations, note)


def _who(caller: Caller) -> dict[str, Any]:
    if caller.fhir_user and "/" in caller.fhir_user:
        return {"reference": "/".join(caller.fhir_user.rsplit("/", 2)[-2:]), "display": caller.subject}
    return {"display": caller.subject}


def review_task(caller: Caller, patient_id: str, now: datetime, hours: int) -> dict[str, Any]:
    """The Task for the privacy officer."""
    return {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "priority": "urgent",
        "code": {
            "coding": [{"system": REVIEW_SYSTEM, "code": "break-glass", "display": "Break-glass review 紧急调阅复核"}]
        },
        "description": f"{caller.subject} ({caller.organisation}): {caller.reason}",
        "for": {"reference": f"Patient/{patient_id}"},
        "authoredOn": now.isoformat(timespec="seconds"),
        "requester": _who(caller),
        "restriction": {
            "period": {
                "start": now.isoformat(timespec="seconds"),
                "end": (now + timedelta(hours=hours)).isoformat(timespec="seconds"),
            }
        },
        "reasonCode": {"text": caller.reason},
    }


def notice(caller: Caller, patient_id: str, now: datetime) -> dict[str, Any]:
    """The Communication to the resident."""
    return {
        "resourceType": "Communication",
        "status": "completed",
        "category": [{"coding": [{"system": REVIEW_SYSTEM, "code": "break-glass-notice"}]}],
        "subject": {"reference": f"Patient/{patient_id}"},
        "recipient": [{"reference": f"Patient/{patient_id}"}],
        "sent": now.isoformat(timespec="seconds"),
        "payload": [
            {
                "contentString": (
                    f"{caller.subject}（{caller.organisation}）因紧急情况调阅了您的健康档案，理由：{caller.reason}。"
                    f" {caller.subject} ({caller.organisation}) opened your record in an emergency."
                    f" Reason: {caller.reason}"
                )
            }
        ],
    }
