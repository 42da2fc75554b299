"""FHIRPath Patch: a Parameters resource of operations (https://hl7.org/fhir/R4/fhirpatch.html)."""

import copy
from dataclasses import dataclass
from typing import Any

from ehr.errors import Malformed
from ehr.fhirpath import FhirPathError, model
from ehr.patch.errors import PatchRefused
from ehr.patch.places import Document, Place, child_of, items_of, put

LIMIT_OPERATIONS = 1_000
_MEMBERS = {
    "add": ("path", "name", "value"),
    "insert": ("path", "index", "value"),
    "delete": ("path",),
    "replace": ("path", "value"),
    "move": ("path", "source", "destination"),
}
_TYPES = ("type", "path", "name", "value", "index", "source", "destination")


@dataclass(frozen=True, slots=True)
class _Operation:
    kind: str
    path: str
    name: str
    value: dict[str, Any]
    """The parameter part called "value"."""
    index: int
    source: int
    destination: int


class FhirPathPatch:
    """The operations of one Parameters resource, read once and applied to any number of resources."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        """Take the parsed Parameters.

        Raises:
            Malformed: it has not the form that section 3.1.0.8.1 describes.
        """
        if parameters.get("resourceType") != "Parameters":
            raise Malformed("A FHIRPath Patch is a Parameters resource.")
        given = parameters.get("parameter", [])
        if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
            raise Malformed("Parameters.parameter is a list of objects.")
        if len(given) > LIMIT_OPERATIONS:
            raise Malformed(f"A FHIRPath Patch has at most {LIMIT_OPERATIONS} operations.")
        self._operations = [_read(each, place) for place, each in enumerate(given)]

    def apply(self, resource: dict[str, Any]) -> dict[str, Any]:
        """The changed resource; the one given stays as it is.

        Raises:
            PatchRefused: an operation does not fit; nothing of the patch counts then.
        """
        document = Document(copy.deepcopy(resource))
        for place, operation in enumerate(self._operations):
            try:
                _DO[operation.kind](document, operation)
                _prune(document.resource)
            except (PatchRefused, FhirPathError) as error:
                raise PatchRefused(f"operation {place} ({operation.kind}): {error.issues[0].diagnostics}") from error
        return document.resource


def _read(parameter: dict[str, Any], place: int) -> _Operation:
    parts = parameter.get("part", [])
    if parameter.get("name") != "operation" or not isinstance(parts, list):
        raise Malformed(f"Parameters.parameter[{place}] is no 'operation' with parts.")
    named: dict[str, dict[str, Any]] = {}
    for part in parts:
        name = part.get("name") if isinstance(part, dict) else None
        if name not in _TYPES or name in named:
            raise Malformed(f"Parameters.parameter[{place}]: parts are {', '.join(_TYPES)}, each once.")
        named[name] = part
    kind = _plain(named.get("type"), str, place, "type")
    if kind not in _MEMBERS:
        raise Malformed(f"Parameters.parameter[{place}]: type is one of {', '.join(_MEMBERS)}.")
    if missing := [name for name in _MEMBERS[kind] if name not in named]:
        raise Malformed(f"Parameters.parameter[{place}] ({kind}) has no part '{missing[0]}'.")
    numbers = [_plain(named[name], int, place, name) if name in named else 0 for name in _TYPES[4:]]
    return _Operation(
        kind,
        _plain(named["path"], str, place, "path"),
        _plain(named["name"], str, place, "name") if "name" in named else "",
        copy.deepcopy(named.get("value", {})),
        *numbers,
    )


def _plain(part: dict[str, Any] | None, kind: type, place: int, name: str) -> Any:
    values = [value for key, value in (part or {}).items() if key.startswith("value")]
    if len(values) != 1 or type(values[0]) is not kind:
        wanted = "a string" if kind is str else "an integer"
        raise Malformed(f"Parameters.parameter[{place}]: the part '{name}' is {wanted}.")
    return values[0]


def _add(document: Document, operation: _Operation) -> None:
    targets = document.places(operation.path)
    if len(targets) != 1:
        raise PatchRefused(f"'{operation.path}' is {len(targets)} elements instead of one")
    child = child_of(targets[0], operation.name)
    holder = targets[0].below(make=True)
    key, value, sibling = _value(operation.value, child)
    if child.many:
        _insert_at(holder, key, items_of(holder, key), value, sibling)
        return
    if any(f"{mark}{option}" in holder for option, _ in child.options for mark in ("", "_")):
        raise PatchRefused(f"'{operation.name}' is there already and does not repeat")
    _set(holder, key, None, value, sibling)


def _insert(document: Document, operation: _Operation) -> None:
    slot = document.slot(operation.path)
    if not slot.child.many:
        raise PatchRefused(f"'{slot.child.name}' does not repeat")
    holder = slot.holder.below(make=True)
    key, value, sibling = _value(operation.value, slot.child)
    if not 0 <= operation.index <= items_of(holder, key):
        raise PatchRefused(f"index {operation.index} is beyond the list of {items_of(holder, key)}")
    _insert_at(holder, key, operation.index, value, sibling)


def _delete(document: Document, operation: _Operation) -> None:
    found = document.places(operation.path)
    if len(found) > 1:
        raise PatchRefused(f"'{operation.path}' is {len(found)} elements; one at a time is deleted")
    for place in found:
        _take(place)


def _replace(document: Document, operation: _Operation) -> None:
    found = document.places(operation.path)
    if len(found) != 1:
        raise PatchRefused(f"'{operation.path}' is {len(found)} elements instead of one")
    place = found[0]
    if place.parent is None:
        raise PatchRefused("the resource itself is replaced by an update")
    slot = document.slot(operation.path) if place.index is None else None
    child = slot.child if slot else model.Child(place.key, ((place.key, place.node.type),), many=True)
    key, value, sibling = _value(operation.value, child)
    if key != place.key:
        place.parent.pop(place.key, None)
        place.parent.pop(f"_{place.key}", None)
    _set(place.parent, key, place.index, value, sibling)


def _move(document: Document, operation: _Operation) -> None:
    slot = document.slot(operation.path)
    holder, key = slot.holder.below(), slot.child.options[0][0]
    count = items_of(holder, key)
    for place in (operation.source, operation.destination):
        if not slot.child.many or not 0 <= place < count:
            raise PatchRefused(f"index {place} is not in the list of {count}")
    for name in (key, f"_{key}"):
        items = holder.get(name)
        if isinstance(items, list):
            items += [None] * (count - len(items))
            items.insert(operation.destination, items.pop(operation.source))


_DO = {"add": _add, "insert": _insert, "delete": _delete, "replace": _replace, "move": _move}


def _insert_at(holder: dict[str, Any], key: str, index: int, value: Any, sibling: Any) -> None:
    count = items_of(holder, key)
    for name, item in ((key, value), (f"_{key}", sibling)):
        if name in holder or item is not None:
            items = holder.setdefault(name, [])
            items += [None] * (count - len(items))
            items.insert(index, item)


def _set(holder: dict[str, Any], key: str, index: int | None, value: Any, sibling: Any) -> None:
    for name, item in ((key, value), (f"_{key}", sibling)):
        if item is not None or index is not None:
            if item is not None or name in holder:
                put(holder, name, index, item)
        else:
            holder.pop(name, None)


def _take(place: Place) -> None:
    if place.parent is None:
        raise PatchRefused("the resource itself is not deleted by a patch")
    for name in (place.key, f"_{place.key}"):
        found = place.parent.get(name)
        if place.index is None:
            place.parent.pop(name, None)
        elif isinstance(found, list) and place.index < len(found):
            del found[place.index]


def _value(part: dict[str, Any], child: model.Child) -> tuple[str, Any, Any]:
    """(JSON key, value, `_name` sibling) of a part, for an element of this definition."""
    if isinstance(part.get("part"), list):
        key, type_name = child.options[0]
        return key, _assembled(part["part"], type_name), None
    if "resource" in part:
        return child.options[0][0], part["resource"], None
    keys = {key.removeprefix("_") for key in part if key.removeprefix("_").startswith("value")}
    if len(keys) != 1:
        raise PatchRefused("a value has one value[x], parts or a resource")
    given = keys.pop()
    value, sibling = part.get(given), part.get(f"_{given}")
    if len(child.options) == 1:
        return child.options[0][0], value, sibling
    for key, type_name in child.options:
        if type_name[0].upper() + type_name[1:] == given.removeprefix("value"):
            return key, value, sibling
    raise PatchRefused(f"'{child.name}' takes no {given.removeprefix('value')}")


def _assembled(parts: list[Any], type_name: str) -> dict[str, Any]:
    """The element that nested parts describe; parts of one name make a list."""
    made: dict[str, Any] = {}
    children = model.children(type_name)
    for part in parts:
        child = children.get(str(part.get("name"))) if isinstance(part, dict) else None
        if child is None:
            raise PatchRefused(f"{type_name} has no element of a part's name")
        key, value, sibling = _value(part, child)
        if child.many:
            _insert_at(made, key, items_of(made, key), value, sibling)
        elif key in made:
            raise PatchRefused(f"'{child.name}' of {type_name} does not repeat")
        else:
            _set(made, key, None, value, sibling)
    return made


def _prune(value: Any) -> None:
    """Take out what an operation left empty: FHIR's JSON has no empty object, list or list of nulls."""
    if isinstance(value, dict):
        for key, below in list(value.items()):
            _prune(below)
            if below in ({}, []) or (isinstance(below, list) and all(item is None for item in below)):
                del value[key]
    elif isinstance(value, list):
        for item in value:
            _prune(item)
        if any(item == {} for item in value):
            value[:] = [None if item == {} else item for item in value]
