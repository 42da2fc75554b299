"""Audit rows as BALP AuditEvents: one event for each person whose rows were in an answer.

https://profiles.ihe.net/ITI/BALP/, https://hl7.org/fhir/R4/auditevent.html
A resident is shown the names of a query's parameters only, since values may speak of other people.
"""

import base64
from typing import Any
from urllib.parse import urlsplit

from ehr.keys import row_key
from ehr.store.audit import SUCCESS, AuditRecord
from fhir_api.exchange import instant_text

_PROFILES = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_PROFILE_OF = {
    "C": "PatientCreate",
    "R": "PatientRead",
    "U": "PatientUpdate",
    "D": "PatientDelete",
    "E": "PatientQuery",
}
_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
_REST = "http://hl7.org/fhir/restful-interaction"
_REST_TYPE = (f"{_TERMINOLOGY}audit-event-type", "rest", "RESTful Operation")
_SIGN_IN_TYPE = (_DICOM, "110114", "User Authentication")


def event_id(record: AuditRecord, patient_id: str | None) -> str:
    """The AuditEvent's id: place in the log, and which of the row's people it is about."""
    transaction, sequence = record.position
    person = f".{row_key('Patient', patient_id) & (2**64 - 1):x}" if patient_id is not None else ""
    return f"{transaction}-{sequence}{person}"


def position_of(identifier: str) -> tuple[int, int] | None:
    """The place in the log that an AuditEvent's id names; None for ids of another form."""
    transaction, _, sequence = identifier.partition(".")[0].partition("-")
    if not (transaction.isdigit() and sequence.isdigit() and len(transaction) < 20 and len(sequence) < 19):
        return None
    return int(transaction), int(sequence)


def _coding(system: str, code: str, display: str | None = None) -> dict[str, Any]:
    return {"system": system, "code": code} | ({"display": display} if display else {})


def _agents(entry: dict[str, Any]) -> list[dict[str, Any]]:
    client = {
        "type": {"coding": [_coding(_DICOM, "110153", "Source Role ID")]},
        "who": {"display": entry["client"]},
        "requestor": False,
    }
    server = {
        "type": {"coding": [_coding(_DICOM, "110152", "Destination Role ID")]},
        "who": {"display": "kanglian"},
        "requestor": False,
    }
    user: dict[str, Any] = {
        "type": {"coding": [_coding(f"{_TERMINOLOGY}v3-ParticipationType", "IRCP", "information recipient")]},
        "role": [{"text": role} for role in entry.get("roles", ())],
        "who": {"identifier": {"value": entry["actor"]}, "display": entry["actor"]},
        "requestor": True,
    }
    if not user["role"]:
        del user["role"]
    if entry.get("purpose_of_use"):
        purpose: dict[str, Any] = {"coding": [_coding(f"{_TERMINOLOGY}v3-ActReason", entry["purpose_of_use"])]}
        if entry.get("reason"):
            purpose["text"] = entry["reason"]
        user["purposeOfUse"] = [purpose]
    agents = [client, server, user]
    if entry.get("organisation"):
        agents.append(
            {
                "type": {"coding": [_coding(f"{_TERMINOLOGY}v3-ParticipationType", "CST", "custodian")]},
                "who": {"reference": f"Organization/{entry['organisation']}"},
                "requestor": False,
            }
        )
    return agents


def _shown_query(query: str, *, whole: bool) -> str:
    if whole:
        return query
    method, _, address = query.partition(" ")
    parts = urlsplit(address)
    names = "&".join(piece.partition("=")[0] for piece in parts.query.split("&") if piece)
    return f"{method} {parts.path}" + (f"?{names}" if names else "")


def _entities(record: AuditRecord, patient_id: str | None, *, whole: bool) -> list[dict[str, Any]]:
    entities: list[dict[str, Any]] = []
    query = _shown_query(record.entry["query"], whole=whole)
    if patient_id is not None:
        entities.append(
            {
                "what": {"reference": f"Patient/{patient_id}"},
                "type": _coding(f"{_TERMINOLOGY}audit-entity-type", "1", "Person"),
                "role": _coding(f"{_TERMINOLOGY}object-role", "1", "Patient"),
            }
        )
    entities.append(
        {
            "what": {"identifier": {"value": record.entry["trace"]}},
            "type": _coding("https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType", "XrequestId"),
        }
    )
    entities.append(
        {
            "type": _coding(f"{_TERMINOLOGY}audit-entity-type", "2", "System Object"),
            "role": _coding(f"{_TERMINOLOGY}object-role", "24", "Query"),
            "query": base64.b64encode(query.encode()).decode(),
            "description": query,
            "detail": [{"type": "decision", "valueString": record.entry.get("decision") or "none"}],
        }
    )
    return entities


def audit_event(record: AuditRecord, patient_id: str | None, *, whole: bool) -> dict[str, Any]:
    """One AuditEvent.

    Args:
        record: the audit row.
        patient_id: the Patient whom this event is about; None for rows about nobody.
        whole: True for the auditor; False leaves out the values of the query.
    """
    interaction = record.entry["interaction"]
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": event_id(record, patient_id),
        "meta": {"versionId": "1", "lastUpdated": instant_text(record.at_us)},
        "type": _coding(*_SIGN_IN_TYPE) if interaction == "login" else _coding(*_REST_TYPE),
        "subtype": [_coding(_DICOM, "110122", "Login") if interaction == "login" else _coding(_REST, interaction)],
        "action": record.action,
        "recorded": instant_text(record.at_us),
        "outcome": str(record.outcome),
        "agent": _agents(record.entry),
        "source": {
            "observer": {"display": "kanglian"},
            "type": [_coding(f"{_TERMINOLOGY}security-source-type", "4", "Application Server")],
        },
        "entity": _entities(record, patient_id, whole=whole),
    }
    if patient_id is not None:
        event["meta"]["profile"] = [_PROFILES + _PROFILE_OF[record.action]]
    if record.outcome != SUCCESS:
        event["outcomeDesc"] = "refused or not found" if record.outcome == 4 else "failed"
    return event
