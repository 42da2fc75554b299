"""Fixtures for all tests: one PostgreSQL server a run, a fresh database for each module that asks for one."""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ehr.store.database import statement_listeners
from kanglian.embedded import EmbeddedPostgres
from tests.statements import Examination

_TEMPORARY = "kanglian-test-postgres-"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Address of a server on which databases may be made: KANGLIAN_TEST_DATABASE_URL, else a server for this run.

    The server ends with this process, killed or not; what a killed run left on disk is removed by the next.
    """
    if given := os.environ.get("KANGLIAN_TEST_DATABASE_URL"):
        yield given
        return
    _remove_leftovers()
    data_dir = Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}{os.getpid()}-"))
    data_dir.chmod(0o711)  # as root, PostgreSQL's own user passes through
    server = EmbeddedPostgres(data_dir)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
        shutil.rmtree(data_dir)


def _remove_leftovers() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*"):
        owner = folder.name.removeprefix(_TEMPORARY).partition("-")[0]
        if not Path("/proc", owner).exists():
            with contextlib.suppress(OSError):  # another user's
                shutil.rmtree(folder)


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


_STATEMENTS: set[str] = set()
_EXAMINATION = Examination()


def pytest_configure() -> None:
    """Listen to every connection that the store opens from now on."""
    statement_listeners.append(_STATEMENTS.add)


@pytest.fixture(scope="module", autouse=True)
def _statements_carry_scopes() -> Iterator[None]:
    """Each statement that a module ran on the record carries the predicate of a scope at each clinical alias."""
    yield
    assert not _EXAMINATION.unscoped(_STATEMENTS)


_FIRST = "flow"
"""Tests that start whole platforms take longest: of two processes neither is to begin with them at the end."""
_LAST = "test_kill9.py"
"""Of those the last: many messages come of it, which others would replay."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first; `--dist loadfile` hands out files in this order."""
    items.sort(key=lambda item: (item.path.parent.name != _FIRST, item.path.name == _LAST))
