"""ORC, OBR, OBX, SPM, TQ1: orders, reports, observations and specimens, linked with each other."""

from typing import Any

from hospital_adapters.hl7v2 import identity, values
from hospital_adapters.hl7v2.draft import COMPARED, complete
from hospital_adapters.hl7v2.elements import extension, telecom
from hospital_adapters.hl7v2.parse import Node, Segment
from hospital_adapters.hl7v2.tables import element
from hospital_adapters.hl7v2.walk import Resource, Walk


def order(walk: Walk, segment: Segment) -> None:
    """ORC: an order begins; its OBR, where one follows, says what was ordered."""
    walk.orc, walk.obr = segment, None
    walk.report = walk.specimen = ""
    walk.observed = []
    before = len(walk.draft.resources)
    walk.request = _request(walk)
    walk.provisional = len(walk.draft.resources) > before and next(reversed(walk.draft.resources)) == walk.request


def report(walk: Walk, segment: Segment) -> None:
    """OBR: what was asked and what came of it."""
    said: Resource = {}
    if walk.obr is not None:  # an OBR without an ORC of its own
        walk.orc = None
    elif walk.orc is not None and walk.provisional:
        said = walk.draft.resources.pop(walk.request)
        walk.draft.weights.pop(walk.request)
    walk.obr, walk.specimen, walk.observed = segment, "", []
    walk.request = _request(walk)
    said.pop("id", None)
    complete(walk.get(walk.request), said)  # notes, times and people between ORC and OBR
    content = walk.fill("OBR[DiagnosticReport]", segment)
    content.setdefault("status", "unknown")
    content.setdefault("code", {"text": "not stated"})
    _single_time(content, "effectivePeriod", "effectiveDateTime")
    content["subject"] = walk.subject
    content["basedOn"] = [{"reference": walk.request}]
    if walk.encounter:
        content["encounter"] = {"reference": walk.encounter}
    keys = identity.order_keys(walk.orc, segment, walk.person, filler_first=True)
    walk.report_keys = keys
    sample = walk.fill("OBR[Specimen]", segment)
    walk.report = walk.add("DiagnosticReport", content, *keys)
    if sample:
        _specimen(walk, sample, ("order", *keys))
        walk.last = walk.report


def _single_time(content: Resource, period: str, single: str) -> None:
    found = content.get(period)
    if found and set(found) == {"start"}:
        content[single] = content.pop(period)["start"]


def _request(walk: Walk) -> str:
    content: Resource = {}
    if walk.orc is not None:
        walk.fill("ORC[ServiceRequest]", walk.orc, content)
    if walk.obr is not None:
        walk.fill("OBR[ServiceRequest]", walk.obr, content)
        for key, items in content.items():  # what ORC and OBR say alike
            if isinstance(items, list):
                content[key] = [item for n, item in enumerate(items) if item not in items[max(0, n - COMPARED) : n]]
    content.setdefault("status", "completed" if walk.is_result else "active")
    content["intent"] = "order"
    content["subject"] = walk.subject
    if walk.encounter:
        content["encounter"] = {"reference": walk.encounter}
    _requester(walk, content)
    keys = identity.order_keys(walk.orc, walk.obr, walk.person, filler_first=False)
    return walk.add("ServiceRequest", content, *keys)


def _requester(walk: Walk, content: Resource) -> None:
    practitioners: list[Resource] = []
    for segment, number in ((walk.orc, 12), (walk.obr, 16)):
        for node in segment.repetitions(number) if segment is not None else []:
            found = _reference(node, "XCN@Practitioner", walk)
            if found and found not in practitioners:
                practitioners.append(found)
    organisation = _ordering_organisation(walk)
    if not practitioners and organisation is None:
        return
    role: Resource = {}
    if practitioners:
        role["practitioner"] = practitioners[0]
    if organisation is not None:
        role["organization"] = organisation
    for further in practitioners[1:]:
        content.setdefault("extension", []).append(extension("further-requester", "Reference", further))
    if organisation is None:
        content["requester"] = practitioners[0]
    elif not practitioners:
        content["requester"] = organisation
    else:
        keys = (practitioners[0]["reference"], organisation["reference"])
        content["requester"] = {"reference": walk.draft.add({"resourceType": "PractitionerRole", **role}, *keys)}
    _provider_address(walk, practitioners)


def _provider_address(walk: Walk, practitioners: list[Resource]) -> None:
    if walk.orc is None or not practitioners:
        return
    addresses = _all(walk.orc, 24, "XAD@Address", walk)
    if addresses:
        complete(walk.get(practitioners[0]["reference"]), {"address": addresses})


def _ordering_organisation(walk: Walk) -> Resource | None:
    if walk.orc is None:
        return None
    found = [_reference(node, "XON@Organization", walk) for node in walk.orc.repetitions(21)]
    references = [reference for reference in found if reference]
    addresses = _all(walk.orc, 22, "XAD@Address", walk)
    telecoms = [point for node in walk.orc.repetitions(23) if (point := telecom(node, walk.draft, "work"))]
    for point in telecoms:
        if point.get("use") == "home":  # org-3: an organisation's telecom is never of use home
            point["use"] = "work"
    for address in addresses:
        if address.get("use") == "home":
            address["use"] = "work"
    if not references and (addresses or telecoms):
        resource = {"resourceType": "Organization", "name": "Ordering facility"}
        first = addresses[0] if addresses else {}
        keys = ("ordering", *(str(first.get(key, "")) for key in ("line", "city", "postalCode")))
        keys = (*keys, telecoms[0]["value"] if telecoms else "")
        references = [{"reference": walk.draft.add(resource, *keys)}]
    if not references:
        return None
    content = {key: items for key, items in (("address", addresses), ("telecom", telecoms)) if items}
    complete(walk.get(references[0]["reference"]), content)
    return references[0]


def _reference(node: Node, table: str, walk: Walk) -> Resource | None:
    found: Resource | None = element(table, node, walk.draft)
    if found is None:
        node.forget()
    return found


def _all(segment: Segment, number: int, table: str, walk: Walk) -> list[Resource]:
    walk.draft.site = f"{segment.name}-{number}"
    return [found for node in segment.repetitions(number) if (found := _reference(node, table, walk))]


def observation(walk: Walk, segment: Segment) -> None:
    """OBX: a result, or an embedded document."""
    if values.is_document(segment):
        document(walk, segment)
        return
    content = walk.fill("OBX[Observation]", segment)
    content.setdefault("status", "unknown")
    content.setdefault("code", {"text": "not stated"})
    values.put_value(segment, content, walk.draft)
    values.put_reference_range(segment, content, walk.draft)
    if "dataAbsentReason" in content and any(key.startswith("value") for key in content):  # obs-6
        reason = extension("absent-reason", "CodeableConcept", content.pop("dataAbsentReason"))
        content.setdefault("extension", []).append(reason)
    content["subject"] = walk.subject
    if walk.encounter:
        content["encounter"] = {"reference": walk.encounter}
    if walk.report:
        report_time = walk.get(walk.report).get("effectiveDateTime")
        if report_time:
            content.setdefault("effectiveDateTime", report_time)
        if walk.specimen:
            content["specimen"] = {"reference": walk.specimen}
        if walk.request:
            content["basedOn"] = [{"reference": walk.request}]
    _performers(walk, segment, content)
    reference = walk.add("Observation", content, *_observation_keys(walk, segment))
    if walk.report:
        walk.observed.append(reference)
        complete(walk.get(walk.report), {"result": [{"reference": reference}]})


def _observation_keys(walk: Walk, segment: Segment) -> identity.Keys:
    code = identity.text_keys(segment, (3, 1), (3, 2), (3, 4), (4, 1))
    keys: identity.Keys
    if walk.report:
        keys = ("report", *walk.report_keys, *code)
    else:
        keys = ("patient", *walk.person, *walk.visit, *code, segment.peek(14) or "")
    number = walk.seen[keys] = walk.seen.get(keys, 0) + 1
    return keys if number == 1 else (*keys, str(number))


def _performers(walk: Walk, segment: Segment, content: Resource) -> None:
    """OBX-23, 24, 25: performing organisation, its address, its medical director."""
    node = segment.first(23)
    organisation = _reference(node, "XON@Organization", walk) if node else None
    addresses = _all(segment, 24, "XAD@Address", walk)
    for address in addresses:
        if address.get("use") == "home":
            address["use"] = "work"
    if organisation:
        if addresses:
            complete(walk.get(organisation["reference"]), {"address": addresses})
        _append(content, "performer", organisation)
    else:
        for address in addresses:
            content.setdefault("extension", []).append(extension("performing-address", "Address", address))
    for director in _all(segment, 25, "XCN@Practitioner", walk):
        role: Resource = {"resourceType": "PractitionerRole", "practitioner": director}
        system = "http://terminology.hl7.org/CodeSystem/v2-0912"
        role["code"] = [{"coding": [{"system": system, "code": "MDIR", "display": "Medical Director"}]}]
        if organisation:
            role["organization"] = organisation
        keys = (director["reference"], "MDIR", organisation["reference"] if organisation else "")
        _append(content, "performer", {"reference": walk.draft.add(role, *keys)})


def _append(content: Resource, key: str, item: Any) -> None:
    items = content.setdefault(key, [])
    if item not in items:
        items.append(item)


def document(walk: Walk, segment: Segment) -> None:
    """OBX with ED or RP: a document (PDF, RTF, image), linked from the report as a presented form."""
    kind = (segment.peek(2) or "").upper()
    segment.text(2)
    walk.draft.site = "OBX-5"
    forms = [form for node in segment.repetitions(5) if (form := values.attachment(node, kind, segment))]
    content = walk.fill("OBX[DocumentReference]", segment)
    content.setdefault("type", {"text": "not stated"})
    content["status"] = "entered-in-error" if content.get("docStatus") == "entered-in-error" else "current"
    content["subject"] = walk.subject
    unknown = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
    content["content"] = [{"attachment": form} for form in forms or [{"extension": [unknown]}]]
    facts: Resource = {}
    _performers(walk, segment, facts)
    content.setdefault("author", []).extend(facts.get("performer", []))
    content.setdefault("extension", []).extend(facts.get("extension", []))
    related = [{"reference": reference} for reference in (walk.request,) if reference]
    context: Resource = {"related": related} if related else {}
    if walk.encounter:
        context["encounter"] = [{"reference": walk.encounter}]
    if context:
        content["context"] = context
    walk.add("DocumentReference", content, *_observation_keys(walk, segment))
    if walk.report and forms:
        complete(walk.get(walk.report), {"presentedForm": [{k: v for k, v in f.items() if k != "data"} for f in forms]})


def specimen(walk: Walk, segment: Segment) -> None:
    """SPM: the specimen of the report's observations."""
    content = walk.fill("SPM[Specimen]", segment)
    node = segment.first(2)
    keys = None
    for half in (2, 1):
        if node is not None and keys is None and node.has(half):
            keys = identity.designated(node.child(half))
    _specimen(walk, content, ("number", *keys) if keys else ("set", *walk.report_keys, segment.peek(1) or ""))


def _specimen(walk: Walk, content: Resource, keys: identity.Keys) -> None:
    collection = content.get("collection", {})
    _single_time(collection, "collectedPeriod", "collectedDateTime")
    content["subject"] = walk.subject
    if walk.request:
        content["request"] = [{"reference": walk.request}]
    reference = walk.add("Specimen", content, *keys)
    if not walk.report:
        return
    complete(walk.get(walk.report), {"specimen": [{"reference": reference}]})
    if not walk.specimen:
        walk.specimen = reference
        for observed in walk.observed:
            walk.get(observed).setdefault("specimen", {"reference": reference})


def timing(walk: Walk, segment: Segment) -> None:
    """TQ1: when and how urgently the order is to be done."""
    if walk.request:
        complete(walk.get(walk.request), walk.fill("TQ1[ServiceRequest]", segment))


def trial(walk: Walk, segment: Segment) -> None:
    """CTI: the clinical trial in which the report was made."""
    if walk.report:
        complete(walk.get(walk.report), walk.fill("CTI[DiagnosticReport]", segment))
