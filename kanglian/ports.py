"""Listening sockets, taken before anything else starts, and who holds one that is taken."""

import errno
import socket
import time

import psutil

from ehr.errors import KanglianError

_BACKLOG = 2048


class PortError(KanglianError):
    """A port cannot be listened on; the text says who holds it and which setting chooses another."""

    code = "lock-error"


def listen(host: str, port: int, setting: str, *, patience_s: float = 0.0) -> socket.socket:
    """Open a listening TCP socket.

    Args:
        host: address or name.
        port: TCP port.
        setting: the variable that chooses the port, for the text.
        patience_s: how long to wait for an owner that is ending.

    Raises:
        PortError: the port is taken, or not ours to take.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return _open(host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            raise PortError(_explain(host, port, setting, error)) from error


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
        return f"port {port} on {host} is taken by {holder(port)}; end it, or choose another: {setting}={port + 10}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"this user may not listen on port {port}; choose one above 1023 with {setting}"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine: set KANGLIAN_HOST"
    return f"cannot listen on {host}:{port} ({setting}): {error.strerror}"


def holder(port: int) -> str:
    """Who listens on a TCP port of this machine, in words; of a parent and its forks, the parent."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        connections = []
    pids = (each.pid for each in connections if each.status == psutil.CONN_LISTEN and each.laddr[1:] == (port,))
    pid = next(filter(None, pids), None)
    if pid is None:
        return "another process (of another user, or just ending)"
    try:
        process = psutil.Process(pid)
        while (parent := process.parent()) is not None and parent.cmdline() == process.cmdline():
            process = parent
        command = " ".join(process.cmdline())[:80] or process.name()
        return f"process {process.pid} ({command}, in {process.cwd()})"
    except psutil.Error:
        return f"process {pid}"
