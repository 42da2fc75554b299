"""Reads `_filter`: https://hl7.org/fhir/R4/search_filter.html.

Expressions are joined from left to right, `and` and `or` alike, as the specification has it. A path may lead through
references, each with a filter of its own in square brackets.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from ehr.definitions import search_parameters
from ehr.errors import BadSearch, TooCostly
from ehr.search import limits, string
from ehr.search.chain_grammar import PathReader
from ehr.search.query import PREFIXES, Clause, Criterion, DateValue, Joined, Negated

NAME = "_filter"
OPERATORS = (
    *("eq", "ne", "co", "sw", "ew", "gt", "lt", "ge", "le", "ap", "sa", "eb", "pr", "po", "ss", "sb", "in", "ni"),
    "re",
)
_ORDERED = {prefix: prefix for prefix in ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")}
_MODIFIER_OF: dict[str, dict[str, str]] = {
    "token": {"eq": "", "ss": "below", "sb": "above", "in": "in", "ni": "not-in"},
    "string": {"eq": "", "co": "contains", "sw": "", "ew": "contains"},
    "reference": {"eq": "", "re": ""},
    "uri": {"eq": ""},
}
"""For each kind, the operators that compare words, and the modifier whose meaning they have."""
_ORDERED_KINDS = {"date": {*_ORDERED, "po"}, "number": set(_ORDERED), "quantity": set(_ORDERED)}
_WHOLE: dict[str, Literal["equals", "ends"]] = {"eq": "equals", "ew": "ends"}
_SPACE = re.compile(r"\s*")
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_\-:.]*")
_WORD = re.compile(r"[a-z]+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_BARE = re.compile(r"[^\s)\]\"]+")

ReadCriterion = Callable[[str, str, str], Criterion]
"""(type, "code" or "code:modifier", value as a search parameter has it) to a criterion; BadSearch where unusable."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A part of a path; `meets` is what stands in square brackets behind it."""

    name: str
    meets: "_Node | None" = None


@dataclass(frozen=True, slots=True)
class _Comparison:
    path: tuple[_Step, ...]
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class _Both:
    operator: Literal["and", "or"]
    left: "_Node"
    right: "_Node"


@dataclass(frozen=True, slots=True)
class _Not:
    node: "_Node"


_Node = _Comparison | _Both | _Not


def filter_clause(resource_type: str, text: str, criterion: ReadCriterion) -> Clause:
    """Read a filter on a type.

    Raises:
        BadSearch: it is no filter, or names a parameter or operator that is not offered; the text says which.
        TooCostly: it is too long, too deep, or has too many comparisons.
    """
    if len(text) > limits.FILTER_LENGTH:
        raise TooCostly(f"{NAME}: at most {limits.FILTER_LENGTH} characters")
    return _Meaning(criterion).clause(resource_type, _Syntax(text).whole())


@dataclass(slots=True)
class _Syntax:
    """The text and how far it was read."""

    text: str
    at: int = 0
    depth: int = 0
    comparisons: int = 0

    def whole(self) -> _Node:
        node = self._expression()
        if self._take(_SPACE) and self.at < len(self.text):
            self._refuse("and, or, or the end")
        return node

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def _taken(self, sign: str) -> bool:
        self._take(_SPACE)
        there = self.text.startswith(sign, self.at)
        self.at += len(sign) if there else 0
        return there

    def _refuse(self, expected: str) -> None:
        rest = self.text[self.at :].strip()[:40] or "the end"
        raise BadSearch(f"{NAME}: expected {expected}, not {rest}")

    def _expression(self) -> _Node:
        self.depth += 1
        if self.depth > limits.FILTER_DEPTH:
            raise TooCostly(f"{NAME}: at most {limits.FILTER_DEPTH} brackets within each other")
        left = self._term()
        while True:
            before = self.at
            self._take(_SPACE)
            word = self._take(_WORD)
            if word is None or word[0] not in ("and", "or") or self.at == before:
                self.at = before
                self.depth -= 1
                return left
            left = _Both("and" if word[0] == "and" else "or", left, self._term())

    def _term(self) -> _Node:
        before = self.at
        if self._taken("not") and self._taken("("):
            return _Not(self._closed(")"))
        self.at = before
        if self._taken("("):
            return self._closed(")")
        return self._comparison()

    def _closed(self, sign: str) -> _Node:
        node = self._expression()
        if not self._taken(sign):
            self._refuse(f"and, or, or {sign}")
        return node

    def _comparison(self) -> _Comparison:
        self.comparisons += 1
        if self.comparisons > limits.CRITERIA:
            raise TooCostly(f"{NAME}: at most {limits.CRITERIA} comparisons")
        path = self._path()
        self._take(_SPACE)
        word = self._take(_WORD)
        if word is None or word[0] not in OPERATORS:
            self.at = word.start() if word is not None else self.at
            self._refuse(f"an operator ({' '.join(OPERATORS)})")
            raise AssertionError
        if not (space := self._take(_SPACE)) or not space[0]:
            self._refuse("a space and a value")
        return _Comparison(path, word[0], self._value())

    def _path(self) -> tuple[_Step, ...]:
        self._take(_SPACE)
        steps: list[_Step] = []
        while True:
            found = self._take(_PATH)
            if found is None:
                self._refuse("a search parameter")
                raise AssertionError
            names = [found[0]] if found[0].startswith("_has:") else found[0].split(".")
            if not all(names):
                raise BadSearch(f"{NAME}: {found[0][:100]} is no path")
            steps += [_Step(name) for name in names]
            if not self._taken("["):
                return tuple(steps)
            steps[-1] = _Step(names[-1], self._closed("]"))
            if not self._taken("."):
                self._refuse("a dot and a search parameter of what the reference leads to")

    def _value(self) -> str:
        if quoted := self._take(_QUOTED):
            try:
                text = json.loads(quoted[0], strict=False)
            except ValueError:
                raise BadSearch(f"{NAME}: {quoted[0][:40]} is no text in quotes") from None
            return str(text)
        bare = self._take(_BARE)
        if bare is None:
            self._refuse("a value")
            raise AssertionError
        return bare[0]


@dataclass(slots=True)
class _Meaning:
    """What a filter says of rows of a type."""

    criterion: ReadCriterion
    read: int = field(default=0)
    """Comparisons read so far, each time on a type."""

    def clause(self, resource_type: str, node: _Node) -> Clause:
        match node:
            case _Comparison(path=path, operator=operator, value=value):
                return self._along(resource_type, path, operator, value)
            case _Not(node=negated):
                return Negated(resource_type, self.clause(resource_type, negated))
            case _Both(operator=joint, left=left, right=right):
                sides = (self.clause(resource_type, left), self.clause(resource_type, right))
                return Joined(resource_type, joint, sides)

    def _along(self, resource_type: str, path: tuple[_Step, ...], operator: str, value: str) -> Clause:
        self.read += 1
        if self.read > limits.FILTER_READINGS:
            raise TooCostly(f"{NAME}: its paths lead through too many types; say which, as in subject:Patient.name")
        whole = ".".join(step.name for step in path)

        def compared(on: str, end: str) -> Clause:
            return self._compared(on, end, operator, value)

        reader = PathReader(f"{NAME}: {whole}", compared)
        bracketed = next((place for place, step in enumerate(path) if step.meets is not None), None)
        if bracketed is None:
            return reader.clause(resource_type, whole)
        first, *rest = path
        if bracketed > 0:
            return reader.chain(resource_type, first.name, lambda on: self._along(on, tuple(rest), operator, value))
        met = first.meets

        def below(on: str) -> Clause:
            sides = [] if met is None else [self.clause(on, met)]
            return Joined(on, "and", (*sides, self._along(on, tuple(rest), operator, value)))

        return reader.chain(resource_type, first.name, below)

    def _compared(self, resource_type: str, code: str, operator: str, value: str) -> Clause:
        """One comparison on a row of a type."""
        if ":" in code:
            raise BadSearch(f"{NAME}: {code[:64]}: operators stand in the place of modifiers")
        parameter = search_parameters(resource_type).get(code)
        kind = parameter.kind if parameter is not None else ""
        if operator == "pr":
            if value not in ("true", "false"):
                raise BadSearch(f"{NAME}: {code[:64]} pr: true or false")
            return self.criterion(resource_type, f"{code}:missing", "false" if value == "true" else "true")
        if kind in _ORDERED_KINDS and operator in _ORDERED_KINDS[kind]:
            return self._ordered(resource_type, code, operator, value)
        modifiers = _MODIFIER_OF.get(kind, {})
        if operator == "ne" and modifiers:
            equal = self._compared(resource_type, code, "eq", value)
            other = Negated(resource_type, equal)
            if code == "_id":
                return other
            return Joined(resource_type, "and", (self.criterion(resource_type, f"{code}:missing", "false"), other))
        modifier = modifiers.get(operator)
        if modifier is None and kind:
            raise BadSearch(f"{NAME}: {operator} is not offered for {code[:64]}, a {kind}")
        found = self.criterion(resource_type, f"{code}:{modifier}" if modifier else code, _escaped(value))
        return replace(string.as_written(found), whole=_WHOLE.get(operator)) if kind == "string" else found

    def _ordered(self, resource_type: str, code: str, operator: str, value: str) -> Clause:
        if value[:2] in PREFIXES:
            raise BadSearch(f"{NAME}: {code[:64]} {operator}: {value[:40]} has a prefix, which the operator stands for")
        if operator != "po":
            return self.criterion(resource_type, code, operator + _escaped(value))
        # overlapping is what `ap` compares once its range is widened; here the range is as it was written
        found = self.criterion(resource_type, code, value)
        values = tuple(replace(each, prefix="ap") if isinstance(each, DateValue) else each for each in found.values)
        return replace(found, values=values)


def _escaped(value: str) -> str:
    r"""As a search parameter has it: commas are none of its separators here, `|` still parts system and code."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("$", "\\$")
