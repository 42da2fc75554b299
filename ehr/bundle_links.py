"""References and links inside the resources of a transaction, rewritten once the server knows the ids.

Resources stay bytes: in valid JSON a member's name followed by a colon stands nowhere but where it is meant, since
quotes inside strings are escaped. https://hl7.org/fhir/R4/http.html#trules ("If any resource identities change during
the processing ..."), https://hl7.org/fhir/R4/bundle.html#references
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial

import msgspec

from ehr import json_text

# elements of type uri, url, oid, uuid and canonical, and Reference.reference; names that R4 also gives to plain
# strings only where an address is meant
_LINK_NAMES = frozenset(
    (
        b"address answerValueSet authority authorizationUrl base baseDefinition capabilities compartment "
        b"contentReference defaultValueCanonical defaultValueOid defaultValueUri defaultValueUrl defaultValueUuid "
        b"definition definitionCanonical definitionUri derivedFrom derivedFromUri detail endpoint eventUri "
        b"exampleCanonical fixedCanonical fixedOid fixedUri fixedUrl fixedUuid fullUrl graph identifier "
        b"implementationGuide implicitRules import imports inputProfile instantiates instantiatesCanonical "
        b"instantiatesUri issuer jurisdiction library link location measure message moduleCanonical moduleUri nameUrl "
        b"onlineInformation outputProfile parent partOf patternCanonical patternOid patternUri patternUrl patternUuid "
        b"policy profile property protocol questionnaire reference relativePath rendering replaces resource source "
        b"sourceCanonical sourceUri supplements supportedProfile system target targetCanonical targetProfile targetUri "
        b"transform uri url valueCanonical valueOid valueSet valueUri valueUrl valueUuid workflow"
    ).split()
)
_CONDITIONAL = re.compile(rb'"reference":"([A-Z][A-Za-z]+\?(?!")[^"\\]*(?:\\.[^"\\]*)*)"')
_ARRAY = re.compile(rb'"([A-Za-z]+)":\[("[^\[\]{}]*")\]')
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_DIV = re.compile(rb'"div":"((?:[^"\\]|\\.)*)"')
_NARRATIVE_LINK = re.compile(rb"""(\b(?:href|src)\s*=\s*(?:\\"|'))([^"'\\]+)""")
_RESTFUL = re.compile(r"(?P<base>https?://.+/)(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})(?:/_history/.+)?")


def base_of(full_url: str) -> str | None:
    """The service base of a RESTful full URL, with which its resource's relative references are read."""
    found = _RESTFUL.fullmatch(full_url)
    return found["base"] if found else None


def plain(resource: bytes) -> bytes:
    """The minified resource in the spelling that the rewriter reads: slashes and letters without escapes."""
    if b"\\" in resource and (b"\\/" in resource or b"\\u00" in resource):
        return json_text.encode(json_text.parse(resource))
    return resource


def conditional_references(resource: bytes) -> set[str]:
    """Every `Type?criteria` in a Reference.reference of the minified resource, contained ones included."""
    if b"?" not in resource:
        return set()
    return {_decoded(found) for found in _CONDITIONAL.findall(resource)}


def _decoded(text: bytes) -> str:
    return msgspec.json.decode(b'"' + text + b'"', type=str) if b"\\" in text else text.decode()


class LinkRewriter:
    """Puts the new addresses in place of the bundle's own."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        """Take the map from full URLs and conditional references to `Type/id`."""
        self._addresses = addresses
        self._encoded = {link.encode(): b'":"%s"' % address.encode() for link, address in addresses.items()}
        self._schemes = {link.partition(":")[0] for link in addresses if ":" in link and "?" not in link}
        self._array_starts = [f'["{scheme}:'.encode() for scheme in self._schemes]
        self._links = {relative: self._pattern(relative=relative) for relative in (False, True)} if addresses else {}

    def rewrite(self, resource: bytes, base: str | None) -> bytes:
        """The minified resource with its links rewritten; `base` makes relative references absolute to compare them."""
        if not self._addresses:
            return resource
        resource = self._links[base is not None].sub(partial(self._member, base=base), resource)
        for start in self._array_starts:
            if start in resource:
                resource = _ARRAY.sub(partial(self._members, base=base), resource)
                break
        if b'"div":"' in resource and (b"href" in resource or b"src" in resource):
            resource = _DIV.sub(lambda found: self._narrative(found, base), resource)
        return resource

    def _pattern(self, *, relative: bool) -> re.Pattern[bytes]:
        """Members whose values can be links of this bundle."""
        starts = [rf"{re.escape(scheme)}:" for scheme in sorted(self._schemes)]
        starts += [r"[A-Z][A-Za-z]+\?"] if any("?" in link for link in self._addresses) else []
        starts += [r"[A-Z][A-Za-z]+/"] if relative else []
        if not starts:
            return re.compile(rb"(?!)")
        return re.compile(rf'":"((?:{"|".join(starts)})[^"\\]*(?:\\.[^"\\]*)*)"'.encode())

    def _member(self, found: re.Match[bytes], base: str | None) -> bytes:
        text, start = found.string, found.start()
        if text[text.rfind(b'"', 0, start) + 1 : start] not in _LINK_NAMES:
            return found[0]
        known = self._encoded.get(found[1])
        if known is not None:
            return known
        address = self._address(_decoded(found[1]), base)
        return found[0] if address is None else b'":"%s"' % address.encode()

    def _members(self, found: re.Match[bytes], base: str | None) -> bytes:
        if found[1] not in _LINK_NAMES:
            return found[0]

        def one(value: re.Match[bytes]) -> bytes:
            address = self._address(_decoded(value[1]), base)
            return value[0] if address is None else b'"%s"' % address.encode()

        return b'"%s":[%s]' % (found[1], _STRING.sub(one, found[2]))

    def _narrative(self, found: re.Match[bytes], base: str | None) -> bytes:
        def one(link: re.Match[bytes]) -> bytes:
            address = self._address(link[2].decode(), base)
            return link[0] if address is None else link[1] + address.encode()

        return b'"div":"%s"' % _NARRATIVE_LINK.sub(one, found[1])

    def _address(self, link: str, base: str | None) -> str | None:
        found = self._addresses.get(link)
        if found is not None:
            return found
        target, separator, fragment = link.partition("#")
        if separator and target in self._addresses:
            return f"{self._addresses[target]}#{fragment}"
        return self._addresses.get(base + link) if base is not None else None


def link_names() -> Iterable[str]:
    """Names of the members that are links."""
    return (name.decode() for name in _LINK_NAMES)
