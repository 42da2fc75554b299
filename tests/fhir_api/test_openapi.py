"""The OpenAPI document says what answers; schemathesis sends what it allows and more, and meets no 5xx.

https://spec.openapis.org/oas/v3.1.0, https://schemathesis.readthedocs.io/
"""

import os
import re
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fhir_api.openapi import address_of
from fhir_api.routing import registered
from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

EXAMPLES = 5_000 if os.environ.get("KANGLIAN_TEST_ALL") else 25
SAMPLES = {
    "type": "Basic", "id": "x", "version": "1", "compartment": "Patient", "inside": "Observation", "job": "A" * 22,
    "file": "a.ndjson",
}  # fmt: skip
OURS = frozenset({"authorization", "user-agent"})
"""Headers that the client keeps as they are: it is signed in."""
Json = dict[str, Any]


@pytest.fixture(scope="module")
def document(platform: Platform) -> Json:
    found: Json = platform.anonymous().get("/openapi.json").json()
    return found


def fhir_paths(document: Json) -> Json:
    return {path: item for path, item in document["paths"].items() if path.startswith("/fhir")}


def test_what_is_described_answers_and_what_answers_is_described(platform: Platform, document: Json) -> None:
    client = platform.anonymous()
    described = fhir_paths(document)
    for path, item in described.items():
        address = re.sub(r"\{(\w+)\}", lambda found: SAMPLES[found[1]], path)
        methods = {name.upper() for name in item} & {"GET", "POST", "PUT", "PATCH", "DELETE"}
        allowed = set(client.options(address).headers["allow"].split(", "))
        assert allowed - {"HEAD", "OPTIONS"} == methods, path
    assert {address_of(shape) for shape in registered()} <= set(described)
    assert len(described) >= 30


def test_the_cold_routes_are_in_it_too(document: Json) -> None:
    assert {"/health/live", "/health/ready", "/metrics"} <= set(document["paths"])
    assert document["info"]["title"].startswith("Kanglian")


def test_identifiers_are_unique_and_references_lead_somewhere(document: Json) -> None:
    identifiers = [
        operation["operationId"]
        for item in fhir_paths(document).values()
        for operation in item.values()
        if isinstance(operation, dict) and "operationId" in operation
    ]
    assert len(identifiers) == len(set(identifiers))
    for name in re.findall(r'"#/components/schemas/(\w+)"', str(document).replace("'", '"')):
        assert name in document["components"]["schemas"], name


def test_no_request_meets_a_5xx(platform: Platform, document: Json) -> None:
    schema = schemathesis.openapi.from_dict({**document, "paths": fhir_paths(document)})
    operations = [found.ok() for found in schema.get_all_operations()]
    client = platform.client(client="loader")
    signed_in: list[bool] = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(operations).flatmap(lambda operation: operation.as_strategy()))
    def ask(case: Any) -> None:
        sent = case.as_transport_kwargs(base_url=platform.base_url)
        headers = {name: value for name, value in sent["headers"].items() if name.lower() not in OURS}
        body = sent.get("data")
        try:
            request = client.build_request(
                sent["method"], sent["url"], params=sent.get("params"), headers=headers, json=sent.get("json"),
                content=body if isinstance(body, bytes | str) else None,
                data=body if isinstance(body, dict) else None,
            )  # fmt: skip
        except (UnicodeError, TypeError, ValueError, httpx.InvalidURL):
            return  # what this client cannot send at all
        answer = client.send(request)
        signed_in.append(answer.status_code != 401)
        assert answer.status_code < 500, (sent["method"], sent["url"], sent.get("params"), answer.text[:300])

    ask()
    assert all(signed_in)
