"""Attacks 20 and 25: whatever is sent, an answer in bounded time and memory, nothing fetched, others undisturbed.

Times are CPU seconds of this process, in which the server runs too.
"""

import re
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pytest

from tests.security.attacks.conftest import Twins
from tests.security.attacks.tables import table
from tests.security.attacks.twins import leaked

pytestmark = pytest.mark.database
BODIES, QUERIES = table("20_bodies.yaml"), table("25_queries.yaml")
_REPEATED = re.compile(r"\{(.+?)\*(\d+)\}")
_MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def trap() -> Iterator[socket.socket]:
    """A port of ours to which nobody may connect."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        yield listening


@pytest.fixture(autouse=True)
def others_are_served(twins: Twins) -> Iterator[None]:
    """Somebody else gets an answer after each attack, and the log holds no failure."""
    before = len(twins.lines.texts)
    yield
    assert twins.full.client("dr.li").get("/fhir/Patient/county-hospital.a").status_code == 200
    assert twins.lines.texts[before:] == []


def _body(case: dict[str, Any], trap_address: str) -> bytes:
    unit, times = case.get("unit", ""), case.get("repeat", 0)
    middle = "".join(unit.replace("{n}", str(n)) for n in range(times)) if "{n}" in unit else unit * times
    if "narrative" in case:
        div = case["narrative"] + middle + case.get("then", "")
        div = div.replace("{trap}", trap_address).replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
        return f'{{"resourceType":"Patient","text":{{"status":"generated","div":"{div}"}}}}'.encode()
    end = case.get("after", "") * case.get("times_after", 1) + case.get("last", "")
    return (case.get("before", "").replace("{trap}", trap_address) + middle + end).encode()


@pytest.mark.parametrize("case", BODIES["cases"], ids=lambda case: f"20-{case['name']}")
def test_bodies(twins: Twins, trap: socket.socket, case: dict[str, Any]) -> None:
    body = _body(case, f"http://127.0.0.1:{trap.getsockname()[1]}/x")
    headers = {"content-type": case.get("type", "application/fhir+json")}
    address = f"/fhir/{case.get('address', 'Patient')}".rstrip("/")
    client, memory = twins.full.client("dr.li"), psutil.Process().memory_info().rss
    started = time.process_time()
    answer = client.post(address, content=body, headers=headers)
    spent = time.process_time() - started
    if answer.status_code == 201:
        assert client.delete(answer.headers["location"].partition("/_history")[0]).status_code == 204
    assert answer.status_code in case["status"], (answer.status_code, answer.text[:300])
    assert len(answer.content) < _MEGABYTE or answer.status_code < 300
    assert "root:" not in answer.text
    assert spent < case.get("seconds", BODIES["bounds"]["seconds"])
    assert psutil.Process().memory_info().rss - memory < BODIES["bounds"]["megabytes"] * _MEGABYTE
    with pytest.raises(BlockingIOError):
        trap.accept()


def _database_seconds(twins: Twins) -> float:
    """CPU that the database's processes for the server have used."""
    name = twins.full_database.partition("?")[0].rpartition("/")[2]
    found = 0.0
    for process in psutil.process_iter(["cmdline", "cpu_times"]):
        if name in " ".join(process.info["cmdline"] or ()):
            found += process.info["cpu_times"].user + process.info["cpu_times"].system
    assert found > 0
    return found


def _asked(client: httpx.Client, address: str) -> httpx.Response:
    started = time.process_time()
    answer = client.get(f"/fhir/{address}")
    spent = time.process_time() - started
    assert answer.status_code in {200, 400, 404, 405, 406, 410, 414}, (
        address[:100],
        answer.status_code,
        answer.text[:300],
    )
    assert "set-cookie" not in answer.headers
    assert spent < QUERIES["bounds"]["seconds"], address[:100]
    return answer


@pytest.mark.parametrize("address", QUERIES["cases"], ids=lambda address: f"25-{address[:60]}")
def test_queries(twins: Twins, address: str) -> None:
    whole = _REPEATED.sub(lambda found: found.group(1) * int(found.group(2)), address)
    for who in ("dr.li", "loader"):
        started = _database_seconds(twins)
        answer = _asked(twins.full.client(who), whole)
        assert _database_seconds(twins) - started < QUERIES["bounds"]["seconds"]
        assert who == "loader" or not leaked(answer.text, set())


@pytest.mark.parametrize("name", ["_has:Observation:patient:code", "general-practitioner:Practitioner.name"])
def test_chains_are_counted(twins: Twins, name: str) -> None:
    client = twins.full.client("dr.li")
    assert client.get("/fhir/Patient?" + "&".join([f"{name}=x"] * 20)).status_code == 200
    assert client.get("/fhir/Patient?" + "&".join([f"{name}=x"] * 21)).status_code == 400


@pytest.mark.parametrize("kind", QUERIES["parameters"], ids=lambda kind: f"25-metacharacters in {kind} parameters")
def test_metacharacters(twins: Twins, kind: str) -> None:
    client = twins.full.client("dr.li")
    before = client.get("/fhir/Patient?_summary=count").json()["total"]
    for address in QUERIES["parameters"][kind]:
        for text in (*QUERIES["alone"], ",".join(QUERIES["together"])):
            answer = _asked(client, address + quote(text, safe=""))
            assert not leaked(answer.text, set())
    assert client.get("/fhir/Patient?_summary=count").json()["total"] == before
