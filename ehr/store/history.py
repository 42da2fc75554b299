"""Versions of one resource: vread and history.

A version is visible by its own access columns and by those of the current row (DESIGN 4.3).
https://hl7.org/fhir/R4/http.html#vread, https://hl7.org/fhir/R4/http.html#history
"""

from dataclasses import dataclass

import asyncpg

from ehr.audit_note import AuditNote
from ehr.errors import Gone, NotFound
from ehr.keys import row_key
from ehr.row_filter import Parameters
from ehr.scopes import ReadScope
from ehr.store import audit
from ehr.store.clock import now_us
from ehr.store.database import database_errors
from ehr.store.operations import StoredVersion
from ehr.store.reads import version_of
from ehr.store.scope_sql import require_fresh

_COLUMNS = "version, last_updated, deleted, body, dictionary, holder, others, custodian, labels"


@dataclass(frozen=True, slots=True)
class History:
    """A page of versions, newest first; `total` counts all that the caller may see."""

    versions: tuple[StoredVersion, ...]
    total: int
    more: bool


def _versions_sql(scope: ReadScope, key: int, resource_id: str, parameters: Parameters) -> str:
    """The visible versions of one resource: the current row r, and the rows h of its history."""
    key_sql, id_sql = parameters.add(key, "bigint"), parameters.add(resource_id, "text")
    current = scope.row_filter.sql("r", parameters)
    past = scope.row_filter.sql("h", parameters)
    r_columns = ", ".join(f"r.{name}" for name in _COLUMNS.split(", "))
    h_columns = ", ".join(f"h.{name}" for name in _COLUMNS.split(", "))
    return (
        f"select {r_columns} from resource r where r.key = {key_sql} and r.id = {id_sql} and {current} "
        f"union all select {h_columns} from resource r join resource_history h on h.key = r.key "
        f"where r.key = {key_sql} and r.id = {id_sql} and {current} and {past}"
    )


class Historian:
    """Serves vread and history; each is one statement that writes its audit row itself."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Take the pool of connections for keyed statements."""
        self._pool = pool

    async def vread(
        self, scope: ReadScope, resource_type: str, resource_id: str, version: int, note: AuditNote
    ) -> StoredVersion:
        """One version of a resource.

        Raises:
            NotFound: absent or hidden.
            Gone: that version is the deletion.
            StaleScope: decide again, once.
            Unavailable: the database is down, full or too slow.
        """
        parameters = Parameters()
        key = row_key(resource_type, resource_id)
        versions = _versions_sql(scope, key, resource_id, parameters)
        wanted = parameters.add(version, "bigint")
        page = f"select v.* from v where v.version = {wanted}"
        rows = await self._fetch(scope, note, parameters, versions, page)
        if rows[0]["version"] is None:
            raise NotFound(f"There is no such version of a {resource_type} with this id.")
        if rows[0]["deleted"]:
            raise Gone(f"This version is the deletion of the {resource_type}.")
        return version_of(rows[0], resource_type, resource_id, key)

    async def history(  # noqa: PLR0917 - the interaction's own parameters
        self,
        scope: ReadScope,
        resource_type: str,
        resource_id: str,
        note: AuditNote,
        count: int = 50,
        before_version: int | None = None,
        since_us: int | None = None,
    ) -> History:
        """A page of a resource's versions, newest first, deletions included.

        Raises:
            NotFound: the resource is absent or hidden.
            StaleScope: decide again, once.
            Unavailable: the database is down, full or too slow.
        """
        parameters = Parameters()
        key = row_key(resource_type, resource_id)
        versions = _versions_sql(scope, key, resource_id, parameters)
        since = "true" if since_us is None else f"v.last_updated >= {parameters.add(since_us, 'bigint')}"
        before = "true" if before_version is None else f"v.version < {parameters.add(before_version, 'bigint')}"
        limit = parameters.add(count + 1, "bigint")
        page = (
            f"select v.*, (select count(*) from v where {since}) as total from v where {since} and {before} "
            f"order by v.version desc limit {limit}"
        )
        rows = await self._fetch(scope, note, parameters, versions, page)
        if rows[0]["known"] == 0:
            raise NotFound(f"There is no {resource_type} with this id.")
        shown = [row for row in rows if row["version"] is not None]
        return History(
            tuple(version_of(row, resource_type, resource_id, key) for row in shown[:count]),
            shown[0]["total"] if shown else 0,
            len(shown) > count,
        )

    async def _fetch(
        self, scope: ReadScope, note: AuditNote, parameters: Parameters, versions_sql: str, page_sql: str
    ) -> list[asyncpg.Record]:
        """Rows of the page (one of nulls where it is empty), each with `known`: how many versions are visible."""
        # a version that is not there is refused; a page of history may be empty
        shown = "found" if "v.version =" in page_sql else "v"
        holders = (
            "(select coalesce(array_agg(distinct u.holder), '{}') from "
            f"(select unnest({audit.holders_sql('f')}) as holder from found f) u)"
        )
        logged = audit.insert_sql(
            parameters,
            note,
            now_us(),
            outcome_sql=f"case when exists (select from {shown}) then {audit.SUCCESS} else {audit.REFUSED} end",
            holders_sql=holders,
            where_sql="false" if scope.internal else audit.fresh_sql(scope, parameters),
        )
        statement = (
            f"with v as materialized ({versions_sql}), found as materialized ({page_sql}), logged as ({logged}) "
            "select f.*, s.epoch, s.highest_class, (select count(*) from v) as known "
            "from policy_state s left join found f on true order by f.version desc"
        )
        with database_errors():
            async with self._pool.acquire() as connection:
                rows: list[asyncpg.Record] = await connection.fetch(statement, *parameters.values)
        require_fresh(scope, rows[0]["epoch"], rows[0]["highest_class"])
        return rows
