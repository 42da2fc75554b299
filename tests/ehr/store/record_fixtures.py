"""Scopes, a projection and an extractor for tests of the store: a row is about the Patient that it names."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from ehr.audit_note import AuditNote
from ehr.changes import Change
from ehr.definitions import RESOURCE_TYPES
from ehr.errors import Issue
from ehr.indexing import IndexEntries
from ehr.keys import row_key
from ehr.row_filter import Everything, Parameters, RowFilter
from ehr.scopes import ReadScope, WriteScope

NOTE = AuditNote("R", "read", "dr.wang", "portal", "first-hospital", ("clinician",), "TREAT", None, "q", "t", "d")


class AboutNamedPatient:
    """Holder = the Patient itself, or the one that subject or patient names."""

    types = frozenset({"Consent", "Encounter", "ServiceRequest"})

    def __init__(self) -> None:
        self.persons_told: list[list[int]] = []
        self.refuse: str | None = None

    async def in_transaction(self, connection: asyncpg.Connection, changes: Sequence[Change]) -> None:  # noqa: ARG002 - the protocol
        for change in changes:
            resource = change.resource or change.previous or {}
            if self.refuse is not None and resource.get("id") == self.refuse:
                raise ValueError(self.refuse)
            if change.resource_type == "Patient":
                change.access.holder = change.key
            else:
                reference = (resource.get("subject") or resource.get("patient") or {}).get("reference", "")
                if reference.startswith("Patient/"):
                    change.access.holder = row_key(*reference.split("/"))

    async def people_changed(self, connection: asyncpg.Connection, persons: Sequence[int]) -> None:  # noqa: ARG002 - the protocol
        self.persons_told.append(list(persons))


class IdentifierTerms:
    """Extracts identifiers as terms, and a date, a number and a quantity where the tests write them."""

    def entries(self, resource_type: str, resource: dict[str, Any]) -> IndexEntries:  # noqa: ARG002 - the protocol
        terms = [row_key("identifier", each["value"]) for each in resource.get("identifier", ())]
        return IndexEntries(terms=terms, dates=[(1, 0, 1)] if "birthDate" in resource else [])


def require_gender(resource: Mapping[str, Any]) -> list[Issue]:
    """One rule of the standard, so that refusals can be seen."""
    if resource.get("gender") in {None, "male", "female"}:
        return []
    return [Issue("error", "code-invalid", "no such gender", "Patient.gender")]


def read_scope(row_filter: RowFilter | None = None, *, epoch: int = 1, internal: bool = False) -> ReadScope:
    return ReadScope(
        actor="dr.wang",
        organisation="first-hospital",
        purpose_of_use="TREAT",
        shape="all",
        row_filter=row_filter or Everything(),
        epoch=epoch,
        highest_class=0,
        valid_until=datetime(2100, 1, 1, tzinfo=UTC),
        decision="test",
        internal=internal,
    )


def loader() -> WriteScope:
    return WriteScope(
        "loader",
        "platform",
        frozenset(RESOURCE_TYPES),
        id_prefix="",
        may_change_any_custodian=True,
        opens_reach=True,
        read=read_scope(),
    )


def clinician(read: ReadScope | None = None, organisation: str = "first-hospital") -> WriteScope:
    return WriteScope("dr.wang", organisation, None, read=read or read_scope())


def feed(organisation: str = "first-hospital") -> WriteScope:
    return WriteScope(organisation, organisation, None, id_prefix=f"{organisation}.", opens_reach=True)


async def match_identifier(
    connection: asyncpg.Connection, row_filter: RowFilter, condition: str, limit: int
) -> list[int]:
    """Criteria of these tests are one identifier value."""
    parameters = Parameters()
    predicate = row_filter.sql("r", parameters)
    term = parameters.add([row_key("identifier", condition)], "bigint[]")
    rows = await connection.fetch(
        f"select r.key from resource r where {predicate} and r.terms @> {term} and not r.deleted limit {limit}",
        *parameters.values,
    )
    return [row["key"] for row in rows]
