"""What an evaluation knows besides its focus, and the shapes of compiled closures."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from ehr.fhirpath.errors import FhirPathError
from ehr.fhirpath.nodes import Item
from ehr.fhirpath.syntax import Expression

LONGEST_S = 2.0
"""Seconds of CPU that the loops of one evaluation may take; nested loops over hostile data end here."""
_TURNS_BETWEEN_LOOKS = 64

Trace = Callable[[str, list[Any]], None]
Resolver = Callable[[str], Any]


class Environment:
    """State of one evaluation: %resource, %rootResource, %context, $index, $total and what the caller supplies."""

    __slots__ = (
        "context",
        "index",
        "moment",
        "resolver",
        "resource",
        "root",
        "started",
        "steps",
        "total",
        "trace",
        "variables",
    )

    def __init__(
        self,
        context: list[Item],
        resource: list[Item],
        root: list[Item],
        *,
        variables: Mapping[str, Any] | None = None,
        trace: Trace | None = None,
        resolver: Resolver | None = None,
        moment: datetime | None = None,
    ) -> None:
        """Take collections of one item each; `resolver` maps a reference string to a resource or None."""
        self.context = context
        self.resource = resource
        self.root = root
        self.index = 0
        self.total: list[Item] = []
        self.variables: Mapping[str, Any] = variables or {}
        self.trace = trace
        self.resolver = resolver
        self.moment = moment
        self.steps = 0
        self.started = 0.0

    def tick(self) -> None:
        """Count one turn of a loop; FhirPathError where an evaluation has run for longer than `LONGEST_S`."""
        self.steps += 1
        if self.steps % _TURNS_BETWEEN_LOOKS == 0:
            clock = time.thread_time()
            if not self.started:
                self.started = clock
            elif clock - self.started > LONGEST_S:
                raise FhirPathError(f"FHIRPath: the evaluation took more than {LONGEST_S:g} s")

    def now(self) -> datetime:
        """The instant of the evaluation, the same each time it is asked for."""
        if self.moment is None:
            self.moment = datetime.now(UTC).astimezone()
        return self.moment


Closure = Callable[[list[Item], Environment], list[Item]]
"""A compiled expression: takes $this as a collection."""

Step = Callable[[list[Item], list[Item], Environment], list[Item]]
"""A compiled function: takes its input, $this and the environment."""

Compile = Callable[[Expression], Closure]
"""Compiles an argument."""

Builder = Callable[[tuple[Expression, ...], Compile, bool], Step]
"""Builds a function from its arguments; the flag says whether rules of the specification are held strictly."""
