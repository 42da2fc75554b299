"""Comparison of an opened resource with a criterion for which the index gave it as a candidate."""

from typing import Any

from ehr.indexing import Extractor, normalise_string
from ehr.search import composite, string, token, uri
from ehr.search.query import Criterion, StringValue


def meets(extractor: Extractor, criterion: Criterion, resource: dict[str, Any]) -> bool:
    """Whether the resource has what the criterion asks for."""
    if criterion.kind == "composite":
        return composite.matches(extractor, criterion, resource)
    texts = extractor.texts(criterion.resource_type, criterion.code, resource)
    if criterion.whole is not None:
        return _holds_of_whole(criterion, texts)
    match criterion.kind:
        case "string":
            asks_name = any(isinstance(value, StringValue) and value.asks_name for value in criterion.values)
            names = extractor.names(criterion.resource_type, criterion.code, resource) if asks_name else []
            return string.matches(criterion, texts, names)
        case "uri":
            return uri.matches(criterion, texts)
    return token.matches(criterion, texts)


def _holds_of_whole(criterion: Criterion, texts: list[str]) -> bool:
    """Whether some string equals one of the values, or ends in it, as they are compared (no case, no accents)."""
    wanted = tuple(value.normalised for value in criterion.values if isinstance(value, StringValue))
    normalised = [normalise_string(text) for text in texts]
    if criterion.whole == "ends":
        return any(text.endswith(wanted) for text in normalised)
    return not set(wanted).isdisjoint(normalised)
