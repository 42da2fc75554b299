"""How one operation meets the row in place: whose row it is, which version comes next, which message wins.

WriteScope: DESIGN 4.3; order of messages: DESIGN 4.7; https://hl7.org/fhir/R4/http.html#update
"""

from dataclasses import dataclass
from typing import Any, Literal

import asyncpg

from ehr import json_text
from ehr.changes import Change, RowAccess
from ehr.errors import Conflict, Forbidden, NotAllowed, NotFound, PreconditionFailed
from ehr.keys import organisation_key
from ehr.scopes import WriteScope
from ehr.store.bodies import open_body
from ehr.store.clock import as_datetime, as_fhir_instant
from ehr.store.operations import ANY_VERSION, Kind, WriteOutcome
from ehr.store.preparation import PreparedOperation

Place = Literal["current", "history", "order_key"]


@dataclass(slots=True)
class Plan:
    """What will be written for one operation; `place` None = nothing."""

    prepared: PreparedOperation
    outcome: WriteOutcome
    place: Place | None = None
    change: Change | None = None
    order_key: str | None = None
    last_version: int = 0
    replaces: bool = False
    """A row is in place: it moves to history when `place` is "current"."""
    holders: frozenset[int] = frozenset()
    """Whom the row in place is about: the answer shows or replaces it."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """One operation, the row in place under its key, and whether the writer sees that row."""

    scope: WriteScope
    prepared: PreparedOperation
    current: asyncpg.Record | None
    now_us: int
    visible: bool = False
    matched: bool = False
    """The row was found by the operation's condition among the rows that the writer may touch."""


def needs_visibility(scope: WriteScope, prepared: PreparedOperation, current: asyncpg.Record) -> bool:
    """Whether what the writer may do with the row depends on his seeing it."""
    if scope.may_change_any_custodian:
        return False
    return (
        current["custodian"] != organisation_key(scope.custodian)
        or scope.id_prefix is None
        or not _owns_id(scope, prepared)
    )


def _owns_id(scope: WriteScope, prepared: PreparedOperation) -> bool:
    return scope.id_prefix is not None and prepared.resource_id.startswith(scope.id_prefix)


def plan(meeting: Meeting) -> Plan:
    """Decide what the operation does.

    Raises:
        NotAllowed: the id is neither seen nor may be chosen; alike for hidden and absent rows.
        NotFound: nothing to delete; alike for hidden and absent rows.
        Forbidden: the row is seen, and it is another organisation's.
        PreconditionFailed: If-Match names another version.
        Conflict: the id's key is taken by another id.
    """
    planned = _PLANNERS[meeting.prepared.operation.method](meeting)
    if meeting.current is not None:
        touched = (meeting.current["holder"], *(meeting.current["others"] or ()))
        planned.holders = frozenset(holder for holder in touched if holder)
    return planned


def _may_touch(meeting: Meeting) -> bool:
    scope, current = meeting.scope, meeting.current
    if current is None:
        return False
    if scope.may_change_any_custodian:
        return True
    if current["custodian"] != organisation_key(scope.custodian):
        return False
    return meeting.visible or meeting.matched or _owns_id(scope, meeting.prepared)


def _plan_create(meeting: Meeting) -> Plan:
    prepared, current = meeting.prepared, meeting.current
    if meeting.matched and current is not None:
        return Plan(prepared, _outcome("matched", meeting, current))
    if current is not None:
        raise Conflict("The id is taken.")
    return _version(meeting, "create", None)


def _plan_update(meeting: Meeting) -> Plan:
    prepared, current = meeting.prepared, meeting.current
    operation = prepared.operation
    if current is None:
        if not prepared.id_is_made and not prepared.id_is_chosen:
            raise NotAllowed("This caller does not choose ids; the server makes them.")
        if operation.if_match is not None:
            raise PreconditionFailed("If-Match names a version, and there is none.")
        return _version(meeting, "create", None)
    _require_touch(meeting)
    if operation.if_match not in {None, ANY_VERSION, current["version"]}:
        raise PreconditionFailed("If-Match names another version than the current one.")
    if operation.order_key is not None:
        settled = _plan_by_order(meeting, current, operation.order_key.text())
        if settled is not None:
            return settled
    return _version(meeting, "create" if current["deleted"] else "update", current)


def _require_touch(meeting: Meeting) -> None:
    current = meeting.current
    if current is None or _may_touch(meeting):
        if current is not None and current["id"] != meeting.prepared.resource_id:
            raise Conflict("The id cannot be used.")
        return
    if meeting.visible:
        raise Forbidden("This record belongs to another organisation.")
    raise NotAllowed("This caller does not choose ids; the server makes them.")


def _plan_delete(meeting: Meeting) -> Plan:
    current, prepared = meeting.current, meeting.prepared
    if current is None or not (meeting.visible or _may_touch(meeting)) or current["id"] != prepared.resource_id:
        raise NotFound(f"There is no {prepared.operation.resource_type} with this id.")
    if not _may_touch(meeting):
        raise Forbidden("This record belongs to another organisation.")
    if prepared.operation.if_match not in {None, ANY_VERSION, current["version"]}:
        raise PreconditionFailed("If-Match names another version than the current one.")
    if current["deleted"]:
        return Plan(prepared, _outcome("unchanged", meeting, current))
    if prepared.operation.order_key is not None and (current["order_key"] or "") > prepared.operation.order_key.text():
        return _version(meeting, "delete", current, superseded=True)
    return _version(meeting, "delete", current)


def _plan_by_order(meeting: Meeting, current: asyncpg.Record, order_key: str) -> Plan | None:
    """What the order of messages says, or None where the message is the newest and brings new content."""
    prepared = meeting.prepared
    order = prepared.operation.order_key
    weak, again = (order.weak, order.again) if order is not None else (False, False)
    in_place = current["order_key"]
    later = in_place is not None and in_place > order_key
    if (weak and (later or in_place is None)) or (again and (later or current["deleted"])):
        return Plan(prepared, _outcome("unchanged", meeting, current))
    if later:
        return _version(meeting, "update", current, superseded=True)
    if not current["deleted"] and prepared.resource is not None and _same_content(prepared, prepared.resource, current):
        place: Place | None = "order_key" if in_place != order_key else None
        outcome = _outcome("unchanged", meeting, current)
        return Plan(prepared, outcome, place, order_key=order_key, last_version=current["last_version"])
    return None


def _same_content(prepared: PreparedOperation, resource: dict[str, Any], current: asyncpg.Record) -> bool:
    stored = open_body(current["body"], current["dictionary"])
    if prepared.body is not None and stored == _body(
        prepared, current["id"], current["version"], current["last_updated"]
    ):
        return True  # a feed spells the same content the same way, mostly
    return _without_version(resource) == _without_version(json_text.parse_stored(stored))


def _body(prepared: PreparedOperation, resource_id: str, version: int, at_us: int) -> bytes:
    """The body of a version as it is stored."""
    return json_text.splice(
        prepared.body or b"",
        resource_id=resource_id,
        version=version,
        last_updated_iso=as_fhir_instant(at_us),
        resource_type=prepared.operation.resource_type,
    )


def _without_version(resource: dict[str, Any]) -> dict[str, bytes]:
    """The encoded elements, so that 72.5 and 72.50 differ; what the server sets in meta is left out."""
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in {"versionId", "lastUpdated"}}
    elements = {name: json_text.encode(value) for name, value in resource.items() if name != "meta"}
    return elements | ({"meta": json_text.encode(meta)} if meta else {})


def _outcome(kind: Kind, meeting: Meeting, current: asyncpg.Record) -> WriteOutcome:
    return WriteOutcome(
        kind,
        meeting.prepared.operation.resource_type,
        current["id"],
        current["version"],
        current["last_updated"],
        None if current["deleted"] else open_body(current["body"], current["dictionary"]),
    )


def _version(
    meeting: Meeting,
    operation: Literal["create", "update", "delete"],
    current: asyncpg.Record | None,
    *,
    superseded: bool = False,
) -> Plan:
    """The next version; a superseded one takes the next number too and goes to history."""
    prepared = meeting.prepared
    version = 1 if current is None else current["last_version"] + 1
    at_us = meeting.now_us if current is None else max(meeting.now_us, current["last_updated"] + 1)
    body = None
    if operation != "delete" and prepared.body is not None:
        body = _body(prepared, prepared.resource_id, version, at_us)
    kinds: dict[str, Kind] = {"create": "created", "update": "updated", "delete": "deleted"}
    kind: Kind = "superseded" if superseded else kinds[operation]
    order = prepared.operation.order_key
    return Plan(
        prepared,
        WriteOutcome(kind, prepared.operation.resource_type, prepared.resource_id, version, at_us, body),
        "history" if superseded else "current",
        _change(meeting, operation, current, version, at_us, superseded=superseded),
        order.text() if order is not None else (current["order_key"] if current is not None else None),
        version,
        replaces=current is not None,
    )


def _change(
    meeting: Meeting,
    operation: Literal["create", "update", "delete"],
    current: asyncpg.Record | None,
    version: int,
    at_us: int,
    *,
    superseded: bool,
) -> Change:
    prepared = meeting.prepared
    previous = None
    if current is not None and not current["deleted"]:
        previous = json_text.parse_stored(open_body(current["body"], current["dictionary"]))
    return Change(
        operation,
        prepared.operation.resource_type,
        prepared.resource_id,
        prepared.key,
        version,
        as_datetime(at_us),
        meeting.scope,
        prepared.resource,
        previous,
        _access(meeting.scope, current),
        superseded,
    )


def _access(scope: WriteScope, current: asyncpg.Record | None) -> RowAccess:
    if current is None:
        return RowAccess(custodian=organisation_key(scope.custodian))
    others = current["others"]
    return RowAccess(
        current["holder"],
        list(others) if others else None,
        current["custodian"],
        current["labels"],
        current["class"],
    )


_PLANNERS = {"create": _plan_create, "update": _plan_update, "delete": _plan_delete}
