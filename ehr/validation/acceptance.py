"""What surely is right, told at a fifth of the cost of saying what is wrong.

Almost every resource that arrives is valid. `TypeChecker.accepts` goes through it with tests alone: no places, no
report. It answers True only where `TypeChecker.check` would report nothing, and False in doubt, upon which the check
follows. In doubt are all forms that are rare: siblings of primitives (`_name`), ids of elements, Bundles, contained
resources that only each other name, absolute references, and whatever one of the tests has no answer for.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from ehr.definitions import Element, ElementType, is_resource_type
from ehr.validation.invariants import Rule
from ehr.validation.narrative import problem_of
from ehr.validation.primitives import ABSOLUTE_URI, PRIMITIVES, SCHEMED, Primitive, Test


class Around:
    """The resource around a member, the outermost one around that, and what stands in `contained`."""

    __slots__ = ("contained", "referred", "resource", "root")

    def __init__(self, resource: Mapping[str, Any], root: Mapping[str, Any], contained: Mapping[str, str]) -> None:
        self.resource = resource
        self.root = root
        self.contained = contained
        """Types by id."""
        self.referred: set[str] = set()
        """The ids of contained resources to which an accepted reference led."""


Acceptance = Callable[[Any, Around], Any]
"""Takes a member's value; true where it is surely right. May raise TypeError: a doubt."""

_ANY = ("Resource",)
_REPEATED = frozenset(PRIMITIVES[name] for name in ("canonical", "code", "markdown", "string", "uri"))
_LONGEST_REMEMBERED = 100
_MOST_REMEMBERED = 20_000
_INSTANCE = r"/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?"
_URN = r"urn:(?:uuid|oid):[^\x00-\x20]+"


class _Remembered(dict[Any, Any]):
    """The answers of a test for short texts, which come again all day; asking costs a fifth of a pattern's match."""

    def __init__(self, test: Test) -> None:
        super().__init__()
        self._test = test

    def __missing__(self, value: Any) -> Any:
        answer = bool(self._test(value))  # TypeError for what is no text
        if len(value) <= _LONGEST_REMEMBERED:
            if len(self) >= _MOST_REMEMBERED:
                self.clear()
            self[value] = answer
        return answer


@cache
def test_of(primitive: Primitive) -> Test:
    """The test of one primitive value that may have any JSON type; TypeError for some that have another one."""
    if primitive.kind == "boolean":
        return _is_boolean
    return _Remembered(primitive.test).__getitem__ if primitive in _REPEATED else primitive.test


def _is_boolean(value: object) -> bool:
    return value is True or value is False


def primitive_array(element: Element, primitive: Primitive) -> Acceptance:
    """Accepts an array of primitives without null."""
    test, minimum = test_of(primitive), max(1, element.min)

    def accept(value: Any, _around: Around) -> bool:
        return type(value) is list and len(value) >= minimum and all(map(test, value))

    return accept


def narrative(value: Any, _around: Around) -> bool:
    """Accepts Narrative.div."""
    return type(value) is str and problem_of(value) is None


def objects(element: Element, item: Acceptance) -> Acceptance:
    """Accepts an object, or an array of them, each of which `item` accepts."""
    minimum = max(1, element.min)

    def one(value: Any, around: Around) -> Any:
        return value.__class__ is dict and item(value, around)

    def array(value: Any, around: Around) -> bool:
        if value.__class__ is not list or len(value) < minimum:
            return False
        for each in value:  # noqa: SIM110 - a generator would double the cost of the usual single item
            if each.__class__ is not dict or not item(each, around):
                return False
        return True

    return array if element.repeats else one


def with_tests(accepts: Acceptance, tests: tuple[Acceptance, ...]) -> Acceptance:
    """Accepts what its type accepts and what each of the tests does."""
    if not tests:
        return accepts
    if len(tests) == 1:
        (test,) = tests
        return lambda node, around: accepts(node, around) and test(node, around)
    return lambda node, around: accepts(node, around) and all(test(node, around) for test in tests)


def invariants(rules: tuple[Rule, ...]) -> Acceptance:
    """Accepts an object for which the rules hold."""

    def accept(node: Mapping[str, Any], around: Around) -> bool:
        return all(rule.holds(node, around.resource, around.root) for rule in rules)

    return accept


def reference(kind: ElementType) -> Acceptance:
    """Accepts a Reference to one of the allowed types, or by URN, that does not state its type besides."""
    allowed = frozenset() if kind.targets == _ANY else frozenset(kind.targets)
    relative = re.compile(rf"({'|'.join(sorted(allowed)) or '[A-Z][A-Za-z]+'}){_INSTANCE}").fullmatch
    urn = re.compile(_URN).fullmatch

    def accept(node: Mapping[str, Any], around: Around) -> bool:
        if "type" in node:
            return False
        text = node.get("reference")
        if text is None:
            return "reference" not in node
        found = relative(text)
        if found is not None:
            return is_resource_type(found[1])
        if text[:1] != "#":
            return urn(text) is not None
        around.referred.add(text[1:])
        named = around.contained.get(text[1:])
        return named is not None and (named in allowed or not allowed)

    return accept


def contained(accepts_typed: Acceptance) -> Acceptance:
    """Accepts contained resources with ids of their own, each of which `accepts_typed`."""

    def accept(value: Any, around: Around) -> bool:
        if (
            type(value) is not list
            or not value
            or len(around.contained) != len(value)
            or around.resource is not around.root
        ):
            return False
        return all(accepts_typed(item, Around(item, around.root, around.contained)) for item in value)

    return accept


def concept(codes: frozenset[tuple[str, str]] | None) -> Acceptance:
    """Accepts a CodeableConcept whose first coding is one of a required binding."""

    def accept(node: Mapping[str, Any], _around: Around) -> bool:
        coding = node["coding"][0] if "coding" in node else None
        if coding is None:
            return "text" not in node
        return "code" in coding and (codes is None or (coding.get("system"), coding["code"]) in codes)

    return accept


def outer_extension(node: Mapping[str, Any], _around: Around) -> bool:
    """Accepts an Extension of an element that is none, whose URL is absolute."""
    url: str = node["url"]
    return url[:4] == "http" or bool(ABSOLUTE_URI.test(url))


def _identifier(node: Mapping[str, Any], _around: Around) -> Any:
    return node.get("system") != "urn:ietf:rfc:3986" or SCHEMED.test(node.get("value", "a:b"))


def _attachment(node: Mapping[str, Any], _around: Around) -> bool:
    return "data" not in node or not ("size" in node or "hash" in node)


ADDED: dict[str, Acceptance] = {"Identifier": _identifier, "Attachment": _attachment}
"""What some types ask besides, wherever they stand."""
