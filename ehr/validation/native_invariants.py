"""Invariants whose FHIRPath would look through one list for every item of another, as plain functions of linear cost.

Each is named by the key that the definitions give it; its expression stands in `ehr.definitions`.
"""

from collections.abc import Callable, Mapping
from typing import Any

Json = Mapping[str, Any]


def _objects(parent: Any, name: str) -> list[Json]:
    """The objects in an array member, as far as the member is an array."""
    value = parent.get(name) if type(parent) is dict else None
    return [item for item in value if type(item) is dict] if type(value) is list else []


def _text(parent: Json, name: str) -> str:
    value = parent.get(name)
    return value if type(value) is str else ""


def _identity(coding: Json) -> str:
    return repr(sorted(coding.items(), key=lambda member: member[0]))


def observation_component_repeats_no_code(observation: Json, _resource: Json, _root: Json) -> bool:
    """obs-7: with a value, no component has a coding of the Observation's own code."""
    if not any(name.startswith(("value", "_value")) for name in observation):
        return True
    own = {_identity(coding) for coding in _objects(observation.get("code"), "coding")}
    components = _objects(observation, "component")
    codings = (coding for part in components for coding in _objects(part.get("code"), "coding"))
    return not any(_identity(coding) in own for coding in codings)


def snapshot_paths_start_with_type(snapshot: Json, resource: Json, _root: Json) -> bool:
    """sdf-8: the first path is the type, unless logical; the others start with the first."""
    paths = [_text(element, "path") for element in _objects(snapshot, "element")]
    if not paths or (resource.get("kind") != "logical" and paths[0] != resource.get("type")):
        return False
    return all(path.startswith(paths[0] + ".") for path in paths[1:])


def differential_paths_start_with_type(differential: Json, resource: Json, _root: Json) -> bool:
    """sdf-8a: the first path starts with the type, unless logical; the others with the first one's first part."""
    paths = [_text(element, "path") for element in _objects(differential, "element")]
    if not paths or (resource.get("kind") != "logical" and not paths[0].startswith(_text(resource, "type"))):
        return False
    start = paths[0].partition(".")[0] + "."
    return all(path.startswith(start) for path in paths[1:])


def guide_resources_have_known_versions(guide: Json, _resource: Json, _root: Json) -> bool:
    """ig-2: a resource's FHIR versions are among those of the guide."""
    known = guide.get("fhirVersion")
    allowed = {str(version) for version in known} if type(known) is list else set()
    resources = _objects(guide.get("definition"), "resource")
    versions = (resource.get("fhirVersion") for resource in resources)
    return all(set(map(str, version)) <= allowed for version in versions if type(version) is list)


def guide_groupings_exist(definition: Json, _resource: Json, _root: Json) -> bool:
    """ig-1: a resource's grouping is one of the definition's."""
    known = {_text(grouping, "id") for grouping in _objects(definition, "grouping")}
    return all(
        _text(resource, "groupingId") in known
        for resource in _objects(definition, "resource")
        if "groupingId" in resource
    )


NATIVE: dict[str, Callable[[Any, Any, Any], bool]] = {
    "obs-7": observation_component_repeats_no_code,
    "sdf-8": snapshot_paths_start_with_type,
    "sdf-8a": differential_paths_start_with_type,
    "ig-1": guide_groupings_exist,
    "ig-2": guide_resources_have_known_versions,
}
