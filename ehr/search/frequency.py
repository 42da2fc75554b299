"""Which index terms are common, by PostgreSQL's own statistics.

The planner takes a row's type and its terms for independent, though terms belong to one type: it would intersect a rare
term's rows with all rows of the type. So the type is left out beside a rare term, and kept beside common ones, where
walking the rows of the type from the newest is quicker.
"""

import time
from weakref import WeakKeyDictionary

import asyncpg

from ehr.keys import TermHasher

COMMON = 0.05
"""Share of all rows from which a term is common."""
_AGE_S = 300.0
_QUERY = (
    "select e.term from pg_stats s cross join lateral unnest(s.most_common_elems::text::bigint[],"
    " s.most_common_elem_freqs) as e(term, frequency) where s.schemaname = any(current_schemas(false))"
    " and s.tablename = 'resource' and s.attname = 'terms' and e.frequency >= $1"
)
_known: WeakKeyDictionary[TermHasher, tuple[float, frozenset[int]]] = WeakKeyDictionary()


async def common_terms(hasher: TermHasher, connection: asyncpg.Connection) -> frozenset[int]:
    """The common terms of the record whose terms this hasher makes, looked up anew every five minutes."""
    now = time.monotonic()
    found = _known.get(hasher)
    if found is None or now - found[0] > _AGE_S:
        rows = await connection.fetch(_QUERY, COMMON)
        found = _known[hasher] = (now, frozenset(row["term"] for row in rows))
    return found[1]
