"""Tokens that say the same: of values without a system of their own a row stores the code alone.

`final`, `|final` and `http://hl7.org/fhir/observation-status|final` find the same Observations (SC-4), as `138...` and
`|138...` find the same phone numbers: one term instead of two or three. Rows written before have the code, too.
"""

from collections.abc import Mapping
from functools import lru_cache

from ehr.definitions import codes_of, search_parameters
from ehr.indexing.plan import NotPlain, branches_of, implicit_systems


@lru_cache(maxsize=4096)
def implied_systems(resource_type: str, code: str) -> Mapping[str, frozenset[str]] | None:
    """Of a token parameter whose values have no system of their own: the systems that each code is known to be of.

    None for all other parameters: those with codings or identifiers among their values, with codes of several value
    sets, where one code may be of different systems in different elements, and what is no plain path.
    """
    parameter = search_parameters(resource_type).get(code)
    if parameter is None or parameter.kind != "token" or parameter.expression is None:
        return None
    try:
        branches = branches_of(resource_type, parameter.expression)
    except NotPlain:
        return None
    if not all(branch.type_name[0].islower() or branch.type_name == "ContactPoint" for branch in branches):
        return None
    value_sets = {implicit_systems(branch.element) if branch.type_name == "code" else None for branch in branches}
    if len(value_sets) != 1:
        return None
    systems: dict[str, set[str]] = {}
    for system, each in codes_of(value_set) or () if (value_set := value_sets.pop()) is not None else ():
        systems.setdefault(each, set()).add(system)
    return {each: frozenset(found) for each, found in systems.items()}


def stored_token(resource_type: str, code: str, token: str) -> str:
    """The token that rows store for one that is asked for."""
    systems = implied_systems(resource_type, code)
    system, bar, value = token.partition("|")
    if systems is None or not bar or not value:
        return token
    return value if not system or system in systems.get(value, ()) else token
