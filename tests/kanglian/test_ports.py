import os
import socket
import subprocess
import sys
import time

import pytest

from kanglian.ports import PortError, listen

_HOLDER = """
import socket, sys, time
from kanglian.ports import show_ending
taken = socket.create_server(("127.0.0.1", 0))
print(taken.getsockname()[1], flush=True)
if sys.argv[1] == "ending":
    show_ending()
time.sleep(float(sys.argv[2]))
"""


def _held(state: str, for_s: float) -> tuple[subprocess.Popen[str], int]:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, state, f"{for_s}"], stdout=subprocess.PIPE, text=True, cwd="/"
    )
    assert holder.stdout is not None
    return holder, int(holder.stdout.readline())


def test_an_ending_platform_is_waited_for() -> None:
    holder, port = _held("ending", 5)
    said: list[str] = []
    with listen("127.0.0.1", port, "KANGLIAN_PORT", patience_s=30, say=said.append):
        assert holder.communicate(timeout=20) == ("", None)
    (line,) = said
    assert line.startswith(f"port {port} is held by process {holder.pid} (")
    assert line.endswith("which is ending; waiting for it, up to 30 s")


def test_one_that_does_not_end_is_told_when_the_patience_is_over_and_one_that_runs_at_once() -> None:
    for state, patience_s in (("ending", 2.0), ("running", 30.0)):
        holder, port = _held(state, 600)
        started = time.monotonic()
        with pytest.raises(PortError, match=f"is taken by process {holder.pid}"):
            listen("127.0.0.1", port, "KANGLIAN_PORT", patience_s=patience_s)
        assert time.monotonic() - started < 10
        holder.kill()
        holder.communicate()


def test_a_taken_port_names_its_holder_and_the_setting() -> None:
    with listen("127.0.0.1", 0, "KANGLIAN_PORT") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortError) as refused:
            listen("127.0.0.1", port, "KANGLIAN_PORT")
    assert f"process {os.getpid()}" in str(refused.value)
    assert "KANGLIAN_PORT=" in str(refused.value)


def test_a_port_is_free_again_while_old_connections_close() -> None:
    with listen("127.0.0.1", 0, "KANGLIAN_PORT") as first:
        port = first.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        first.setblocking(True)  # noqa: FBT003 - the standard library's signature
        server, _ = first.accept()
        server.close()
    client.close()
    listen("127.0.0.1", port, "KANGLIAN_PORT").close()


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(PortError, match="KANGLIAN_HOST"):
        listen("192.0.2.1", 0, "KANGLIAN_PORT")
