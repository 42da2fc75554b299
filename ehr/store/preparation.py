"""What is done to an operation before it waits for its transaction: parsing, checking, extraction of index entries."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ehr import json_text
from ehr.definitions import is_resource_type, type_number
from ehr.errors import Forbidden, Invalid, Issue, KanglianError, Malformed, NotAllowed
from ehr.indexing import IndexEntries
from ehr.keys import new_resource_id, row_key
from ehr.scopes import WriteScope
from ehr.store.operations import WriteOperation, named
from ehr.store.originals import is_original
from ehr.store.repeated import Repeated

Check = Callable[[Mapping[str, Any]], Sequence[Issue]]

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_SERVERS_OWN = frozenset({"AuditEvent", "Provenance"})
_NEVER_STORED = frozenset({"Parameters"})


class EntryExtractor(Protocol):
    """`ehr.indexing.Extractor`."""

    def entries(self, resource_type: str, resource: dict[str, Any]) -> IndexEntries:
        """The index entries of a resource."""


@dataclass(slots=True)
class PreparedOperation:
    """An operation with everything that does not depend on the row in place."""

    operation: WriteOperation
    type_number: int
    resource_id: str
    """The id asked for or made; "" for a condition that has not been resolved."""
    key: int
    id_is_chosen: bool
    """The client chose the id, and its scope lets it."""
    id_is_made: bool
    """The server makes the id, now or once a condition has found nothing."""
    resource: dict[str, Any] | None
    body: bytes | None
    entries: IndexEntries | None


class Preparation:
    """Prepares operations with one checker and one extractor."""

    def __init__(self, check: Check, extractor: EntryExtractor) -> None:
        """Take `ehr.validation.check` and an `ehr.indexing.Extractor`."""
        self._check = check
        self._extractor = extractor
        self._repeated = Repeated()

    def prepare_all(self, scope: WriteScope, operations: Sequence[WriteOperation]) -> list[PreparedOperation]:
        """Prepare operations that are written together.

        Raises:
            Invalid: problems of all of them at once, named from the whole that was sent.
            KanglianError: as `prepare`, of the first that is refused otherwise.
        """
        prepared: list[PreparedOperation] = []
        problems: list[Issue] = []
        for operation in operations:
            try:
                prepared.append(self.prepare(scope, operation))
            except Invalid as error:
                problems += named(error, operation.place).issues
            except KanglianError as error:
                raise named(error, operation.place) from error
        if problems:
            raise Invalid(*problems)
        return prepared

    def prepare(self, scope: WriteScope, operation: WriteOperation) -> PreparedOperation:
        """Parse, check and index one operation.

        Raises:
            Malformed: the body is not JSON, or its id is not that of the address (R4 http 3.1.0.4).
            Invalid: the resource breaks a rule; all problems at once.
            Forbidden: the scope does not hold this type.
            NotAllowed: no such type is stored.
        """
        if operation.resource_type in _NEVER_STORED:
            raise self._not_stored(operation)
        number = _require_type(scope, operation.resource_type, operation.method)
        if operation.method == "delete":
            return _prepared(operation, number, operation.resource_id or "", scope, made=False)
        resource, body = _content(operation)
        if resource.get("resourceType") != operation.resource_type:
            raise Invalid(Issue("error", "invalid", f"The body is not a {operation.resource_type}.", "resourceType"))
        given = resource.get("id")
        resource_id = _id_of(operation, resource)
        resource = {**resource, "id": resource_id} if resource_id else resource
        from_message = operation.order_key is not None
        entries = self._repeated.entries(body) if from_message else None
        if entries is None:
            problems = [issue for issue in self._check(resource) if issue.severity in {"error", "fatal"}]
            if problems:
                raise Invalid(*problems)
            entries = self._extractor.entries(operation.resource_type, resource)
            if from_message:
                self._repeated.met(body, entries)
        made = operation.method == "create" or (operation.condition is not None and not isinstance(given, str))
        prepared = _prepared(operation, number, resource_id, scope, made=made)
        prepared.resource, prepared.body, prepared.entries = resource, body, entries
        return prepared

    def _not_stored(self, operation: WriteOperation) -> KanglianError:
        """The refusal of a type that is checked, not stored; it names what is wrong with the body, too."""
        refusal = _not_stored_issue(operation.resource_type)
        problems: list[Issue] = []
        if operation.method != "delete":
            resource, _ = _content(operation)
            if resource.get("resourceType") != operation.resource_type:
                problems = [Issue("error", "invalid", f"The body is not a {operation.resource_type}.", "resourceType")]
            else:
                problems = [issue for issue in self._check(resource) if issue.severity in {"error", "fatal"}]
        return Invalid(*problems, refusal) if problems else NotAllowed(refusal)


def _not_stored_issue(resource_type: str) -> Issue:
    text = f"{resource_type} is checked, not stored: there is nothing of this type to read or write here."
    return Issue("error", "not-supported", text)


def _require_type(scope: WriteScope, resource_type: str, method: str) -> int:
    if not is_resource_type(resource_type):
        raise NotAllowed(f"{resource_type} is not stored here.")
    allowed = resource_type not in _SERVERS_OWN if scope.types is None else resource_type in scope.types
    if not allowed or resource_type in scope.refused_types or (resource_type, method) in scope.refused_methods:
        raise Forbidden(f"This caller does not write {resource_type}.")
    return type_number(resource_type)


def _content(operation: WriteOperation) -> tuple[dict[str, Any], bytes]:
    if operation.resource is not None:
        return operation.resource, operation.body or json_text.encode(operation.resource)
    if operation.body is None:
        raise Invalid("There is no resource to write.")
    return json_text.parse_body(operation.body)


def _id_of(operation: WriteOperation, resource: dict[str, Any]) -> str:
    """The id that the row will have: the address's for an update, the server's for a create."""
    if operation.method == "create":
        return operation.resource_id or new_resource_id()
    given = resource.get("id")
    if operation.condition is not None:
        return given if isinstance(given, str) else operation.resource_id or ""
    if given != operation.resource_id:
        raise Malformed(Issue("error", "invalid", "The body's id is not the id of the address.", "Resource.id"))
    return operation.resource_id or ""


def _prepared(
    operation: WriteOperation, number: int, resource_id: str, scope: WriteScope, *, made: bool
) -> PreparedOperation:
    if resource_id and not _ID.fullmatch(resource_id):
        raise Invalid(Issue("error", "value", "An id has 1 to 64 letters, digits, dots or hyphens.", "Resource.id"))
    chosen = (
        operation.method == "update"
        and bool(resource_id)
        and not made
        and scope.id_prefix is not None
        and resource_id.startswith(scope.id_prefix)
        and not is_original(operation.resource_type, resource_id)
    )
    key = row_key(operation.resource_type, resource_id) if resource_id else 0
    return PreparedOperation(operation, number, resource_id, key, chosen, made, None, None, None)
