"""What the definitions say of types, elements and search parameters (https://hl7.org/fhir/R4/elementdefinition.html)."""

from typing import Literal

import msgspec

BindingStrength = Literal["required", "extensible", "preferred", "example"]
StructureKind = Literal["resource", "complex-type", "primitive-type"]
ParameterKind = Literal["number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special"]


class ElementType(msgspec.Struct, frozen=True):
    """One type that an element may take.

    `code` is a type's name ("Quantity", "dateTime", "Resource"); `targets` are the resource types that a Reference or
    canonical may name, empty or ("Resource",) for any; `profiles` is ("SimpleQuantity",) and the like; `regex` is the
    pattern of a primitive's value.
    """

    code: str
    targets: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    regex: str | None = None


class Binding(msgspec.Struct, frozen=True):
    """The value set an element's codes come from; `value_set` is its canonical address without version."""

    strength: BindingStrength
    value_set: str


class Constraint(msgspec.Struct, frozen=True):
    """An invariant; `source` names the type that states it, empty for the element's own."""

    key: str
    severity: Literal["error", "warning"]
    human: str
    expression: str
    source: str = ""
    best_practice: bool = False


class Element(msgspec.Struct, frozen=True):
    """One element of a type.

    `path` is the definition's ("Patient.contact.name", "Observation.value[x]"); `max` is None for unbounded;
    `content_reference` is the path of the element whose children this one shares ("Observation.referenceRange").
    """

    path: str
    min: int
    max: int | None
    types: tuple[ElementType, ...]
    binding: Binding | None
    constraints: tuple[Constraint, ...]
    content_reference: str | None
    modifier: bool
    summary: bool

    @property
    def name(self) -> str:
        """The last part of the path without "[x]": "value" for "Observation.value[x]"."""
        return self.path.rpartition(".")[2].removesuffix("[x]")

    @property
    def parent(self) -> str:
        """The path of the element that holds this one, empty for a type's root."""
        return self.path.rpartition(".")[0]

    @property
    def is_choice(self) -> bool:
        """Whether the name on the wire carries the type: value[x] as valueQuantity."""
        return self.path.endswith("[x]")

    @property
    def repeats(self) -> bool:
        """Whether JSON writes this element as an array."""
        return self.max != 1

    @property
    def names(self) -> dict[str, ElementType]:
        """Names on the wire and their types: {"birthDate": date}, or {"valueQuantity": Quantity, ...} of a choice."""
        if not self.is_choice:
            return dict.fromkeys((self.name,), self.types[0]) if self.types else {}
        return {self.name + t.code[0].upper() + t.code[1:]: t for t in self.types}


class Structure(msgspec.Struct, frozen=True):
    """A resource or data type: `elements` in the definition's order, the root first.

    `is_profile` marks SimpleQuantity and MoneyQuantity, which are Quantity on the wire.
    """

    name: str
    kind: StructureKind
    abstract: bool
    base: str | None
    is_profile: bool
    elements: tuple[Element, ...]

    @property
    def root(self) -> Element:
        """The type itself, with its invariants."""
        return self.elements[0]

    def element(self, path: str) -> Element:
        """The element at a path; KeyError when there is none."""
        for candidate in self.elements:
            if candidate.path == path:
                return candidate
        raise KeyError(path)

    def children(self, path: str) -> tuple[Element, ...]:
        """The elements directly below a path."""
        return tuple(e for e in self.elements if e.parent == path)


class SearchParameter(msgspec.Struct, frozen=True):
    """A search parameter as it holds for one resource type (https://hl7.org/fhir/R4/searchparameter.html).

    `expression` has only the branches of that type, None where the definition gives none (_text, _content, _query);
    `components` are (url of the component's parameter, expression below `expression`) of a composite; `usage` is
    xpathUsage ("normal", "phonetic", "nearby", "other"); `bases` are all types that the definition covers.
    """

    code: str
    kind: ParameterKind
    url: str
    expression: str | None
    targets: tuple[str, ...]
    bases: tuple[str, ...]
    components: tuple[tuple[str, str], ...]
    usage: str
