"""SMART on FHIR v2 scopes: what the token itself allows, intersected with role and consent, never instead of them.

https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html. Version 1 scopes (read, write, *) are
understood. A search parameter in a scope narrows rows and must be a token parameter of the type, else the scope gives
nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl

from consent.caller import Caller, roles_of
from ehr.definitions import is_resource_type, search_parameters, type_number
from ehr.indexing import answering_terms
from ehr.keys import TermHasher
from ehr.row_filter import EVERYTHING, NOTHING, RowRule, TermsOverlap, TypeIn, all_of, any_of

Level = Literal["patient", "user", "system"]
_SCOPE = re.compile(r"(patient|user|system)/(\*|[A-Z][A-Za-z]+)\.(read|write|\*|c?r?u?d?s?)(?:\?(.+))?")
_VERSION_1 = {"read": "rs", "write": "cud", "*": "cruds"}
_LETTER = {"create": "c", "read": "r", "update": "u", "delete": "d", "search": "s"}


@dataclass(frozen=True, slots=True)
class Grant:
    """One resource scope of a token."""

    level: Level
    type: str | None
    """None = every type."""
    letters: frozenset[str]
    narrowing: tuple[tuple[str, str], ...] = ()
    """(search parameter, values) that rows must match."""


def read_grants(scopes: Sequence[str]) -> tuple[Grant, ...]:
    """The resource scopes among a token's scopes; what is not understood gives nothing."""
    grants: list[Grant] = []
    for scope in scopes:
        found = _SCOPE.fullmatch(scope)
        if found is None or not found.group(3):
            continue
        resource_type = None if found.group(2) == "*" else found.group(2)
        if resource_type is not None and not is_resource_type(resource_type):
            continue
        narrowing = tuple(parse_qsl(found.group(4), keep_blank_values=True)) if found.group(4) else ()
        if found.group(4) and not narrowing:
            continue
        letters = frozenset(_VERSION_1.get(found.group(3), found.group(3)))
        level: Level = found.group(1)  # type: ignore[assignment]  # the pattern admits these three only
        grants.append(Grant(level, resource_type, letters, narrowing))
    return tuple(grants)


def grants_of(caller: Caller) -> tuple[Grant, ...]:
    """The resource scopes that a caller's token holds for him: level `system` is for machines alone."""
    is_machine = any(role.is_machine for role in roles_of(caller))
    return tuple(grant for grant in read_grants(caller.scopes) if grant.level != "system" or is_machine)


def system_grants(caller: Caller) -> tuple[Grant, ...]:
    """The scopes of level `system`, which bulk work asks for; none for people."""
    return tuple(grant for grant in grants_of(caller) if grant.level == "system")


def letter_of(interaction: str) -> str:
    """The letter of an interaction in `.cruds`."""
    return _LETTER[interaction]


def allowed_types(grants: Sequence[Grant], interaction: str, types: frozenset[str]) -> frozenset[str]:
    """The types among `types` for which some grant holds this interaction (perhaps narrowed)."""
    letter = _LETTER[interaction]
    held = [grant for grant in grants if letter in grant.letters]
    if any(grant.type is None for grant in held):
        return types
    return types & {grant.type for grant in held if grant.type is not None}


def _narrowed(grant: Grant, hasher: TermHasher) -> RowRule:
    if grant.type is None:
        return NOTHING
    parts: list[RowRule] = [TypeIn(frozenset({type_number(grant.type)}))]
    for name, values in grant.narrowing:
        parameter = search_parameters(grant.type).get(name)
        if parameter is None or parameter.kind != "token" or not values:
            return NOTHING
        resource_type = grant.type
        terms = frozenset(
            term
            for value in values.split(",")
            if value
            for term in answering_terms(hasher, resource_type, name, "token", value)
        )
        parts.append(TermsOverlap(terms))
    return all_of(*parts)


def smart_filter(grants: Sequence[Grant], interaction: str, hasher: TermHasher, own: RowRule | None) -> RowRule:
    """The rows that the token's scopes leave open to an interaction.

    Args:
        grants: the resource scopes.
        interaction: which letter is asked for.
        hasher: of the store's terms.
        own: rows of the patient in context, for scopes of level `patient`; None = there is none, such scopes are void.
    """
    letter = _LETTER[interaction]
    filters: list[RowRule] = []
    whole: dict[bool, set[int]] = {True: set(), False: set()}
    for grant in grants:
        limited = grant.level == "patient"
        if letter not in grant.letters or (limited and own is None):
            continue
        if grant.narrowing:
            filters.append(all_of(own if limited and own else EVERYTHING, _narrowed(grant, hasher)))
        elif grant.type is None:
            filters.append(own if limited and own else EVERYTHING)
        else:
            whole[limited].add(type_number(grant.type))
    if whole[False]:
        filters.append(TypeIn(frozenset(whole[False])))
    if whole[True] and own is not None:
        filters.append(all_of(own, TypeIn(frozenset(whole[True]))))
    return any_of(*filters)
