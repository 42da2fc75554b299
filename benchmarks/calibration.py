"""How fast the machine is: answers of a raw ASGI application without database, per CPU second of its process.

The design's budgets stand beside 13,700 such answers, without a word on the event loop and the HTTP parser. They differ
by a factor of five on one machine, so each pair is measured; `library_speed.py` compares machines by libraries whose
figures the design cites too.

    python benchmarks/calibration.py
"""

import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
from dataclasses import dataclass

from load_client import Request, run
from server_cpu import ProcessTrees

BUDGETS_WERE_SET_AT = 13_700
_LEAST_CPU_S = 1.0
_APPLICATION = """
import sys, uvicorn
BODY = b'{"resourceType":"Basic"}' * 20
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    headers = [(b"content-type", b"application/fhir+json"), (b"content-length", str(len(BODY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})
port, loop, http, log = sys.argv[1:]
quiet = {} if log == "log" else {"access_log": False, "log_level": "error", "lifespan": "off"}
uvicorn.run(app, host="127.0.0.1", port=int(port), loop=loop, http=http, **quiet)
"""


@dataclass(frozen=True, slots=True)
class Server:
    """How uvicorn is told to serve."""

    loop: str
    http: str
    log: str = "quiet"

    @property
    def name(self) -> str:
        """Loop, parser, and whether each request is logged, as uvicorn does unless told otherwise."""
        return f"{self.loop}, {self.http}" + (", access log" if self.log == "log" else "")


AS_THE_PLATFORM = Server("uvloop", "httptools")
OTHERS = (
    Server("asyncio", "httptools"),
    Server("uvloop", "httptools", "log"),
    Server("asyncio", "h11"),
    Server("asyncio", "h11", "log"),
)


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def calibrate(server: Server = AS_THE_PLATFORM, rounds: int = 3, clients: int = 16) -> list[float]:
    """Answers per CPU second of the raw application, of each round; a round is a second of CPU (a tick is 10 ms)."""
    port = free_port()
    command = [sys.executable, "-c", _APPLICATION, str(port), server.loop, server.http, server.log]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                await run(base, None, [Request("GET", "/")], 1)
                break
            except OSError:
                await asyncio.sleep(0.1)
        trees = ProcessTrees(process.pid)
        await run(base, None, [Request("GET", "/")] * 2000, clients)
        return [await _round(trees, base, clients) for _ in range(rounds)]
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(10)


async def _round(trees: ProcessTrees, base: str, clients: int) -> float:
    answers, spent, before = 0, 0.0, trees.cpu_s()
    while spent < _LEAST_CPU_S:
        await run(base, None, [Request("GET", "/")] * 4000, clients)
        answers += 4000
        spent = trees.cpu_s() - before
    return answers / spent


async def calibrations() -> dict[str, list[float]]:
    """All pairs, the platform's own first."""
    found = {AS_THE_PLATFORM.name: await calibrate(AS_THE_PLATFORM)}
    for server in OTHERS:
        found[server.name] = await calibrate(server, rounds=1)
    return found


if __name__ == "__main__":
    for named, figures in asyncio.run(calibrations()).items():
        print(f"{named:32} {statistics.median(figures):10,.0f} answers a CPU second")
