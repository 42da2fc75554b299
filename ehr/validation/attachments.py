"""Attachment.size and .hash must fit the data beside them (https://hl7.org/fhir/R4/datatypes.html#Attachment)."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

from ehr.validation.report import Place, Scope


def check_attachment(node: Mapping[str, Any], place: Place, scope: Scope) -> None:
    """Report a size or SHA-1 hash that is not that of the data; nothing where there is no data."""
    data, size, stated_hash = node.get("data"), node.get("size"), node.get("hash")
    if type(data) is not str or (size is None and stated_hash is None):
        return
    try:
        content = base64.b64decode(data)
    except (binascii.Error, ValueError):  # reported as a value already
        return
    if type(size) is int and size != len(content):
        scope.report.add(
            (place, "size"), "value", f"The size is said to be {size}, but the data has {len(content)} bytes"
        )
    if type(stated_hash) is str:
        digest = base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()
        if "".join(stated_hash.split()) != digest:
            scope.report.add((place, "hash"), "value", "The hash is not the SHA-1 of the data")
