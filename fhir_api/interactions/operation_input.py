"""What an operation is given: parameters in the address, or Parameters in the body.

https://hl7.org/fhir/R4/operations.html#executing, https://hl7.org/fhir/R4/parameters.html
"""

from typing import Any

from ehr import json_text
from ehr.errors import BadSearch, Malformed
from fhir_api.fhir_request import FhirRequest
from fhir_api.negotiation import check_content_type

_MOST_PARAMETERS = 1_000


async def given(request: FhirRequest) -> list[tuple[str, Any]]:
    """Names and values in order: texts of the address, then those of a posted Parameters.

    A value is what `value[x]` holds, or a resource; a resource posted alone is the parameter `resource`.

    Raises:
        Malformed: the body is no Parameters and no resource.
    """
    found: list[tuple[str, Any]] = list(request.pairs)
    if request.method != "POST":
        return found
    data = await request.body()
    if not data:
        return found
    check_content_type(request.header(b"content-type"))
    resource = json_text.parse(data)
    if resource.get("resourceType") != "Parameters":
        return [*found, ("resource", resource)]
    parameters = resource.get("parameter", [])
    if not isinstance(parameters, list) or len(parameters) > _MOST_PARAMETERS:
        raise Malformed(f"Parameters.parameter is a list of at most {_MOST_PARAMETERS}.")
    return [*found, *map(_parameter, parameters)]


def _parameter(parameter: Any) -> tuple[str, Any]:
    if not isinstance(parameter, dict) or not isinstance(parameter.get("name"), str):
        raise Malformed("Each of Parameters.parameter has a name.")
    values = [value for name, value in parameter.items() if name.startswith("value") or name == "resource"]
    if len(values) != 1:
        raise Malformed(f"The parameter {parameter['name'][:64]!r} has one value or resource.")
    return parameter["name"], values[0]


def simple(values: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    """Values as texts, in order; Malformed for complex ones."""
    found = []
    for name, value in values:
        if isinstance(value, dict | list) or value is None:
            raise Malformed(f"The parameter {name[:64]!r} takes a simple value.")
        found.append((name, str(value).lower() if isinstance(value, bool) else str(value)))
    return found


def texts(values: list[tuple[str, Any]], offered: frozenset[str]) -> dict[str, str]:
    """Simple parameters as texts, each at most once; BadSearch for others, Malformed for complex values."""
    found: dict[str, str] = {}
    for name, text in simple(values):
        if name not in offered:
            raise BadSearch(f"The parameter {name[:64]!r} is not offered on this operation.")
        if name in found and name != "_type":
            raise BadSearch(f"The parameter {name!r} is given twice.")
        found[name] = f"{found[name]},{text}" if name in found else text
    return found
