"""The compartments of R4: which rows belong to a Patient, Encounter, RelatedPerson, Practitioner or Device.

Derived by `scripts/derive_conformance.py`; https://hl7.org/fhir/R4/compartmentdefinition.html
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import msgspec

COMPARTMENTS = ("Device", "Encounter", "Patient", "Practitioner", "RelatedPerson")
ITSELF = "{def}"
"""Stands for a parameter where the row is the compartment's own."""


@cache
def _table() -> dict[str, dict[str, tuple[str, ...]]]:
    text = files(__package__).joinpath("compartments.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, dict[str, tuple[str, ...]]])


@cache
def compartment(name: str) -> Mapping[str, tuple[str, ...]]:
    """The types in a compartment, each with the reference parameters of which one must name it; KeyError if unknown."""
    return MappingProxyType(_table()[name])
