"""kill -9 of each kind of process in mid-stream: what was acknowledged is there once, and all is back by itself."""

import os
import random
import signal
import socket
import time

import psutil
import pytest

from tests.flow.messages import adt
from tests.flow.running import Running, until
from tests.flow.traffic import Traffic, streaming

pytestmark = [pytest.mark.flow, pytest.mark.timeout(2400)]

ROUNDS = 30 if os.environ.get("KANGLIAN_TEST_ALL") else 3
KINDS = (
    ("http-1", "feeds", "jobs", "postgres", "supervisor"),
    ("http-1", "feeds", "jobs", "backend", "analytics"),
)
"""By turns; "backend" is one connection's process of PostgreSQL, whose death resets all others."""
BACK_WITHIN_S = 10.0


def _kill(platform: Running, kind: str) -> float:
    """Kill one process; the instant from which it is to be back by itself."""
    pids = platform.pids()
    if kind == "backend":
        backends = [
            child for child in psutil.Process(pids["postgres"]).children() if "kanglian kanglian" in child.cmdline()[0]
        ]
        backends[0].kill()
        return time.monotonic()
    if kind != "supervisor":
        os.kill(pids[kind], signal.SIGKILL)
        killed = time.monotonic()
        until(lambda: platform.pids().get(kind, pids[kind]) != pids[kind], BACK_WITHIN_S)
        return killed
    platform.end(signal.SIGKILL)
    children = [pid for name, pid in pids.items() if name != "postgres"]
    until(lambda: not any(psutil.pid_exists(pid) for pid in children), BACK_WITHIN_S)
    platform.start()  # its budget of 8 s is measured by benchmarks/start_times.py
    return time.monotonic()


def test_what_was_acknowledged_survives_every_death(platform: Running) -> None:
    chance = random.Random(9)  # noqa: S311 - the same moments each run
    before = platform.last_audit()
    traffic = Traffic(platform)
    platform.take_in(adt(traffic.person, "A01"))
    with streaming(traffic):
        until(lambda: traffic.moves_on_from((0, 0, 0, 0, 0)), 10)
        for number in range(ROUNDS):
            for kind in KINDS[number % len(KINDS)]:
                time.sleep(chance.uniform(0.1, 0.5))
                since = _kill(platform, kind)
                progress = traffic.progress()
                until(lambda progress=progress: traffic.moves_on_from(progress), BACK_WITHIN_S)  # type: ignore[misc]  # bound at once
                head = platform.rows("select min(inbox) as inbox from inbox where state = 'waiting'")[0]["inbox"]
                until(lambda head=head: not _waits(platform, head), BACK_WITHIN_S)  # type: ignore[misc]  # bound at once
                assert time.monotonic() - since < BACK_WITHIN_S, kind
    platform.settled(30)
    traffic.check_feed()
    traffic.check_writes()
    traffic.check_audit(after=before)
    until(lambda: "whole up to seal" in platform.run("audit", "verify").stdout, 10)


def _waits(platform: Running, inbox: int | None) -> bool:
    return bool(platform.rows("select 1 from inbox where state = 'waiting' and inbox = $1", inbox))


def test_a_dead_process_leaves_no_port_behind(platform: Running) -> None:
    for port in (platform.port, platform.mllp_port):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    assert platform.is_ready()
