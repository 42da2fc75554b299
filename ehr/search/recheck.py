"""Comparison of an opened resource with a criterion for which the index gave it as a candidate."""

from typing import Any

from ehr.indexing import Extractor
from ehr.search import string, token, uri
from ehr.search.query import Criterion


def meets(extractor: Extractor, criterion: Criterion, resource: dict[str, Any]) -> bool:
    """Whether the resource has what the criterion asks for."""
    texts = extractor.texts(criterion.resource_type, criterion.code, resource)
    match criterion.kind:
        case "string":
            return string.matches(criterion, texts)
        case "uri":
            return uri.matches(criterion, texts)
    return token.matches(criterion, texts)
