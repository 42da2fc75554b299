"""From clauses of a query to conditions on a row, kind by kind."""

from collections.abc import Callable

from ehr.indexing import answering_terms
from ehr.keys import row_key
from ehr.search import composite, date, near, number, quantity, reference, string, token, uri
from ehr.search.chain import chain_condition, has_condition
from ehr.search.query import Chain, Clause, Criterion, Has, Joined, Negated, RowKeys, TokenValue
from ehr.search.rendering import Condition, Rendering

_KINDS: dict[str, Callable[[Rendering, str, Criterion], Condition]] = {
    "token": token.condition,
    "uri": uri.condition,
    "date": date.condition,
    "number": number.condition,
    "quantity": quantity.condition,
    "special": near.condition,
}
_LISTED: dict[str, Callable[[Rendering, str, Criterion], list[Condition]]] = {
    "reference": reference.condition,
    "string": string.conditions,
}
"""Kinds that may make several conditions of one criterion, all of which a row meets."""


def criterion_conditions(rendering: Rendering, alias: str, criterion: Criterion) -> list[Condition]:
    """Conditions that a row of the criterion's type meets (or, with re-check, may meet)."""
    if criterion.missing is not None:
        present = answering_terms(rendering.hasher, criterion.resource_type, criterion.code, "present", "")
        return [Condition(present, negated=criterion.missing, implied=True)]
    if criterion.kind == "key":
        found = [key for value in criterion.values if isinstance(value, RowKeys) for key in value.keys]
        return [Condition(sql=f"{alias}.key = any({rendering.add(found, 'bigint[]')})", keyed=True)]
    if criterion.code == "_id":
        codes = [value.code for value in criterion.values if isinstance(value, TokenValue)]
        keys = rendering.add([row_key(criterion.resource_type, code) for code in codes], "bigint[]")
        return [Condition(sql=f"{alias}.key = any({keys})", negated=criterion.modifier == "not", keyed=True)]
    if criterion.kind in _LISTED:
        return _LISTED[criterion.kind](rendering, alias, criterion)
    if criterion.kind == "composite":
        return composite.conditions(rendering, alias, criterion, criterion_conditions)
    return [_KINDS[criterion.kind](rendering, alias, criterion)]


def clause_conditions(rendering: Rendering, alias: str, clause: Clause) -> list[Condition]:
    """Conditions of a criterion, a chain, a reverse chain, or what `_filter` makes of them."""
    match clause:
        case Criterion():
            return criterion_conditions(rendering, alias, clause)
        case Chain():
            return [chain_condition(rendering, alias, clause, clause_conditions)]
        case Has():
            return [has_condition(rendering, alias, clause, clause_conditions)]
        case Joined(operator="and", clauses=clauses):
            return [condition for each in clauses for condition in clause_conditions(rendering, alias, each)]
        case Joined(clauses=clauses):
            sides = [rendering.conditions(alias, clause_conditions(rendering, alias, each)) for each in clauses]
            return [Condition(sql=f"(({') or ('.join(sides)}))")]
        case Negated(clause=negated):
            # a comparison with what is absent is unknown, and what does not hold is to match
            met = rendering.conditions(alias, clause_conditions(rendering, alias, negated))
            return [Condition(sql=f"(({met}) is not true)")]


def row_condition(rendering: Rendering, alias: str, resource_type: str, clauses: tuple[Clause, ...]) -> str:
    """The whole predicate of one row alias: type, not deleted, scope, clauses.

    Rows that rare terms or keys reach are found by these; others among the rows of the people whom the caller sees,
    where those are few (`Rendering.led` then says so), or in their order, where many rows match.
    """
    conditions = [condition for clause in clauses for condition in clause_conditions(rendering, alias, clause)]
    rendering.few = rendering.selects(conditions)
    if rendering.lead is not None and not rendering.few:
        rendering.led = True
        return rendering.led_row(alias, resource_type, conditions, rendering.lead)
    if rendering.walks(conditions):
        return rendering.walked_row(alias, resource_type, conditions)
    return rendering.matching_row(alias, resource_type, conditions)


def needs_opening(criterion: Criterion) -> bool:
    """Whether the index gives only candidates for this criterion."""
    if criterion.missing is not None:
        return False
    if criterion.whole is not None:
        return True
    if criterion.kind == "string":
        return string.needs_opening(criterion)
    if criterion.kind == "uri":
        return uri.needs_opening(criterion)
    if criterion.kind == "composite":
        return composite.needs_opening(criterion)
    return criterion.kind == "token" and token.needs_opening(criterion)
