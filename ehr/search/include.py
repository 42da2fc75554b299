"""`_include` and `_revinclude`: https://hl7.org/fhir/R4/search.html#include.

Included rows pass the caller's scope like matches. Rows that name a match, and the persons that matches are about, are
found in the statement of the page; other targets need the bodies of the page and a second statement.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ehr.indexing import Extractor
from ehr.keys import row_key
from ehr.search import limits, person
from ehr.search.query import Include, SearchQuery
from ehr.search.rendering import Rendering
from ehr.search.statement_columns import columns_of


def in_statement(rendering: Rendering, query: SearchQuery) -> list[str]:
    """The selects that add included rows (place 0) to the table `answer`; `page` holds the keys of the matches."""
    found = []
    for wanted in query.includes:
        if wanted.reverse:
            found += [_naming(rendering, query, wanted.source_type, code) for code in wanted.codes]
        elif is_person(wanted):
            found.append(_persons(rendering, query, wanted))
    return found


def is_person(wanted: Include) -> bool:
    """Whether the targets are the holders of the rows."""
    return (
        not wanted.reverse
        and len(wanted.codes) == 1
        and person.names_holder(wanted.source_type, wanted.codes[0])
        and (wanted.codes[0] == "patient" or wanted.target_types == frozenset({"Patient"}))
    )


def _persons(rendering: Rendering, query: SearchQuery, wanted: Include) -> str:
    target, match = rendering.alias("i"), rendering.alias("m")
    salt = rendering.add(rendering.hasher.reference_salt(wanted.source_type, wanted.codes[0]), "bigint")
    keys = (
        f"select {match}.holder from page p join resource {match} on {match}.key = p.key where p.place <= {query.count}"
        f" and {match}.terms @> array[{match}.holder # {salt}] and {rendering.row(match, query.resource_type)}"
    )
    if wanted.target_types is not None and "Patient" not in wanted.target_types:
        keys += " and false"
    return (
        f"select 0 as place, {columns_of(target)} from resource {target}"
        f" where {target}.key = any(array({keys})) and {rendering.row(target, 'Patient')}"
    )


def _naming(rendering: Rendering, query: SearchQuery, source_type: str, code: str) -> str:
    source = rendering.alias("v")
    salt = rendering.add(rendering.hasher.reference_salt(source_type, code), "bigint")
    shown = f"select p.key # {salt} from page p where p.place <= {query.count}"
    narrowed = ""
    if query.resource_type == "Patient" and person.names_holder(source_type, code):
        narrowed = f" and {source}.holder = any(array(select p.key from page p where p.place <= {query.count}))"
    return (
        f"(select 0 as place, {columns_of(source)} from resource {source}"
        f" where {source}.terms && array({shown}){narrowed} and {rendering.row(source, source_type)}"
        f" limit {limits.INCLUDED_ROWS + 1})"
    )


def target_keys(extractor: Extractor, includes: Iterable[Include], resources: Iterable[Mapping[str, Any]]) -> list[int]:
    """The row keys of the targets that the opened matches name and no statement fetched yet."""
    wanted = [one for one in includes if not one.reverse and not is_person(one)]
    keys: set[int] = set()
    for resource in resources:
        references = extractor.reference_values(resource["resourceType"], resource)
        for one in wanted:
            for code in one.codes:
                keys.update(
                    row_key(target_type, target_id)
                    for target_type, target_id in references.get(code, ())
                    if one.target_types is None or target_type in one.target_types
                )
    return sorted(keys)


def needs_bodies(query: SearchQuery) -> bool:
    """Whether a second statement must fetch targets that only the bodies name."""
    return any(not one.reverse and not is_person(one) for one in query.includes)
