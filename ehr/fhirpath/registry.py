"""The table of FHIRPath functions, and the decorators that fill it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ehr.fhirpath.environment import Builder, Closure, Compile, Environment, Step
from ehr.fhirpath.errors import FhirPathError
from ehr.fhirpath.nodes import Item
from ehr.fhirpath.operators import single
from ehr.fhirpath.syntax import Expression


@dataclass(frozen=True, slots=True)
class Function:
    """A function: how it is built, and how many arguments it takes."""

    build: Builder
    fewest: int
    most: int


FUNCTIONS: dict[str, Function] = {}


def builder(name: str, fewest: int = 0, most: int | None = None) -> Callable[[Builder], Builder]:
    """Register a builder, which compiles its arguments itself."""

    def register(build: Builder) -> Builder:
        FUNCTIONS[name] = Function(build, fewest, fewest if most is None else most)
        return build

    return register


def on_collection(name: str, arguments: int = 0) -> Callable[[Callable[..., list[Item]]], Callable[..., list[Item]]]:
    """Register a function of a collection whose arguments are collections too."""

    def register(function: Callable[..., list[Item]]) -> Callable[..., list[Item]]:
        def build(expressions: tuple[Expression, ...], compiled: Compile, _: bool) -> Step:  # noqa: FBT001 - a Builder's shape
            if not expressions:
                return lambda items, _this, _environment: function(items)
            closures = [compiled(expression) for expression in expressions]

            def step(items: list[Item], this: list[Item], environment: Environment) -> list[Item]:
                return function(items, *[closure(this, environment) for closure in closures])

            return step

        FUNCTIONS[name] = Function(build, arguments, arguments)
        return function

    return register


def on_value(
    name: str, fewest: int = 0, most: int | None = None, *, wanted: type | tuple[type, ...] = object
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function of one System value and single values; None is the empty collection, in and out.

    An empty input or argument gives an empty result; a value that is none of `wanted` is an error.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        def build(expressions: tuple[Expression, ...], compiled: Compile, _: bool) -> Step:  # noqa: FBT001 - a Builder's shape
            closures = tuple(compiled(expression) for expression in expressions)
            return _ValueStep(name, function, wanted, closures)

        FUNCTIONS[name] = Function(build, fewest, fewest if most is None else most)
        return function

    return register


@dataclass(frozen=True, slots=True)
class _ValueStep:
    """A compiled function of single values."""

    name: str
    function: Callable[..., Any]
    wanted: type | tuple[type, ...]
    closures: tuple[Closure, ...]

    def __call__(self, items: list[Item], this: list[Item], environment: Environment) -> list[Item]:
        value = single(items, f"{self.name}()")
        arguments = [single(closure(this, environment), f"{self.name}()") for closure in self.closures]
        if value is None or None in arguments:
            return []
        if not isinstance(value, self.wanted) or (type(value) is bool and self.wanted is not object):
            raise FhirPathError(f"FHIRPath: {self.name}() cannot take this type")
        try:
            found = self.function(value, *arguments)
        except (TypeError, AttributeError) as error:
            raise FhirPathError(f"FHIRPath: {self.name}() cannot take these arguments") from error
        if found is None:
            return []
        return found if isinstance(found, list) else [found]
