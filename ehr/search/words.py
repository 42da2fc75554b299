"""The words by which `_sort` orders string, token, uri and reference parameters."""

from collections.abc import Iterator
from typing import Any

from ehr.definitions import search_parameters
from ehr.fhirpath import compile as compile_path
from ehr.indexing import Extractor, normalise_string
from ehr.search.query import SortKey

_TOKEN_KEYS = ("code", "value", "display", "text")


def words_of(extractor: Extractor, resource_type: str, key: SortKey, resource: dict[str, Any]) -> str | None:
    """The lowest (going down: the highest) of the values of one key, as it is compared; None where there is none."""
    if key.kind == "string":
        found = [normalise_string(text) for text in extractor.texts(resource_type, key.code, resource)]
    else:
        expression = search_parameters(resource_type)[key.code].expression or ""
        evaluate = compile_path(expression, context_type=resource_type)
        found = [word for value in evaluate(resource) for word in _words(value)]
    found = [word for word in found if word]
    if not found:
        return None
    return max(found) if key.descending else min(found)


def _words(value: Any) -> Iterator[str]:
    match value:
        case bool():
            yield "true" if value else "false"
        case str():
            yield value
        case {"reference": str(reference)}:
            yield reference
        case {"coding": list(codings)}:
            for coding in codings:
                yield from _words(coding)
        case dict():
            for key in _TOKEN_KEYS:
                if isinstance(value.get(key), str):
                    yield value[key]
                    return
