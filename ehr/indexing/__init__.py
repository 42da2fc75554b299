"""Index entries of a resource: what the search parameters of R4 extract from it (https://hl7.org/fhir/R4/search.html).

Token case: terms hold codes as written. Tokens of code elements are found by their implicit system too.
"""

from ehr.indexing.chinese import (
    asked_characters,
    asked_letters,
    has_characters,
    identity_number,
    is_of_names,
    is_spelt,
)
from ehr.indexing.composite import Found, is_of_resource, parts_of
from ehr.indexing.dates import PLATFORM_ZONE, date_range
from ehr.indexing.derived import answering, answering_terms
from ehr.indexing.entries import MAX_INSTANT, MIN_INSTANT, IndexEntries
from ehr.indexing.extractor import Extractor
from ehr.indexing.implied import Implied
from ehr.indexing.main_columns import MAIN_DATE, ONE_DATE
from ehr.indexing.near import LATITUDE, LONGITUDE
from ehr.indexing.plan import ROW_COLUMNS, indexed_parameters, selected_types
from ehr.indexing.ucum import SYSTEM as UCUM
from ehr.indexing.ucum import unit_of
from ehr.indexing.values import LONGEST_PREFIX, decimal_range, normalise_string, text_prefix

__all__ = [
    "LATITUDE",
    "LONGEST_PREFIX",
    "LONGITUDE",
    "MAIN_DATE",
    "MAX_INSTANT",
    "MIN_INSTANT",
    "ONE_DATE",
    "PLATFORM_ZONE",
    "ROW_COLUMNS",
    "UCUM",
    "Extractor",
    "Found",
    "Implied",
    "IndexEntries",
    "answering",
    "answering_terms",
    "asked_characters",
    "asked_letters",
    "date_range",
    "decimal_range",
    "has_characters",
    "identity_number",
    "indexed_parameters",
    "is_of_names",
    "is_of_resource",
    "is_spelt",
    "normalise_string",
    "parts_of",
    "selected_types",
    "text_prefix",
    "unit_of",
]
