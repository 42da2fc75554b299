"""Which index terms are common, by PostgreSQL's own statistics.

The planner takes a row's type and its terms for independent, though terms belong to one type: it would intersect a rare
term's rows with all rows of the type. So the type is left out beside a rare term, and kept beside common ones, where
walking the rows of the type from the newest is quicker.
"""

import time
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import asyncpg

from ehr.keys import TermHasher

COMMON = 0.05
"""Share of all rows from which a term is common."""
FREQUENT_ROWS = 3000
"""Rows from which a term is too frequent for a plan that knows no values: it would fetch and sort them all."""
_AGE_S = 30.0
_AGE_WITHOUT_S = 5.0
_QUERY = (
    "select e.term, e.frequency from pg_stats s cross join lateral unnest(s.most_common_elems::text::bigint[],"
    " s.most_common_elem_freqs) as e(term, frequency) where s.schemaname = any(current_schemas(false))"
    " and s.tablename = 'resource' and s.attname = 'terms' and e.frequency >= least($1, $2 / greatest(1,"
    " (select c.reltuples from pg_class c where c.oid = 'resource'::regclass)))"
)


@dataclass(frozen=True, slots=True)
class Frequencies:
    """What the statistics tell; `known` is False before the record was first analysed."""

    common: frozenset[int] = frozenset()
    frequent: frozenset[int] = frozenset()
    known: bool = False


UNKNOWN = Frequencies()
_known: WeakKeyDictionary[TermHasher, tuple[float, Frequencies]] = WeakKeyDictionary()


async def term_frequencies(hasher: TermHasher, pool: asyncpg.Pool) -> Frequencies:
    """The frequencies of the record whose terms this hasher makes, looked up anew every half a minute."""
    now = time.monotonic()
    found = _known.get(hasher)
    if found is None or now - found[0] > (_AGE_S if found[1].known else _AGE_WITHOUT_S):
        rows = await pool.fetch(_QUERY, COMMON, float(FREQUENT_ROWS))
        common = frozenset(row["term"] for row in rows if row["frequency"] >= COMMON)
        frequent = frozenset(row["term"] for row in rows)
        found = _known[hasher] = (now, Frequencies(common, frequent, bool(rows)))
    return found[1]
