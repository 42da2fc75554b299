"""Messages made for the tests, and how to find a resource in what became of them."""

from collections.abc import Callable
from typing import Any

from hospital_adapters.hl7v2.convert import Conversion

Convert = Callable[..., Conversion]


def message_text(kind: str, *segments: str, header: str = "20240601080000+0800", control: str = "C1") -> str:
    head = f"MSH|^~\\&|LAB|FIRST|KL|REGION|{header}||{kind}|{control}|P|2.5.1"
    return "\r".join([head, *segments])


def only(conversion: Conversion, kind: str) -> dict[str, Any]:
    found = all_of(conversion, kind)
    assert len(found) == 1, [resource["id"] for resource in found]
    return found[0]


def all_of(conversion: Conversion, kind: str) -> list[dict[str, Any]]:
    resources = (entry["resource"] for entry in conversion.bundle["entry"])
    return [resource for resource in resources if resource["resourceType"] == kind]
