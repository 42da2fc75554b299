"""The entries of a batch or transaction Bundle as read: what each one asks for.

https://hl7.org/fhir/R4/bundle.html, https://hl7.org/fhir/R4/http.html#transaction
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ehr import json_text
from ehr.bundle_links import plain
from ehr.definitions import is_resource_type
from ehr.errors import Invalid, Issue, PreconditionFailed
from ehr.search import SearchQuery
from ehr.store.operations import ANY_VERSION

METHODS = ("DELETE", "POST", "PUT", "PATCH", "GET", "HEAD")
_ETAG = re.compile(r'\*|(?:W/)?"([0-9]{1,9})"')


@dataclass(frozen=True, slots=True)
class Reading:
    """How the entries of one Bundle are read."""

    parse: Callable[[str, Sequence[tuple[str, str]]], SearchQuery]
    """Reads criteria: type and pairs."""
    base_url: str | None
    """The server's own address: absolute URLs below it are relative ones."""


@dataclass(slots=True)
class BundleEntry:
    """One entry: an interaction with a resource, or a GET whose URL is handed on as it is."""

    place: int
    method: str
    url: str
    full_url: str | None
    resource: bytes | None = None
    """Minified JSON; of a PATCH, the patch: Parameters, or a Binary with its bytes"""
    resource_type: str = ""
    resource_id: str | None = None
    condition: SearchQuery | None = None
    also: list[str] = field(default_factory=list)
    """Full URLs of entries that repeat this conditional create, and so mean the same resource."""
    if_match: int | None = None
    if_none_match: str | None = None
    """Of a GET or HEAD."""
    if_modified_since: str | None = None
    """Of a GET or HEAD, as it stands in the Bundle."""

    @property
    def expression(self) -> str:
        """FHIRPath of the entry's resource."""
        return f"Bundle.entry[{self.place}].resource"


def invalid(place: int, text: str, element: str = "request") -> Invalid:
    """A refusal that names the entry."""
    return Invalid(Issue("error", "invalid", text, f"Bundle.entry[{place}].{element}"))


def split(data: bytes) -> tuple[dict[str, Any], list[bytes | None]]:
    """The Bundle without its resources (null in their place), and each entry's resource as minified bytes.

    The resources themselves are parsed, and refused where they are malformed, when they are written.

    Raises:
        Malformed: no JSON, or not usable outside the resources.
    """
    try:
        text = json_text.minify(data)
        resources = json_text.entry_resources(text)
    except (ValueError, RecursionError):
        return json_text.parse(data), []
    pieces, position = [], 0
    for resource in resources:
        if resource is not None:
            start = text.index(resource, position)
            pieces += [text[position:start], b"null"]
            position = start + len(resource)
    return json_text.parse(b"".join([*pieces, text[position:]])), resources


def read_entry(place: int, entry: Any, resource: bytes | None, reading: Reading) -> BundleEntry:
    """Read one entry; `resource` is its resource's bytes.

    Raises:
        Invalid: the entry has no usable request.
        BadSearch: its criteria are not understood.
        PreconditionFailed: its If-Match is not an ETag of ours.
    """
    request = entry.get("request") if isinstance(entry, dict) else None
    if not isinstance(request, dict) or not isinstance(request.get("url"), str):
        raise invalid(place, "An entry of a batch or transaction needs request.method and request.url.")
    method = request.get("method")
    if method not in METHODS:
        raise invalid(place, "This method is not offered in a Bundle.", "request.method")
    url = _relative(request["url"], reading.base_url)
    full_url = entry.get("fullUrl")
    read = BundleEntry(place, method, url, full_url if isinstance(full_url, str) else None)
    if method in {"GET", "HEAD"}:
        read.if_none_match = _text(place, request, "ifNoneMatch")
        read.if_modified_since = _text(place, request, "ifModifiedSince")
        return read
    if "ifNoneMatch" in request:  # SC-21
        text = "ifNoneMatch is not offered on writes; POST with ifNoneExist creates once."
        raise invalid(place, text, "request.ifNoneMatch")
    if method != "DELETE":
        if resource is None or not resource.startswith(b"{"):
            raise invalid(place, "There is no resource to write.", "resource")
        read.resource = plain(resource)
    _read_address(read, request, reading)
    return read


def _relative(url: str, base_url: str | None) -> str:
    if base_url is not None and url.startswith(base_url.rstrip("/") + "/"):
        url = url[len(base_url.rstrip("/")) :]
    return url.removeprefix("/")


def _read_address(read: BundleEntry, request: dict[str, Any], reading: Reading) -> None:
    parts = urlsplit(read.url)
    path = parts.path.split("/")
    if "%" in parts.path:
        path = [unquote(part) for part in path]
    read.resource_type = path[0]
    if not is_resource_type(path[0]) or len(path) > 2 or parts.scheme:
        raise invalid(read.place, "The URL names no resource type of FHIR R4.", "request.url")
    read.resource_id = path[1] if len(path) == 2 else None
    criteria = parts.query
    if read.method == "POST":
        if read.resource_id is not None or criteria:
            raise invalid(read.place, "A POST names the type only.", "request.url")
        criteria = _query_of(request.get("ifNoneExist") or "", path[0])
    elif read.resource_id is None and not criteria:
        raise invalid(read.place, "A PUT, PATCH or DELETE needs an id or criteria.", "request.url")
    if criteria:
        read.condition = reading.parse(path[0], parse_qsl(criteria, keep_blank_values=True))
    if request.get("ifMatch") is not None:
        etag = _ETAG.fullmatch(str(request["ifMatch"]).strip())
        if etag is None:
            raise PreconditionFailed("If-Match names another version than the current one.")
        read.if_match = ANY_VERSION if etag[0] == "*" else int(etag[1])


def _text(place: int, request: dict[str, Any], name: str) -> str | None:
    value = request.get(name)
    if value is not None and not isinstance(value, str):
        raise invalid(place, f"{name} is a text.", f"request.{name}")
    return value


def _query_of(text: str, resource_type: str) -> str:
    """The criteria of ifNoneExist, which some senders write with the type or a question mark before it."""
    return text.removeprefix(resource_type).removeprefix("?")
