"""Reads the parameters of a search: https://hl7.org/fhir/R4/search.html.

Strict by default: an unknown parameter, modifier or value is `BadSearch` and names it. With lenient handling such a
parameter is reported and dropped (https://hl7.org/fhir/R4/search.html#errors).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from functools import partial

from ehr.definitions import SearchParameter, is_resource_type, search_parameters
from ehr.errors import BadSearch, Issue, TooCostly
from ehr.indexing import PLATFORM_ZONE, is_of_names, parts_of
from ehr.search import (
    composite,
    controls,
    date,
    filter_grammar,
    limits,
    near,
    number,
    quantity,
    reference,
    string,
    token,
    uri,
)
from ehr.search.chain_grammar import PathReader, is_path, links_in
from ehr.search.query import (
    Clause,
    CompositeValue,
    Criterion,
    Has,
    Joined,
    ReferenceValue,
    SearchQuery,
    TokenValue,
    Value,
)
from ehr.search.remembered import ParsedQueries
from ehr.search.terminology import SET_MODIFIERS
from ehr.search.text import split, usable

_KINDS = frozenset({"special", "composite", "token", "string", "reference", "date", "quantity", "number", "uri"})
MODIFIERS: dict[str, frozenset[str]] = {
    "token": token.MODIFIERS,
    "string": string.MODIFIERS,
    "reference": reference.MODIFIERS,
    "date": date.MODIFIERS,
    "quantity": quantity.MODIFIERS,
    "number": number.MODIFIERS,
    "uri": uri.MODIFIERS,
    "composite": composite.MODIFIERS,
    "special": near.MODIFIERS,
}
"""What each kind of parameter takes; a reference takes the names of its target types too."""
_TOKEN_READERS: dict[str | None, Callable[[str, str], Value]] = {
    "text": token.parse_text,
    "of-type": token.parse_of_type,
    "below": token.parse_related,
    "above": token.parse_related,
}
LIST = "_list"
_IGNORED = frozenset({"_format", "_pretty"})
_WITHOUT_MISSING = frozenset({"_id", "_lastUpdated"})


@dataclass(slots=True)
class _Reading:
    """What is known so far of the query that is being read."""

    resource_type: str
    now: datetime
    base_url: str | None
    zone: tzinfo
    clauses: list[Clause] = field(default_factory=list)
    links: int = 0
    """Joins that the chains read so far come to."""
    shape: controls.Controls = field(default_factory=controls.Controls)


_parsed = ParsedQueries()


def parse(
    resource_type: str,
    pairs: Sequence[tuple[str, str]],
    *,
    lenient: bool = False,
    now: datetime | None = None,
    base_url: str | None = None,
    zone: tzinfo = PLATFORM_ZONE,
) -> SearchQuery:
    """Read decoded (name, value) pairs.

    `base_url` is the server's own address, whose absolute references equal relative ones; `zone` that of
    dates without one, as the extractor has it. BadSearch names what is
    unknown or unusable; TooCostly says which bound was passed.
    """
    if not is_resource_type(resource_type):
        raise BadSearch(f"No resource type {resource_type[:64]}")
    if len(pairs) > limits.CRITERIA:
        raise TooCostly(f"At most {limits.CRITERIA} parameters in one search")
    if sum(is_path(name) for name, _ in pairs) > limits.CHAINS:
        raise TooCostly(f"At most {limits.CHAINS} chains and _has in one search")

    def read() -> SearchQuery:
        return _whole(_Reading(resource_type, now or datetime.now(UTC), base_url, zone), pairs, lenient=lenient)

    return _parsed.get(pairs, (resource_type, lenient, base_url, zone), read)


def _whole(reading: _Reading, pairs: Sequence[tuple[str, str]], *, lenient: bool) -> SearchQuery:
    understood: list[tuple[str, str]] = []
    issues: list[Issue] = []
    for name, value in pairs:
        if name in _IGNORED:
            continue
        try:
            _read(reading, name, value)
        except BadSearch as problem:
            if not lenient:
                raise
            issues += [Issue("warning", issue.code, f"Dropped: {issue.diagnostics}") for issue in problem.issues]
        else:
            understood.append((name, value))
    return reading.shape.query(reading.resource_type, tuple(reading.clauses), understood, tuple(issues))


def _read(reading: _Reading, name: str, value: str) -> None:
    if not usable(name) or not usable(value):
        raise BadSearch("A parameter holds a character that is not text")
    if not value:
        raise BadSearch(f"{name[:100]}: no value")
    if name.endswith(":") or ":." in name:
        raise BadSearch(f"Unknown modifier: {name[:100]} (none is named)")
    if reading.shape.take(reading.resource_type, name, value):
        return
    if name == filter_grammar.NAME:
        clause = _filter(reading, value)
    elif name == LIST:
        clause = _list(reading, value)
    else:
        clause = _clause(reading, name, value)
    reading.links += links_in(clause)
    if reading.links > limits.CHAIN_LINKS:
        raise TooCostly(f"{name[:100]}: the chains of this search lead through too many types; say which")
    reading.clauses += _parts(clause)


def _parts(clause: Clause) -> Iterator[Clause]:
    """What must all hold: as good as parameters of their own."""
    if isinstance(clause, Joined) and clause.operator == "and":
        for each in clause.clauses:
            yield from _parts(each)
    else:
        yield clause


def _filter(reading: _Reading, value: str) -> Clause:
    """A `_filter`; its ends are read like parameters."""

    def criterion(resource_type: str, end: str, text: str) -> Criterion:
        code, _, modifier = end.partition(":")
        return _criterion(reading, _Named(resource_type, code, modifier or None, f"{filter_grammar.NAME}: {end}"), text)

    return filter_grammar.filter_clause(reading.resource_type, value, criterion)


def _list(reading: _Reading, value: str) -> Has:
    """`_list`: the rows that a visible List names as its items (https://hl7.org/fhir/R4/search.html#list)."""
    texts = _alternatives(LIST, LIST, value)
    if any(text.startswith("$") for text in texts):
        raise BadSearch(f"{LIST}: ids of Lists; functional lists as {value[:64]} are not offered")
    values = tuple(_token("_id", LIST, text) for text in texts)
    return Has(reading.resource_type, "item", Criterion("List", "_id", "token", None, values))


def _clause(reading: _Reading, name: str, value: str) -> Clause:
    """A criterion, or a chain that ends in one."""

    def criterion(resource_type: str, end: str) -> Criterion:
        code, _, modifier = end.partition(":")
        return _criterion(reading, _Named(resource_type, code, modifier or None, name), value)

    if not is_path(name):
        return criterion(reading.resource_type, name)
    return PathReader(name, criterion).clause(reading.resource_type, name)


def parameter_of(resource_type: str, code: str, name: str) -> SearchParameter:
    """The parameter's definition; BadSearch naming it where it is unknown or of a kind that is not offered."""
    parameter = search_parameters(resource_type).get(code)
    if parameter is None or parameter.kind not in _KINDS or parameter.expression is None:
        raise BadSearch(f"Unknown search parameter: {name[:100]} (on {resource_type})")
    return parameter


@dataclass(frozen=True, slots=True)
class _Named:
    """A parameter as it is named: its type, code and modifier, and the whole name for messages."""

    resource_type: str
    code: str
    modifier: str | None
    name: str


def _criterion(reading: _Reading, named: _Named, value: str) -> Criterion:
    resource_type, code, modifier, name = named.resource_type, named.code, named.modifier, named.name
    parameter = parameter_of(resource_type, code, name)
    only: str | None = None
    if modifier is not None and modifier not in MODIFIERS[parameter.kind]:
        if parameter.kind != "reference" or modifier not in reference.targets_of(parameter):
            raise BadSearch(f"Unknown modifier: {name[:100]} ({code} is a {parameter.kind})")
        only, modifier = modifier, None
    if modifier is not None and parameter.kind == "token" and not token.takes(resource_type, parameter, modifier):
        raise BadSearch(f"Unknown modifier: {name[:100]} ({code} selects nothing that :{modifier} is about)")
    if parameter.kind == "composite":
        return _composite(reading, named, value)
    if modifier == "missing":
        return _missing(resource_type, code, parameter.kind, name, value)
    if modifier == "mdm":
        if "Patient" not in reference.targets_of(parameter):
            raise BadSearch(f"{name}: :mdm is for references to Patient")
        only = "Patient"
    texts = _alternatives(code, name, value)
    read = _reader(reading, parameter, modifier, only, name[:100])
    values = tuple(read(text) for text in texts)
    if sum(len(one.targets) for one in values if isinstance(one, ReferenceValue)) > limits.TERMS:
        raise TooCostly(f"{code}: too many values without a type")
    return Criterion(resource_type, code, parameter.kind, modifier, values)


def _composite(reading: _Reading, named: _Named, value: str) -> Criterion:
    parts = [part.parameter.code for part in parts_of(named.resource_type, named.code)]
    values = []
    for text in _alternatives(named.code, named.name, value):
        texts = split(text, "$")
        if len(texts) != len(parts) or not all(texts):
            raise BadSearch(f"{named.name[:100]}: {'$'.join(parts)}")
        each = [
            _criterion(reading, _Named(named.resource_type, part, None, f"{named.name[:100]}: {part}"), found)
            for part, found in zip(parts, texts, strict=True)
        ]
        values.append(CompositeValue(tuple(each)))
    return Criterion(named.resource_type, named.code, "composite", None, tuple(values))


def _alternatives(code: str, name: str, value: str) -> list[str]:
    texts = split(value, ",")
    if len(texts) > limits.OR_VALUES:
        raise TooCostly(f"{code}: at most {limits.OR_VALUES} values")
    if any(len(text) > limits.VALUE_LENGTH for text in texts):
        raise TooCostly(f"{code}: a value has at most {limits.VALUE_LENGTH} characters")
    if not all(texts):
        raise BadSearch(f"{name[:100]}: an empty value")
    return texts


def _missing(resource_type: str, code: str, kind: str, name: str, value: str) -> Criterion:
    if code in _WITHOUT_MISSING:
        raise BadSearch(f"Unknown modifier: {name}")
    if value not in ("true", "false"):
        raise BadSearch(f"{name}: true or false")
    return Criterion(resource_type, code, kind, "missing", (), missing=value == "true")


def _reader(
    reading: _Reading, parameter: SearchParameter, modifier: str | None, only: str | None, name: str
) -> Callable[[str], Value]:
    """What reads one value of a parameter."""
    if parameter.kind == "token" and modifier in _TOKEN_READERS:
        return partial(_TOKEN_READERS[modifier], name)
    if parameter.kind == "token" and modifier in SET_MODIFIERS:
        return partial(token.parse_set, name, reading.base_url)
    if parameter.kind == "reference" and modifier != "identifier":
        targets = reference.targets_of(parameter)
        return lambda text: reference.parse_value(name, text, targets, only, reading.base_url)
    readers: dict[str, Callable[[str], Value]] = {
        "token": partial(_token, parameter.code, name),
        "reference": partial(token.parse_value, name),
        "string": partial(string.parse_value, name, modifier, is_of_names(parameter.expression or "")),
        "date": partial(date.parse_value, name, now=reading.now, zone=reading.zone),
        "number": partial(number.parse_value, name),
        "quantity": partial(quantity.parse_value, name),
        "special": partial(near.parse_value, name),
        "uri": partial(uri.parse_value, name, modifier),
    }
    return readers[parameter.kind]


def _token(code: str, name: str, text: str) -> TokenValue:
    value = token.parse_value(name, text)
    if code == "_id" and "|" in value.text:
        raise BadSearch(f"{name}: an id has no system")
    return value
