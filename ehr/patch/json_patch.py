"""JSON Patch: RFC 6902 over JSON Pointer, RFC 6901 (https://www.rfc-editor.org/rfc/rfc6902).

Numbers keep their digits: the document and the patch are read by `ehr.json_text`.
"""

import copy
from collections.abc import Sequence
from typing import Any

from ehr.errors import Malformed
from ehr.patch.errors import PatchRefused

LIMIT_OPERATIONS = 1_000
LIMIT_VALUES = 100_000
"""Values that all `copy` operations of one patch may add: doubling again and again ends here."""

_MEMBERS = {
    "add": ("path", "value"),
    "remove": ("path",),
    "replace": ("path", "value"),
    "move": ("path", "from"),
    "copy": ("path", "from"),
    "test": ("path", "value"),
}


class JsonPatch:
    """A list of operations, read once and applied to any number of documents."""

    def __init__(self, operations: Any) -> None:
        """Take the parsed JSON array.

        Raises:
            Malformed: it is no array of operations as RFC 6902, section 4, has them.
        """
        if not isinstance(operations, list):
            raise Malformed("A JSON Patch is an array of operations.")
        if len(operations) > LIMIT_OPERATIONS:
            raise Malformed(f"A JSON Patch has at most {LIMIT_OPERATIONS} operations.")
        self._operations = [_read(operation, place) for place, operation in enumerate(operations)]

    def apply(self, document: dict[str, Any]) -> dict[str, Any]:
        """The changed document; the one given stays as it is.

        Raises:
            PatchRefused: an operation does not fit; nothing of the patch counts then (section 5).
        """
        whole = {"": copy.deepcopy(document)}
        copied = 0
        for place, operation in enumerate(self._operations):
            try:
                copied += _apply(whole, operation, LIMIT_VALUES - copied)
            except PatchRefused as error:
                raise PatchRefused(f"operation {place} ({operation[0]}): {error.issues[0].diagnostics}") from error
        result = whole.get("")
        if not isinstance(result, dict):
            raise PatchRefused("the patch leaves no JSON object")
        return result


_Operation = tuple[str, tuple[str, ...], tuple[str, ...], Any]


def _read(operation: Any, place: int) -> _Operation:
    if not isinstance(operation, dict):
        raise Malformed(f"Operation {place} of the JSON Patch is no object.")
    kind = operation.get("op")
    members = _MEMBERS.get(kind) if isinstance(kind, str) else None
    if members is None:
        raise Malformed(f"Operation {place} of the JSON Patch: 'op' is one of {', '.join(_MEMBERS)}.")
    missing = [name for name in members if name not in operation]
    if missing:
        raise Malformed(f"Operation {place} of the JSON Patch ({kind}) has no '{missing[0]}'.")
    source = _pointer(operation["from"], place) if "from" in members else ()
    return str(kind), _pointer(operation["path"], place), source, operation.get("value")


def _pointer(text: Any, place: int) -> tuple[str, ...]:
    """The reference tokens behind the root; RFC 6901, sections 3 and 4."""
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise Malformed(f"Operation {place} of the JSON Patch: a JSON Pointer is empty or begins with '/'.")
    tokens = text.split("/")
    for token in tokens:
        if "~" in token.replace("~0", "").replace("~1", ""):
            raise Malformed(f"Operation {place} of the JSON Patch: '~' stands before 0 or 1 only.")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in tokens)


def _apply(whole: dict[str, Any], operation: _Operation, may_copy: int) -> int:
    """Do one operation on the document below the root; returns how many values it copied."""
    kind, path, source, value = operation
    copied = 0
    if kind == "copy":
        value = _at(whole, source)
        copied = _size(value)
        if copied > may_copy:
            raise PatchRefused(f"copies add more than {LIMIT_VALUES} values")
    elif kind == "move":
        if path[: len(source)] == source and path != source:
            raise PatchRefused("a value cannot be moved into itself")
        value = _remove(whole, source)
    _do(whole, kind, path, copy.deepcopy(value))
    return copied


def _step(container: Any, token: str) -> Any:
    if isinstance(container, dict) and token in container:
        return container[token]
    if isinstance(container, list):
        return container[_index(token, len(container) - 1)]
    raise PatchRefused("there is nothing at the path")


def _index(token: str, highest: int) -> int:
    if not (token.isascii() and token.isdigit()) or (len(token) > 1 and token[0] == "0") or len(token) > 9:
        raise PatchRefused("an array is indexed by a number without leading zeros")
    if int(token) > highest:
        raise PatchRefused("the index is beyond the end of the array")
    return int(token)


def _at(whole: dict[str, Any], path: Sequence[str]) -> Any:
    found: Any = whole
    for token in path:
        found = _step(found, token)
    return found


def _remove(whole: dict[str, Any], path: Sequence[str]) -> Any:
    container = _at(whole, path[:-1])
    value = _step(container, path[-1])
    if isinstance(container, list):
        del container[int(path[-1])]
    else:
        del container[path[-1]]
    return value


def _do(whole: dict[str, Any], kind: str, path: Sequence[str], value: Any) -> None:
    if kind == "test":
        if not _same(_at(whole, path), value):
            raise PatchRefused("the value differs")
        return
    if kind == "remove":
        _remove(whole, path)
        return
    container, token = _at(whole, path[:-1]), path[-1]
    if kind == "replace":
        _step(container, token)
    if isinstance(container, dict):
        container[token] = value
    elif isinstance(container, list) and kind == "replace":
        container[int(token)] = value
    elif isinstance(container, list):
        container.insert(len(container) if token == "-" else _index(token, len(container)), value)  # noqa: S105 - RFC 6901's sign for the end
    else:
        raise PatchRefused("there is no object or array to put it in")


def _same(left: Any, right: Any) -> bool:
    """Equality of section 4.6: numbers by value, never a number and a boolean."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


def _size(value: Any) -> int:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_size, below))
