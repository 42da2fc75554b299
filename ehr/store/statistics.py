"""Statistics for the planner and an emptied list of pending index entries, as soon as a large write is over.

PostgreSQL's own autovacuum comes by every half a minute at best; until then searches after an import are planned as if
the record were empty, and each of them reads the entries that `fastupdate` has put off.
https://www.postgresql.org/docs/current/gin.html#GIN-FAST-UPDATE
"""

import asyncio
from dataclasses import dataclass, field

import asyncpg

from ehr.store.database import keep_doing

_TABLES = (
    *("resource", "index_date", "index_number", "index_quantity"),
    *("person", "holder_person", "kept_holder", "reach"),
)
_CHANGED = 500
_SHARE = 0.1
_WHILE_WRITING = 4.0
"""Rows changed, as a multiple of those known to the planner, from which the end of the writes is not waited for."""
_LOOK = """select s.relname, s.n_mod_since_analyze as changed, greatest(c.reltuples, 0)::bigint as known,
  s.n_tup_ins + s.n_tup_upd + s.n_tup_del as written
from pg_stat_user_tables s join pg_class c on c.oid = s.relid
where s.relid = any(array(select to_regclass(n) from unnest($1::text[]) n))"""


@dataclass(slots=True)
class Statistics:
    """What the last look found: rows written so far, by table, and those that the list of pending entries may hold."""

    written: dict[str, int] = field(default_factory=dict)
    pending: bool = True

    async def look(self, connection: asyncpg.Connection) -> list[str]:
        """Analyze what has changed much, if it has come to rest; returns those tables."""
        rows = await connection.fetch(_LOOK, list(_TABLES))
        due = [row["relname"] for row in rows if self._is_due(row)]
        written = {row["relname"]: row["written"] for row in rows}
        at_rest = written.get("resource") == self.written.get("resource")
        self.pending = self.pending or not at_rest
        self.written = written
        for table in due:
            await connection.execute(f"analyze {table}")
        if self.pending and at_rest:
            await connection.execute("select gin_clean_pending_list('resource_terms')")
            self.pending = False
        return due

    def _is_due(self, row: asyncpg.Record) -> bool:
        changed, known = row["changed"], row["known"]
        if changed < max(_CHANGED, _SHARE * known):
            return False
        at_rest: bool = row["written"] == self.written.get(row["relname"])
        return at_rest or bool(changed >= max(10 * _CHANGED, _WHILE_WRITING * known))


async def keep_statistics(url: str, *, every_s: float = 2.0, stop: asyncio.Event | None = None) -> None:
    """Look every two seconds until `stop` is set; a lost database is waited for."""
    await keep_doing(url, Statistics().look, name="the statistics", every_s=every_s, stop=stop or asyncio.Event())
