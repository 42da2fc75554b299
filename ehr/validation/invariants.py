"""The invariants of the base definitions, each as a function of an element (https://hl7.org/fhir/R4/conformance-rules.html).

All go through the FHIRPath compiler, except: rules that only ask which members are present, which become plain Python
tests; those whose cost would be quadratic (`native_invariants`); and those that other modules hold because they need
more than the element (`HELD_ELSEWHERE`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ehr.definitions import Constraint
from ehr.fhirpath import invariant
from ehr.validation.native_invariants import NATIVE

Holds = Callable[[Any, Any, Any], bool]
WireNames = Mapping[str, tuple[str, ...]]
"""The members in which an element may stand: {"value": ("valueQuantity", "_valueQuantity", ...)}."""

HELD_ELSEWHERE = {
    "ele-1": "checkers: empty objects, texts and arrays",
    "ref-1": "references: targets within contained",
    "dom-3": "references: unreferenced contained resources",
    "txt-1": "narrative",
    "txt-2": "narrative",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One invariant ready to run; it holds wherever none of `guard`'s members is present, if there is a guard."""

    key: str
    human: str
    guard: frozenset[str]
    holds: Holds


def rules_of(constraints: tuple[Constraint, ...], context_type: str, names: WireNames) -> tuple[Rule, ...]:
    """The rules of severity error among `constraints`; raises FhirPathError for one that cannot be compiled.

    `context_type` is the type, or the path of the backbone element, on which they run; `names` are of its children.
    """
    return tuple(
        Rule(c.key, c.human, _guard(c, names), _holds(c, context_type, names))
        for c in constraints
        if c.severity == "error" and c.key not in HELD_ELSEWHERE and c.expression
    )


def _holds(constraint: Constraint, context_type: str, names: WireNames) -> Holds:
    if constraint.key in NATIVE:
        return NATIVE[constraint.key]
    by_presence = _presence_test(constraint.expression, names)
    if by_presence is not None:
        return by_presence
    compiled: Holds = invariant(constraint.expression, context_type)
    return _period_test(compiled) if constraint.key == "per-1" else compiled


def _period_test(compiled: Holds) -> Holds:
    """per-1, start <= end: texts of one form and zone compare as they are; the rest is FHIRPath's."""

    def holds(element: Any, resource: Any, root: Any) -> bool:
        start, end = element.get("start"), element.get("end")
        if type(start) is str and type(end) is str and len(start) == len(end) and start[19:] == end[19:]:
            return bool(start <= end)
        return compiled(element, resource, root)

    return holds


# --- rules of presence ------------------------------------------------------------------------------------------

_PRESENCE_TOKEN = re.compile(
    r"\s*(?:(?P<name>[a-z]\w*)\.(?P<call>exists|empty)\(\)|(?P<operator>and\b|or\b|xor\b|implies\b|=|!=)|(?P<bracket>[()]))"
)
_PYTHON_OPERATORS = {"and": " and ", "or": " or ", "xor": " != ", "=": " == ", "!=": " != "}


def _presence_test(expression: str, names: WireNames) -> Holds | None:
    """A rule made only of `x.exists()`, `x.empty()` and logic, as a Python function; None for any other rule."""
    left, implies, right = expression.partition(" implies ")
    premise = _presence_python(left, names)
    if premise is None:
        return None
    source = premise
    if implies:
        conclusion = _presence_python(right, names)
        if conclusion is None:
            return None
        source = f"not ({premise}) or ({conclusion})"
    # the text is made of the tokens above and of names in HL7's definitions
    function: Holds = eval(f"lambda node, resource, root: {source}", {})  # noqa: S307 - see the line above
    return function


def _presence_python(expression: str, names: WireNames) -> str | None:
    parts: list[str] = []
    mixed: set[str] = set()
    position = 0
    text = expression.strip()
    while position < len(text):
        match = _PRESENCE_TOKEN.match(text, position)
        if match is None or match["operator"] == "implies" or (match["name"] and match["name"] not in names):
            return None
        position = match.end()
        if match["name"]:
            present = " or ".join(f"{name!r} in node" for name in names[match["name"]])
            parts.append(f"({present})" if match["call"] == "exists" else f"(not ({present}))")
        elif match["operator"]:
            mixed.add(match["operator"])
            parts.append(_PYTHON_OPERATORS[match["operator"]])
        else:
            parts.append(match["bracket"])
    # xor binds as or does, != more tightly: only rules that do not mix them can be written this way
    return None if "xor" in mixed and "or" in mixed else "".join(parts)


# --- guards -----------------------------------------------------------------------------------------------------

_SILENT_WHEN_ABSENT = (
    re.compile(r"(?P<name>[a-z]\w*)(?:\.\w+)*\.empty\(\) or "),
    re.compile(r"(?P<name>[a-z]\w*)\.hasValue\(\)\.not\(\) or "),
    re.compile(r"(?P<name>[a-z]\w*)(?:\.\w+)*\.exists\(\) implies "),
    re.compile(r"(?P<name>[a-z]\w*)(?:\.\w+)*\.empty\(\)$"),
)
_GUARDS = {
    "dom-4": "contained",
    "obs-7": "component",
    "con-5": "verificationStatus",
    "bdl-8": "fullUrl",
    "ras-2": "probability",
    "tim-9": "offset",
}
"""Members without which a rule holds, where its form does not tell."""


def _guard(constraint: Constraint, names: WireNames) -> frozenset[str]:
    """The members of which one must be present for the rule to say anything; empty where it always does."""
    expression = constraint.expression
    name = _GUARDS.get(constraint.key)
    if name is None and " xor " not in expression and (" implies " not in expression or expression.count("(") < 9):
        matches = (pattern.match(expression) for pattern in _SILENT_WHEN_ABSENT)
        found = next((match for match in matches if match), None)
        if found and not (found.re is not _SILENT_WHEN_ABSENT[2] and " implies " in expression):
            name = found["name"]
    return frozenset(names.get(name, ())) if name else frozenset()
