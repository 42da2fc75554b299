"""Fixtures for all tests: one PostgreSQL server a run, a fresh database for each module that asks for one."""

import os
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """Address of a server on which databases may be made."""
    return os.environ["KANGLIAN_TEST_DATABASE_URL"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database_url(postgres_url: str) -> AsyncIterator[str]:
    """Address of a fresh, empty database, dropped when the module is done."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    server = await asyncpg.connect(postgres_url)
    await server.execute(f'create database "{name}"')
    await server.close()
    base, _, query = postgres_url.partition("?")
    yield f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")
    server = await asyncpg.connect(postgres_url)
    await server.execute(f'drop database "{name}" with (force)')
    await server.close()
