"""Labels of stored rows: found by the references to them, raised in the transaction of the row that brings them."""

from collections.abc import Mapping, Sequence

import asyncpg

# The current row, its history ("by its own and the current labels") and the change log, whose readers must hear of it.
_RAISE = """with given as (
  select * from unnest($1::bigint[], $2::bigint[]) as g(key, labels)
), locked as (
  select r.key, r.labels | g.labels as labels from resource r join given g on g.key = r.key
  where r.labels & g.labels <> g.labels order by r.key for update of r
), raised as (
  update resource r set labels = l.labels from locked l where r.key = l.key
  returning r.key, r.version, r.type, r.labels
), past as (
  update resource_history h set labels = h.labels | g.labels from given g
  where h.key = g.key and h.labels & g.labels <> g.labels
), logged as (
  insert into change_log (key, version, type, operation, at)
  select key, version, type, 'l', (extract(epoch from statement_timestamp()) * 1000000)::bigint from raised
)
select key, labels from raised"""


async def raise_labels(connection: asyncpg.Connection, labels: Mapping[int, int]) -> dict[int, int]:
    """Add bits to stored rows; returns the rows that changed with their labels now."""
    if not labels:
        return {}
    rows = await connection.fetch(_RAISE, list(labels), list(labels.values()))
    return {row["key"]: row["labels"] for row in rows}


async def rows_with_terms(
    connection: asyncpg.Connection, terms: Sequence[int], without: int, limit: int
) -> list[tuple[int, int, list[int]]]:
    """(key, labels, those of the terms it carries) of rows with some of the terms that lack some bit of `without`."""
    if not terms:
        return []
    rows = await connection.fetch(
        """select r.key, r.labels, array(select t from unnest(r.terms) t where t = any($1::bigint[])) as found
        from resource r where r.terms && $1::bigint[] and r.labels & $2::bigint <> $2::bigint and r.key is not null
        limit $3""",
        terms,
        without,
        limit,
    )
    return [(row["key"], row["labels"], list(row["found"])) for row in rows]


async def keep_for_later(connection: asyncpg.Connection, labels: Mapping[int, int]) -> None:
    """Remember the labels of rows that have not come yet."""
    if labels:
        await connection.execute(
            """insert into pending_label (key, labels) select * from unnest($1::bigint[], $2::bigint[])
            on conflict (key) do update set labels = pending_label.labels | excluded.labels""",
            list(labels),
            list(labels.values()),
        )
