"""Which Patients may be a described person, by exact rules: https://hl7.org/fhir/R4/patient-operation-match.html.

certain: the identity number agrees, and neither birth date nor sex speaks against it. probable: a name, the birth date
and the sex agree, and no other identity number stands against it. possible: the identity number agrees, but birth date
or sex does not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg

from ehr import json_text
from ehr.audit_note import AuditNote
from ehr.definitions import type_name
from ehr.indexing.values import normalise_string
from ehr.row_filter import Parameters
from ehr.scopes import ReadScope
from ehr.search.latest import holders_of
from ehr.search.query import SearchQuery
from ehr.search.run import SearchableStore, matching_keys
from ehr.search.statement_columns import columns_of
from ehr.store.database import database_errors
from ehr.store.operations import StoredVersion
from ehr.store.people import IDENTITY_NUMBER_SYSTEM, is_valid_identity_number
from ehr.store.reads import version_of
from ehr.store.scope_sql import require_fresh

Grade = Literal["certain", "probable", "possible"]
SCORES: Mapping[Grade, float] = {"certain": 1.0, "probable": 0.8, "possible": 0.4}
_MOST_CANDIDATES = 200
Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Match:
    """A Patient who may be the person described."""

    version: StoredVersion
    grade: Grade


async def same_person(
    store: SearchableStore,
    scope: ReadScope,
    described: Mapping[str, Any],
    parse: Callable[[str, Pairs], SearchQuery],
    note: AuditNote,
) -> list[Match]:
    """The Patients whom the caller sees and who may be the one described, the surest first; audited when it returns.

    Args:
        store: The store.
        scope: What the caller may see.
        described: A Patient, of which identifiers, names, birth date and sex are looked at.
        parse: Reads criteria.
        note: Who asks what and why.

    Raises:
        StaleScope: decide again, once.
        Unavailable: the database is away or too slow.
    """
    keys: set[int] = set()
    with database_errors():
        async with store.search_pool.acquire() as connection:
            for pairs in _searches(described):
                keys.update(
                    await matching_keys(
                        connection,
                        scope.row_filter,
                        parse("Patient", pairs),
                        _MOST_CANDIDATES,
                        extractor=store.extractor,
                    )
                )
            rows = await _rows(connection, scope, sorted(keys))
    found = []
    for row in rows:
        version = version_of(row, type_name(row["type"]), row["id"], row["key"])
        grade = _grade(described, json_text.parse_stored(version.body or b"{}"))
        if grade is not None:
            found.append(Match(version, grade))
    found.sort(key=lambda match: (-SCORES[match.grade], match.version.resource_id))
    if not scope.internal:
        await store.record(note, holders=holders_of([match.version for match in found]))
    return found


async def _rows(connection: asyncpg.Connection, scope: ReadScope, keys: list[int]) -> list[asyncpg.Record]:
    parameters = Parameters()
    shown = (
        f"select r.deleted, {columns_of('r')} from resource r where r.key = any({parameters.add(keys, 'bigint[]')})"
        f" and not r.deleted and {scope.row_filter.sql('r', parameters)}"
    )
    statement = f"select s.epoch, s.highest_class, f.* from policy_state s left join ({shown}) f on true"
    rows = await connection.fetch(statement, *parameters.values)
    require_fresh(scope, rows[0]["epoch"], rows[0]["highest_class"])
    return [row for row in rows if row["key"] is not None]


def _searches(described: Mapping[str, Any]) -> list[Pairs]:
    """The searches whose matches are compared."""
    found: list[Pairs] = []
    for number in sorted(_identity_numbers(described)):
        found += [[("identifier", form)] for form in dict.fromkeys((number, number.lower()))]
    birth_date, sex = described.get("birthDate"), described.get("gender")
    if isinstance(birth_date, str) and isinstance(sex, str) and _names(described):
        found.append([("birthdate", birth_date), ("gender", sex.replace("\\", ""))])
    return found


def _grade(described: Mapping[str, Any], known: Mapping[str, Any]) -> Grade | None:
    agrees = {name: _agree(described.get(name), known.get(name)) for name in ("birthDate", "gender")}
    numbers, others = _identity_numbers(described), _identity_numbers(known)
    if numbers & others:
        return "possible" if False in agrees.values() else "certain"
    if numbers and others:
        return None
    if all(agrees.values()) and _names(described) & _names(known):
        return "probable"
    return None


def _agree(one: Any, other: Any) -> bool | None:
    """None where one of the two says nothing."""
    return None if one is None or other is None else bool(one == other)


def _identity_numbers(patient: Mapping[str, Any]) -> set[str]:
    """The valid identity card numbers, without spaces and hyphens, in capitals."""
    found = set()
    for identifier in _objects(patient.get("identifier")):
        if identifier.get("system", IDENTITY_NUMBER_SYSTEM) == IDENTITY_NUMBER_SYSTEM:
            number = str(identifier.get("value", "")).replace("-", "").replace(" ", "").upper()
            if is_valid_identity_number(number):
                found.add(number)
    return found


def _names(patient: Mapping[str, Any]) -> set[str]:
    """Each name as one text, family name first, without case, accents and spaces."""
    found = set()
    for name in _objects(patient.get("name")):
        given = name.get("given")
        parts = [name.get("family"), *(given if isinstance(given, list) else ())]
        for text in ("".join(part for part in parts if isinstance(part, str)), name.get("text")):
            if isinstance(text, str) and text:
                found.add(normalise_string(text).replace(" ", ""))
    return found - {""}


def _objects(values: Any) -> Sequence[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
