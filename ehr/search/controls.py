"""Parameters that shape the answer: https://hl7.org/fhir/R4/search.html#return."""

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, cast, get_args

from ehr.definitions import RESOURCE_TYPES, is_resource_type, search_parameters, structure
from ehr.errors import BadSearch, Issue, TooCostly
from ehr.search import limits
from ehr.search.query import Clause, Include, SearchQuery, SortKey
from ehr.search.reference import targets_of

_SORTABLE = frozenset({"date", "number", "quantity", "string", "token", "uri", "reference"})
NOT_ROWS = frozenset({"AuditEvent", "Parameters"})
"""Types that are no rows of the record, so that nothing can be followed from them."""
_COUNT = re.compile(r"[0-9]{1,9}")
Summary = Literal["true", "text", "data", "count", "false"]
Total = Literal["none", "estimate", "accurate"]


@dataclass(slots=True)
class Controls:
    """`_sort`, `_count`, `_include`, `_revinclude`, `_summary`, `_elements` and `_total` as read so far."""

    sort: list[SortKey] = field(default_factory=list)
    count: int | None = None
    includes: list[Include] = field(default_factory=list)
    summary: Summary | None = None
    elements: list[str] = field(default_factory=list)
    total: Total | None = None

    def take(self, resource_type: str, name: str, value: str) -> bool:
        """Read the parameter if it is one of these; False otherwise. BadSearch for an unusable value."""
        match name:
            case "_sort":
                self.sort += _sort(resource_type, value)
                _within(name, len(self.sort), limits.SORT_KEYS)
            case "_count":
                self.count = _count(self.count, value)
            case "_include" | "_revinclude" | "_include:iterate" | "_revinclude:iterate":
                self.includes.append(_include(resource_type, name, value))
                _within(name, len(self.includes), limits.INCLUDES)
                reverse = sum(len(include.codes) for include in self.includes if include.reverse)
                _within(name, reverse, limits.REVERSE_INCLUDES)
            case "_summary":
                self.summary = cast("Summary", _one_of(name, self.summary, value, get_args(Summary)))
            case "_elements":
                self.elements += _elements(resource_type, value)
            case "_total":
                self.total = cast("Total", _one_of(name, self.total, value, get_args(Total)))
            case _:
                return False
        return True

    def query(
        self,
        resource_type: str,
        clauses: tuple[Clause, ...],
        pairs: list[tuple[str, str]],
        issues: tuple[Issue, ...],
    ) -> SearchQuery:
        """Put the whole together; BadSearch where parameters exclude each other."""
        if self.elements and self.summary not in (None, "false"):
            raise BadSearch("_elements and _summary exclude each other")
        if self.summary == "text" and self.includes:
            raise BadSearch("_include: not together with _summary=text")
        return SearchQuery(
            resource_type=resource_type,
            clauses=clauses,
            sort=tuple(self.sort),
            count=limits.PAGE_SIZE if self.count is None else self.count,
            includes=tuple(self.includes),
            summary=self.summary,
            elements=tuple(dict.fromkeys(self.elements)),
            total=self.total,
            pairs=tuple(pairs),
            issues=issues,
        )


def _within(name: str, number: int, most: int) -> None:
    if number > most:
        raise TooCostly(f"{name}: at most {most}")


def _count(before: int | None, value: str) -> int:
    if before is not None or not _COUNT.fullmatch(value):
        raise BadSearch("_count: one whole number")
    return min(int(value), limits.LARGEST_PAGE)


def _one_of(name: str, before: str | None, value: str, allowed: tuple[str, ...]) -> str:
    if before is not None or value not in allowed:
        raise BadSearch(f"{name}: one of {', '.join(allowed)}")
    return value


def _sort(resource_type: str, value: str) -> list[SortKey]:
    keys = []
    for part in value.split(","):
        code = part.removeprefix("-")
        parameter = search_parameters(resource_type).get(code)
        if parameter is None or parameter.kind not in _SORTABLE or parameter.expression is None:
            raise BadSearch(f"_sort: unknown search parameter {code[:64]}")
        keys.append(SortKey(code, parameter.kind, part.startswith("-")))
    return keys


def _include(resource_type: str, name: str, value: str) -> Include:
    reverse, iterate = name.startswith("_revinclude"), name.endswith(":iterate")
    if value == "*" and (reverse or iterate):
        return Include("*", (), None, reverse, iterate)
    source, _, rest = value.partition(":")
    code, _, target = rest.partition(":")
    if value == "*":
        source, code = resource_type, "*"
    if not is_resource_type(source) or source in NOT_ROWS or not code or value.endswith(":"):
        raise BadSearch(f"{name}: Type:parameter or Type:parameter:Type, not {value[:100]}")
    if not (reverse or iterate) and source != resource_type:
        raise BadSearch(f"{name}: {value[:100]} does not start from {resource_type}")
    only = resource_type if reverse and not iterate else None
    if target and (not is_resource_type(target) or (only and target != only)):
        raise BadSearch(f"{name}: {value[:100]} does not refer to {only or target[:64]}")
    named = followed(source, only or target or None)
    codes = named if code == "*" else tuple(each for each in named if each == code)
    if not codes:
        to = f" that names a {only or target}" if only or target else ""
        raise BadSearch(f"{name}: {code[:64]} is not a reference parameter of {source}{to}")
    return Include(source, codes, frozenset({target}) if target else None, reverse, iterate)


def followed(source: str, target: str | None = None) -> tuple[str, ...]:
    """The reference parameters of a type that can be followed, all or only those that may name a `target`."""
    return tuple(_followed(source) if target is None else _naming().get(target, {}).get(source, ()))


@cache
def _followed(source: str) -> dict[str, tuple[str, ...]]:
    """The reference parameters of a type in order, with the types that they may name."""
    return {
        code: targets_of(parameter)
        for code, parameter in sorted(search_parameters(source).items())
        if parameter.kind == "reference" and parameter.expression is not None
    }


@cache
def _naming() -> dict[str, dict[str, list[str]]]:
    """Target type to source type to the parameters that may name it."""
    found: dict[str, dict[str, list[str]]] = {}
    for source in RESOURCE_TYPES:
        for code, targets in _followed(source).items():
            for target in targets:
                found.setdefault(target, {}).setdefault(source, []).append(code)
    return found


def _elements(resource_type: str, value: str) -> list[str]:
    known = {name for element in structure(resource_type).children(resource_type) for name in _names(element.path)}
    names = []
    for part in value.split(","):
        name = part.removeprefix(f"{resource_type}.")
        if name not in known and name not in ("id", "meta", "resourceType"):
            raise BadSearch(f"_elements: {resource_type} has no element {part[:64]}")
        names.append(name)
    return names


def _names(path: str) -> tuple[str, ...]:
    name = path.rpartition(".")[2]
    return (name, name.removesuffix("[x]"))
