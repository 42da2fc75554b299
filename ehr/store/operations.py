"""What a caller asks of the record and what comes back: operations, outcomes, versions.

https://hl7.org/fhir/R4/http.html
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ehr.errors import Issue, KanglianError

if TYPE_CHECKING:
    from ehr.search import SearchQuery

Method = Literal["create", "update", "delete"]
Kind = Literal["created", "updated", "deleted", "unchanged", "superseded", "matched", "nothing", "failed"]


@dataclass(frozen=True, slots=True)
class OrderKey:
    """The place of a message among all messages about a resource (DESIGN 4.7), whatever order they arrive in.

    `event_time_us`: EVN-2, else MSH-7, microseconds since 1970 UTC; `control_id`: MSH-10 breaks ties. `weak`: the
    message only names the resource in passing (PID, PV1, NK1 of an ORU): it creates what is missing and gives way to
    every other message; among weak ones the newest holds. `again`: the message was written before (a replay), so that
    where a later one holds, its version is in the history already.
    """

    event_time_us: int
    control_id: str
    weak: bool = False
    again: bool = False

    def text(self) -> str:
        """The form in which the row keeps it; compares as text with collation C as the keys compare."""
        return f"{0 if self.weak else 1}{max(self.event_time_us, 0):020d} {self.control_id}"


@dataclass(slots=True)
class WriteOperation:
    """One create, update or delete.

    Either `body` (the bytes as sent) or `resource` (parsed, decimals as Decimal) is given for create and update; with
    both, `body` is minified and `resource` what it says. `condition` makes the operation conditional, on `matches` of
    its search.
    """

    method: Method
    resource_type: str
    resource_id: str | None = None
    body: bytes | None = None
    resource: dict[str, Any] | None = None
    if_match: int | None = None
    """The version that must be the current one; `ANY_VERSION` asks only that there is one."""
    condition: "SearchQuery | None" = None
    expected_id: str | None = None
    """With `condition`: the id that an earlier look-up found ("" = none); another finding now is a Conflict."""
    order_key: OrderKey | None = None
    place: str | None = None
    """FHIRPath of the resource in what was sent ("Bundle.entry[3].resource"), for naming its problems."""


ANY_VERSION = 0


def named(error: KanglianError, place: str | None) -> KanglianError:
    """The same refusal, its elements named from the whole that was sent."""
    if place is None:
        return error
    issues = []
    for issue in error.issues:
        tail = (issue.expression or "").partition(".")[2]
        issues.append(Issue(issue.severity, issue.code, issue.diagnostics, f"{place}.{tail}" if tail else place))
    return type(error)(*issues)


@dataclass(slots=True)
class WriteOutcome:
    """What became of one operation.

    `matched`: a conditional create found one row and wrote nothing; `nothing`: a conditional delete found none;
    `unchanged`: a feed repeated the current content, or a deleted resource was deleted again; `superseded`: an older
    message went to history only. `version` 0 where there is none.
    """

    kind: Kind
    resource_type: str
    resource_id: str
    version: int = 0
    last_updated_us: int = 0
    body: bytes | None = None
    """JSON bytes of the version that is current now; None after a delete."""
    error: KanglianError | None = None


@dataclass(slots=True)
class StoredVersion:
    """One version as kept; `body` is JSON exactly as it is served, None for a deletion.

    Nobody changes one; it is not frozen, since a page makes twenty and freezing makes each five times as dear.
    """

    resource_type: str
    resource_id: str
    version: int
    last_updated_us: int
    deleted: bool
    body: bytes | None
    key: int
    holder: int
    others: tuple[int, ...]
    custodian: int
    labels: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of an inbox row, committed together with the records of its message."""

    inbox: int
    state: Literal["done", "quarantined"]
    cause: str | None = None
    place: str | None = None
    loss: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class PatientMerge:
    """A hospital's A40: the Patient `retired_id` is the same person as `survivor_id`, both of the scope's custodian."""

    survivor_id: str
    retired_id: str
    source: str
    """Trace of the message."""
