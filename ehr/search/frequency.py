"""Which index terms are common, by PostgreSQL's own statistics.

The planner takes a row's type and its terms for independent, though terms belong to one type: it would intersect a rare
term's rows with all rows of the type. So the type is left out beside a rare term, and kept beside common ones, where
walking the rows of the type from the newest is quicker.
"""

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from weakref import WeakKeyDictionary

import asyncpg

from ehr.keys import TermHasher

COMMON = 0.05
"""Share of all rows from which a term is common."""
FREQUENT_ROWS = 3000
"""Rows from which a term is too frequent for a plan that knows no values: it would fetch and sort them all."""
_AGE_S = 10.0
_AGE_WITHOUT_S = 5.0
_QUERY = """with size as (select greatest(c.reltuples, 1) as rows from pg_class c where c.oid = 'resource'::regclass),
stored as materialized (
  select e.value, e.share
  from pg_stats s cross join lateral unnest(s.most_common_elems::text::bigint[], s.most_common_elem_freqs)
    as e(value, share)
  where s.schemaname = any(current_schemas(false)) and s.tablename = 'resource' and s.attname = 'terms'
)
select 'term' as of, t.value, sum(t.share) as share, size.rows
from size cross join (
  select value, share from stored union all
  select i.implied, e.share from stored e join implied_term i on i.term = e.value
) as t
group by t.value, size.rows having sum(t.share) >= least($1, $2 / size.rows)
union all
select 'type', e.value, e.share, size.rows
from size cross join pg_stats s cross join lateral unnest(s.most_common_vals::text::bigint[], s.most_common_freqs)
  as e(value, share)
where s.schemaname = any(current_schemas(false)) and s.tablename = 'resource' and s.attname = 'type'
union all
select 'at', e.value, e.share, size.rows
from size cross join pg_stats s cross join lateral unnest(s.most_common_vals::text::bigint[], s.most_common_freqs)
  as e(value, share)
where s.schemaname = any(current_schemas(false)) and s.tablename = 'resource' and s.attname = 'at'
union all
select 'at', e.value, (1 - s.null_frac - coalesce((select sum(f) from unnest(s.most_common_freqs) f), 0))
  / cardinality(s.histogram_bounds::text::bigint[]), size.rows
from size cross join pg_stats s cross join lateral unnest(s.histogram_bounds::text::bigint[]) as e(value)
where s.schemaname = any(current_schemas(false)) and s.tablename = 'resource' and s.attname = 'at'"""


@dataclass(frozen=True, slots=True)
class Frequencies:
    """What the statistics tell; `known` is False before the record was first analysed."""

    common: frozenset[int] = frozenset()
    frequent: frozenset[int] = frozenset()
    rows_of_term: Mapping[int, float] = field(default_factory=dict)
    """About how many rows have a frequent term."""
    rows_of_type: Mapping[int, float] = field(default_factory=dict)
    """About how many rows are of a type."""
    main_dates: tuple[int, ...] = ()
    """Main dates in order, common ones and those that part the others evenly."""
    shares_before: tuple[float, ...] = (0.0,)
    """The share of the rows before each of them, and of all dated rows."""
    known: bool = False

    def share_between(self, low: int | None, high: int | None) -> float:
        """About which share of the rows has its main date in [low, high)."""
        first = 0 if low is None else bisect_left(self.main_dates, low)
        last = len(self.main_dates) if high is None else bisect_left(self.main_dates, high)
        return max(0.0, self.shares_before[last] - self.shares_before[first])


UNKNOWN = Frequencies()
_known: WeakKeyDictionary[TermHasher, tuple[float, Frequencies]] = WeakKeyDictionary()


async def term_frequencies(hasher: TermHasher, pool: asyncpg.Pool) -> Frequencies:
    """The frequencies of the record whose terms this hasher makes, looked up anew every ten seconds."""
    now = time.monotonic()
    found = _known.get(hasher)
    if found is None or now - found[0] > (_AGE_S if found[1].known else _AGE_WITHOUT_S):
        rows = await pool.fetch(_QUERY, COMMON, float(FREQUENT_ROWS))
        read = _read(rows)
        # the same object as long as nothing changed: finished statements are known by it
        found = _known[hasher] = (now, found[1] if found is not None and found[1] == read else read)
    return found[1]


def _read(rows: Sequence[asyncpg.Record]) -> Frequencies:
    size = rows[0]["rows"] if rows else 0
    of_terms = {row["value"]: row["share"] for row in rows if row["of"] == "term"}
    dates = sorted((row["value"], row["share"]) for row in rows if row["of"] == "at")
    return Frequencies(
        frozenset(term for term, share in of_terms.items() if share >= COMMON),
        frozenset(of_terms),
        {term: share * size for term, share in of_terms.items()},
        {row["value"]: row["share"] * size for row in rows if row["of"] == "type"},
        tuple(value for value, _ in dates),
        (0.0, *accumulate(share for _, share in dates)),
        bool(of_terms),
    )
