"""Bundles as text: stored bytes are joined, never parsed.

https://hl7.org/fhir/R4/bundle.html, https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/http.html#history
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from ehr.errors import Issue
from ehr.store.operations import StoredVersion
from fhir_api.exchange import instant_text
from fhir_api.operation_outcome import outcome_bytes

PAGING_SYSTEM = "https://kanglian.org/CodeSystem/paging"
"""Of the tags "snapshot" and "keyset" of a Bundle that has further pages."""
_text = msgspec.json.Encoder().encode


def bundle_text(
    kind: Literal["searchset", "history", "batch-response", "transaction-response"],
    entries: Sequence[bytes],
    *,
    links: Iterable[tuple[str, str]] = (),
    total: int | None = None,
    paging: str | None = None,
) -> bytes:
    """The Bundle around finished entries; an empty list of entries or links is left out, as JSON in FHIR asks.

    `paging` says whether further pages are a snapshot of the result or found by the place in its order.
    """
    parts = [b'{"resourceType":"Bundle",']
    if paging is not None:
        parts.append(b'"meta":{"tag":[{"system":"%s","code":"%s"}]},' % (PAGING_SYSTEM.encode(), paging.encode()))
    parts += [b'"type":"', kind.encode(), b'"']
    if total is not None:
        parts.append(b',"total":%d' % total)
    shown = [b'{"relation":%s,"url":%s}' % (_text(relation), _text(url)) for relation, url in links]
    if shown:
        parts += [b',"link":[', b",".join(shown), b"]"]
    if entries:
        parts += [b',"entry":[', b",".join(entries), b"]"]
    parts.append(b"}")
    return b"".join(parts)


def search_entry(
    version: StoredVersion, base: bytes, mode: Literal["match", "include"], distance_m: float | None = None
) -> bytes:
    """An entry of a searchset; `base` is `BASE/fhir` as bytes, `distance_m` that of a Location found by `near`."""
    return b'{"fullUrl":"%s/%s/%s","resource":%s,"search":{%s"mode":"%s"}}' % (
        base,
        version.resource_type.encode(),
        version.resource_id.encode(),
        version.body or b"{}",
        b"" if distance_m is None else _distance(distance_m),
        mode.encode(),
    )


def _distance(metres: float) -> bytes:
    """https://hl7.org/fhir/R4/extension-location-distance.html."""
    return b'"extension":[{"url":"%s","valueDistance":{"value":%.3f,"unit":"m","system":"%s","code":"m"}}],' % (
        b"http://hl7.org/fhir/StructureDefinition/location-distance",
        metres,
        b"http://unitsofmeasure.org",
    )


def outcome_entry(issues: Iterable[Issue]) -> bytes:
    """The entry that tells what a lenient search dropped."""
    return b'{"resource":%s,"search":{"mode":"outcome"}}' % outcome_bytes(issues)


def history_entry(version: StoredVersion, base: bytes) -> bytes:
    """An entry of a history: the version, the request that made it and its answer then."""
    address = f"{version.resource_type}/{version.resource_id}".encode()
    if version.deleted:
        method, url, status = b"DELETE", address, b"204"
    elif version.version == 1:
        method, url, status = b"POST", version.resource_type.encode(), b"201"
    else:
        method, url, status = b"PUT", address, b"200"
    resource = b"" if version.body is None else b',"resource":' + version.body
    return (
        b'{"fullUrl":"%s/%s"%s,"request":{"method":"%s","url":"%s"},'
        b'"response":{"status":"%s","etag":"W/\\"%d\\"","lastModified":"%s"}}'
    ) % (
        base,
        address,
        resource,
        method,
        url,
        status,
        version.version,
        instant_text(version.last_updated_us).encode(),
    )
