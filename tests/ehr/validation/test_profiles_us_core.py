"""US Core 3.1.1 as its test kit describes it, made into differentials, against given Synthea records that claim it.

The profiles themselves are not among the given data; their mandatory elements, slices and required bindings are.
"""

import asyncio
import copy
import gzip
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ehr.definitions import codes_of
from ehr.errors import BadSearch, Issue
from ehr.json_text import parse
from ehr.search.terminology import Chosen
from ehr.validation.profiles import check_against, load

Json = dict[str, Any]
_DATA = Path(os.environ.get("KANGLIAN_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
_KIT = sorted((_DATA / "us-core" / "v3.1.1").glob("*/metadata.yml"))
_RECORDS = sorted((_DATA / "synthea").glob("*.json.gz"))[:5]
_OPTIONAL_SLICES = frozenset({"identifier", "agent"})

pytestmark = pytest.mark.skipif(not (_KIT and _RECORDS), reason="the given data are not here")


class Kit:
    """The differentials as a record would hold them; value sets of R4 alone."""

    async def body(self, resource_type: str, address: str) -> bytes | None:
        assert resource_type == "StructureDefinition"
        found = profiles().get(address.partition("|")[0])
        return None if found is None else json.dumps(found).encode()

    async def value_set(self, address: str) -> Chosen:
        codes = codes_of(address)
        if codes is None:
            raise BadSearch(f"{address} is not stored")
        return Chosen(codes)


@cache
def profiles() -> dict[str, Json]:
    """A differential for each profile of the kit, by its canonical."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    read = (yaml.load(path.read_bytes(), loader) for path in _KIT)  # noqa: S506 - a safe loader
    return {each[":profile_url"]: _differential(each) for each in read}


def _differential(kit: Json) -> Json:
    kind = kit[":resource"]
    elements: list[Json] = [{"id": kind, "path": kind}]
    mandatory = kit[":mandatory_elements"]
    elements += [{"id": path, "path": path, "min": 1} for path in mandatory]
    for binding in kit[":bindings"]:
        if binding[":strength"] == "required" and codes_of(binding[":system"]) is not None:
            path = f"{kind}.{binding[':path']}"
            elements.append({"path": path, "binding": {"strength": "required", "valueSet": binding[":system"]}})
    for each in kit[":must_supports"][":slices"]:
        elements += _slice(kind, each, mandatory)
    return {
        "resourceType": "StructureDefinition",
        "url": kit[":profile_url"],
        "type": kind,
        "baseDefinition": f"http://hl7.org/fhir/StructureDefinition/{kind}",
        "derivation": "constraint",
        "differential": {"element": elements},
    }


def _slice(kind: str, said: Json, mandatory: list[str]) -> Iterator[Json]:
    path, identity, discriminator = f"{kind}.{said[':path']}", said[":slice_id"], said[":discriminator"]
    if discriminator[":type"] == "type":
        code = discriminator[":code"]
        code = code if code != "Date" else "date"
        yield {"id": path, "path": path, "slicing": {"discriminator": [{"type": "type", "path": "$this"}]}}
        yield {"id": identity, "path": path, "type": [{"code": code}]}
        return
    least = int(path in mandatory and said[":path"] not in _OPTIONAL_SLICES)
    values = discriminator.get(":values") or [{":path": discriminator[":path"], ":value": None}]
    kind_of = "value" if discriminator[":type"] == "value" else "pattern"
    told_by = [{"type": kind_of, "path": each[":path"] or "$this"} for each in values]
    yield {"id": path, "path": path, "slicing": {"discriminator": told_by, "rules": "open"}}
    yield {"id": identity, "path": path, "min": least}
    for each in values:
        within = f".{each[':path']}" if each[":path"] else ""
        element: Json = {"id": identity + within, "path": path + within}
        if discriminator[":type"] == "value":
            element |= {"min": 1, "fixedCode": each[":value"]}
        elif discriminator[":type"] == "patternCodeableConcept":
            coding = {"system": discriminator[":system"], "code": discriminator[":code"]}
            element["patternCodeableConcept"] = {"coding": [coding]}
        else:
            element["patternIdentifier"] = {"system": discriminator[":system"]}
        yield element


@cache
def claiming() -> list[tuple[str, Json]]:
    """Profiles of the kit with a few resources each that claim them in meta.profile."""
    found: list[tuple[str, Json]] = []
    for path in _RECORDS:
        for entry in parse(gzip.decompress(path.read_bytes()))["entry"]:
            for canonical in entry["resource"].get("meta", {}).get("profile", ()):
                if canonical in profiles() and sum(canonical == name for name, _ in found) < 3:
                    found.append((canonical, entry["resource"]))
    return found


@cache
def loaded(canonical: str) -> Any:
    return asyncio.run(load([canonical], Kit()))


def problems(resource: Json, canonical: str) -> list[Issue]:
    """What the profile alone refuses."""
    issues = check_against(resource, [canonical], loaded(canonical))
    return [each for each in issues if each.severity == "error"]


def test_every_profile_of_the_kit_is_read() -> None:
    assert len(profiles()) == len(_KIT)
    for canonical in profiles():
        assert not loaded(canonical).unusable
        assert canonical in loaded(canonical).known.profiles


def test_records_that_claim_a_profile_meet_it() -> None:
    assert len({canonical for canonical, _ in claiming()}) >= 15
    refused = [(canonical, issue) for canonical, resource in claiming() for issue in problems(resource, canonical)]
    assert not refused


def test_what_lacks_a_mandatory_element_is_refused() -> None:
    lacking = 0
    for canonical, resource in claiming():
        for path in (each["id"] for each in profiles()[canonical]["differential"]["element"] if each.get("min")):
            if ":" in path:
                continue
            broken = copy.deepcopy(resource)
            if _removed(broken, path.split(".")[1:], path):
                lacking += 1
                assert problems(broken, canonical), (canonical, path)
    assert lacking > 200


def test_what_is_in_no_slice_that_must_be_there_is_refused() -> None:
    moved = 0
    for canonical, resource in claiming():
        for element in profiles()[canonical]["differential"]["element"]:
            identity, said = element.get("id", ""), ("fixedCode", "patternCodeableConcept")
            wanted = next((element[name] for name in said if name in element), None)
            slice_id = ".".join(identity.split(".")[:2])
            least = [each for each in profiles()[canonical]["differential"]["element"] if each.get("id") == slice_id]
            if wanted is None or ":" not in identity or not least or not least[0].get("min"):
                continue
            value = wanted if isinstance(wanted, str) else wanted["coding"][0]["code"]
            text = json.dumps(resource, default=str).replace(json.dumps(value), json.dumps("another"))
            broken = parse(text.encode())
            if broken != parse(json.dumps(resource, default=str).encode()):
                moved += 1
                assert problems(broken, canonical), (canonical, identity)
    assert moved > 20


def _removed(value: Any, names: list[str], path: str) -> bool:
    """Whether something was there to be removed: the element, from each object that has it."""
    found = False
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, dict):
            continue
        name = names[0].removesuffix("[x]")
        of_choice = [key for key in each if key.startswith(name) and key[len(name) :][:1].isupper()]
        keys = of_choice if names[0] != name else [name] if name in each else []
        for key in keys:
            if len(names) == 1:
                del each[key]
                found = True
            else:
                found = _removed(each[key], names[1:], path) or found
    return found
