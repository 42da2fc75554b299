"""A FHIR entry as a Bundle that can be written: itself, or one around a single resource."""

from typing import Any

from ehr import json_text


def as_bundle(content: bytes) -> dict[str, Any]:
    """A transaction or batch as it is; another resource as a transaction that updates it by its id, or creates it.

    Raises:
        Malformed: the content is no JSON object.
    """
    parsed = json_text.parse(content)
    if parsed.get("resourceType") == "Bundle" and parsed.get("type") in ("transaction", "batch"):
        return parsed
    resource_type, resource_id = parsed.get("resourceType"), parsed.get("id")
    request = (
        {"method": "PUT", "url": f"{resource_type}/{resource_id}"}
        if resource_id
        else {"method": "POST", "url": f"{resource_type}"}
    )
    return {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": parsed, "request": request}]}
