"""Lines of an import, written some hundred at a time: one bad line is found, told and left out, the rest goes in.

A line that was written before the last attempt ended is found written: its id is the file's own, or is made of the job
and the line, and content that is there already makes no version.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from ehr import json_text, transaction
from ehr.audit_note import AuditNote
from ehr.bundle_links import conditional_references
from ehr.errors import Conflict, Issue, KanglianError, Malformed, StaleScope, Unavailable
from ehr.scopes import WriteScope
from ehr.store import Store
from ehr.store.operations import OrderKey, WriteOperation

Decide = Callable[[], Awaitable[WriteScope]]
"""What the caller may write now."""
_ATTEMPTS = 5
_PAUSE_S = 0.5
_ROUNDS = 8
"""Rounds in which bad lines are taken out one by one; after that the wave is halved."""


class _Head(msgspec.Struct):
    resourceType: str  # noqa: N815 - FHIR's name
    id: str | None = None
    type: msgspec.Raw = msgspec.Raw(b"")


_head = msgspec.json.Decoder(_Head).decode


@dataclass(frozen=True, slots=True)
class Line:
    """One resource or Bundle, and where it stands."""

    number: int
    content: bytes
    maybe_written: bool = False
    """An attempt that was killed may have written it."""


@dataclass(slots=True)
class WaveOutcome:
    """What became of the lines of a wave."""

    last_line: int = 0
    resources: int = 0
    errors: list[tuple[int, Sequence[Issue]]] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    """Lines that name a row by criteria that match nothing yet."""


@dataclass(slots=True)
class WaveWriter:
    """Writes the lines of one source."""

    store: Store
    decide: Decide
    refresh: Callable[[], Awaitable[None]]
    note: AuditNote
    identity: str
    """Of the job and the source: what ids of lines without one are made of."""
    only_type: str | None
    at_us: int
    """When the import was asked for: the place of its lines among messages about the same rows."""

    async def write(self, lines: Sequence[Line], *, last: bool = False) -> WaveOutcome:
        """Write the lines; what names rows that are not there waits, or is refused the `last` time.

        Raises:
            Unavailable: the database is away; what of the lines was written is found written next time.
        """
        outcome = WaveOutcome(lines[-1].number)
        operations: dict[int, WriteOperation] = {}
        bundles: list[Line] = []
        for line in lines:
            try:
                head = self._head(line)
            except KanglianError as error:
                outcome.errors.append((line.number, error.issues))
                continue
            if _is_run(head, line.content):
                bundles.append(line)
            else:
                operations[line.number] = self._operation(line, head)
        await self._together(operations, outcome)
        for line in bundles:
            await self._alone(line, outcome, last=last)
        outcome.errors.sort(key=lambda error: error[0])
        return outcome

    def _head(self, line: Line) -> _Head:
        try:
            head = _head(line.content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            json_text.parse(line.content)  # says what is wrong with the text, where it is no JSON
            raise Malformed("This is no resource: a resourceType and an id are texts.") from error
        if self.only_type is not None and head.resourceType != self.only_type:
            raise Malformed(f"This file holds {self.only_type}, the line is of another type.")
        return head

    def _operation(self, line: Line, head: _Head) -> WriteOperation:
        operation = WriteOperation("update", head.resourceType, head.id, line.content, place=_place(line.number))
        if head.id is None:
            operation.method, operation.resource_id = "create", self._made(line.number, 0)
        elif line.maybe_written:
            operation.order_key = OrderKey(self.at_us, "")
        return operation

    def _made(self, line: int, entry: int) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.identity}/{line}/{entry}"))

    # --- resources

    async def _together(self, operations: dict[int, WriteOperation], outcome: WaveOutcome) -> None:
        """Write all of them in one transaction, less those that are refused."""
        for _ in range(_ROUNDS):
            if not operations:
                return
            try:
                await self._decided(lambda scope: self.store.write(scope, list(operations.values()), self.note))
            except Unavailable:
                raise
            except KanglianError as error:
                if not _taken_out(error, operations, outcome):
                    break
            else:
                outcome.resources += len(operations)
                return
        numbers = list(operations)
        if len(numbers) == 1:
            await self._last(numbers[0], operations[numbers[0]], outcome)
            return
        half = len(numbers) // 2
        for part in (numbers[:half], numbers[half:]):
            await self._together({number: operations[number] for number in part}, outcome)

    async def _last(self, number: int, operation: WriteOperation, outcome: WaveOutcome) -> None:
        """One operation whose refusal names no place."""
        try:
            await self._decided(lambda scope: self.store.write(scope, [operation], self.note))
        except Unavailable:
            raise
        except KanglianError as error:
            outcome.errors.append((number, error.issues))
        else:
            outcome.resources += 1

    async def _decided(self, act: Callable[[WriteScope], Awaitable[Any]]) -> Any:
        """Write under the decision of now; where the record is busy, after a pause."""
        for attempt in range(_ATTEMPTS):
            try:
                return await act(await self.decide())
            except StaleScope:
                await self.refresh()
            except Unavailable:
                if attempt + 1 == _ATTEMPTS:
                    raise
                await asyncio.sleep(_PAUSE_S * 2**attempt)
        raise Unavailable("Policies change too often now.")

    # --- Bundles, and resources that name others by criteria

    async def _alone(self, line: Line, outcome: WaveOutcome, *, last: bool) -> None:
        """Run one Bundle: a transaction as a whole, a batch entry by entry."""
        try:
            bundle = self._repeatable(line)
            order = [OrderKey(self.at_us, "")] * len(bundle["entry"]) if line.maybe_written else None
            results = await self._decided(
                lambda scope: transaction.run(self.store, scope, bundle, self.note, order_keys=order)
            )
        except Unavailable:
            raise
        except KanglianError as error:
            if not last and any(issue.code == "not-found" for issue in error.issues):
                outcome.waiting.append(line.number)
            else:
                outcome.errors.append((line.number, error.issues))
            return
        for place, result in enumerate(results):
            if result.error is None:
                outcome.resources += 1
            else:
                named = (
                    replace(issue, diagnostics=f"entry {place}: {issue.diagnostics}") for issue in result.error.issues
                )
                outcome.errors.append((line.number, tuple(named)))

    def _repeatable(self, line: Line) -> dict[str, Any]:
        """The Bundle, its new resources under ids that another attempt would give them too."""
        parsed = json_text.parse(line.content)
        if parsed.get("resourceType") != "Bundle":
            name = f"{parsed['resourceType']}/{parsed['id']}" if parsed.get("id") else parsed["resourceType"]
            request = {"method": "PUT" if parsed.get("id") else "POST", "url": name}
            entry = {"resource": parsed, "request": request}
            parsed = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
        entries = parsed.get("entry", [])
        if not isinstance(entries, list):
            raise Malformed("Bundle.entry is a list.")
        parsed["entry"] = [self._with_id(line.number, place, entry) for place, entry in enumerate(entries)]
        return parsed

    def _with_id(self, line: int, place: int, entry: Any) -> Any:
        request = entry.get("request") if isinstance(entry, dict) else None
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(request, dict) or not isinstance(resource, dict):
            return entry
        if (
            request.get("method") != "POST"
            or "ifNoneExist" in request
            or request.get("url") != resource.get("resourceType")
        ):
            return entry
        made = self._made(line, place)
        new = {**request, "method": "PUT", "url": f"{resource['resourceType']}/{made}"}
        return {**entry, "resource": {**resource, "id": made}, "request": new}


_RUN = frozenset({b'"transaction"', b'"batch"'})


def _is_run(head: _Head, content: bytes) -> bool:
    """Whether it is a Bundle to run, or a resource that names others by criteria."""
    if head.resourceType == "Bundle" and bytes(head.type) in _RUN:
        return True
    return b"?" in content and bool(conditional_references(json_text.minify(content)))


def _place(number: int) -> str:
    return f"line{number}"


def _taken_out(error: KanglianError, operations: dict[int, WriteOperation], outcome: WaveOutcome) -> bool:
    """Take the lines that a refusal names out of the wave; whether it names any."""
    refused = _refused_lines(error, operations)
    for number, issues in refused.items():
        if isinstance(error, Conflict) and operations[number].method == "create":
            outcome.resources += 1  # the id is made of the line: another attempt wrote it
        else:
            outcome.errors.append((number, issues))
        del operations[number]
    return bool(refused)


def _refused_lines(error: KanglianError, operations: dict[int, WriteOperation]) -> dict[int, list[Issue]]:
    """The lines that a refusal names, with their issues, elements named from the resource."""
    found: dict[int, list[Issue]] = {}
    for issue in error.issues:
        place, _, tail = (issue.expression or "").partition(".")
        digits = place.removeprefix("line")
        if place.startswith("line") and digits.isdigit() and int(digits) in operations:
            name = operations[int(digits)].resource_type
            found.setdefault(int(digits), []).append(replace(issue, expression=f"{name}.{tail}" if tail else name))
    return found
