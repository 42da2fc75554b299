"""Hostile input at the real doors: a clear refusal in bounded time and memory, others undisturbed meanwhile."""

import base64
import json
import socket
import time
from contextlib import ExitStack

import httpx
import psutil
import pytest

from tests.flow.messages import adt, somebody
from tests.flow.running import Running

pytestmark = pytest.mark.flow
_GROWTH_BYTES = 300 * 1024 * 1024
_ANSWER_S = 5.0


def _memory(platform: Running, name: str) -> int:
    return int(psutil.Process(platform.pids()[name]).memory_info().rss)


def _others_are_served(platform: Running) -> None:
    started = time.monotonic()
    assert b"MSA|AA|" in platform.send(adt(somebody(), "A04"))[0]
    assert platform.client("zhang.wei").get("Patient").status_code == 200
    assert time.monotonic() - started < _ANSWER_S


def test_a_message_of_100_mb_is_refused_in_bounded_memory(platform: Running) -> None:
    before = _memory(platform, "feeds")
    with socket.create_connection(("127.0.0.1", platform.mllp_port), timeout=30) as wire:
        wire.sendall(b"\x0b" + adt(somebody(), "A04"))
        for _ in range(100):
            wire.sendall(b"Z" * (1 << 20))
        _others_are_served(platform)
        wire.sendall(b"\x1c\r")
        assert b"MSA|AR|" in wire.recv(65_536)
    assert _memory(platform, "feeds") - before < _GROWTH_BYTES


def test_a_thousand_connections_and_a_slow_sender_disturb_nobody(platform: Running) -> None:
    sent = b"\x0b" + adt(somebody(), "A04") + b"\x1c\r"
    with ExitStack() as open_wires:
        wires = [
            open_wires.enter_context(socket.create_connection(("127.0.0.1", platform.mllp_port), timeout=10))
            for _ in range(1000)
        ]
        for byte in sent[:3]:
            wires[0].sendall(bytes([byte]))
            time.sleep(1)
        _others_are_served(platform)
        wires[0].sendall(sent[3:])
        assert b"MSA|AA|" in wires[0].recv(65_536)


def test_bytes_that_are_not_in_the_declared_set_get_an_answer(platform: Running) -> None:
    wrong = adt(somebody(), "A04").replace("陈".encode(), b"\xff\xfe\xb3")
    assert b"MSA|A" in platform.send(wrong)[0]
    platform.settled()
    _others_are_served(platform)


BODIES = {
    "deep": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "duplicate": b'{"resourceType":"Patient","active":true,"active":false}',
    "NaN": b'{"resourceType":"Patient","multipleBirthInteger":NaN}',
    "surrogate": b'{"resourceType":"Patient","name":[{"family":"\\ud800"}]}',
}
ADDRESSES = (
    "Patient/..%2f..%2fetc%2fpasswd",
    "Patient/x';drop table resource--",
    "Observation?code=x') or 1=1--",
    "Patient?nonsense'--=1",
    "Patient?_sort=id;drop table resource",
    "Patient?_id=" + ",".join(f"n{number}" for number in range(1000)),
)


@pytest.mark.parametrize("name", BODIES)
def test_hostile_bodies(platform: Running, name: str) -> None:
    started = time.monotonic()
    answer = platform.client("loader").post("Patient", content=BODIES[name])
    assert answer.status_code in {400, 422}
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert time.monotonic() - started < _ANSWER_S


@pytest.mark.parametrize("address", ADDRESSES)
def test_hostile_addresses_find_nothing(platform: Running, address: str) -> None:
    started = time.monotonic()
    answer = platform.client("loader").get(address)
    assert answer.status_code in {400, 404} or (answer.status_code == 200 and not answer.json().get("entry"))
    assert time.monotonic() - started < _ANSWER_S
    _others_are_served(platform)


def test_tokens_with_anything_wrong_get_the_same_401(platform: Running) -> None:
    good = platform.client("loader").headers["authorization"].removeprefix("Bearer ")
    head, claims, signature = good.split(".")
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "at+jwt"}).encode()).rstrip(b"=").decode()
    wrong = [
        *("-", "x", f"{head}.{claims}.", f"{none}.{claims}.", f"{none}.{claims}.{signature}"),
        *(f"{head}.{claims[:-4]}AAAA.{signature}", f"{head}.{claims}.{signature[::-1]}", "a" * 8000),
    ]
    address = f"{platform.base_url}/fhir/Patient"
    answers = [httpx.get(address, headers={"authorization": f"Bearer {token}"}) for token in wrong]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
