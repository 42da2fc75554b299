"""What a profile asks of each element, as a tree: elements below elements, and slices beside them.

https://hl7.org/fhir/R4/elementdefinition.html, https://hl7.org/fhir/R4/profiling.html#slicing
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal


class Absent:
    """Stands where a profile gives no fixed value, pattern or bound, since null and false may be one."""


ABSENT = Absent()


@dataclass(frozen=True, slots=True)
class TypeRule:
    """One type that is allowed; `profiles` are canonicals of it, `targets` of the resources that it may refer to."""

    code: str
    profiles: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProfileConstraint:
    """An invariant that the profile adds."""

    key: str
    severity: Literal["error", "warning"]
    human: str
    expression: str


@dataclass(frozen=True, slots=True)
class Discriminator:
    """What tells slices apart."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Slicing:
    """How the repetitions of an element are told apart, and what becomes of those that are in no slice."""

    discriminators: tuple[Discriminator, ...] = ()
    rules: str = "open"
    ordered: bool = False


@dataclass(slots=True)
class ElementRules:
    """One element or slice; what is None or ABSENT or empty is not asked."""

    name: str
    possible: tuple[str, ...]
    """The types of the base definition, as `ehr.fhirpath.model` names them."""
    slice_name: str = ""
    min: int | None = None
    max: int | None = None
    types: tuple[TypeRule, ...] | None = None
    fixed: Any = ABSENT
    pattern: Any = ABSENT
    lowest: Any = ABSENT
    highest: Any = ABSENT
    max_length: int | None = None
    value_set: str = ""
    """Of a required binding."""
    constraints: dict[str, ProfileConstraint] = field(default_factory=dict)
    slicing: Slicing | None = None
    children: dict[str, "ElementRules"] = field(default_factory=dict)
    slices: dict[str, "ElementRules"] = field(default_factory=dict)

    def every(self) -> Iterator["ElementRules"]:
        """This element and all that are below it, slices included."""
        waiting = [self]
        while waiting:
            rules = waiting.pop()
            yield rules
            waiting += [*rules.children.values(), *rules.slices.values()]


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile ready for checking."""

    url: str
    type: str
    root: ElementRules
    is_modifier: bool = False
    """Of an Extension: it stands in modifierExtension, and nowhere else."""
    missing_base: str = ""
    """A definition on which it builds and which is not known here."""

    def named_profiles(self) -> Iterator[str]:
        """The canonicals of the profiles that its elements name, targets of references included."""
        for rules in self.root.every():
            for kind in rules.types or ():
                yield from kind.profiles
                yield from kind.targets

    def value_sets(self) -> Iterator[str]:
        """The canonicals of its required bindings."""
        for rules in self.root.every():
            if rules.value_set:
                yield rules.value_set
