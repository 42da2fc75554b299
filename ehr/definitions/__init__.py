"""The official definitions of FHIR R4 4.0.1: types, elements, code sets and search parameters.

Derived from HL7's own files by `scripts/derive_definitions.py`; https://hl7.org/fhir/R4/structuredefinition.html
"""

from ehr.definitions.loading import (
    RESOURCE_TYPES,
    codes_of,
    codes_of_system,
    constraints,
    is_resource_type,
    search_parameter_of,
    search_parameters,
    statistics,
    structure,
    type_name,
    type_names,
    type_number,
)
from ehr.definitions.model import Binding, Constraint, Element, ElementType, SearchParameter, Structure

__all__ = [
    "RESOURCE_TYPES",
    "Binding",
    "Constraint",
    "Element",
    "ElementType",
    "SearchParameter",
    "Structure",
    "codes_of",
    "codes_of_system",
    "constraints",
    "is_resource_type",
    "search_parameter_of",
    "search_parameters",
    "statistics",
    "structure",
    "type_name",
    "type_names",
    "type_number",
]
