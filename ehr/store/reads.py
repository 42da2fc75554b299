"""Read by id: concurrent reads share one statement, which also writes their audit rows and commits once (DESIGN 4.5).

https://hl7.org/fhir/R4/http.html#read
"""

import asyncio
from dataclasses import dataclass, field
from functools import lru_cache

import asyncpg

from ehr.audit_note import AuditNote
from ehr.errors import Gone, NotFound, StaleScope
from ehr.keys import row_key
from ehr.scopes import ReadScope
from ehr.store import audit
from ehr.store.bodies import open_body
from ehr.store.clock import now_us
from ehr.store.coalescing import Coalescer
from ehr.store.database import database_errors
from ehr.store.operations import StoredVersion
from ehr.store.scope_sql import FilterCache, RenderedFilter

_MOST_READS = 128
_MOST_SCOPES = 8
_OWN_VALUES = 8

_ASKED = """with asked as materialized (
  select * from unnest($1::bigint[], $2::text[], $3::smallint[], $4::text[], $5::text[], $6::bigint[], $7::integer[])
    with ordinality as a(key, id, scope, action, entry, epoch, highest_class, n)
), found as ("""
_FOUND = """
  select a.n, r.version, r.last_updated, r.deleted, r.body, r.dictionary, r.holder, r.others, r.custodian, r.labels
  from asked a join resource r on r.key = a.key where a.scope = {scope} and r.id = a.id and {predicate}"""
_LOGGED = f"""
), logged as (
  insert into audit_row (at, action, outcome, holders, entry)
  select $8::bigint, a.action, case when f.n is null or f.deleted then {audit.REFUSED} else {audit.SUCCESS} end,
    case when f.n is null then '{{}}'::bigint[] else {audit.holders_sql("f")} end, a.entry::json
  from asked a cross join policy_state s left join found f on f.n = a.n
  where a.epoch is null or (a.epoch = s.epoch and a.highest_class = s.highest_class)
)
select f.n, f.version, f.last_updated, f.deleted, f.body, f.dictionary, f.holder, f.others, f.custodian, f.labels,
  s.epoch, s.highest_class
from policy_state s left join found f on true"""


@dataclass(slots=True, eq=False)
class _Read:
    scope: ReadScope
    resource_type: str
    resource_id: str
    key: int
    action: str
    entry: str
    future: "asyncio.Future[asyncpg.Record | None]"
    weight: int = field(default=1)


@lru_cache(maxsize=1_024)
def _statement(found: str, shapes: tuple[tuple[str, int], ...]) -> str:
    """The statement for scopes of these predicate texts and numbers of values, in this order."""
    parts = []
    offset = _OWN_VALUES
    for number, (text, values) in enumerate(shapes):
        predicate = RenderedFilter.place(text, offset)
        parts.append(found.format(scope=number, predicate=predicate))
        offset += values
    return _ASKED + "\n  union all".join(parts) + _LOGGED


class Reader:
    """Serves reads by id from one pool."""

    found = _FOUND
    """Finds the asked rows of one scope, under the alias `r`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Take the pool of connections for keyed statements."""
        self._pool = pool
        self._filters = FilterCache("r")
        self._queue: Coalescer[_Read] = Coalescer(self._serve, most=_MOST_READS)

    async def close(self) -> None:
        """Answer what waits, then take no more."""
        await self._queue.close()

    async def read(self, scope: ReadScope, resource_type: str, resource_id: str, note: AuditNote) -> StoredVersion:
        """The current version of `resource_type/resource_id`; its audit row is durable when this returns.

        Raises:
            NotFound: absent or hidden, which look alike down to the audit row.
            Gone: deleted, and the caller may see the row.
            StaleScope: decide again, once.
            Unavailable: the database is down, full or too slow.
        """
        request = _Read(
            scope,
            resource_type,
            resource_id,
            self.key_of(resource_type, resource_id),
            note.action,
            audit.note_json(note),
            asyncio.get_running_loop().create_future(),
        )
        await self._queue.submit(request)
        row = request.future.result()
        if row is None:
            raise NotFound(f"There is no {resource_type} with this id.")
        if row["deleted"]:
            raise Gone(f"This {resource_type} was deleted.")
        return self.version_of(row, resource_type, resource_id, request.key)

    def key_of(self, resource_type: str, resource_id: str) -> int:
        """The key of the row whose persons, labels and custodian decide."""
        return row_key(resource_type, resource_id)

    def version_of(self, row: asyncpg.Record, resource_type: str, resource_id: str, key: int) -> StoredVersion:
        """What is shown of a row that was found."""
        return version_of(row, resource_type, resource_id, key)

    async def _serve(self, batch: list[_Read]) -> None:
        groups: dict[ReadScope, list[_Read]] = {}
        for request in batch:
            groups.setdefault(request.scope, []).append(request)
        rendered = sorted(((self._filters.get(scope), scope) for scope in groups), key=lambda pair: pair[0].text)
        for start in range(0, len(rendered), _MOST_SCOPES):
            part = rendered[start : start + _MOST_SCOPES]
            await self._serve_scopes([(filter_, groups[scope]) for filter_, scope in part])

    async def _serve_scopes(self, groups: list[tuple[RenderedFilter, list[_Read]]]) -> None:
        asked = [(number, request) for number, (_, requests) in enumerate(groups) for request in requests]
        values = [
            [request.key for _, request in asked],
            [request.resource_id for _, request in asked],
            [number for number, _ in asked],
            [request.action for _, request in asked],
            [request.entry for _, request in asked],
            [_epoch_of(request.scope) for _, request in asked],
            [request.scope.highest_class for _, request in asked],
            now_us(),
            *(value for filter_, _ in groups for value in filter_.values),
        ]
        statement = _statement(self.found, tuple((filter_.text, len(filter_.values)) for filter_, _ in groups))
        with database_errors():
            async with self._pool.acquire() as connection:
                rows = await connection.fetch(statement, *values)
        epoch, highest_class = rows[0]["epoch"], rows[0]["highest_class"]
        found = {row["n"]: row for row in rows}
        for n, (_, request) in enumerate(asked, start=1):
            if request.future.done():
                continue
            scope = request.scope
            if scope.follows_policy and (scope.epoch, scope.highest_class) != (epoch, highest_class):
                request.future.set_exception(StaleScope("Policies or consents changed; decide again."))
            else:
                request.future.set_result(found.get(n))


def version_of(row: asyncpg.Record, resource_type: str, resource_id: str, key: int) -> StoredVersion:
    """The version that a row of `resource` or `resource_history` holds."""
    return StoredVersion(
        resource_type,
        resource_id,
        row["version"],
        row["last_updated"],
        row["deleted"],
        None if row["deleted"] else open_body(row["body"], row["dictionary"]),
        key,
        row["holder"],
        tuple(row["others"] or ()),
        row["custodian"],
        row["labels"],
    )


def _epoch_of(scope: ReadScope) -> int | None:
    """The epoch to compare: null where the scope lasts; -1, which no epoch equals, for readers without audit row."""
    if scope.internal:
        return -1
    return None if scope.lasting else scope.epoch
