"""Requests made to hurt: a clear 4xx in bounded time, and the next caller is served."""

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest

from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}
LONGEST_S = 2.0


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    return platform.client(client="loader")


@pytest.fixture(autouse=True)
def others_are_served_quickly(platform: Platform) -> Iterator[None]:
    yield
    started = time.perf_counter()
    assert platform.anonymous().get("/health/live").status_code == 200
    assert time.perf_counter() - started < LONGEST_S


def raw(platform: Platform, data: bytes, *, wait_s: float = 5) -> bytes:
    """Send bytes as they are and give what comes back until the server closes or is silent."""
    address = urlsplit(platform.base_url)
    with socket.create_connection((address.hostname, address.port), timeout=wait_s) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        received = b""
        try:
            while piece := connection.recv(65_536):
                received += piece
                if b"\r\n\r\n" in received and len(piece) < 65_536:
                    break
        except (TimeoutError, ConnectionResetError):
            pass
    return received


BODIES = {
    "empty": b"",
    "text": b"hello",
    "cut": b'{"resourceType":"Patient"',
    "array": b"[]",
    "null": b"null",
    "deep arrays": b'{"resourceType":"Patient","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "duplicate key": b'{"resourceType":"Patient","active":true,"active":false}',
    "duplicate deep key": b'{"resourceType":"Patient","name":[{"family":"a","family":"b"}]}',
    "NaN": b'{"resourceType":"Patient","multipleBirthInteger":NaN}',
    "Infinity": b'{"resourceType":"Patient","multipleBirthInteger":Infinity}',
    "exponent": b'{"resourceType":"Observation","status":"final","valueQuantity":{"value":1e999999999}}',
    "long number": b'{"resourceType":"Patient","multipleBirthInteger":' + b"9" * 100_000 + b"}",
    "lone surrogate": b'{"resourceType":"Patient","name":[{"family":"\\ud800"}]}',
    "lone surrogate key": b'{"resourceType":"Patient","\\udfff":1}',
    "nul": b'{"resourceType":"Patient","name":[{"family":"a\\u0000b"}]}',
    "not UTF-8": b'{"resourceType":"Patient","name":[{"family":"\xff\xfe"}]}',
    "UTF-16": '{"resourceType":"Patient"}'.encode("utf-16"),
    "mark": b'\xef\xbb\xbf{"resourceType":"Patient","nonsense":1}',
    "xml": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><Patient>&b;</Patient>',
    "other type": b'{"resourceType":"Observation"}',
    "type no text": b'{"resourceType":["Patient"]}',
    "no type": b'{"active":true}',
    "script": b'{"resourceType":"Patient","text":{"status":"generated","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\"><script>alert(1)</script></div>"}}',
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("address", ["/fhir/Patient", "/fhir"])
def test_bodies(loader: httpx.Client, name: str, address: str) -> None:
    started = time.perf_counter()
    answer = loader.post(address, content=BODIES[name], headers=FHIR)
    assert time.perf_counter() - started < LONGEST_S
    assert answer.status_code in {400, 422}, (answer.status_code, answer.text[:300])
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert len(answer.content) < 100_000


def test_a_body_over_the_bound(platform: Platform, loader: httpx.Client) -> None:
    token = loader.headers["authorization"]
    head = (
        f"POST /fhir/Patient HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\ncontent-type: application/fhir+json\r\n"
    )
    answer = raw(platform, head.encode() + b"content-length: 100000000\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 413")
    for length in (b"99999999999999999999999", b"-1", b"1e3", b"0x10"):
        answer = raw(platform, head.encode() + b"content-length: " + length + b"\r\n\r\n{", wait_s=2)
        assert re.match(rb"HTTP/1.1 4\d\d", answer), (length, answer[:60])


def test_an_endless_chunked_body_ends_at_the_bound(platform: Platform, loader: httpx.Client) -> None:
    head = (
        f"POST /fhir/Patient HTTP/1.1\r\nhost: x\r\nauthorization: {loader.headers['authorization']}\r\n"
        "content-type: application/fhir+json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    address = urlsplit(platform.base_url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(head.encode())
        received = b""
        try:
            for _ in range(80):
                connection.sendall(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            received = connection.recv(100)
        except ConnectionResetError:
            received = b"HTTP/1.1 413"
    assert received.startswith(b"HTTP/1.1 413")


QUERIES = [
    "name=%",
    "name=%z1",
    "name=%ff",
    "name=%00",
    "name=a%00b",
    "%00=1",
    "name=%ed%a0%80",
    "_count=-1",
    "_count=1e9",
    "_count=99999999999999999999",
    "_sort=" + "name," * 1000,
    "_include=" + "x" * 5000,
    "_include=*:*:*",
    "_revinclude=Patient:Patient",
    "name:contains=" + "x" * 10_000,
    "birthdate=0000-00-00",
    "birthdate=2020-02-30",
    "birthdate=ge" + "9" * 200,
    "birthdate=10000-01-01",
    "_lastUpdated=x",
    "identifier=" + "|" * 1000,
    "nonsense=' or 1=1 --",
    "name:nonsense=1",
    "_has:x",
    "_has:Observation:patient",
    "_has:" * 50 + "x=1",
    "general-practitioner.general-practitioner.organization.partof.partof.name=x",
    "organization:Nonsense.name=x",
    "_elements=;drop table resource",
    "_page=x",
    "_page=" + "A" * 5000,
    "_id=" + ",".join(f"a{n}" for n in range(1001)),
    "&".join(f"name=a{n}" for n in range(1500)),
    "&".join(f"name=a{n}" for n in range(200)),
    "name=" + "x" * 20_000,
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query[:40])
def test_queries(loader: httpx.Client, query: str) -> None:
    started = time.perf_counter()
    answer = loader.get(f"/fhir/Patient?{query}")
    assert time.perf_counter() - started < LONGEST_S
    assert answer.status_code in {400, 410, 414, 431}, (answer.status_code, answer.text[:300])
    assert answer.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize(
    "query",
    [
        "_id=" + ",".join(f"a{n}" for n in range(1000)),
        "identifier=" + ",".join(f"s|{n}" for n in range(1000)),
        "name=');drop table resource;--",
        "name=%25%5F%5C",
        "name:contains=((((a%2B)%2B)%2B)%2B)$",
        "_count=1000000",
        "name=%F0%9F%98%80",
        "&&&name=x&&",
        "birthdate=ge0001-01-01",
        "birthdate=le9999-12-31",
    ],
    ids=lambda query: query[:40],
)
def test_odd_queries_are_answered(loader: httpx.Client, query: str) -> None:
    started = time.perf_counter()
    answer = loader.get(f"/fhir/Patient?{query}")
    assert answer.status_code == 200, answer.text[:300]
    assert time.perf_counter() - started < LONGEST_S


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\x01\x02\x03\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /fhir/metadata HTTP/9.9\r\n\r\n", 400),
        (b"NONSENSE /fhir/metadata HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /fhir/Patient/\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET http:///// HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /fhir/Patient HTTP/1.1\r\nhost: x\r\na: b\x00c\r\n\r\n", 400),
        (b"GET /fhir/Patient HTTP/1.1\r\nhost: x\r\n: b\r\n\r\n", 400),
        (b"GET /fhir/" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414),
        (b"GET /fhir/metadata HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /fhir/metadata HTTP/1.1\r\nhost: x\r\n" + b"x: a\r\n" * 200 + b"\r\n", 431),
        (b"POST /fhir HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /fhir HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", 400),
        (b"GET /fhir/Patient HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n", 401),
        (b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /fhir/../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n", 401),
    ],
    ids=lambda value: repr(value[:48]) if isinstance(value, bytes) else str(value),
)
def test_bytes_that_are_no_good_request(platform: Platform, data: bytes, status: int) -> None:
    answer = raw(platform, data, wait_s=3)
    assert answer.startswith(b"HTTP/1.1 %d" % status), answer[:200]


def test_a_head_that_never_ends_takes_no_memory(platform: Platform) -> None:
    started = time.perf_counter()
    answer = raw(platform, b"GET /fhir/metadata HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 5_000_000, wait_s=10)
    assert time.perf_counter() - started < LONGEST_S
    assert answer.startswith(b"HTTP/1.1 431") or answer == b""


@pytest.mark.parametrize("value", ["x%0d%0aset-cookie:%20a=b", "%0d%0a%0d%0a<html>", "%E2%80%A8"])
def test_nothing_asked_becomes_a_header(loader: httpx.Client, value: str) -> None:
    for path in (f"/fhir/Patient/{value}", f"/fhir/Patient?_id={value}", f"/fhir/{value}", f"/fhir/Patient?{value}=1"):
        answer = loader.get(path)
        assert "set-cookie" not in answer.headers
        assert answer.status_code in {200, 400, 404}
        assert answer.headers["content-type"].startswith("application/fhir+json")


def test_odd_request_ids_are_replaced(loader: httpx.Client) -> None:
    for given in ("x" * 65, "a b", "é"):
        answer = loader.get("/fhir/Patient/absent", headers={"x-request-id": given.encode("latin-1")})
        assert answer.headers["x-request-id"] != given
        assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", answer.headers["x-request-id"])
    assert loader.get("/fhir/Patient/absent", headers={"x-request-id": "good-1"}).headers["x-request-id"] == "good-1"


def test_pipelined_and_cut_connections(platform: Platform) -> None:
    twice = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n" * 2
    assert raw(platform, twice).count(b"HTTP/1.1 200") >= 1
    address = urlsplit(platform.base_url)
    for _ in range(50):
        with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
            connection.sendall(b"POST /fhir HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")


def test_many_connections_at_once(platform: Platform) -> None:
    address = urlsplit(platform.base_url)
    held = [socket.create_connection((address.hostname, address.port), timeout=5) for _ in range(300)]
    try:
        for connection in held:
            connection.sendall(b"GET /fhir/meta")
        assert platform.anonymous().get("/health/live").status_code == 200
    finally:
        for connection in held:
            connection.close()


def test_no_answer_or_log_line_quotes_a_value(
    loader: httpx.Client, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    canary = "canary-value-7f3a"
    bodies = [
        {"resourceType": "Patient", "gender": "x", "name": [{"family": canary}]},
        {"resourceType": "Patient", "name": [{"family": canary, "nonsense": canary}]},
        {"resourceType": "Patient", "name": canary},
        {"resourceType": "Patient", "birthDate": "1", "address": [{"city": canary}]},
    ]
    for body in bodies:
        answer = loader.post("/fhir/Patient", json=body, headers=FHIR)
        assert answer.status_code == 422
        assert canary not in answer.text, answer.text
    loader.post("/fhir/Patient", content=json.dumps(bodies[0])[:-3], headers=FHIR)
    captured = capsys.readouterr()
    assert canary not in captured.out + captured.err + caplog.text
