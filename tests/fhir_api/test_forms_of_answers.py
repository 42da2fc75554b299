"""Codings, OPTIONS, other origins, indentation: the forms around an answer, over a real socket."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import zstandard

from ehr.errors import Malformed
from fhir_api.content_coding import chosen, opened
from fhir_api.cross_origin import CrossOrigin
from fhir_api.operation_outcome import TooLarge
from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstandard.compress}
OPEN: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "zstd": zstandard.decompress}


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    return platform.client(client="loader")


def wide(identity: str, size: int = 3_000) -> dict[str, Any]:
    return {"resourceType": "Basic", "id": identity, "code": {"text": "x" * size}}


def raw(client: httpx.Client, address: str, **headers: str) -> tuple[httpx.Headers, bytes]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    with client.stream("GET", address, headers=given) as answer:
        return answer.headers, b"".join(answer.iter_raw())


@pytest.mark.parametrize(
    ("asked", "coding"),
    [
        ("gzip", "gzip"), ("zstd", "zstd"), ("gzip, deflate, br, zstd", "zstd"), ("gzip;q=1, zstd;q=0.5", "gzip"),
        ("identity", None), ("br", None), ("gzip;q=0", None), ("*", "zstd"), ("*;q=0", None),
        ("identity;q=1, gzip;q=0.5", None), ("gzip;q=x", None), ("", None),
    ],
)  # fmt: skip
def test_answers_come_in_the_coding_asked_for(loader: httpx.Client, asked: str, coding: str | None) -> None:
    loader.put("/fhir/Basic/wide", json=wide("wide"), headers=FHIR)
    headers, body = raw(loader, "/fhir/Basic/wide", accept_encoding=asked)
    assert headers.get("content-encoding") == coding
    assert (headers["vary"], int(headers["content-length"])) == ("accept-encoding", len(body))
    plain = body if coding is None else OPEN[coding](body)
    assert plain == raw(loader, "/fhir/Basic/wide", accept_encoding="identity")[1]
    assert (len(body) < 500) is (coding is not None)
    assert chosen(asked.encode()) == coding


def test_small_answers_stay_as_they_are(loader: httpx.Client) -> None:
    headers, _ = raw(loader, "/fhir/Basic/absent", accept_encoding="gzip")
    assert "content-encoding" not in headers
    assert "content-encoding" in raw(loader, "/fhir/metadata", accept_encoding="gzip")[0]


def test_head_tells_what_get_would(loader: httpx.Client) -> None:
    loader.put("/fhir/Basic/headed", json=wide("headed"), headers=FHIR)
    for address in ("/fhir/Basic/headed", "/fhir/Basic?_id=headed", "/fhir/Basic/headed/_history/1", "/fhir/metadata"):
        got, head = loader.get(address), loader.head(address)
        for headers in (got.headers, head.headers):
            headers.pop("x-request-id"), headers.pop("date")
        assert (head.status_code, head.content, dict(head.headers)) == (200, b"", dict(got.headers)), address


@pytest.mark.parametrize("coding", ["gzip", "zstd", "x-gzip", "GZIP", "identity, zstd"])
def test_bodies_are_opened(loader: httpx.Client, coding: str) -> None:
    body = json.dumps(wide("sent")).encode()
    pack = PACK["gzip" if "zip" in coding.lower() else "zstd"]
    headers = FHIR | {"content-encoding": coding}
    assert loader.put("/fhir/Basic/sent", content=pack(body), headers=headers).status_code in {200, 201}
    twice = pack(body[:100]) + pack(body[100:])
    assert loader.put("/fhir/Basic/sent", content=twice, headers=headers).status_code == 200
    assert loader.get("/fhir/Basic/sent").json()["code"]["text"] == "x" * 3_000


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zstd, gzip", "compress", "nonsense"])
def test_other_codings_are_refused_with_those_that_are_taken(loader: httpx.Client, coding: str) -> None:
    answer = loader.put("/fhir/Basic/no", content=b"x", headers=FHIR | {"content-encoding": coding})
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip, zstd")
    assert loader.get("/fhir/Basic/no").status_code == 404


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_bodies_that_do_not_open_are_400(loader: httpx.Client, coding: str) -> None:
    packed = PACK[coding](json.dumps(wide("broken")).encode())
    for body in (packed[:-1], packed[:9], packed + b"x", b"x" * 40, b"", packed[:20] + b"\xff" + packed[21:]):
        answer = loader.put("/fhir/Basic/broken", content=body, headers=FHIR | {"content-encoding": coding})
        assert answer.status_code == 400, answer.text
    assert loader.get("/fhir/Basic/broken").status_code == 404


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_what_opens_to_too_much_is_refused(loader: httpx.Client, coding: str) -> None:
    bomb = gzip.compress(bytes(66 << 20), 1) if coding == "gzip" else zstandard.compress(bytes(66 << 20), 1)
    answer = loader.put("/fhir/Basic/bomb", content=bomb, headers=FHIR | {"content-encoding": coding})
    assert answer.status_code == 413


def test_the_bound_holds_while_opening() -> None:
    many = gzip.compress(b"") * 5_000
    with pytest.raises(Malformed):
        asyncio.run(opened(many, ("gzip",), 1 << 20))
    wide_window = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=27)
    ).compressobj()
    text = wide_window.compress(bytes(100)) + wide_window.flush()
    with pytest.raises(Malformed):
        asyncio.run(opened(text, ("zstd",), 1 << 20))
    with pytest.raises(TooLarge):
        asyncio.run(opened(zlib.compress(bytes(2 << 20), wbits=31), ("gzip",), 1 << 20))


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/fhir", "OPTIONS, POST"),
        ("/fhir/Patient", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("/fhir/Patient/absent", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/fhir/Patient/_search", "OPTIONS, POST"),
        ("/fhir/AuditEvent/1", "GET, HEAD, OPTIONS"),
        ("/fhir/_history", "GET, HEAD, OPTIONS"),
        ("/fhir/metadata", "GET, HEAD, OPTIONS"),
        ("/fhir/Nonsense", None),
    ],
)
def test_options(platform: Platform, path: str, allowed: str | None) -> None:
    answer = platform.anonymous().options(path)
    assert (answer.status_code, answer.headers.get("allow")) == (204 if allowed else 404, allowed)


def test_refused_patches_name_the_forms_that_are_taken(loader: httpx.Client) -> None:
    for kind in ("application/merge-patch+json", "text/plain"):
        answer = loader.patch("/fhir/Basic/wide", content=b"{}", headers={"content-type": kind})
        assert (answer.status_code, "application/json-patch+json" in answer.headers["accept-patch"]) == (415, True)


def test_indentation_of_errors_and_forms(loader: httpx.Client) -> None:
    assert loader.get("/fhir/Basic/absent?_pretty=true").text.startswith("{\n")
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert loader.post("/fhir/Basic/_search", content="_pretty=true", headers=form).text.startswith("{\n")
    for body, status in (("_format=xml", 406), ("_pretty=x", 400), ("_format=json", 200)):
        assert loader.post("/fhir/Basic/_search", content=body, headers=form).status_code == status


@pytest.mark.parametrize(
    ("configured", "origin", "shown"),
    [
        ("https://app.example.cn", "https://app.example.cn", "https://app.example.cn"),
        ("https://app.example.cn", "https://evil.example.cn", None),
        ("https://app.example.cn", "https://app.example.cn.evil.cn", None),
        ("https://app.example.cn", "null", None),
        ("*", "https://anything.example", "*"),
    ],
)
def test_other_origins(configured: str, origin: str, shown: str | None) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        assert scope["method"] != "OPTIONS" or shown is None, "a preflight goes no further"
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(method: str, path: str = "/fhir/Patient") -> httpx.Response:
        door = CrossOrigin(app, frozenset({configured}))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=door), base_url="http://x") as client:
            headers = {"origin": origin, "access-control-request-method": "PUT"}
            return await client.request(method, path, headers=headers)

    preflight, answer = asyncio.run(ask("OPTIONS")), asyncio.run(ask("GET"))
    for each in (preflight, answer):
        assert each.headers.get("access-control-allow-origin") == shown
        assert "access-control-allow-credentials" not in each.headers
        assert each.headers.get("vary") == (None if configured == "*" else "origin")
    assert ("PUT" in preflight.headers.get("access-control-allow-methods", "")) is (shown is not None)
    assert ("etag" in answer.headers.get("access-control-expose-headers", "")) is (shown is not None)
    assert "access-control-allow-origin" not in asyncio.run(ask("GET", "/auth/authorize")).headers


def test_without_the_setting_no_origin_is_let_in(platform: Platform) -> None:
    origin = {"origin": "https://app.example.cn", "access-control-request-method": "GET"}
    answer = platform.anonymous().options("/fhir/Patient", headers=origin)
    assert not [name for name in answer.headers if name.startswith("access-control")]
