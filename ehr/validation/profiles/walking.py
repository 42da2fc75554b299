"""Goes through a resource for everything that names a profile: the resource, those within it, and extensions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ehr.definitions import is_resource_type
from ehr.errors import Issue
from ehr.fhirpath import model
from ehr.fhirpath.nodes import Node
from ehr.validation.profiles.checking import Checking
from ehr.validation.profiles.findings import Clock, Findings
from ehr.validation.profiles.loading import Loaded
from ehr.validation.profiles.reading import official_type
from ehr.validation.report import Place

_EXTENSIONS = ("extension", "modifierExtension")


def check_against(resource: Mapping[str, Any], asked: Sequence[str], loaded: Loaded) -> list[Issue]:
    """What profiles find: those asked for, those that `meta.profile` names, and those of extensions.

    A profile that is not stored here is a warning; where it was asked for, an error.

    Raises:
        TooCostly: the rules of the profiles take too long.
    """
    resource_type = resource.get("resourceType")
    if not _is_resource(resource):
        return []
    walk = _Walk(loaded, resource)
    place: Place = (str(resource_type),)
    for canonical in dict.fromkeys(asked):
        walk.named(canonical, resource, place, asked=True)
    walk.resource(resource, place, {*asked})
    return list(walk.findings.issues)


class _Walk:
    def __init__(self, loaded: Loaded, root: Mapping[str, Any]) -> None:
        self._loaded = loaded
        self._root = root
        self._clock = Clock()
        self.findings = Findings()

    def resource(self, resource: Mapping[str, Any], place: Place, done: set[str]) -> None:
        """The profiles of meta.profile, of extensions, and of resources within."""
        meta = resource.get("meta")
        listed = meta.get("profile") if isinstance(meta, dict) else None
        for number, canonical in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(canonical, str) and canonical not in done:
                self.named(canonical, resource, place, said=((place, "meta"), "profile", number))
        known = self._loaded.known.profiles
        for value, inner, kind in _within(resource, place):
            if kind == "resource":
                self.resource(value, inner, set())
            elif isinstance(url := value.get("url"), str) and url in known:
                if known[url].is_modifier is not (kind == "modifierExtension"):
                    wanted = "modifierExtension" if known[url].is_modifier else "extension"
                    self.findings.add(inner, "structure", f"The extension {url[:200]} stands in {wanted} only")
                self._checking(resource).profile(known[url], Node(value, "Extension"), inner)

    def named(
        self, canonical: str, resource: Mapping[str, Any], place: Place, *, asked: bool = False, said: Place = ()
    ) -> None:
        """One profile of a resource."""
        kind, unusable = official_type(canonical), self._loaded.unusable.get(canonical)
        profile = self._loaded.known.profiles.get(canonical)
        here = said or place
        resource_type = str(resource["resourceType"])
        if profile is not None:
            if profile.missing_base:
                text = f"{profile.missing_base}, upon which {canonical} builds, is not stored here and was not checked"
                self.findings.add(here, "not-found", text, "warning")
            self._checking(resource).profile(profile, Node(resource, resource_type), place)
        elif kind is None:
            text = (
                f"The profile {canonical[:200]} cannot be used: {unusable}"
                if unusable
                else f"The profile {canonical[:200]} is not stored here, so that it was not checked"
            )
            self.findings.add(here, "not-found", text, "error" if asked else "warning")
        elif not model.is_subtype(resource_type, kind):
            self.findings.add(here, "structure", f"This is a {resource_type}, which the profile {canonical} is not of")

    def _checking(self, resource: Mapping[str, Any]) -> Checking:
        return Checking(self._loaded.known, resource, self._root, self.findings, self._clock)


def _is_resource(value: Mapping[str, Any]) -> bool:
    named = value.get("resourceType")
    return isinstance(named, str) and is_resource_type(named)


def _within(resource: Mapping[str, Any], place: Place) -> Iterator[tuple[Mapping[str, Any], Place, str]]:
    """Extensions with the member in which they stand, and the outermost resources, within a resource."""
    waiting: list[tuple[Mapping[str, Any], Place]] = [(resource, place)]
    while waiting:
        value, here = waiting.pop()
        for name, member in value.items():
            many = isinstance(member, list)
            plain = name.removeprefix("_")
            for number, each in enumerate(member if many else [member]):
                if not isinstance(each, dict):
                    continue
                inner: Place = (here, plain, number) if many else (here, plain)
                if _is_resource(each):
                    yield each, inner, "resource"
                    continue
                if name in _EXTENSIONS:
                    yield each, inner, name
                waiting.append((each, inner))
