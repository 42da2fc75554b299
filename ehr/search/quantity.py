"""Quantity parameters: https://hl7.org/fhir/R4/search.html#quantity."""

from ehr.errors import BadSearch
from ehr.indexing import IndexEntries, answering
from ehr.keys import TermHasher, parameter_number
from ehr.search import number
from ehr.search.query import Criterion, QuantityValue
from ehr.search.rendering import NEVER, Condition, Rendering
from ehr.search.text import split, unescape

MODIFIERS = frozenset({"missing"})


def parse_value(name: str, text: str) -> QuantityValue:
    """Read `number`, `number|system|code` or `number||code`; BadSearch for anything else."""
    parts = [unescape(part) for part in split(text, "|")]
    if len(parts) == 1:
        return QuantityValue(number.parse_value(name, parts[0]), None, None)
    if len(parts) != 3 or not parts[2]:
        raise BadSearch(f"{name}: a quantity is number, number|system|code or number||code")
    return QuantityValue(number.parse_value(name, parts[0]), parts[1] or None, parts[2])


def _unit(rendering: Rendering, alias: str, parameter: tuple[str, str], value: QuantityValue) -> str:
    if value.code is None:
        return "true"

    def term(text: str) -> str:
        hashed = rendering.hasher.term(*parameter, "token", text)
        return rendering.add(hashed, "bigint")

    if value.system is not None:
        return f"{alias}.system_code = {term(f'{value.system}|{value.code}')}"
    hashed = term(value.code)
    return f"({alias}.code = {hashed} or {alias}.unit = {hashed})"


def admits(hasher: TermHasher, criterion: Criterion, value: QuantityValue, entries: IndexEntries) -> bool:
    """Whether one of the extracted quantities is one that the value admits."""
    code, *_ = answering(criterion.resource_type, criterion.code)

    def term(text: str) -> int:
        return hasher.term(criterion.resource_type, code, "token", text)

    for _, system_code, unit_code, unit, low, high in entries.quantities:
        if not number.admits(value.number, low, high):
            continue
        if value.code is None:
            return True
        if value.system is not None and system_code == term(f"{value.system}|{value.code}"):
            return True
        if value.system is None and term(value.code) in {unit_code, unit}:
            return True
    return False


def condition(rendering: Rendering, alias: str, criterion: Criterion) -> Condition:
    """Rows with a quantity that one of the values admits, in the unit that it names."""
    values = [value for value in criterion.values if isinstance(value, QuantityValue)]
    if not values:
        return NEVER
    codes = answering(criterion.resource_type, criterion.code)
    found = [_found(rendering, alias, (criterion.resource_type, code), values) for code in codes]
    return Condition(sql=found[0] if len(found) == 1 else f"({' or '.join(found)})")


def _found(rendering: Rendering, alias: str, parameter: tuple[str, str], values: list[QuantityValue]) -> str:
    """Whether an index row of one parameter is admitted."""
    index = rendering.alias("q")
    tests = [
        f"({number.comparison(rendering, index, value.number)} and {_unit(rendering, index, parameter, value)})"
        for value in values
    ]
    asked = rendering.add(parameter_number(*parameter), "integer")
    return (
        f"exists (select 1 from index_quantity {index} where {index}.key = {alias}.key"
        f" and {index}.parameter = {asked} and ({' or '.join(tests)}))"
    )
