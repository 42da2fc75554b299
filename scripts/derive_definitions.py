"""Derives `ehr/definitions/r4.json.zst` from the official FHIR R4 4.0.1 definitions.

Run it with `.venv/bin/python scripts/derive_definitions.py [--jar FILE] [--output FILE]`. The definitions come from
Maven Central (ca.uhn.hapi.fhir:hapi-fhir-validation-resources-r4), which carries HL7's own files unchanged; the jar is
pinned by its SHA-256, so the output is the same bytes on every machine. Definitions: https://hl7.org/fhir/R4/downloads.html
"""

import argparse
import hashlib
import io
import json
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import zstandard

GROUP, ARTIFACT, VERSION = "ca.uhn.hapi.fhir", "hapi-fhir-validation-resources-r4", "8.8.0"
JAR_URL = f"https://repo1.maven.org/maven2/{GROUP.replace('.', '/')}/{ARTIFACT}/{VERSION}/{ARTIFACT}-{VERSION}.jar"
JAR_SHA256 = "4d46090e11ac73ff1b7ebb565e6124b55e6d26b10538f3ff69bbfd347a4c7015"
MODEL = "org/hl7/fhir/r4/model/"
NS = "{http://hl7.org/fhir}"
STRUCTURE_PREFIX = "http://hl7.org/fhir/StructureDefinition/"
FHIR_TYPE = STRUCTURE_PREFIX + "structuredefinition-fhir-type"
REGEX = STRUCTURE_PREFIX + "regex"
BEST_PRACTICE = STRUCTURE_PREFIX + "elementdefinition-bestpractice"
DEFAULT_OUTPUT = Path(__file__).resolve().parent.parent / "ehr" / "definitions" / "r4.json.zst"

Json = dict[str, Any]


def value(parent: ET.Element, *names: str) -> str | None:
    """The `value` attribute of the first descendant at the given child names, or None."""
    found = parent.find("/".join(NS + name for name in names))
    return None if found is None else found.get("value")


def needed(parent: ET.Element, *names: str) -> str:
    """As `value`, for what the definitions always have."""
    found = value(parent, *names)
    if found is None:
        message = f"{parent.tag} lacks {'/'.join(names)}"
        raise ValueError(message)
    return found


def resources(archive: zipfile.ZipFile, name: str) -> Iterator[ET.Element]:
    """Each resource of one of the jar's Bundles."""
    root = ET.parse(archive.open(MODEL + name)).getroot()  # noqa: S314 - HL7's own file, pinned by the jar's hash
    for holder in root.iterfind(f"{NS}entry/{NS}resource"):
        yield from holder


# --- structures -------------------------------------------------------------------------------------------------


def element_type(type_element: ET.Element) -> Json:
    """One `ElementDefinition.type`: code, reference targets and profiles by their short names, regex of a value."""
    code = needed(type_element, "code")
    fhir_type, regex = None, None
    for extension in type_element.iterfind(NS + "extension"):
        if extension.get("url") == FHIR_TYPE:
            fhir_type = extension[0].get("value")
        elif extension.get("url") == REGEX:
            regex = extension[0].get("value")
    result: Json = {"code": fhir_type or code.rpartition(".")[2]}
    for key in ("targetProfile", "profile"):
        names = [str(e.get("value")).removeprefix(STRUCTURE_PREFIX) for e in type_element.iterfind(NS + key)]
        if names:
            result["targets" if key == "targetProfile" else "profiles"] = names
    if regex:
        result["regex"] = regex
    return result


def constraint(element: ET.Element) -> Json:
    """One `ElementDefinition.constraint`; a best practice is marked as such."""
    result: Json = {name: needed(element, name) for name in ("key", "severity", "human")}
    result["expression"] = value(element, "expression") or ""
    result["source"] = (value(element, "source") or "").removeprefix(STRUCTURE_PREFIX)
    if any(extension.get("url") == BEST_PRACTICE for extension in element.iterfind(NS + "extension")):
        result["best_practice"] = True
    return result


def element(definition: ET.Element, constraints: list[Json]) -> Json:
    """One element of a snapshot; its constraints are positions in the shared list `constraints`."""
    maximum = needed(definition, "max")
    result: Json = {"path": needed(definition, "path"), "min": int(needed(definition, "min"))}
    if maximum != "*":
        result["max"] = int(maximum)
    types = [element_type(t) for t in definition.iterfind(NS + "type")]
    if types:
        result["types"] = types
    if reference := value(definition, "contentReference"):
        result["content_reference"] = reference.removeprefix("#")
    binding = definition.find(NS + "binding")
    if binding is not None and (value_set := value(binding, "valueSet")):
        result["binding"] = {"strength": needed(binding, "strength"), "value_set": value_set.partition("|")[0]}
    numbers = []
    for found in map(constraint, definition.iterfind(NS + "constraint")):
        if found not in constraints:
            constraints.append(found)
        numbers.append(constraints.index(found))
    if numbers:
        result["constraints"] = numbers
    for flag in ("isModifier", "isSummary"):
        if value(definition, flag) == "true":
            result["modifier" if flag == "isModifier" else "summary"] = True
    return result


def structures(archive: zipfile.ZipFile) -> tuple[Json, list[Json]]:
    """All resources and data types by name, and the constraints that their elements point into."""
    constraints: list[Json] = []
    found: Json = {}
    for file in ("profile/profiles-types.xml", "profile/profiles-resources.xml"):
        for definition in resources(archive, file):
            kind = value(definition, "kind")
            if definition.tag != NS + "StructureDefinition" or kind == "logical":
                continue
            snapshot = definition.iterfind(f"{NS}snapshot/{NS}element")
            name = needed(definition, "id")
            if name == "MetadataResource":  # a pattern for those who publish, not a type of the wire
                continue
            found[name] = {
                "name": name,
                "kind": kind,
                "abstract": value(definition, "abstract") == "true",
                "base": (value(definition, "baseDefinition") or "").removeprefix(STRUCTURE_PREFIX) or None,
                "profile": value(definition, "derivation") == "constraint",
                "elements": [element(e, constraints) for e in snapshot],
            }
    return found, constraints


# --- terminology ------------------------------------------------------------------------------------------------


class Terminology:
    """The code systems and value sets of the definitions, and the finite expansions among them."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.systems: dict[str, ET.Element] = {}
        self.value_sets: dict[str, ET.Element] = {}
        for file in ("valueset/valuesets.xml", "valueset/v3-codesystems.xml", "valueset/v2-tables.xml"):
            for resource in resources(archive, file):
                table = self.systems if resource.tag == NS + "CodeSystem" else self.value_sets
                table[needed(resource, "url")] = resource

    def codes_of_system(self, url: str) -> list[str] | None:
        """Every code of a complete code system, nested ones too; None where the definitions hold only a part."""
        system = self.systems.get(url)
        if system is None or value(system, "content") != "complete":
            return None
        return [needed(concept, "code") for concept in system.iter(NS + "concept")]

    def codes_of_clause(self, clause: ET.Element) -> set[tuple[str, str]] | None:
        """The codes of one include or exclude; None when it filters, or draws on codes not in the definitions."""
        url = value(clause, "system")
        imports = [str(e.get("value")).partition("|")[0] for e in clause.iterfind(NS + "valueSet")]
        if clause.find(NS + "filter") is not None:
            return None
        found: set[tuple[str, str]] | None = None
        if url is not None:
            listed = [needed(concept, "code") for concept in clause.iterfind(NS + "concept")]
            codes = listed or self.codes_of_system(url)
            if codes is None:
                return None
            found = {(url, code) for code in codes}
        for imported in imports:
            expansion = self.expansion(imported)
            if expansion is None:
                return None
            found = expansion if found is None else found & expansion
        return found

    def expansion(self, url: str) -> set[tuple[str, str]] | None:
        """All (system, code) of a value set, or None where it is not finite or not in the definitions."""
        value_set = self.value_sets.get(url)
        if value_set is None or value_set.find(NS + "compose") is None:
            return None
        total: set[tuple[str, str]] = set()
        for clause in value_set.iterfind(f"{NS}compose/{NS}include"):
            codes = self.codes_of_clause(clause)
            if codes is None:
                return None
            total |= codes
        for clause in value_set.iterfind(f"{NS}compose/{NS}exclude"):
            codes = self.codes_of_clause(clause)
            if codes is None:
                return None
            total -= codes
        return total


def code_sets(archive: zipfile.ZipFile, found: Json) -> Json:
    """The expansions of the value sets of required bindings: url to system to sorted codes."""
    terminology = Terminology(archive)
    urls = {
        e["binding"]["value_set"]
        for structure in found.values()
        for e in structure["elements"]
        if e.get("binding", {}).get("strength") == "required"
    }
    result: Json = {}
    for url in sorted(urls):
        expansion = terminology.expansion(url)
        if expansion is None:
            print(f"not enumerable: {url}")
            continue
        by_system: dict[str, list[str]] = {}
        for system, code in sorted(expansion):
            by_system.setdefault(system, []).append(code)
        result[url] = by_system
    return result


# --- search parameters ------------------------------------------------------------------------------------------


def union_branches(expression: str) -> list[str]:
    """Split a FHIRPath expression at the unions of its outermost level."""
    branches, depth, start, quoted = [], 0, 0, False
    for position, character in enumerate(expression):
        if character == "'":
            quoted = not quoted
        elif quoted:
            continue
        elif character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        elif character == "|" and depth == 0:
            branches.append(expression[start:position].strip())
            start = position + 1
    branches.append(expression[start:].strip())
    return branches


def leading_type(branch: str) -> str:
    """The type with which a branch starts: "RiskAssessment" for "(RiskAssessment.occurrence as dateTime)"."""
    bare = branch.lstrip("( ")
    end = next((i for i, c in enumerate(bare) if not c.isalnum()), len(bare))
    return bare[:end]


def split_by_type(url: str, bases: list[str], expression: str, type_names: set[str]) -> dict[str, str | None]:
    """The part of a parameter's expression that holds for each of its bases; says what it cannot place."""
    expressions: dict[str, list[str]] = {base: [] for base in bases}
    for branch in filter(None, union_branches(expression)):
        start = leading_type(branch)
        if start in type_names and start not in expressions:
            print(f"{url}: a branch for {start}, which is no base: {branch}")
        for base in [start] if start in expressions else bases:
            expressions[base].append(branch)
    for base, branches in expressions.items():
        if expression and not branches:
            print(f"{url}: nothing for its base {base}")
    return {base: " | ".join(branches) or None for base, branches in expressions.items()}


def search_parameters(archive: zipfile.ZipFile, type_names: set[str]) -> list[Json]:
    """The official SearchParameters, each expression split by the resource type of its branches."""
    bundle = json.load(archive.open(MODEL + "sp/search-parameters.json"))
    result = []
    for resource in (entry["resource"] for entry in bundle["entry"]):
        url = resource["url"]
        parameter: Json = {"url": url, "code": resource["code"], "kind": resource["type"]}
        parameter["expressions"] = split_by_type(url, resource["base"], resource.get("expression", ""), type_names)
        if resource.get("target"):
            parameter["targets"] = resource["target"]
        if resource.get("component"):
            parameter["components"] = [[c["definition"], c["expression"]] for c in resource["component"]]
        if resource.get("xpathUsage", "normal") != "normal":
            parameter["usage"] = resource["xpathUsage"]
        result.append(parameter)
    return result


# --- the file ---------------------------------------------------------------------------------------------------


def read_jar(path: Path | None) -> bytes:
    """The jar's bytes, from a file or from Maven Central; ends the program unless they are the pinned ones."""
    if path is None:
        with urllib.request.urlopen(JAR_URL, timeout=120) as answer:
            data = answer.read()
    else:
        data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != JAR_SHA256:
        sys.exit(f"SHA-256 of the jar is {digest}, expected {JAR_SHA256}")
    return bytes(data)


def derive(jar: bytes) -> bytes:
    """The compact data file as zstd-compressed JSON."""
    archive = zipfile.ZipFile(io.BytesIO(jar))
    found, constraints = structures(archive)
    types = sorted(n for n, s in found.items() if s["kind"] == "resource" and not s["abstract"])
    document = {
        "fhir_version": "4.0.1",
        "resource_types": types,
        "constraints": constraints,
        "structures": found,
        "code_sets": code_sets(archive, found),
        "search_parameters": search_parameters(archive, set(types)),
    }
    print(f"{len(types)} resource types, {len(found)} structures, {len(constraints)} constraints,")
    print(f"{len(document['code_sets'])} code sets, {len(document['search_parameters'])} search parameters")
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return zstandard.ZstdCompressor(level=19).compress(text)


def main() -> None:
    """Write the data file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jar", type=Path, help="a copy of the jar instead of Maven Central's")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    arguments = parser.parse_args()
    data = derive(read_jar(arguments.jar))
    arguments.output.write_bytes(data)
    print(f"{arguments.output}: {len(data):,} bytes")


if __name__ == "__main__":
    main()
