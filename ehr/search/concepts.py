"""The concepts of a CodeSystem, what subsumes what, and the filters by which value sets choose among them.

https://hl7.org/fhir/R4/codesystem.html, https://hl7.org/fhir/R4/valueset-filter-operator.html
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

_PROPERTIES = "http://hl7.org/fhir/concept-properties#"
_VALUES = ("valueCode", "valueString", "valueInteger", "valueBoolean", "valueDateTime", "valueDecimal")
_IDENTITY = frozenset({"concept", "code"})
_INACTIVE = frozenset({"retired", "inactive"})


class Concepts:
    """The concepts of one CodeSystem by code.

    Subsumption is told by nesting and by the properties parent and child, where the hierarchy is one of "is-a" or is
    not said to be another (SC-50).
    """

    def __init__(self, code_system: Mapping[str, Any]) -> None:
        """Take the resource."""
        self.is_complete = code_system.get("content") == "complete"
        self.by_code: dict[str, Mapping[str, Any]] = {}
        self._above: dict[str, set[str]] = {}
        self._below: dict[str, set[str]] = {}
        subsumes = code_system.get("hierarchyMeaning", "is-a") == "is-a"
        waiting = [(concept, None) for concept in code_system.get("concept", ())]
        while waiting:
            concept, parent = waiting.pop()
            code = concept.get("code")
            if code is None:
                continue
            self.by_code.setdefault(code, concept)
            if subsumes and parent is not None:
                self._relate(parent, code)
            waiting += [(child, code) for child in concept.get("concept", ())]
        if subsumes:
            self._relate_by_properties(code_system)

    def _relate(self, above: str, below: str) -> None:
        self._above.setdefault(below, set()).add(above)
        self._below.setdefault(above, set()).add(below)

    def _relate_by_properties(self, code_system: Mapping[str, Any]) -> None:
        declared = code_system.get("property", ())
        names = {
            side: {side} | {each.get("code") for each in declared if each.get("uri") == f"{_PROPERTIES}{side}"}
            for side in ("parent", "child")
        }
        for code, concept in self.by_code.items():
            for each in concept.get("property", ()):
                other = _text(each)
                if other is not None and each.get("code") in names["parent"]:
                    self._relate(other, code)
                elif other is not None and each.get("code") in names["child"]:
                    self._relate(code, other)

    def below(self, code: str) -> set[str]:
        """The code and every code that it subsumes."""
        return _reached(code, self._below)

    def above(self, code: str) -> set[str]:
        """The code and every code that subsumes it."""
        return _reached(code, self._above)

    def is_active(self, code: str) -> bool:
        """Whether no property says that the concept is out of use."""
        values = {each.get("code"): _text(each) for each in self.by_code[code].get("property", ())}
        return values.get("inactive") != "true" and values.get("status") not in _INACTIVE

    def chosen(self, name: str, operator: str, value: str) -> set[str] | None:
        """The codes that one filter of a value set chooses; None for an operator that is not offered."""
        codes = set(self.by_code)
        choose: dict[str, Callable[[], Iterable[str]]] = {
            "is-a": lambda: self.below(value) & codes,
            "descendent-of": lambda: (self.below(value) & codes) - {value},
            "is-not-a": lambda: codes - self.below(value),
            "generalizes": lambda: self.above(value) & codes,
            "=": lambda: [code for code in codes if value in self._values(code, name)],
            "in": lambda: [code for code in codes if not self._values(code, name).isdisjoint(_listed(value))],
            "not-in": lambda: [code for code in codes if self._values(code, name).isdisjoint(_listed(value))],
            "exists": lambda: [code for code in codes if bool(self._values(code, name)) == (value == "true")],
        }
        return set(choose[operator]()) if operator in choose else None

    def _values(self, code: str, name: str) -> set[str]:
        """What a concept has for a property, as text."""
        if name in _IDENTITY:
            return {code}
        concept = self.by_code[code]
        if name in {"display", "definition"}:
            return {concept[name]} if name in concept else set()
        related = {"parent": self._above, "child": self._below}.get(name, {}).get(code, set())
        found = {_text(each) for each in concept.get("property", ()) if each.get("code") == name}
        return related | {text for text in found if text is not None}


def _listed(value: str) -> set[str]:
    return {part.strip() for part in value.split(",")}


def _text(stated: Mapping[str, Any]) -> str | None:
    for key in _VALUES:
        if key in stated:
            value = stated[key]
            return ("true" if value else "false") if isinstance(value, bool) else str(value)
    code = stated.get("valueCoding", {}).get("code")
    return None if code is None else str(code)


def _reached(code: str, steps: Mapping[str, set[str]]) -> set[str]:
    found, waiting = {code}, [code]
    while waiting:
        following = steps.get(waiting.pop(), set()) - found
        found |= following
        waiting += following
    return found
