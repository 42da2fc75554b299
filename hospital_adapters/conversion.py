"""What a message becomes: the writes of its records, merges of patients, and the loss report.

Conversion is pure and deterministic: the same message gives the same writes with the same ids, today and on a replay.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ehr.store.inbox import InboxRow
from ehr.store.operations import OrderKey, PatientMerge, WriteOperation
from ehr.store.originals import original_id
from hospital_adapters.feeds import Feed

TRACE_SYSTEM = "urn:kanglian:trace"
_ACTIVITY = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-DataOperation", "code": "CREATE"}],
    "text": "converted from a hospital's message",
}


@dataclass(slots=True)
class Converted:
    """The writes of one message; `loss` lists the places of values that no rule took, never the values."""

    operations: list[WriteOperation]
    merges: list[PatientMerge] = field(default_factory=list)
    loss: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NotConverted:
    """Why a message stays in quarantine, and where in it the cause lies."""

    cause: str
    place: str | None = None


def line_of(row: InboxRow) -> str:
    """Where a row or entry of a file stood, from its trace (`feed:file:line`): a replay has forgotten `place`."""
    return f"line {row.trace.rpartition(':')[2]}"


def put(resource: dict[str, Any], order_key: OrderKey) -> WriteOperation:
    """A write of a resource that carries its own deterministic id."""
    return WriteOperation("update", resource["resourceType"], resource["id"], resource=resource, order_key=order_key)


def provenance(feed: Feed, row: InboxRow, operations: list[WriteOperation], order_key: OrderKey) -> WriteOperation:
    """The Provenance of everything that one message wrote; its trace is that of inbox, audit and logs."""
    received = datetime.fromtimestamp(row.received_at_us / 1_000_000, UTC).isoformat(timespec="milliseconds")
    organisation = {"reference": f"Organization/{feed.organisation}"}
    identity = original_id(feed.organisation, hashlib.sha256(row.body).digest())
    resource = {
        "resourceType": "Provenance",
        "id": identity,
        "target": [{"reference": f"{each.resource_type}/{each.resource_id}"} for each in operations],
        "recorded": received,
        "activity": _ACTIVITY,
        "agent": [{"who": organisation}],
        "entity": [
            {
                "role": "source",
                "what": {
                    "reference": f"Binary/{identity}",
                    "identifier": {"system": TRACE_SYSTEM, "value": row.trace},
                    "display": feed.name,
                },
            }
        ],
    }
    return put(resource, order_key)
