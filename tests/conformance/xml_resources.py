"""Reads a FHIR resource in XML to the JSON form, for suites whose inputs are XML (https://hl7.org/fhir/R4/xml.html)."""

from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from ehr.fhirpath import model

FHIR = "{http://hl7.org/fhir}"
XHTML = "{http://www.w3.org/1999/xhtml}"
_PARSERS: dict[str, Any] = {"boolean": lambda text: text == "true", "decimal": Decimal}


def read_resource(path: Path) -> dict[str, Any]:
    """The JSON form of the resource in an XML file."""
    return resource_of(ET.parse(path).getroot())  # noqa: S314 - test data of the checkout


def resource_of(element: ET.Element) -> dict[str, Any]:
    type_name = element.tag.removeprefix(FHIR)
    return {"resourceType": type_name, **_object(element, type_name)}


def _object(element: ET.Element, type_name: str) -> dict[str, Any]:
    found: dict[str, Any] = {key: element.get(key) for key in ("id", "url") if element.get(key) is not None}
    options = {key: (child, kind) for child in model.children(type_name).values() for key, kind in child.options}
    for part in element:
        name = part.tag.removeprefix(FHIR)
        if part.tag == f"{XHTML}div":
            ET.register_namespace("", "http://www.w3.org/1999/xhtml")
            found["div"] = ET.tostring(part, encoding="unicode").strip()
            continue
        child, kind = options[name]
        value, sibling = _value(part, kind)
        if not child.many:
            if value is not None:
                found[name] = value
            if sibling:
                found[f"_{name}"] = sibling
            continue
        values = found.setdefault(name, [])
        values.append(value)
        if sibling:
            siblings = found.setdefault(f"_{name}", [])
            siblings += [None] * (len(values) - 1 - len(siblings)) + [sibling]
    return found


def _value(part: ET.Element, kind: str) -> tuple[Any, dict[str, Any] | None]:
    if kind == "Resource":
        return resource_of(part[0]), None
    if kind not in model.PRIMITIVE_TYPES:
        return _object(part, kind), None
    text = part.get("value")
    parse = int if kind in model.INTEGER_TYPES else _PARSERS.get(kind, str)
    return (None if text is None else parse(text)), _object(part, "Element")
