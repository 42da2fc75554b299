"""Conditional create, update and delete: what the criteria match among the rows that the writer may touch.

https://hl7.org/fhir/R4/http.html#ccreate
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence

import asyncpg

from ehr.errors import Conflict, MultipleMatches
from ehr.row_filter import AnyOf, Parameters, RowFilter
from ehr.scopes import WriteScope
from ehr.store.preparation import PreparedOperation
from ehr.store.scope_sql import touching_filter

MatchingKeys = Callable[..., Awaitable[list[int]]]


def condition_lock(prepared: PreparedOperation) -> int:
    """The advisory lock that keeps two writers with the same criteria from both finding nothing."""
    text = f"{prepared.operation.resource_type}?{prepared.operation.condition!r}"
    return int.from_bytes(
        hashlib.blake2b(text.encode(), digest_size=8, person=b"condition").digest(), "big", signed=True
    )


def writer_filter(scope: WriteScope) -> RowFilter:
    """The rows that this writer's criteria may match."""
    filters = touching_filter(scope)
    return filters[0] if len(filters) == 1 else AnyOf(filters)


async def resolve(
    connection: asyncpg.Connection,
    scope: WriteScope,
    operations: Sequence[PreparedOperation],
    matching_keys: MatchingKeys,
) -> dict[int, int]:
    """Look every condition up: key by position in `operations`, 0 where nothing matches.

    The look-ups hold advisory locks until the end of the transaction.

    Raises:
        MultipleMatches: a condition matches more than one row.
    """
    conditional = [(place, each) for place, each in enumerate(operations) if each.operation.condition is not None]
    locks = sorted({condition_lock(each) for _, each in conditional})
    await connection.execute("select pg_advisory_xact_lock(l) from unnest($1::bigint[]) l", locks)
    found: dict[int, int] = {}
    for place, each in conditional:
        keys = await matching_keys(connection, writer_filter(scope), each.operation.condition, 2)
        if len(keys) > 1:
            raise MultipleMatches(f"The criteria match more than one {each.operation.resource_type}.")
        found[place] = keys[0] if keys else 0
    return found


async def ids_of(connection: asyncpg.Connection, row_filter: RowFilter, keys: Sequence[int]) -> dict[int, str]:
    """The ids of rows that the filter admits, by key."""
    if not keys:
        return {}
    parameters = Parameters()
    predicate, wanted = row_filter.sql("r", parameters), parameters.add(list(keys), "bigint[]")
    rows = await connection.fetch(
        f"select r.key, r.id from resource r where r.key = any({wanted}) and {predicate}", *parameters.values
    )
    return {row["key"]: row["id"] for row in rows}


def require_expected(prepared: PreparedOperation, found_id: str) -> None:
    """Refuse when a look-up made earlier found something else.

    Raises:
        Conflict: the record changed in between; look up again.
    """
    expected = prepared.operation.expected_id
    if expected is not None and expected != found_id:
        raise Conflict("The record changed while the criteria were evaluated; try again.")
