"""What the text of the specification asks of Bundle entries, beyond Bundle's invariants.

https://hl7.org/fhir/R4/bundle.html#bundle-unique
"""

from collections.abc import Mapping
from typing import Any

from ehr.validation.primitives import ABSOLUTE_URI
from ehr.validation.references import restful_target
from ehr.validation.report import Place, Scope

_WITHOUT_FULL_URLS = frozenset(("transaction", "batch", "transaction-response", "batch-response"))


def check_entries(bundle: Mapping[str, Any], place: Place, scope: Scope) -> None:
    """Report entries whose fullUrl is missing, relative, or names another resource than the entry's (SC-34)."""
    entries = bundle.get("entry")
    needs_full_url = bundle.get("type") not in _WITHOUT_FULL_URLS
    for index, entry in enumerate(entries if type(entries) is list else ()):
        if type(entry) is not dict:
            continue
        full_url, resource = entry.get("fullUrl"), entry.get("resource")
        here = (place, "entry", index)
        if full_url is None and "_fullUrl" not in entry:
            if needs_full_url and resource is not None:
                scope.report.add((here, "fullUrl"), "required", "An entry needs a fullUrl in this type of Bundle")
        elif type(full_url) is str:
            _check_full_url(full_url, resource, (here, "fullUrl"), scope)


def _check_full_url(full_url: str, resource: Any, place: Place, scope: Scope) -> None:
    if not ABSOLUTE_URI.test(full_url):
        scope.report.add(place, "value", f"{full_url[:100]!r} is not {ABSOLUTE_URI.wants}")
        return
    target = restful_target(full_url)
    if target is not None and type(resource) is dict:
        stated = (resource.get("resourceType"), resource.get("id"))
        if target != stated:
            is_named = "it has no id" if stated[1] is None else f"it is {stated[0]}/{stated[1]}"
            problem = f"The fullUrl names the resource {target[0]}/{target[1]}, but {is_named}"
            scope.report.add(place, "value", problem[:300])
