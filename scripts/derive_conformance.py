"""Derives from the official FHIR R4 4.0.1 definitions what is shown of them and what belongs to a compartment.

Run it with `.venv/bin/python scripts/derive_conformance.py [--jar FILE]`. It writes `ehr/definitions/compartments.json`
(compartment to type to search parameters) and `fhir_api/conformance/r4.json.zst` (StructureDefinitions,
SearchParameters, OperationDefinitions and CompartmentDefinitions as HL7 publishes them, without narrative). The
jar is the one of `derive_definitions.py`, pinned by its SHA-256. https://hl7.org/fhir/R4/compartmentdefinition.html
"""

import argparse
import io
import json
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import zstandard
from derive_definitions import MODEL, NS, read_jar, resources

from ehr.fhirpath import model

CHECKOUT = Path(__file__).resolve().parent.parent
COMPARTMENTS = CHECKOUT / "ehr" / "definitions" / "compartments.json"
SHOWN = CHECKOUT / "fhir_api" / "conformance" / "r4.json.zst"
SHOWN_TYPES = ("StructureDefinition", "OperationDefinition", "CompartmentDefinition")

Json = dict[str, Any]


def json_of(element: ET.Element, type_name: str) -> Json:
    """The JSON form of an element of this type (https://hl7.org/fhir/R4/json.html), without narrative."""
    found: Json = {key: element.get(key) for key in ("id", "url") if element.get(key) is not None}
    options = {key: (child, kind) for child in model.children(type_name).values() for key, kind in child.options}
    for part in element:
        name = part.tag.removeprefix(NS)
        if name == "text" and type_name in SHOWN_TYPES:
            continue
        child, kind = options[name]
        value, sibling = _value(part, kind)
        if child.many:
            values = found.setdefault(name, [])
            values.append(value)
            if sibling:
                siblings = found.setdefault(f"_{name}", [])
                siblings += [None] * (len(values) - 1 - len(siblings)) + [sibling]
            continue
        if value is not None:
            found[name] = value
        if sibling:
            found[f"_{name}"] = sibling
    return found


def _value(part: ET.Element, kind: str) -> tuple[Any, Json | None]:
    if kind not in model.PRIMITIVE_TYPES:
        return json_of(part, kind), None
    text = part.get("value")
    if text is None:
        return None, json_of(part, "Element")
    parsed: Any = text
    if kind == "boolean":
        parsed = text == "true"
    elif kind in model.INTEGER_TYPES:
        parsed = int(text)
    elif kind == "decimal":
        parsed = float(Decimal(text))
    return parsed, json_of(part, "Element")


def shown(archive: zipfile.ZipFile) -> Iterator[Json]:
    """Each definition that is shown, the resource as JSON."""
    for file in ("profile/profiles-types.xml", "profile/profiles-resources.xml"):
        for definition in resources(archive, file):
            name = definition.tag.removeprefix(NS)
            if name in SHOWN_TYPES:
                yield {"resourceType": name} | json_of(definition, name)
    bundle = json.load(archive.open(MODEL + "sp/search-parameters.json"))
    for entry in bundle["entry"]:
        yield {name: value for name, value in entry["resource"].items() if name != "text"}


def compartments(definitions: list[Json]) -> Json:
    """Of each compartment: the types in it, and the parameters by which their rows belong to it."""
    return {
        each["code"]: {resource["code"]: resource["param"] for resource in each["resource"] if resource.get("param")}
        for each in sorted(definitions, key=lambda each: str(each["id"]))
        if each["resourceType"] == "CompartmentDefinition"
    }


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jar", type=Path, help="a copy of the jar instead of Maven Central's")
    definitions = list(shown(zipfile.ZipFile(io.BytesIO(read_jar(parser.parse_args().jar)))))
    COMPARTMENTS.write_text(json.dumps(compartments(definitions), indent=1) + "\n", encoding="utf-8")
    lines = b"\n".join(json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode() for each in definitions)
    SHOWN.parent.mkdir(exist_ok=True)
    SHOWN.write_bytes(zstandard.ZstdCompressor(level=19).compress(lines))
    for path in (COMPARTMENTS, SHOWN):
        print(f"{path}: {path.stat().st_size:,} bytes")
    print(f"{len(definitions)} definitions, {len(lines):,} bytes")


if __name__ == "__main__":
    main()
