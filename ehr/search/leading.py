"""Whether a search is led by the people whom its caller sees, or by the rows of the type, newest first.

Led by people, each of them is looked at once; led by rows, each row that the caller does not see is looked at in vain.
Which is less depends on how many people there are, which is counted now and then and need not be exact: both forms
give the same rows (decision record 0016).
"""

import time
from dataclasses import dataclass

import asyncpg

from ehr.definitions import type_number
from ehr.filter_forms import Sources, forms_of, reaches_of
from ehr.row_filter import Parameters, RowFilter
from ehr.search import limits, person
from ehr.search.query import Chain, Clause, Has, Joined, Negated, SearchQuery

_AGE_S = 60.0
_MOST = 50_000
_MOST_KNOWN = 4096


@dataclass(frozen=True, slots=True)
class _Counted:
    """How many people the sources name, at most `_MOST`, of how many."""

    at: float
    named: int
    people: int


_known: dict[Sources, _Counted] = {}


async def leading(row_filter: RowFilter, query: SearchQuery, pool: asyncpg.Pool) -> Sources | None:
    """The people to look for matches among, or None where the rows lead."""
    sources = forms_of(row_filter).sources(type_number(query.resource_type))
    if sources is None or any(_searches_through(clause) for clause in query.clauses):
        return None
    counted = await _count(sources, pool)
    if query.count_only or query.total == "accurate":
        return sources
    needed = query.count + 1 if query.total == "none" else limits.COUNTED
    # of `people` rows one in people/named is seen: needed * people / named rows are looked at, or `named` people
    return sources if counted.named**2 <= needed * counted.people else None


def _searches_through(clause: Clause) -> bool:
    """Whether rows that refer to others would be searched through once for each person, not found by the person."""
    match clause:
        case Chain(alternatives=inner) | Joined(clauses=inner):
            return any(_searches_through(each) for each in inner)
        case Negated(clause=negated):
            return _searches_through(negated)
        case Has(inner=inner):
            by_person = clause.resource_type == "Patient" and person.names_holder(inner.resource_type, clause.code)
            return not by_person or _searches_through(inner)
    return False


async def reach_in_sets(row_filter: RowFilter, query: SearchQuery, pool: asyncpg.Pool) -> bool:
    """Whether a count reads whom an organisation reaches once for all rows: not where they are more than fit."""
    if not (query.count_only or query.total == "accurate"):
        return False
    reaches = reaches_of(forms_of(row_filter).of_type(type_number(query.resource_type)))
    return bool(reaches) and (await _count(Sources(reached=reaches), pool)).named < _MOST


async def _count(sources: Sources, pool: asyncpg.Pool) -> _Counted:
    now = time.monotonic()
    found = _known.get(sources)
    if found is None or now - found.at > _AGE_S:
        parameters = Parameters()
        row = await pool.fetchrow(
            f"select (select count(*) from (select 1 from ({sources.sql(parameters)}) s_ limit {_MOST}) n_) as named,"
            " (select greatest(reltuples, 1000)::bigint from pg_class where oid = 'holder_person'::regclass) as people",
            *parameters.values,
        )
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        found = _known[sources] = _Counted(now, row["named"], row["people"])
    return found
