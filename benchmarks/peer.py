"""Another FHIR server, given by its address, measured by the same requests as the platform.

    PEER=http://127.0.0.1:8182 PEER_PIDS=4711,4712 .venv/bin/python benchmarks/whole_platform.py

`PEER_PIDS` are the roots of its process trees: the server and its database. A peer is asked without a token; what it
refuses is counted and told, since not every server offers every search.
"""

import asyncio
import json
from typing import Any
from urllib.request import urlopen

from server_cpu import ProcessTrees


class Peer:
    """A running server of others."""

    def __init__(self, base: str, pids: list[int]) -> None:
        """Take its address, below which `/fhir` answers, and the roots of its process trees."""
        self.base = base.rstrip("/")
        self._trees = ProcessTrees(*pids)

    def token(self, client: str) -> str:
        """None is asked for."""
        del client
        return ""

    async def resources(self, path: str, token: str) -> list[dict[str, object]]:
        """The resources of one page."""
        del token
        bundle = await asyncio.to_thread(self._get, path)
        return [entry["resource"] for entry in bundle.get("entry", [])]

    def _get(self, path: str) -> dict[str, Any]:
        with urlopen(self.base + path, timeout=300) as answer:
            return dict(json.loads(answer.read()))

    async def ids(self, resource_type: str, token: str, count: int) -> list[str]:
        """Ids of some resources."""
        found = await self.resources(f"/fhir/{resource_type}?_count={count}", token)
        return [str(resource["id"]) for resource in found]

    async def settle(self) -> None:
        """Its statistics are its own matter."""

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far."""
        return self._trees.cpu_s()

    def parts_cpu_s(self) -> dict[str, float]:
        """Of its processes together."""
        return {"peer": self.cpu_s()}

    def memory_bytes(self) -> int:
        """Memory of all its processes."""
        return self._trees.memory_bytes()
