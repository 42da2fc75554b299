"""A small region on a real database: hospitals, people, and what each of them sees."""

from typing import Any

from consent import Caller, Consent
from consent.internal import feed_write_scope
from ehr.audit_note import AuditNote
from ehr.errors import KanglianError, NotFound, StaleScope
from ehr.scopes import WriteScope
from ehr.store import Store, WriteOperation, WriteOutcome
from tests.consent import cases

NOTE = AuditNote("R", "read", "test", "test", None, (), "TREAT", None, "test", "trace", "test")


def caller(
    subject: str,
    roles: str,
    organisation: str | None = None,
    *,
    patient: str | None = None,
    purpose: str = "",
    reason: str | None = None,
    scopes: str = "user/*.cruds",
) -> Caller:
    """A caller as a checked token gives it."""
    return Caller(
        subject,
        "app",
        organisation,
        frozenset(roles.split()),
        patient,
        f"Practitioner/{subject}" if organisation else None,
        purpose,
        reason,
        tuple(scopes.split()),
        "jti",
        9e12,
    )


WANG = caller("dr.wang", "clinician", "first-hospital")
LI = caller("dr.li", "clinician", "county-hospital")
ZHAO = caller("nurse.zhao", "nurse clinician", "township-clinic")
HE = caller("privacy.he", "privacy-officer")
OTHERS = {
    "researcher": caller("researcher.chen", "researcher"),
    "officer": caller("officer.sun", "officer"),
    "auditor": caller("audit.lin", "auditor"),
    "admin": caller("admin", "operator"),
    "nobody": caller("x", "unknown"),
}
LOADER = caller("loader", "loader", scopes="system/*.cruds")
MACHINE = caller("county-hospital", "machine-client", "county-hospital", scopes="system/*.cruds")


def resident(patient: str) -> Caller:
    """The resident of a Patient."""
    return caller(patient, "resident", patient=patient, scopes="patient/*.rs patient/Consent.cruds")


def patient(identity: str, **more: Any) -> dict[str, Any]:
    """A Patient."""
    return {"resourceType": "Patient", "id": identity, "name": [{"family": "Zhang"}], **more}


def observation(identity: str, subject: str, code: str = "718-7", **more: Any) -> dict[str, Any]:
    """An Observation."""
    return {
        "resourceType": "Observation",
        "id": identity,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{subject}"},
        **more,
    }


def encounter(identity: str, subject: str, **more: Any) -> dict[str, Any]:
    """An Encounter that goes on."""
    return {
        "resourceType": "Encounter",
        "id": identity,
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": f"Patient/{subject}"},
        **more,
    }


def referral(identity: str, subject: str, receiver: str, **more: Any) -> dict[str, Any]:
    """A referral to another organisation."""
    return {
        "resourceType": "ServiceRequest",
        "id": identity,
        "status": "active",
        "intent": "order",
        "subject": {"reference": f"Patient/{subject}"},
        "performer": [{"reference": f"Organization/{receiver}"}],
        **more,
    }


def consent(subject: str, **short: Any) -> dict[str, Any]:
    """A Consent of a Patient in the short form of `cases`."""
    return {**cases.consent(short), "patient": {"reference": f"Patient/{subject}"}}


class House:
    """The store with its decisions."""

    def __init__(self, store: Store, decisions: Consent) -> None:
        self.store = store
        self.decisions = decisions

    async def put(self, scope: WriteScope | Caller, *resources: dict[str, Any]) -> list[WriteOutcome]:
        """Write resources, ids as they are; those without id are created."""
        operations = [
            WriteOperation(
                "update" if "id" in each else "create", each["resourceType"], each.get("id"), resource=dict(each)
            )
            for each in resources
        ]
        for attempt in (1, 2):
            try:
                asked = await self.decisions.write_scope(scope) if isinstance(scope, Caller) else scope
                return await self.store.write(asked, operations, NOTE)
            except StaleScope:
                if attempt == 2:
                    raise
                await self.decisions.refresh()
        raise AssertionError

    async def feed(self, organisation: str, *resources: dict[str, Any]) -> None:
        """Write as a hospital's feed."""
        await self.put(feed_write_scope("feed", organisation), *resources)

    async def sees(self, who: Caller, reference: str, persons: tuple[str, ...] | None = None) -> bool:
        """Whether a caller can read a row now."""
        resource_type, identity = reference.split("/")
        for attempt in (1, 2):
            scope = await self.decisions.read_scope(who, interaction="read", persons=persons)
            try:
                await self.store.read(scope, resource_type, identity, NOTE)
            except NotFound:
                return False
            except StaleScope:
                if attempt == 2:
                    raise
                await self.decisions.refresh()
            else:
                return True
        raise AssertionError

    async def tries(self, who: Caller, *resources: dict[str, Any]) -> None:
        """Write, refused or not."""
        try:
            await self.put(who, *resources)
        except KanglianError:
            return

    async def labels(self, reference: str) -> set[str]:
        """Sensitivities of a stored row."""
        from consent.labels import SPREADING, names_of  # noqa: PLC0415 - read by one method
        from ehr.keys import row_key  # noqa: PLC0415 - likewise

        found = await self.store.pool.fetchval(
            "select labels from resource r where key = $1 and r.key is not null", row_key(*reference.split("/"))
        )
        return set(names_of(found & SPREADING))
