"""The smallest valid resource of each type, made from the official definitions; values that a search finds.

Required elements are filled by their type, required codes by the first code of their set; a few types have an invariant
that asks for more, which `_MORE` gives.
"""

import copy
from decimal import Decimal
from functools import cache
from typing import Any

from ehr.definitions import RESOURCE_TYPES, Element, ElementType, SearchParameter, codes_of, structure
from ehr.indexing.plan import Branch, NotPlain, branches_of, indexed_parameters
from ehr.validation import check

STORED = tuple(name for name in RESOURCE_TYPES if name not in {"AuditEvent", "Parameters"})
"""Every type of which a caller may keep rows, Provenance (which only the server writes) included."""

VALUES: dict[str, Any] = {
    "boolean": True,
    "integer": 7,
    "unsignedInt": 7,
    "positiveInt": 7,
    "decimal": Decimal("7.5"),
    "string": "Seven words",
    "markdown": "Seven words",
    "code": "seven",
    "id": "seven",
    "uri": "http://example.org/seven",
    "url": "http://example.org/seven",
    "canonical": "http://example.org/seven",
    "oid": "urn:oid:1.2.7",
    "uuid": "urn:uuid:00000000-0000-4000-8000-000000000007",
    "base64Binary": "c2V2ZW4=",
    "date": "2019-07-07",
    "dateTime": "2019-07-07",
    "instant": "2019-07-07T07:07:07+08:00",
    "time": "07:07:07",
    "Identifier": {"system": "http://example.org/ids", "value": "seven"},
    "CodeableConcept": {"coding": [{"system": "http://example.org/codes", "code": "seven", "display": "Seven words"}]},
    "Coding": {"system": "http://example.org/codes", "code": "seven", "display": "Seven words"},
    "Quantity": {"value": Decimal("7.5"), "unit": "g", "system": "http://unitsofmeasure.org", "code": "g"},
    "Money": {"value": Decimal("7.5"), "currency": "CNY"},
    "Range": {"low": {"value": 7}, "high": {"value": 8}},
    "Ratio": {"numerator": {"value": 7}, "denominator": {"value": 8}},
    "Period": {"start": "2019-07-07", "end": "2019-07-07"},
    "Timing": {"event": ["2019-07-07"]},
    "HumanName": {"family": "Seven words"},
    "Address": {"city": "Seven words"},
    "ContactPoint": {"system": "phone", "value": "seven"},
    "Attachment": {"title": "seven"},
    "Annotation": {"text": "seven"},
    "Signature": {
        "type": [{"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}],
        "when": "2019-07-07T07:07:07+08:00",
        "who": {"display": "seven"},
    },
    "Expression": {"language": "text/fhirpath", "expression": "true"},
    "UsageContext": {
        "code": {"system": "http://example.org/codes", "code": "seven"},
        "valueCodeableConcept": {"coding": [{"system": "http://example.org/codes", "code": "seven"}]},
    },
    "SampledData": {"origin": {"value": 7}, "period": 1, "dimensions": 1, "data": "0 1"},
    "TriggerDefinition": {"type": "named-event", "name": "seven"},
    "RelatedArtifact": {"type": "citation", "display": "seven"},
    "ElementDefinition": {"id": "Basic", "path": "Basic", "definition": "Seven words", "min": 0, "max": "*"},
    "ContactDetail": {"name": "seven"},
    "Contributor": {"type": "author", "name": "seven"},
    "Meta": {"tag": [{"code": "seven"}]},
    "Narrative": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">seven</div>'},
}
"""A value of each type that search parameters select or that is required somewhere."""
for _quantity in ("Age", "Distance", "Duration", "Count", "SimpleQuantity", "MoneyQuantity"):
    VALUES[_quantity] = VALUES["Quantity"]
VALUES["Age"] = {"value": 7, "unit": "a", "system": "http://unitsofmeasure.org", "code": "a"}
VALUES["Duration"] = {"value": 7, "unit": "d", "system": "http://unitsofmeasure.org", "code": "d"}

_HL7 = "http://terminology.hl7.org/CodeSystem"
_CONCEPT = VALUES["CodeableConcept"]
_MORE: dict[str, dict[str, Any]] = {
    "AllergyIntolerance": {
        "clinicalStatus": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}
            ]
        }
    },
    "Appointment": {"status": "proposed", "participant": [{"status": "accepted", "type": [_CONCEPT]}]},
    "AppointmentResponse": {"participantType": [_CONCEPT]},
    "Bundle": {"type": "collection"},
    "CapabilityStatement": {"kind": "requirements", "description": "Seven words", "rest": [{"mode": "server"}]},
    "Consent": {"status": "proposed", "policy": [{"uri": "http://example.org/seven"}]},
    "ImmunizationRecommendation": {
        "recommendation": [{"forecastStatus": _CONCEPT, "vaccineCode": [_CONCEPT]}],
    },
    "InsurancePlan": {"name": "Seven words"},
    "Linkage": {"item": [{"type": "source", "resource": {"reference": "Patient/seven"}}] * 2},
    "MolecularSequence": {"coordinateSystem": 1},
    "Organization": {"name": "Seven words"},
    "StructureDefinition": {"differential": {"element": [{"id": "Basic", "path": "Basic"}]}, "kind": "logical"},
    "TerminologyCapabilities": {"kind": "requirements", "description": "Seven words"},
}


def sample(element: Element, kind: ElementType) -> Any:  # noqa: PLR0911 - one return for each kind
    """A value of one element: a code of its required set, an object with what it must have, or the type's value."""
    if element.content_reference:
        return required(element.content_reference)
    if kind.code in {"BackboneElement", "Element", "Dosage", "DataRequirement", "ParameterDefinition"}:
        return required(element.path if kind.code in {"BackboneElement", "Element"} else kind.code)
    if kind.code == "Reference":
        target = next((name for name in kind.targets if name not in {"Resource", "AuditEvent"}), "Patient")
        return {"reference": f"{target}/seven"}
    if element.name == "language" and kind.code == "code":
        return "zh-CN"
    pairs = _codes(element)
    if pairs and kind.code == "code":
        return pairs[0][1]
    if pairs and kind.code in {"CodeableConcept", "Coding"}:
        coding = {"system": pairs[0][0], "code": pairs[0][1]}
        return coding if kind.code == "Coding" else {"coding": [coding]}
    if kind.code == "Resource":
        return {"resourceType": "Basic", "code": {"text": "seven"}}
    return VALUES[kind.code]


def _codes(element: Element) -> list[tuple[str, str]]:
    if element.binding is None or element.binding.strength != "required":
        return []
    if element.binding.value_set == "http://hl7.org/fhir/ValueSet/currencies":
        return [("urn:iso:std:iso:4217", "CNY")]
    return sorted(codes_of(element.binding.value_set) or ())


def required(path: str) -> dict[str, Any]:
    """An object with all that a type or backbone element must have."""
    found: dict[str, Any] = {}
    for child in structure(path.partition(".")[0]).children(path):
        if child.min == 0:
            continue
        name, kind = next(iter(child.names.items()), (child.name, ElementType("Element")))
        value = sample(child, kind)
        found[name] = [value] if child.repeats else value
    found |= copy.deepcopy(_IN_A_PART.get(path, {}))
    return found or {"extension": [{"url": "http://example.org/seven", "valueBoolean": True}]}


@cache
def _smallest(resource_type: str) -> dict[str, Any]:
    found = required(resource_type)
    found.pop("extension", None)
    return {"resourceType": resource_type} | found | _MORE.get(resource_type, {})


def smallest(resource_type: str) -> dict[str, Any]:
    """A new dictionary with the smallest valid resource of a type."""
    return copy.deepcopy(_smallest(resource_type))


class CannotStandError(Exception):
    """The value has no place beside what is there already."""


_BESIDE: dict[str, dict[str, Any]] = {
    "Appointment.start": {"end": "2019-07-07T07:07:07+08:00"},
    "Condition.abatement[x]": {
        "clinicalStatus": {"coding": [{"system": f"{_HL7}/condition-clinical", "code": "resolved"}]}
    },
    "MolecularSequence.referenceSeq.chromosome": {"genomeBuild": "GRCh37", "strand": "watson"},
    "CapabilityStatement.software": {"kind": "capability"},
    "ConceptMap.group.unmapped.url": {"mode": "other-map"},
    "ValueSet.expansion.contains.code": {"system": "http://example.org/codes"},
    "RequestGroup.action.participant": {"resource": {"reference": "Basic/seven"}},
}
"""What an invariant wants beside an element."""
_PERCENT = {"unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}
_PERCENTAGES = {"low": {"value": 7} | _PERCENT, "high": {"value": 8} | _PERCENT}
_OWN_VALUES: dict[str, Any] = {"RiskAssessment.prediction.probability[x] Range": _PERCENTAGES}
_IN_A_PART: dict[str, dict[str, Any]] = {
    "MessageDefinition.focus": {"max": "*"},
    "ValueSet.compose.include": {"system": "http://example.org/codes"},
    "StructureDefinition.snapshot": {"element": [VALUES["ElementDefinition"]]},
}
"""What an invariant wants inside of a backbone element."""
_PARTS = {"BackboneElement", "Element"}


def put(resource: dict[str, Any], branch: Branch, *, instead: bool) -> Any:
    """Put a value at the end of a search parameter's path into a resource; returns it, or what stood there already.

    With `instead` the value takes the place of another choice of type.
    """
    path, holder = resource["resourceType"], resource
    keys = [number for number, step in enumerate(branch.steps) if isinstance(step, str)]
    value: Any = resource
    for number in keys:
        key = branch.steps[number]
        assert isinstance(key, str)
        element, kind = _child(path, key)
        is_last = number == keys[-1]
        there = holder.get(key)
        wanted = dict(step for step in branch.steps[number + 1 : number + 2] if isinstance(step, tuple))
        if there is not None and not element.repeats:
            value = there
            if is_last and branch.target is not None and not value["reference"].startswith(branch.target):
                if not instead:
                    raise CannotStandError(branch)
                value["reference"] = f"{branch.target}/seven"
        elif there is not None and not is_last and not wanted:
            value = there[-1]
        else:
            if instead:
                for other in element.names:
                    holder.pop(other, None)
            value = _value(element, kind, branch, is_last=is_last)
            value = value | wanted if wanted else value
            holder[key] = [*(there or []), value] if element.repeats else value
            holder |= copy.deepcopy(_BESIDE.get(element.path, {}))
            instead = instead or not is_last
        path = element.content_reference or (element.path if kind.code in _PARTS else kind.code)
        holder = value
    return value


def _child(path: str, key: str) -> tuple[Element, ElementType]:
    for element in structure(path.partition(".")[0]).children(path):
        if key in element.names:
            return element, element.names[key]
        if element.content_reference and element.name == key:
            return element, ElementType("BackboneElement")
    raise KeyError(f"{path} {key}")


def _value(element: Element, kind: ElementType, branch: Branch, *, is_last: bool) -> Any:
    value = copy.deepcopy(_OWN_VALUES.get(f"{element.path} {kind.code}") or sample(element, kind))
    if not is_last:
        value.pop("extension", None)
    elif kind.code == "Reference" and branch.target is not None:
        value = {"reference": f"{branch.target}/seven"}
    return value


def with_values(resource_type: str) -> list[tuple[dict[str, Any], list[tuple[SearchParameter, str, Any]]]]:
    """Valid resources which together hold a value for each path of each simple search parameter of a type.

    With each resource come the parameters, the types of the values and the values that were put into it.
    """
    made: list[tuple[dict[str, Any], list[tuple[SearchParameter, str, Any]]]] = []
    for parameter in indexed_parameters(resource_type):
        try:
            branches = branches_of(resource_type, parameter.expression or "")
        except NotPlain:
            continue
        for branch in branches:
            for place, (resource, held) in enumerate([*made, (smallest(resource_type), [])]):
                trial = copy.deepcopy(resource)
                try:
                    value = put(trial, branch, instead=not held)
                except CannotStandError:
                    continue
                if check(trial) == []:
                    entry = (trial, [*held, (parameter, branch.type_name, value)])
                    made[place : place + 1] = [entry]
                    break
            else:
                raise CannotStandError(f"{resource_type}.{parameter.code} {branch} {check(trial)}")
    return made
