"""Search as FHIR R4 defines it, over the record's index: https://hl7.org/fhir/R4/search.html."""

from ehr.search.grammar import parse
from ehr.search.query import SearchQuery
from ehr.search.run import SearchResult, matcher, matching_keys, search, sql

__all__ = ["SearchQuery", "SearchResult", "matcher", "matching_keys", "parse", "search", "sql"]
