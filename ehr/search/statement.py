"""The one statement of a search: page, bounded count, included rows and freshness in one round trip.

Every alias of `resource` carries the caller's scope.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ehr.search import include, limits
from ehr.search.page import Position
from ehr.search.query import SearchQuery
from ehr.search.rendering import LEAD, Rendering
from ehr.search.sort import NEWEST_FIRST, Order, keys_of, never_missing, order_of, unmoved
from ehr.search.statement_columns import columns_of
from ehr.search.where import row_condition

_SAFE_ORDER = (NEWEST_FIRST,)


@dataclass(frozen=True, slots=True)
class Given:
    """A page that was found by opening bodies, or is read from a list: its keys in order, and whether more follow."""

    keys: Sequence[int]
    total: int | None
    more: bool
    recounted: bool = False
    """Whether the statement counts the matches anew."""


def matching_rows(rendering: Rendering, query: SearchQuery, columns: str, after: str = "") -> str:
    """The select of the rows that match (or, with re-check, may match); `columns` and `after` are of the alias r."""
    return _rows_where(rendering, row_condition(rendering, "r", query.resource_type, query.clauses), columns, after)


def _rows_where(rendering: Rendering, meets: str, columns: str, after: str) -> str:
    if not rendering.led or rendering.lead is None:
        return f"select {columns} from resource r where {meets}{after}"
    # `offset 0`: the rows of one person after the other, whatever the planner believes of their number
    return (
        f"select r.* from ({rendering.lead.sql(rendering.parameters)}) as {LEAD}"
        f" cross join lateral (select {columns} from resource r where {meets}{after} offset 0) as r"
    )


def page_statement(
    rendering: Rendering,
    query: SearchQuery,
    position: Position | None,
    given: Given | None = None,
) -> str:
    """The statement of one page; `given` is what was already found by opening bodies.

    Result: one row at least (policy_state's `epoch` and `highest_class`, `found`, `total`, `overflow`, `snapshot`, the
    sort values of the last match as `s0` ... where the match does not hold them), and for each row of the answer
    `place` (0 for included rows) and `COLUMNS`, in any order.
    """
    tables: list[str] = []
    total = "null::bigint"
    facts: list[str] = []
    if given is not None:
        keys = rendering.add(list(given.keys), "bigint[]")
        total = _recounted(rendering, query) if given.recounted else total
        tables.append(f"page as (select g.key, g.place from unnest({keys}) with ordinality as g(key, place))")
    else:
        order = order_of(rendering, "r", keys_of(query), query.resource_type)
        total = _matches(rendering, query, order, position, tables)
        facts += [
            f"(select s{number} from page where place = {query.count}) as s{number}"
            for number, key in enumerate(order.keys)
            if not never_missing(key)
        ]
    tables.append(
        f"answer as (select p.place, {columns_of('r')} from page p join resource r on r.key = p.key"
        f" where p.place <= {query.count} and {rendering.row('r', query.resource_type)}"
        + include.in_statement(rendering, query)
        + ")"
    )
    overflow = _overflow(rendering)
    if position is None and keys_of(query) != _SAFE_ORDER:
        facts.append("pg_current_snapshot()::text as snapshot")
    if given is None:
        facts += _listed(query, counted_on_page(rendering, query, position))
    return (
        f"with {', '.join([*rendering.extra_tables, *tables])} select ps.epoch, ps.highest_class,"
        f" n.found, {total} as total, {overflow} as overflow, {''.join(fact + ', ' for fact in facts)}a.*"
        " from policy_state ps cross join (select count(*) as found from page) n left join answer a on true"
    )


def _listed(query: SearchQuery, counted: int | None) -> list[str]:
    """The keys behind the page, where the statement read all of them and a page link can hold them."""
    most = min(query.count + limits.LISTED_IN_LINK, (counted or 0) - 1)
    if most <= query.count:
        return []
    rest = f"(select array_agg(p.key order by p.place) from page p where p.place > {query.count})"
    return [f"case when n.found between {query.count + 1} and {most} then {rest} end as listed"]


def listing_statement(rendering: Rendering, query: SearchQuery, position: Position) -> str:
    """The statement of the keys of all matches behind a position, in order; one too many says that they are too many.

    Result: one row with policy_state's `epoch` and `highest_class`, `overflow`, and `listed`.
    """
    order = order_of(rendering, "r", keys_of(query), query.resource_type)
    after = _behind(rendering, query, order, position)
    meets = row_condition(rendering, "r", query.resource_type, query.clauses)
    rows = _rows_where(rendering, meets, f"r.key, {order.columns()}", after)
    by = order.by("") if rendering.led else order.by_expression("r")
    listed = (
        f"listed as materialized (select f.key, row_number() over () as place"
        f" from ({rows} order by {by} limit {limits.LISTED + 1}) as f)"
    )
    overflow = _overflow(rendering)
    return (
        f"with {', '.join([*rendering.extra_tables, listed])} select ps.epoch, ps.highest_class,"
        f" {overflow} as overflow, (select array_agg(l.key order by l.place) from listed l) as listed"
        " from policy_state ps"
    )


def _behind(rendering: Rendering, query: SearchQuery, order: Order, position: Position) -> str:
    """What the rows behind a position meet beside the criteria."""
    after = f" and {order.after(rendering, 'r', position)}"
    if keys_of(query) != _SAFE_ORDER:
        after += f" and {unmoved(rendering, 'r', position)}"
    return after


def counted_on_page(rendering: Rendering, query: SearchQuery, position: Position | None) -> int | None:
    """Up to how many matches a first page reads on, so that fewer are counted on the way; None on other pages.

    Only the page itself where statistics say that there are far more than would be counted.
    """
    if position is not None or query.total == "none":
        return None
    return query.count + 1 if rendering.beyond_count else max(limits.COUNTED, query.count + 1)


def _matches(
    rendering: Rendering, query: SearchQuery, order: Order, position: Position | None, tables: list[str]
) -> str:
    """Append the table `page`; returns the SQL of the total where the page itself does not tell."""
    after = "" if position is None else _behind(rendering, query, order, position)
    rendering.ordered_by_index = query.total != "accurate" and (keys_of(query) == _SAFE_ORDER or order.is_by_main_date)
    meets = row_condition(rendering, "r", query.resource_type, query.clauses)
    rendering.ordered_by_index = False
    counted = counted_on_page(rendering, query, position)
    limit = counted or query.count + 1
    if order.is_by_main_date and not (rendering.led or rendering.few):
        rows = _dated_first(rendering, f"{meets}{after}", order, position, limit)
    else:
        by = order.by("") if rendering.led else order.by_expression("r")
        rows = f"{_rows_where(rendering, meets, f'r.key, {order.columns()}', after)} order by {by} limit {limit}"
    tables.append(f"page as materialized (select f.*, row_number() over () as place from ({rows}) as f)")
    if counted:
        if query.total != "accurate":
            return "null::bigint"
        return f"case when n.found < {limits.COUNTED} then null else {_recounted(rendering, query)} end"
    if query.total == "none" or (query.total != "accurate" and position is not None and position.large):
        return "null::bigint"
    return _recounted(rendering, query)


def _recounted(rendering: Rendering, query: SearchQuery) -> str:
    """The number of all matches: exact, or below the bound up to which they are counted."""
    if query.total == "accurate":
        return f"(select count(*) from ({matching_rows(rendering, query, '1')}) as matches)"
    again = matching_rows(rendering, query, "1")
    number = f"(select count(*) from ({again} limit {limits.COUNTED}) as counted)"
    return f"(select nullif(found.number, {limits.COUNTED}) from (select {number} as number) as found)"


def _dated_first(rendering: Rendering, meets: str, order: Order, position: Position | None, limit: int) -> str:
    """The rows in the order of their main date: those with one as its index has them, then those without."""
    selected = f"select r.key, {order.columns()} from resource r where {meets}"
    undated = f"({selected} and r.at is null order by {order.by_expression('r')} limit {limit})"
    bound = ""
    if position is not None:
        if position.values[0] is None:
            return undated
        sign = "<=" if order.keys[0].descending else ">="
        bound = f" and r.at {sign} {rendering.add(position.values[0], 'bigint')}"
    by = order.by_expression("r", first_is_there=True)
    dated = f"({selected} and r.at is not null{bound} order by {by} limit {limit})"
    return f"select * from ({dated} union all {undated}) as dated order by {order.by('')} limit {limit}"


def count_statement(rendering: Rendering, query: SearchQuery) -> str:
    """The statement of `_summary=count`: the exact number of matches, no rows."""
    counted = f"counted as (select count(*) as total from ({matching_rows(rendering, query, '1')}) as matches)"
    overflow = _overflow(rendering)
    tables = [*rendering.extra_tables, counted]
    return (
        f"with {', '.join(tables)} select ps.epoch, ps.highest_class, c.total,"
        f" {overflow} as overflow, null as place from policy_state ps cross join counted c"
    )


def keys_statement(rendering: Rendering, keys: list[int], terms: Sequence[int], most: int) -> str:
    """The statement that fetches included rows by key, and at most so many by the references that they hold."""
    given = rendering.add(keys, "bigint[]")
    visible = rendering.row_filter.sql("i", rendering.parameters)
    rows = (
        f"select 0 as place, {columns_of('i')} from resource i where i.key = any({given}) and not i.deleted"
        f" and {visible}"
    )
    if terms:
        source, looked_for = rendering.alias("v"), rendering.add(list(terms), "bigint[]")
        rows += (
            f" union all (select 0 as place, {columns_of(source)} from resource {source} where {source}.terms &&"
            f" {looked_for} and not {source}.deleted and {rendering.row_filter.sql(source, rendering.parameters)}"
            f" order by {include.whichever(source)} limit {most})"
        )
    return (
        f"with answer as ({rows})"
        " select ps.epoch, ps.highest_class, a.* from policy_state ps left join answer a on true"
    )


def _overflow(rendering: Rendering) -> str:
    tests = [f"{size} > {limits.CHAINED_KEYS}" for size in rendering.chain_sizes]
    return f"({' or '.join(tests)})" if tests else "false"


def candidates_statement(
    rendering: Rendering,
    query: SearchQuery,
    order: Order,
    position: Position | None,
    *,
    limit: int,
    more_columns: str = "",
) -> str:
    """Rows that may match, with their bodies and sort values, in order, behind a position; chains must be walked."""
    after = f" and {order.after(rendering, 'r', position)}" if position is not None else ""
    rows = matching_rows(rendering, query, f"{columns_of('r')}, {order.columns()}{more_columns}", after)
    by = order.by("") if rendering.led else order.by_expression("r")
    return f"{rows} order by {by} limit {limit}"
