"""Chains and reverse chains, of any depth and mixed: https://hl7.org/fhir/R4/search.html#chaining and #has.

The rows that a chain passes through carry the caller's scope like the rows it answers with, so that a hidden row
cannot be felt through it.
"""

from collections.abc import Callable

from ehr.search import limits, person
from ehr.search.query import Chain, Clause, Has
from ehr.search.rendering import Condition, Rendering

RenderClause = Callable[[Rendering, str, Clause], list[Condition]]


def chain_condition(rendering: Rendering, alias: str, chain: Chain, render: RenderClause) -> Condition:
    """Rows whose reference names a visible row of one of the target types that meets the criterion."""
    tests = [_alternative(rendering, alias, chain, inner, render) for inner in chain.alternatives]
    return Condition(sql=f"({' or '.join(tests)})")


def _alternative(rendering: Rendering, alias: str, chain: Chain, inner: Clause, render: RenderClause) -> str:
    target = rendering.alias("c")
    salt = rendering.add(rendering.hasher.reference_salt(chain.resource_type, chain.code), "bigint")
    conditions = render(rendering, target, inner)
    visible = f"{rendering.row(target, inner.resource_type)} and {rendering.conditions(target, conditions)}"
    rendering.plan_holds = rendering.plan_holds and rendering.selects(conditions)
    if inner.resource_type == "Patient" and person.names_holder(chain.resource_type, chain.code):
        return (
            f"({alias}.holder in (select {target}.key from resource {target} where {visible})"
            f" and {alias}.terms @> array[{alias}.holder # {salt}])"
        )
    if rendering.walk_chains:
        term = rendering.alias("t")
        return (
            f"exists (select 1 from unnest({alias}.terms) as {term}(term)"
            f" join resource {target} on {target}.key = {term}.term # {salt} where {visible})"
        )
    table = rendering.alias("chain")
    rendering.extra_tables.append(
        f"{table} as materialized (select {target}.key # {salt} as term from resource {target}"
        f" where {visible} limit {limits.CHAINED_KEYS + 1})"
    )
    rendering.chain_sizes.append(f"(select count(*) from {table})")
    return f"{alias}.terms && array(select {table}.term from {table})"


def has_condition(rendering: Rendering, alias: str, has: Has, render: RenderClause) -> Condition:
    """Rows that a visible row of the source type names by the reference and that meets the criterion."""
    source = rendering.alias("s")
    salt = rendering.add(rendering.hasher.reference_salt(has.inner.resource_type, has.code), "bigint")
    conditions = render(rendering, source, has.inner)
    few = rendering.selects(conditions)
    by_person = has.resource_type == "Patient" and person.names_holder(has.inner.resource_type, has.code)
    found = rendering.row_by_row if by_person and rendering.lead is not None and not few else rendering.matching_row
    visible = found(source, has.inner.resource_type, conditions)
    if by_person:
        return Condition(
            sql=f"{alias}.key in (select {source}.holder from resource {source} where {visible}"
            f" and {source}.terms @> array[{source}.holder # {salt}])",
            keyed=few,
        )
    term = rendering.alias("t")
    return Condition(
        sql=f"{alias}.key in (select {term}.term # {salt} from resource {source}"
        f" cross join lateral unnest({source}.terms) as {term}(term) where {visible})",
        keyed=few,
    )
