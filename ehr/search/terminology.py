"""Searches by value sets and by what subsumes what: `:in`, `:not-in`, `:below` and `:above` of tokens.

https://hl7.org/fhir/R4/search.html#token, https://hl7.org/fhir/R4/valueset.html#compositions

Value sets and code systems are those that are stored here and that the caller sees; of R4's own definitions the value
sets of required bindings are known without being stored. Their codes take the place of the address before a statement
is made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import asyncpg

from ehr.definitions import codes_of, codes_of_system
from ehr.errors import BadSearch, TooCostly
from ehr.json_text import parse
from ehr.keys import TermHasher, row_key
from ehr.row_filter import RowFilter
from ehr.search import limits
from ehr.search.concepts import Concepts
from ehr.search.query import CodeSet, Criterion, SearchQuery, TokenValue, criteria_of, with_criteria
from ehr.search.rendering import Rendering
from ehr.store.bodies import open_body

SET_MODIFIERS = frozenset({"in", "not-in"})
CODE_MODIFIERS = frozenset({"below", "above"})
_MODIFIERS = SET_MODIFIERS | CODE_MODIFIERS
_VERSIONS = 20
"""Rows of one address that are looked at for a version."""


def _waits(criterion: Criterion) -> bool:
    return (
        criterion.kind == "token"
        and criterion.modifier in _MODIFIERS
        and any(isinstance(value, TokenValue) for value in criterion.values)
    )


def must_expand(query: SearchQuery) -> bool:
    """Whether value sets or code systems must be read before this query can be answered."""
    return any(_waits(criterion) for clause in query.clauses for criterion in criteria_of(clause))


async def expanded(
    query: SearchQuery, connection: asyncpg.Connection, row_filter: RowFilter, hasher: TermHasher
) -> SearchQuery:
    """The query with codes in place of value sets and of codes' hierarchies.

    Raises:
        BadSearch: a value set or code system is not known here, or says what cannot be evaluated; named.
        TooCostly: more codes or more reads than `ehr.search.limits` allows.
    """
    reader = Terminology(connection, row_filter, hasher)
    found: dict[Criterion, Criterion] = {}
    for clause in query.clauses:
        for criterion in criteria_of(clause):
            if _waits(criterion) and criterion not in found:
                found[criterion] = await _expanded(reader, criterion)
    clauses = tuple(with_criteria(clause, lambda each: found.get(each, each)) for clause in query.clauses)
    return replace(query, clauses=clauses)


async def _expanded(reader: "Terminology", criterion: Criterion) -> Criterion:
    tokens: dict[str, None] = {}
    for value in criterion.values:
        if isinstance(value, TokenValue) and criterion.modifier in SET_MODIFIERS:
            tokens |= dict.fromkeys((await reader.value_set(value.text)).tokens())
        elif isinstance(value, TokenValue):
            tokens |= dict.fromkeys(await reader.related(value, upwards=criterion.modifier == "above"))
        if len(tokens) > limits.EXPANDED_CODES:
            raise TooCostly(
                f"{criterion.code}:{criterion.modifier}: more than {limits.EXPANDED_CODES} codes; name a smaller set"
            )
    return replace(criterion, values=(CodeSet(tuple(sorted(tokens))),))


@dataclass(frozen=True, slots=True)
class Chosen:
    """Codes, and systems that are chosen with every code of theirs."""

    codes: frozenset[tuple[str, str]] = frozenset()
    systems: frozenset[str] = frozenset()

    def has(self, system: str | None, code: str) -> bool:
        """Whether a code is chosen; without a system (None), whether it is in some."""
        if system is None:
            return bool(self.systems) or any(code == each for _, each in self.codes)
        return system in self.systems or (system, code) in self.codes

    def tokens(self) -> list[str]:
        """As index terms are made of them: `system|code`, and `system|` for every code of a system."""
        return [f"{system}|{code}" for system, code in self.codes] + [f"{system}|" for system in self.systems]

    def __or__(self, other: "Chosen") -> "Chosen":
        return Chosen(self.codes | other.codes, self.systems | other.systems)

    def __and__(self, other: "Chosen") -> "Chosen":
        mine = {pair for pair in self.codes if pair in other.codes or pair[0] in other.systems}
        theirs = {pair for pair in other.codes if pair[0] in self.systems}
        return Chosen(frozenset(mine | theirs), self.systems & other.systems)

    def without(self, other: "Chosen") -> "Chosen | None":
        """What is left; None where a system of which not every code is known would lose single codes."""
        systems = self.systems - other.systems
        if any(system in systems for system, _ in other.codes):
            return None
        kept = {pair for pair in self.codes if pair not in other.codes and pair[0] not in other.systems}
        return Chosen(frozenset(kept), systems)


@lru_cache(maxsize=32)
def _concepts(body: bytes) -> Concepts:
    return Concepts(parse(body))


@dataclass(slots=True)
class Terminology:
    """Reads value sets and code systems, and whatever else has a canonical address, for one request."""

    connection: asyncpg.Connection
    row_filter: RowFilter
    hasher: TermHasher
    most_reads: int = limits.TERMINOLOGY_READS
    reads: int = 0
    sets: dict[str, Chosen] = field(default_factory=dict)

    async def related(self, value: TokenValue, *, upwards: bool) -> list[str]:
        """The tokens of the codes that a code subsumes, or (upwards) that subsume it."""
        system, _, _ = value.text.rpartition("|")
        concepts = await self._code_system(system)
        if concepts is None:
            raise BadSearch(f"The code system {system[:200]} is not stored here, so that nothing says what is subsumed")
        codes = concepts.above(value.code) if upwards else concepts.below(value.code)
        return [f"{system}|{code}" for code in codes]

    async def value_set(self, address: str, within: tuple[str, ...] = ()) -> Chosen:
        """The codes of a value set; `within` are those that import it."""
        if address in within or len(within) > limits.VALUE_SET_DEPTH:
            raise BadSearch(f"The value set {address[:200]} imports itself, or its imports go too deep")
        if address not in self.sets:
            self.sets[address] = await self._evaluated(address, (*within, address))
        return self.sets[address]

    async def _evaluated(self, address: str, within: tuple[str, ...]) -> Chosen:
        body = await self.body("ValueSet", address)
        if body is None:
            own = codes_of(address)
            if own is None:
                raise BadSearch(f"The value set {address[:200]} is not stored here")
            return Chosen(own)
        stored = parse(body)
        try:
            return await self._composed(address, stored.get("compose", {}), within)
        except BadSearch:
            listed = _expansion(stored)
            if listed is None:
                raise
            return listed

    async def _composed(self, address: str, compose: Mapping[str, Any], within: tuple[str, ...]) -> Chosen:
        if not compose.get("include"):
            raise BadSearch(f"The value set {address[:200]} says neither what it includes nor its whole expansion")
        active = compose.get("inactive") is False
        chosen: Chosen | None = Chosen()
        for clause in compose["include"]:
            chosen = (chosen or Chosen()) | await self._clause(address, clause, within, active=active)
        for clause in compose.get("exclude", ()):
            removed = await self._clause(address, clause, within, active=False)
            chosen = None if chosen is None else chosen.without(removed)
        if chosen is None:
            raise BadSearch(f"The value set {address[:200]} excludes codes of a system that is not stored here")
        return chosen

    async def _clause(
        self, address: str, clause: Mapping[str, Any], within: tuple[str, ...], *, active: bool
    ) -> Chosen:
        """One include or exclude: what its system chooses and each of its value sets has."""
        chosen: Chosen | None = None
        if "system" in clause:
            chosen = await self._of_system(address, clause, active=active)
        for imported in clause.get("valueSet", ()):
            other = await self.value_set(imported, within)
            chosen = other if chosen is None else chosen & other
        return chosen or Chosen()

    async def _of_system(self, address: str, clause: Mapping[str, Any], *, active: bool) -> Chosen:
        system = clause["system"]
        if clause.get("concept"):
            return Chosen(frozenset((system, each["code"]) for each in clause["concept"] if "code" in each))
        version = clause.get("version")
        concepts = await self._code_system(f"{system}|{version}" if version else system)
        filters: Sequence[Mapping[str, Any]] = clause.get("filter", ())
        if concepts is None:
            own = codes_of_system(system)
            if filters:
                raise BadSearch(
                    f"The code system {system[:200]}, from which {address[:200]} chooses, is not stored here"
                )
            return Chosen(frozenset((system, code) for code in own), frozenset({system}))
        codes = set(concepts.by_code)
        for each in filters:
            found = concepts.chosen(each.get("property", ""), each.get("op", ""), each.get("value", ""))
            if found is None:
                raise BadSearch(f"The value set {address[:200]} filters by {each.get('op', '')}, which is not offered")
            codes &= found
        if active:
            codes = {code for code in codes if concepts.is_active(code)}
        whole = not filters and not active and not concepts.is_complete
        return Chosen(frozenset((system, code) for code in codes), frozenset({system} if whole else ()))

    async def _code_system(self, address: str) -> Concepts | None:
        """The concepts of a stored CodeSystem that lists any."""
        body = await self.body("CodeSystem", address)
        if body is None:
            return None
        concepts = _concepts(body)
        return concepts if concepts.by_code else None

    async def body(self, resource_type: str, address: str) -> bytes | None:
        """The resource at a canonical address, with version or the newest, or at `Type/id`; None where none is seen."""
        self.reads += 1
        if self.reads > self.most_reads:
            raise TooCostly(f"More than {self.most_reads} value sets, code systems and profiles in one request")
        rendering = Rendering(self.row_filter, self.hasher)
        canonical, _, version = address.partition("|")
        if address.startswith(f"{resource_type}/"):
            version = ""
            key = rendering.add(row_key(resource_type, address.removeprefix(f"{resource_type}/")), "bigint")
            found = f"r.key = {key}"
        else:
            term = self.hasher.term(resource_type, "url", "uri", canonical)
            found = f"r.terms @> {rendering.add([term], 'bigint[]')}"
        rows = await self.connection.fetch(
            f"select r.body, r.dictionary from resource r where {found} and {rendering.row('r', resource_type)}"
            f" order by r.last_updated desc, r.key limit {_VERSIONS}",
            *rendering.parameters.values,
        )
        bodies = [open_body(row["body"], row["dictionary"]) for row in rows]
        fitting = [body for body in bodies if not version or parse(body).get("version") == version]
        return fitting[0] if fitting else None


def _expansion(stored: Mapping[str, Any]) -> Chosen | None:
    """The codes of the expansion that a ValueSet carries; None where it has none or not all of it."""
    expansion = stored.get("expansion")
    if expansion is None:
        return None
    codes: set[tuple[str, str]] = set()
    number = 0
    waiting = list(expansion.get("contains", ()))
    while waiting:
        each = waiting.pop()
        waiting += each.get("contains", ())
        number += 1
        if "code" in each and each.get("abstract") is not True:
            codes.add((each.get("system", ""), each["code"]))
    return None if number < expansion.get("total", 0) else Chosen(frozenset(codes))
