"""The official definitions of FHIR R4, readable at their addresses.

`r4.json.zst` is derived by `scripts/derive_conformance.py`: a definition a line, as HL7 publishes it, without
narrative. https://hl7.org/fhir/R4/downloads.html
"""

from functools import cache
from importlib.resources import files

import msgspec
import zstandard

SHOWN_TYPES = frozenset({"CompartmentDefinition", "OperationDefinition", "SearchParameter", "StructureDefinition"})
_MAXIMUM_BYTES = 64 << 20


class _Name(msgspec.Struct):
    resourceType: str  # noqa: N815 - FHIR's name
    id: str


@cache
def _definitions() -> dict[tuple[str, str], bytes]:
    """All definitions by type and id; read when the first is asked for (about 40 ms, 15 MB)."""
    packed = files(__package__).joinpath("r4.json.zst").read_bytes()
    lines = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_MAXIMUM_BYTES).split(b"\n")
    name = msgspec.json.Decoder(_Name)
    found = {}
    for line in lines:
        read = name.decode(line)
        found[read.resourceType, read.id] = line
    return found


def definition(resource_type: str, resource_id: str) -> bytes | None:
    """The JSON of an official definition; None where there is none of this name."""
    if resource_type not in SHOWN_TYPES:
        return None
    return _definitions().get((resource_type, resource_id))


def definition_at(resource_type: str, canonical: str) -> tuple[str, bytes] | None:
    """Id and JSON of the official definition of this canonical address, with or without the version of R4."""
    address = canonical.removesuffix("|4.0.1")
    name = address.rpartition("/")[2]
    body = definition(resource_type, name)
    return (name, body) if body is not None and b'"url":"%s"' % address.encode() in body else None


def definition_names(resource_type: str) -> list[str]:
    """The ids of the official definitions of a type, sorted."""
    return sorted(name for kind, name in _definitions() if kind == resource_type)
