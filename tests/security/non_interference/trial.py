"""One trial: regions of some seeds on two databases, each caller's requests compared; for the test and the script."""

import os
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from fhir_api.issuer import Issuer
from tests.security.non_interference.comparison import Interference, Session
from tests.security.non_interference.oracle import Oracle
from tests.security.non_interference.platforms import BASE_URL, Pair, Platform, broad
from tests.security.non_interference.questions import Questions
from tests.security.non_interference.region import Region
from tests.security.non_interference.views import callers, views_of

PRESETS = ("cn-county", "cn-county", "cn-county", "cn-strict")
A_SESSION = 8


@asynccontextmanager
async def databases(server_url: str) -> AsyncIterator[tuple[str, str]]:
    """Two fresh databases on a server, dropped at the end."""
    names = [f"test_{uuid.uuid4().hex[:12]}" for _ in range(2)]
    base, _, query = server_url.partition("?")
    server = await asyncpg.connect(server_url)
    try:
        for name in names:
            await server.execute(f'create database "{name}"')
        yield tuple(f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "") for name in names)  # type: ignore[misc]
    finally:
        for name in names:
            await server.execute(f'drop database if exists "{name}" with (force)')
        await server.close()


@asynccontextmanager
async def platforms(server_url: str, keys: Path, preset: str) -> AsyncIterator[Pair]:
    """The full store and the copy, of one preset."""
    issuer = Issuer.open(keys, BASE_URL, embedded_default=True)
    async with databases(server_url) as urls:
        full = await Platform.open(urls[0], keys, issuer, preset=preset)
        copy = await Platform.open(urls[1], keys, issuer, preset=preset)
        pair = Pair(full, copy, issuer)
        try:
            with pair.deciding():
                yield pair
        finally:
            await full.close()
            await copy.close()


class Trial:
    """Counts what was compared."""

    def __init__(self, pair: Pair, preset: str) -> None:
        """Take both platforms."""
        self.pair = pair
        self.preset = preset
        self.asked = 0

    async def region(self, seed: int, requests: int) -> None:
        """Compare about so many requests on the region of one seed.

        Raises:
            Interference: a hidden row was noticed, or a row is seen that the oracle hides, or the other way round.
        """
        region, oracle = Region(seed), Oracle(self.preset)
        await self.pair.fill(region.steps, seed, oracle, stamped=seed % 6 == 2)
        if seed % 2:
            await self.pair.full.admin.execute("analyze resource")
        questions = Questions(oracle)
        groups = [group for who in callers(region) for group in views_of(who, oracle)]
        random.Random(seed).shuffle(groups)  # noqa: S311 - test data
        until = self.asked + requests
        with broad(always=seed % 3 == 2):
            try:
                for place, views in enumerate(groups):
                    session = Session(self.pair, oracle, questions, views, seed * 1_000 + place)
                    await session.run(min(A_SESSION, until - self.asked))
                    self.asked += session.asked
                    if self.asked >= until:
                        return
            except Interference as found:
                raise Interference(f"KANGLIAN_TEST_SEED={seed} KANGLIAN_TEST_PRESET={self.preset}\n{found}") from None


def wanted(default: int) -> tuple[int, int, str | None]:
    """(first seed, number of requests, preset or None for all) by the environment of the test run."""
    seed = int(os.environ.get("KANGLIAN_TEST_SEED", "1"))
    number = 20 * default if os.environ.get("KANGLIAN_TEST_ALL") else default
    return seed, int(os.environ.get("KANGLIAN_TEST_REQUESTS", number)), os.environ.get("KANGLIAN_TEST_PRESET")
