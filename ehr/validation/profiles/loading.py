"""Reads the profiles and value sets that a resource is to be checked against, before the check."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from ehr.errors import BadSearch
from ehr.json_text import parse
from ehr.validation.profiles.elements import Profile
from ehr.validation.profiles.findings import HasCode, Known
from ehr.validation.profiles.reading import UnusableProfileError, has_snapshot, official_type, profile_of

MOST_PROFILES = 100
"""Profiles for one resource, those of its extensions and those that profiles name included."""
MOST_BASES = 16
"""Profiles upon profiles."""


class HoldsCodes(Protocol):
    """`ehr.search.terminology.Chosen`."""

    def has(self, system: str | None, code: str) -> bool:
        """Whether a code is one of them."""


class Source(Protocol):
    """`ehr.search.terminology.Terminology`: what is stored and the caller may see."""

    async def body(self, resource_type: str, address: str) -> bytes | None:
        """The resource at a canonical address."""

    async def value_set(self, address: str) -> HoldsCodes:
        """The codes of a value set; BadSearch where they cannot be told."""


@dataclass(slots=True)
class Loaded:
    """What was found, and what is wrong with profiles that cannot be used."""

    known: Known
    unusable: Mapping[str, str] = field(default_factory=dict)


NOTHING = Loaded(Known({}, {}))
"""Where no profile is named, or none may be read."""


def profiles_named(resource: Mapping[str, Any]) -> list[str]:
    """The profiles that a resource names anywhere: meta.profile, contained ones' too, and URLs of extensions."""
    found: dict[str, None] = {}
    for value in _objects(resource):
        meta = value.get("meta")
        if "resourceType" in value and isinstance(meta, dict):
            found |= dict.fromkeys(_texts(meta.get("profile")))
    for value in _objects(resource):
        for name in ("extension", "modifierExtension"):
            extensions = value.get(name)
            for each in extensions if isinstance(extensions, list) else ():
                if isinstance(each, dict) and isinstance(each.get("url"), str) and ":" in each["url"]:
                    found[each["url"]] = None
    return list(found)


def _texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _objects(resource: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    waiting: list[Any] = [resource]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += [each for each in value.values() if isinstance(each, dict | list)]
        elif isinstance(value, list):
            waiting += [each for each in value if isinstance(each, dict | list)]


async def load(asked: Sequence[str], source: Source) -> Loaded:
    """Read profiles, what they name, and the value sets of their required bindings, as far as they are stored."""
    profiles: dict[str, Profile] = {}
    unusable: dict[str, str] = {}
    seen: dict[str, None] = {}
    waiting = list(asked)
    while waiting and len(seen) < MOST_PROFILES:
        canonical = waiting.pop(0)
        if canonical in seen or official_type(canonical) is not None:
            continue
        seen[canonical] = None
        try:
            profile = await _profile(canonical, source)
        except UnusableProfileError as error:
            unusable[canonical] = str(error)
            continue
        if profile is not None:
            profiles[canonical] = profile
            waiting += profile.named_profiles()
    beyond = {each for each in waiting if each not in seen and official_type(each) is None}
    unusable |= dict.fromkeys(beyond, f"more than {MOST_PROFILES} profiles are named")
    addresses = {address for profile in profiles.values() for address in profile.value_sets()}
    sets = {address: await _value_set(address, source) for address in sorted(addresses)}
    return Loaded(Known(profiles, sets), unusable)


async def _value_set(address: str, source: Source) -> HasCode | None:
    try:
        return (await source.value_set(address)).has
    except BadSearch:
        return None


async def _profile(canonical: str, source: Source) -> Profile | None:
    """A stored profile with the differentials that it builds upon; None where it is not stored."""
    chain: list[bytes] = []
    address, missing = canonical, ""
    while True:
        body = await source.body("StructureDefinition", address)
        if body is None:
            missing = address
            break
        chain.insert(0, body)
        definition = parse(body)
        address = str(definition.get("baseDefinition", ""))
        if has_snapshot(definition) or official_type(address) is not None or not address:
            break
        if len(chain) > MOST_BASES:
            raise UnusableProfileError(f"more than {MOST_BASES} profiles stand one upon another")
    return _read(tuple(chain), missing) if chain else None


@lru_cache(maxsize=128)
def _read(chain: tuple[bytes, ...], missing_base: str) -> Profile:
    return profile_of([parse(body) for body in chain], missing_base)
