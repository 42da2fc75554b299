"""`_include` and `_revinclude`: https://hl7.org/fhir/R4/search.html#include.

Included rows pass the caller's scope like matches. Rows that name a match, and the persons that matches are about, are
found in the statement of the page; for others there is `ehr.search.following`.
"""

from ehr.search import limits, person
from ehr.search.controls import followed
from ehr.search.query import Include, SearchQuery
from ehr.search.rendering import Rendering
from ehr.search.statement_columns import columns_of


def in_statement(rendering: Rendering, query: SearchQuery) -> str:
    """What adds included rows (place 0) to the table `answer`; `page` holds the keys of the matches."""
    found: list[str] = []
    for wanted in query.includes:
        if not in_page(query, wanted):
            continue
        if not wanted.reverse:
            found.append(_persons(rendering, query, wanted))
        elif wanted.target_types is None or query.resource_type in wanted.target_types:
            naming = followed(wanted.source_type, query.resource_type)
            codes = [code for code in wanted.codes if code in naming]
            found += [_naming(rendering, query, wanted.source_type, code) for code in codes]
    if len(found) < 2:
        return "".join(f" union all {text}" for text in found)
    together = " union all ".join(found)
    return f" union all (select f.* from ({together}) as f order by {whichever('f')} limit {most(query)})"


def in_page(query: SearchQuery, wanted: Include) -> bool:
    """Whether the statement of the page finds what is included for the matches."""
    if wanted.source_type == "*":
        return False
    return wanted.reverse or (wanted.source_type == query.resource_type and is_person(wanted))


def is_person(wanted: Include) -> bool:
    """Whether the targets are the holders of the rows."""
    return (
        not wanted.reverse
        and len(wanted.codes) == 1
        and person.names_holder(wanted.source_type, wanted.codes[0])
        and (wanted.codes[0] == "patient" or wanted.target_types == frozenset({"Patient"}))
    )


def most(query: SearchQuery) -> int:
    """How many included rows a statement fetches; so many mean that there may be more. Matches may be among them."""
    return limits.INCLUDED_ROWS + query.count + 1


def whichever(alias: str) -> str:
    """An order in which hidden rows have no part, to cut off by; no index has it, so that none is walked for it."""
    return f"{alias}.key # 0"


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
        f" order by {whichever(source)} limit {most(query)})"
    )
