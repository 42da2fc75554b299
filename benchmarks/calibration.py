"""The limit: answers of a raw ASGI application without database, per CPU second of its process."""

import asyncio
import os
import signal
import socket
import subprocess
import sys

from load_client import Request, run
from server_cpu import ProcessTrees

_APPLICATION = """
import sys, uvicorn
BODY = b'{"resourceType":"Basic"}' * 20
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    headers = [(b"content-type", b"application/fhir+json"), (b"content-length", str(len(BODY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False,
    log_level="error", lifespan="off")
"""


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def calibrate(requests: int = 12_000, clients: int = 16) -> float:
    """Answers per CPU second of the raw application."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _APPLICATION, str(port)])
    try:
        for _ in range(100):
            try:
                await run(f"http://127.0.0.1:{port}", None, [Request("GET", "/")], 1)
                break
            except OSError:
                await asyncio.sleep(0.1)
        trees = ProcessTrees(process.pid)
        await run(f"http://127.0.0.1:{port}", None, [Request("GET", "/")] * 2000, clients)
        before = trees.cpu_s()
        await run(f"http://127.0.0.1:{port}", None, [Request("GET", "/")] * requests, clients)
        return requests / (trees.cpu_s() - before)
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(10)


if __name__ == "__main__":
    print(f"{asyncio.run(calibrate()):,.0f} answers a CPU second")
