"""References and links inside the resources of a transaction, rewritten once the server knows the ids.

https://hl7.org/fhir/R4/http.html#trules ("If any resource identities change during the processing ..."),
https://hl7.org/fhir/R4/bundle.html#references
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

# elements of type uri, url, oid, uuid and canonical, and Reference.reference; names that R4 also gives to plain
# strings only where an address is meant
_LINK_NAMES = frozenset(
    (  # noqa: SIM905 - eighty lines of one word each would hide the rest
        "address answerValueSet authority authorizationUrl base baseDefinition capabilities compartment "
        "contentReference defaultValueCanonical defaultValueOid defaultValueUri defaultValueUrl defaultValueUuid "
        "definition definitionCanonical definitionUri derivedFrom derivedFromUri detail endpoint eventUri "
        "exampleCanonical fixedCanonical fixedOid fixedUri fixedUrl fixedUuid fullUrl graph identifier "
        "implementationGuide implicitRules import imports inputProfile instantiates instantiatesCanonical "
        "instantiatesUri issuer jurisdiction library link location measure message moduleCanonical moduleUri nameUrl "
        "onlineInformation outputProfile parent partOf patternCanonical patternOid patternUri patternUrl patternUuid "
        "policy profile property protocol questionnaire reference relativePath rendering replaces resource source "
        "sourceCanonical sourceUri supplements supportedProfile system target targetCanonical targetProfile targetUri "
        "transform uri url valueCanonical valueOid valueSet valueUri valueUrl valueUuid workflow"
    ).split()
)
_NARRATIVE_LINK = re.compile(r"""(\b(?:href|src)\s*=\s*)(["'])([^"']+)\2""")
_CONDITIONAL = re.compile(r"[A-Z][A-Za-z]+\?.")
_RESTFUL = re.compile(r"(?P<base>https?://.+/)(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})(?:/_history/.+)?")


def base_of(full_url: str) -> str | None:
    """The service base of a RESTful full URL, with which its resource's relative references are read."""
    found = _RESTFUL.fullmatch(full_url)
    return found["base"] if found else None


def conditional_references(value: Any) -> Iterator[str]:
    """Every `Type?criteria` in a Reference.reference of the resource, contained ones included."""
    if type(value) is dict:
        for name, inner in value.items():
            if name == "reference" and type(inner) is str:
                if _CONDITIONAL.match(inner):
                    yield inner
            elif type(inner) in {dict, list}:
                yield from conditional_references(inner)
    elif type(value) is list:
        for inner in value:
            if type(inner) in {dict, list}:
                yield from conditional_references(inner)


class LinkRewriter:
    """Puts the new addresses in place of the bundle's own."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        """Take the map from full URLs and conditional references to `Type/id`."""
        self._addresses = addresses

    def rewrite(self, resource: dict[str, Any], base: str | None) -> None:
        """Rewrite one resource in place; `base` makes its relative references absolute for the comparison."""
        self._object(resource, base)

    def _object(self, value: dict[str, Any], base: str | None) -> None:
        for name, inner in value.items():
            kind = type(inner)
            if kind is str:
                if name in _LINK_NAMES:
                    found = self._address(inner, base)
                    if found is not None:
                        value[name] = found
                elif name == "div":
                    value[name] = _NARRATIVE_LINK.sub(lambda link: self._narrative(link, base), inner)
            elif kind is dict:
                self._object(inner, base)
            elif kind is list:
                self._list(name, inner, base)

    def _list(self, name: str, values: list[Any], base: str | None) -> None:
        for place, inner in enumerate(values):
            if type(inner) is dict:
                self._object(inner, base)
            elif type(inner) is str and name in _LINK_NAMES:
                values[place] = self._address(inner, base) or inner

    def _address(self, link: str, base: str | None) -> str | None:
        found = self._addresses.get(link)
        if found is not None:
            return found
        target, separator, fragment = link.partition("#")
        if separator and target in self._addresses:
            return f"{self._addresses[target]}#{fragment}"
        return self._addresses.get(base + link) if base is not None else None

    def _narrative(self, link: re.Match[str], base: str | None) -> str:
        found = self._address(link[3], base)
        return link[0] if found is None else f"{link[1]}{link[2]}{found}{link[2]}"
