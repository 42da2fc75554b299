"""A message to FHIR R4: one transaction Bundle of PUTs on deterministic ids, with everything that was not kept listed.

A pure function of message and feed: the same message gives the same bytes. What each field becomes is in the tables
(`hospital_adapters/rules/`); which segment belongs to which is in `walk` and `results`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import yaml

from ehr.store.originals import original_id
from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2 import as_sent, leaves, results, times, walk  # noqa: F401  leaves registers the converters
from hospital_adapters.hl7v2.draft import DIRECTORY, SNAPSHOT, STATED, Draft
from hospital_adapters.hl7v2.finish import encoded
from hospital_adapters.hl7v2.loss import LostValue
from hospital_adapters.hl7v2.memory import memory_of
from hospital_adapters.hl7v2.parse import Message, Segment
from hospital_adapters.hl7v2.problems import (
    INTERNAL,
    REQUIRED_FIELD_MISSING,
    SEGMENT_SEQUENCE,
    UNSUPPORTED_EVENT,
    UNSUPPORTED_MESSAGE_TYPE,
    ParseProblem,
)
from hospital_adapters.hl7v2.tables import RULES, converter_named, segment_tables
from hospital_adapters.hl7v2.walk import Walk


class OrderKey(NamedTuple):
    """Orders the versions of one resource: the greater key is the current version, whatever arrived last.

    `weight` is 1 for what the message is about and 0 for what it only mentions (an ORU's patient, visit, kin, directory
    entries), so that any ADT supersedes a result's snapshot; then the event's time in UTC, then MSH-10.
    """

    weight: int
    event_time: str
    control_id: str


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a message became. `order_keys` runs beside `bundle["entry"]`."""

    bundle: dict[str, Any]
    bodies: tuple[bytes, ...]
    """The resources of `bundle["entry"]` as JSON."""
    order_keys: tuple[OrderKey, ...]
    loss: tuple[LostValue, ...]
    warnings: tuple[str, ...]
    kind: tuple[str, str]
    order_key: OrderKey
    patients: tuple[str, ...]
    merged: tuple[tuple[str, str], ...]


_HANDLERS: Mapping[str, Callable[[Walk, Segment], None]] = {
    "PID": walk.patient_segment,
    "PD1": walk.demographic,
    "MRG": walk.merge,
    "NK1": walk.kin,
    "PV1": walk.visit,
    "PV2": walk.visit_more,
    "ARV": walk.restriction,
    "ROL": walk.role,
    "PRT": walk.role,
    "AL1": walk.allergy,
    "IAM": walk.allergy,
    "DRG": walk.related_group,
    "DG1": walk.diagnosis,
    "PR1": walk.procedure,
    "GT1": walk.guarantor,
    "IN1": walk.insurance,
    "IN2": walk.insurance_more,
    "IN3": walk.insurance_more,
    "ACC": walk.stated("ACC[Observation]", (1, 1)),
    "DB1": walk.stated("DB1[Observation]", (3, 1), (5, 1)),
    "PDA": walk.stated("PDA[Observation]", (4, 1)),
    "RF1": walk.referral,
    "NTE": walk.note,
    "ORC": results.order,
    "OBR": results.report,
    "OBX": results.observation,
    "SPM": results.specimen,
    "TQ1": results.timing,
    "CTI": results.trial,
    "CTD": walk.contact,
}


_FOCUS = ("Patient/", "Encounter/", "DiagnosticReport/")
MOST_SEGMENTS = 10_000


@lru_cache(maxsize=1)
def understood() -> Mapping[str, frozenset[str]]:
    """Message type to the trigger events that are converted."""
    table = yaml.safe_load((RULES / "messages.yaml").read_text(encoding="utf-8"))
    return {kind: frozenset(events) for kind, events in table.items()}


def convert(message: Message, feed: Feed) -> Conversion | ParseProblem:
    """Convert a message of a feed; a message that is not understood is a `ParseProblem` (for AE and the quarantine)."""
    problem = problem_of(message, feed)
    if problem is not None:
        return problem
    kind, event = kind_of(message, feed)
    moment = _event_time(message, feed)
    memory = memory_of(feed, message.delimiters)
    draft = Draft(feed=feed, message=message, memory=memory, snapshot=kind == "ORU")
    state = Walk(draft=draft, event=event, event_time=moment, is_result=kind == "ORU")
    envelope: dict[str, list[Segment]] = {"MSH": [], "SFT": [], "EVN": []}
    patients: list[str] = []
    merged: list[tuple[str, str]] = []
    homes: dict[int, str] = {}
    for segment in message.segments:
        if segment.name in envelope:
            envelope[segment.name].append(segment)
            continue
        handle = _HANDLERS.get(segment.name)
        if handle is None:
            continue
        if segment.name != "PID" and not state.patient:
            walk.unknown_patient(state)
            patients.append(state.patient)
        handle(state, segment)
        homes[id(segment)] = walk.home_of(state, segment)
        if segment.name == "OBR" and state.orc is not None:
            homes[id(state.orc)] = state.request
        if segment.name == "PID":
            patients.append(state.patient)
        elif segment.name == "MRG" and state.old_patients:
            merged.append((state.old_patients[-1], state.patient))
    clinical = [
        reference
        for reference, weight in draft.weights.items()
        if weight == STATED and reference.partition("/")[0] not in DIRECTORY
    ]
    homes |= _envelope(draft, envelope, clinical or patients)
    loss = as_sent.keep(message, draft.resources, homes)
    return _conversion(state, kind, loss, tuple(dict.fromkeys(patients)), tuple(dict.fromkeys(merged)))


def kind_of(message: Message, feed: Feed) -> tuple[str, str]:
    """What a message is taken for: its type and event, or what the feed's code map `MSH-9` says of them."""
    taken = feed.code_maps.get("MSH-9", {}).get("^".join(message.kind)) if feed.code_maps else None
    if taken is None:
        return message.kind
    kind, _, event = taken.partition("^")
    return kind, event.partition("^")[0]


def problem_of(message: Message, feed: Feed) -> ParseProblem | None:
    """Why a message is not understood, told without converting it; None where it is."""
    kind, event = kind_of(message, feed)
    header = tuple(message.header.fields)
    if len(message.segments) > MOST_SEGMENTS:
        cause = f"the message has {len(message.segments)} segments, over {MOST_SEGMENTS}: send it in parts"
        return ParseProblem(cause, INTERNAL, header=header)
    events = understood().get(kind)
    if events is None:
        cause = f"messages of type '{kind[:20]}' are not taken"
        return ParseProblem(cause, UNSUPPORTED_MESSAGE_TYPE, "MSH", 9, header=header)
    if event not in events:
        cause = f"the event '{event[:20]}' of {kind} is not taken"
        return ParseProblem(cause, UNSUPPORTED_EVENT, "MSH", 9, component=2, header=header)
    return None if kind == "ORU" else _patient_problem(message, event, header)  # PATIENT is optional in ORU_R01


def _patient_problem(message: Message, event: str, header: tuple[str, ...]) -> ParseProblem | None:
    names = [segment.name for segment in message.segments]
    if "PID" not in names:
        return ParseProblem("the message has no PID segment", SEGMENT_SEQUENCE, "PID", header=header)
    if event == "A40" and "MRG" not in names:
        return ParseProblem("a merge without an MRG segment", SEGMENT_SEQUENCE, "MRG", header=header)
    for segment in message.segments:
        if segment.name == "PID" and not any(segment.peek(n) for n in (2, 3, 4)) and not segment.first(5):
            cause = "PID names the patient neither by an identifier nor by name"
            return ParseProblem(cause, REQUIRED_FIELD_MISSING, "PID", 3, segment.sequence, header=header)
    return None


def _event_time(message: Message, feed: Feed) -> str:
    recorded = next((s.peek(2) for s in message.segments if s.name == "EVN"), None)
    for text in (recorded, message.header.peek(7)):
        moment = times.ordering_time(text, feed.timezone) if text else ""
        if moment:
            return moment
    return ""


def _envelope(draft: Draft, segments: Mapping[str, list[Segment]], targets: list[str]) -> dict[int, str]:
    """MSH and SFT as MessageHeader, EVN and the conversion itself as Provenance; says where each segment went."""
    message = draft.message
    header = message.header
    content: dict[str, Any] = {}
    segment_tables()["MSH[MessageHeader]"].apply(header, content, draft)
    for segment in segments["SFT"]:
        segment_tables()["SFT[MessageHeader]"].apply(segment, content, draft)
    sender = header.peek(3) or header.peek(4) or draft.feed.name
    content.setdefault("source", {}).setdefault("endpoint", draft.local_uri("endpoint", sender))
    for destination in content.get("destination", []):
        destination.setdefault("endpoint", draft.local_uri("endpoint", destination.get("name", "unknown")))
    content.setdefault("eventCoding", _event_coding(message))
    if draft.feed.code_maps and kind_of(message, draft.feed) != message.kind:
        content["eventCoding"]["system"] = draft.local_uri("codesystem", "MSH-9")
    content["focus"] = [{"reference": target} for target in draft.resources if target.startswith(_FOCUS)]
    keys = (header.peek(3) or "", header.peek(4) or "", header.peek(7) or "", message.control_id)
    added = draft.add({"resourceType": "MessageHeader", **content}, *keys)
    provenance: dict[str, Any] = {}
    for segment in segments["EVN"]:
        segment_tables()["EVN[Provenance]"].apply(segment, provenance, draft)
    provenance["target"] = [{"reference": target} for target in targets or [added]]
    provenance.setdefault("recorded", _recorded(message, draft.feed))
    author = {"system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "code": "author"}
    organisation = {"reference": f"Organization/{draft.feed.organisation}"}
    provenance.setdefault("agent", []).insert(0, {"type": {"coding": [author]}, "who": organisation})
    control = {"system": draft.local_uri("control-id", f"{header.peek(3) or ''}|{header.peek(4) or ''}")}
    identity = original_id(draft.feed.organisation, message.content)
    source = {"reference": f"Binary/{identity}", "identifier": {**control, "value": message.control_id}}
    provenance["entity"] = [{"role": "source", "what": {**source, "display": "HL7 v2 message"}}]
    told = draft.add({"resourceType": "Provenance", "id": identity, **provenance})
    return {
        id(segment): told if name == "EVN" else added
        for name, listed in (*segments.items(), ("MSH", [header]))
        for segment in listed
    }


def _event_coding(message: Message) -> dict[str, str]:
    return {"system": "http://terminology.hl7.org/CodeSystem/v2-0003", "code": message.kind[1]}


def _recorded(message: Message, feed: Feed) -> str:
    for text in (message.header.peek(7),):
        moment = times.instant(text, feed.timezone) if text else None
        if moment:
            return moment
        day = times.ordering_time(text, feed.timezone) if text else ""
        if day:
            return day
    return "1970-01-01T00:00:00Z"


def _conversion(
    state: Walk, kind: str, loss: Sequence[LostValue], patients: tuple[str, ...], merged: tuple[tuple[str, str], ...]
) -> Conversion:
    draft, moment = state.draft, state.event_time
    control = draft.message.control_id
    by_weight = {weight: OrderKey(weight, moment, control) for weight in (SNAPSHOT, STATED)}
    bodies = tuple([encoded(resource) for resource in draft.resources.values()])
    entries = [
        {"resource": resource, "request": {"method": "PUT", "url": reference}}
        for reference, resource in draft.resources.items()
    ]
    return Conversion(
        bundle={"resourceType": "Bundle", "type": "transaction", "entry": entries},
        bodies=bodies,
        order_keys=tuple([by_weight[draft.weights[reference]] for reference in draft.resources]),
        loss=tuple(loss),
        warnings=(*draft.message.notes, *dict.fromkeys(draft.warnings)),
        kind=(kind, state.event),
        order_key=by_weight[STATED],
        patients=patients,
        merged=merged,
    )


def warm_up() -> None:
    """Compile every table (about 0.2 s), so that the first message does not wait for it."""
    segment_tables()
    for name in ("XTN", "XON@Organization", "XCN@Practitioner", "XAD@Address", "EI@Identifier", "HD@assigner", "DR"):
        converter_named(name)
