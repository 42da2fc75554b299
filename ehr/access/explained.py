"""One row with its access columns, and whether a filter admits it, for explanations to the operator."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from ehr.access.classes import FiledConsent
from ehr.keys import row_key
from ehr.row_filter import Parameters, RowFilter


@dataclass(frozen=True, slots=True)
class ExplainedRow:
    """What decides about a row; never its content."""

    visible: bool
    type: int
    holders: tuple[int, ...]
    custodian: int
    labels: int
    terms: tuple[int, ...]
    at: int | None
    consent_class: int


async def read_row(
    connection: asyncpg.Pool, row_filter: RowFilter, resource_type: str, resource_id: str
) -> ExplainedRow | None:
    """The access columns of a current row, hidden or not; None where there is none."""
    parameters = Parameters()
    key = parameters.add(row_key(resource_type, resource_id), "bigint")
    row = await connection.fetchrow(
        f"""select {row_filter.sql("r", parameters)} as visible, r.type, r.holder, r.others, r.custodian, r.labels,
          r.terms, r.at, coalesce((select p.class from holder_person h join person p on p.person = h.person
            where h.holder = r.holder), 0) as class
        from resource r where r.key = {key} and not r.deleted""",
        *parameters.values,
    )
    if row is None:
        return None
    holders = tuple(holder for holder in (row["holder"], *(row["others"] or ())) if holder)
    return ExplainedRow(
        row["visible"],
        row["type"],
        holders,
        row["custodian"],
        row["labels"],
        tuple(row["terms"]),
        row["at"],
        row["class"],
    )


async def consents_in_force(connection: asyncpg.Pool, holders: Sequence[int]) -> list[FiledConsent]:
    """The Consents in force of the persons behind these holders."""
    rows = await connection.fetch(
        """select distinct c.consent, c.holder, c.consent_id, c.version, c.filed, c.rules::text as rules
        from holder_person a join holder_person b on b.person = a.person join consent_rule c on c.holder = b.holder
        where a.holder = any($1::bigint[]) order by c.consent""",
        list(holders),
    )
    return [
        FiledConsent(row["consent"], row["holder"], row["consent_id"], row["version"], row["filed"], row["rules"])
        for row in rows
    ]
