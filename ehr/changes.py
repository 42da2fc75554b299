"""One change of one resource, and the protocol by which packages above `ehr` take part in its transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

import asyncpg

from ehr.scopes import WriteScope

Operation = Literal["create", "update", "delete"]


@dataclass(slots=True)
class RowAccess:
    """The access columns of a row; projections fill them in before the row is written."""

    holder: int = 0
    """Row key of the first Patient whom the row is about; 0 for rows about nobody."""
    others: list[int] | None = None
    """Row keys of further Patients; the row is visible only where all of them are."""
    custodian: int = 0
    labels: int = 0
    """Bit mask of sensitivities and confidentiality, see `consent.labels`; 0 = unlabelled."""
    consent_class: int = 0


@dataclass(slots=True)
class Change:
    """A version about to be written. `resource` and `previous` are parsed JSON (numbers as Decimal), read only."""

    operation: Operation
    resource_type: str
    resource_id: str
    key: int
    version: int
    at: datetime
    scope: WriteScope
    resource: dict[str, Any] | None
    previous: dict[str, Any] | None
    access: RowAccess = field(default_factory=RowAccess)
    superseded: bool = False
    """True where an older message only adds history (DESIGN 4.7): the current version stays."""


class Projection(Protocol):
    """What must change in the record's own transaction, but is known only above `ehr`."""

    types: frozenset[str]
    """Resource types that this projection must see for the record to be safe; `ehr` refuses to open for writes until
    Consent, Encounter and ServiceRequest are covered."""

    async def in_transaction(self, connection: asyncpg.Connection, changes: Sequence[Change]) -> None:
        """Fill in `change.access` and write the projection's own tables, before the rows themselves are written."""


@runtime_checkable
class PeopleProjection(Protocol):
    """A projection that also keeps something per person (consent classes): told when people were linked or parted."""

    async def people_changed(self, connection: asyncpg.Connection, persons: Sequence[int]) -> None:
        """Recompute what is kept for these persons; `holder_person` already says who they are now.

        After a merge the strictest holds until reviewed (`person.under_review`).
        """
