"""Labels of stored rows: found by the references to them, raised in the transaction of the row that brings them."""

from collections.abc import Mapping, Sequence

import asyncpg

from ehr.access.holders import Custody

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


# A row takes labels along a term only where its custodian keeps the row that the term names, or one person is in both.
_REFERRING = """select r.key, r.labels, a.terms from resource r cross join lateral (
  select array(
    select k.term from unnest($2::bigint[], $3::bigint[]) as k(term, custodian)
    where k.custodian = r.custodian and k.term = any(r.terms)
    union select p.term from unnest($4::bigint[], $5::bigint[]) as p(term, person)
    join holder_person h on h.person = p.person
    where (h.holder = r.holder or h.holder = any(r.others)) and p.term = any(r.terms)
  ) as terms
) a where r.terms && $1::bigint[] and r.labels & $6::bigint <> $6::bigint and r.key is not null and a.terms <> '{}'
limit $7"""


async def rows_with_terms(
    connection: asyncpg.Connection, terms: Mapping[int, Custody], without: int, limit: int
) -> list[tuple[int, int, list[int]]]:
    """(key, labels, terms) of rows that carry some of the terms, may take labels along them, and lack some bit.

    `terms` says who keeps the row that a term names and whom it is about; `without` are the bits.
    """
    if not terms:
        return []
    about = [(term, person) for term, custody in terms.items() for person in sorted(custody.persons)]
    rows = await connection.fetch(
        _REFERRING,
        list(terms),
        list(terms),
        [custody.custodian for custody in terms.values()],
        [term for term, _ in about],
        [person for _, person in about],
        without,
        limit,
    )
    return [(row["key"], row["labels"], list(row["terms"])) for row in rows]


async def labels_by_terms(connection: asyncpg.Connection, terms: Sequence[int]) -> list[tuple[int, int, list[int]]]:
    """(custodian, labels, those of the terms it carries) of labelled rows with some of the terms."""
    if not terms:
        return []
    rows = await connection.fetch(
        """select r.custodian, r.labels, array(select t from unnest(r.terms) t where t = any($1::bigint[])) as found
        from resource r where r.terms && $1::bigint[] and r.labels <> 0 and r.key is not null""",
        terms,
    )
    return [(row["custodian"], row["labels"], list(row["found"])) for row in rows]


async def keep_for_later(connection: asyncpg.Connection, labels: Mapping[int, int]) -> None:
    """Remember the labels of rows that have not come yet."""
    if labels:
        await connection.execute(
            """insert into pending_label (key, labels) select * from unnest($1::bigint[], $2::bigint[])
            on conflict (key) do update set labels = pending_label.labels | excluded.labels""",
            list(labels),
            list(labels.values()),
        )
