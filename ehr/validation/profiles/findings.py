"""What a check against profiles finds, what it knows, and how long it may take."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ehr.errors import Issue, TooCostly
from ehr.validation.profiles.elements import Profile
from ehr.validation.report import MAXIMUM_ISSUES, Place, expression_of

HasCode = Callable[[str | None, str], bool]
"""Whether a value set has a code; the system is None where only the code is given."""
LONGEST_S = 3.0
"""Seconds of CPU for all profiles of one resource; rules that profiles bring are other people's programs."""


@dataclass(frozen=True, slots=True)
class Known:
    """What was read before the check: profiles by the canonical by which they were asked for, and value sets."""

    profiles: Mapping[str, Profile]
    value_sets: Mapping[str, HasCode | None]
    """None for what is not known here or cannot be evaluated."""


@dataclass(slots=True)
class Findings:
    """The issues found so far, each once; so many errors at most, and as many warnings."""

    issues: dict[Issue, None] = field(default_factory=dict)
    errors: int = 0

    def add(self, place: Place, code: str, text: str, severity: Literal["error", "warning"] = "error") -> None:
        """Note a problem, or for a warning what could not be looked at."""
        issue = Issue(severity, code, text, expression_of(place))
        number = self.errors if severity == "error" else len(self.issues) - self.errors
        if number < MAXIMUM_ISSUES and issue not in self.issues:
            self.issues[issue] = None
            self.errors += severity == "error"

    @property
    def refuses(self) -> bool:
        """Whether one of them is an error."""
        return self.errors > 0


class Clock:
    """Ends a check that takes too long; asked before each element, slice and rule."""

    def __init__(self) -> None:
        self._ends = time.thread_time() + LONGEST_S

    def tick(self) -> None:
        """TooCostly once `LONGEST_S` are spent."""
        if time.thread_time() > self._ends:
            raise TooCostly(f"The check against profiles took more than {LONGEST_S:g} s.")


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same, as fixed values ask: members in any order, 1.0 is not 1.00."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(str(one) == str(other)) if isinstance(one, type(other)) else False


def fits(value: Any, pattern: Any) -> bool:
    """Whether a value has at least what a pattern has; each item of its arrays is found somewhere."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(name in value and fits(value[name], pattern[name]) for name in pattern)
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(fits(each, wanted) for each in value) for wanted in pattern)
    return same(value, pattern)
