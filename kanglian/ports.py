"""Listening sockets, taken before anything else starts, and who holds one that is taken."""

import contextlib
import errno
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from ehr.errors import KanglianError

_BACKLOG = 2048
_MOMENT_S = 1.5
"""The children of a killed platform end within this time of it, and one that was told to end has said so by then."""
_ENDING = "kl-ending"
"""Name of a platform's process, as ps shows it, from the moment when it ends."""


class PortError(KanglianError):
    """A port cannot be listened on; the text says who holds it and which setting chooses another."""

    code = "lock-error"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who listens on a port."""

    words: str
    ending: bool
    """It is a platform that ends, or nobody can be seen: a process of another user, or one that is just going."""


def listen(
    host: str, port: int, setting: str, *, patience_s: float = 0.0, say: Callable[[str], None] = lambda _: None
) -> socket.socket:
    """Open a listening TCP socket.

    Args:
        host: address or name.
        port: TCP port.
        setting: the variable that chooses the port, for the text.
        patience_s: how long to wait for an owner that is ending; one that stays is told after a moment.
        say: takes the line about whom it waits for.

    Raises:
        PortError: the port is taken, or not ours to take.
    """
    started = time.monotonic()
    told = False
    while True:
        try:
            return _open(host, port)
        except OSError as error:
            waited_s = time.monotonic() - started
            if error.errno != errno.EADDRINUSE or waited_s > patience_s:
                raise PortError(_explain(host, port, setting, error)) from error
            if waited_s > _MOMENT_S:
                held = holder(port)
                if not held.ending:
                    raise PortError(_explain(host, port, setting, error)) from error
                if not told:
                    told = True
                    say(f"port {port} is held by {held.words}; waiting for it, up to {patience_s:.0f} s")
            time.sleep(0.1 if waited_s < _MOMENT_S else 0.5)


def _open(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.bind(address)
        opened.listen(_BACKLOG)
    except OSError:
        opened.close()
        raise
    opened.settimeout(0)
    return opened


def _explain(host: str, port: int, setting: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is taken by {holder(port).words}; end it, or choose another: {setting}={port + 10}"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"this user may not listen on port {port}; choose one above 1023 with {setting}"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine: set KANGLIAN_HOST"
    return f"cannot listen on {host}:{port} ({setting}): {error.strerror}"


def holder(port: int) -> Holder:
    """Who listens on a TCP port of this machine; of a parent and its forks, the parent."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        connections = []
    pids = (each.pid for each in connections if each.status == psutil.CONN_LISTEN and each.laddr[1:] == (port,))
    pid = next(filter(None, pids), None)
    if pid is None:
        return Holder("another process (of another user, or just ending)", ending=True)
    try:
        process = psutil.Process(pid)
        while (parent := process.parent()) is not None and parent.cmdline() == process.cmdline():
            process = parent
        command = " ".join(process.cmdline())[:80] or process.name()
        words, name = f"process {process.pid} ({command}, in {process.cwd()})", process.name()
    except psutil.Error:
        return Holder(f"process {pid}", ending=not psutil.pid_exists(pid))
    return Holder(f"{words}, which is ending", ending=True) if name == _ENDING else Holder(words, ending=False)


def show_ending() -> None:
    """Let ps, and a start that wants the same port, see that this platform ends."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(_ENDING)
