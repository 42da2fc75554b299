"""Quantity parameters: https://hl7.org/fhir/R4/search.html#quantity.

A value with a unit of UCUM is compared in base units with all that can be compared with it: 5.4 mg finds 0.0054 g, and
the written precision of the value stays what it was. Other units, and values without system, are compared as written.
"""

from dataclasses import replace

from ehr.errors import BadSearch
from ehr.indexing import UCUM, IndexEntries, answering, unit_of
from ehr.keys import TermHasher, canonical_number, parameter_number
from ehr.search import number
from ehr.search.query import Criterion, QuantityValue
from ehr.search.rendering import NEVER, Condition, Rendering
from ehr.search.text import split, unescape

MODIFIERS = frozenset({"missing"})


def parse_value(name: str, text: str) -> QuantityValue:
    """Read `number`, `number|system|code` or `number||code`; BadSearch for anything else."""
    parts = [unescape(part) for part in split(text, "|")]
    asked = number.parse_value(name, parts[0])
    if len(parts) == 1:
        return QuantityValue(asked, None, None)
    if len(parts) != 3 or not parts[2]:
        raise BadSearch(f"{name}: a quantity is number, number|system|code or number||code")
    unit = unit_of(parts[2]) if parts[1] == UCUM else None
    if unit is None:
        return QuantityValue(asked, parts[1] or None, parts[2])
    in_base_units = replace(
        asked, value=unit.converted(asked.value), low=unit.converted(asked.low), high=unit.converted(asked.high)
    )
    return QuantityValue(in_base_units, UCUM, parts[2], unit.dimension)


def _unit(rendering: Rendering, alias: str, parameter: tuple[str, str], value: QuantityValue) -> str:
    if value.code is None:
        return "true"

    def term(kind: str, text: str) -> str:
        hashed = rendering.hasher.term(*parameter, kind, text)
        return rendering.add(hashed, "bigint")

    if value.dimension is not None:
        return f"{alias}.code = {term('unit', value.dimension)}"
    if value.system is not None:
        return f"{alias}.system_code = {term('token', f'{value.system}|{value.code}')}"
    hashed = term("token", value.code)
    return f"({alias}.code = {hashed} or {alias}.unit = {hashed})"


def admits(hasher: TermHasher, criterion: Criterion, value: QuantityValue, entries: IndexEntries) -> bool:
    """Whether one of the extracted quantities is one that the value admits."""
    parameter = (criterion.resource_type, answering(criterion.resource_type, criterion.code)[0])
    asked = _number(parameter, value)
    return any(
        number_of == asked
        and number.admits(value.number, low, high)
        and _is_unit(hasher, parameter, value, (system_code, code, unit))
        for number_of, system_code, code, unit, low, high in entries.quantities
    )


def _is_unit(hasher: TermHasher, parameter: tuple[str, str], value: QuantityValue, terms: tuple[int, int, int]) -> bool:
    system_code, code, unit = terms
    if value.code is None:
        return True
    if value.dimension is not None:
        return code == hasher.term(*parameter, "unit", value.dimension)
    if value.system is not None:
        return system_code == hasher.term(*parameter, "token", f"{value.system}|{value.code}")
    return hasher.term(*parameter, "token", value.code) in {code, unit}


def _number(parameter: tuple[str, str], value: QuantityValue) -> int:
    """Under which number the index holds what the value is compared with."""
    return parameter_number(*parameter) if value.dimension is None else canonical_number(*parameter)


def condition(rendering: Rendering, alias: str, criterion: Criterion) -> Condition:
    """Rows with a quantity that one of the values admits, in the unit that it names."""
    values = [value for value in criterion.values if isinstance(value, QuantityValue)]
    if not values:
        return NEVER
    codes = answering(criterion.resource_type, criterion.code)
    groups = ([value for value in values if (value.dimension is None) is written] for written in (True, False))
    found = [
        _found(rendering, alias, (criterion.resource_type, code), group) for group in groups if group for code in codes
    ]
    return Condition(sql=found[0] if len(found) == 1 else f"({' or '.join(found)})")


def _found(rendering: Rendering, alias: str, parameter: tuple[str, str], values: list[QuantityValue]) -> str:
    """Whether an index row of one parameter is admitted; the values are all as written or all in base units."""
    index = rendering.alias("q")
    tests = [
        f"({number.comparison(rendering, index, value.number)} and {_unit(rendering, index, parameter, value)})"
        for value in values
    ]
    asked = rendering.add(_number(parameter, values[0]), "integer")
    return (
        f"exists (select 1 from index_quantity {index} where {index}.key = {alias}.key"
        f" and {index}.parameter = {asked} and ({' or '.join(tests)}))"
    )
