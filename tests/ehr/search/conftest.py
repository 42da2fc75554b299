"""A searchable record for the tests of this folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ehr.store import Store, migrate


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
    """An empty record."""
    await migrate(database_url)
    keys: Path = tmp_path_factory.mktemp("keys") / "index.key"
    opened = await Store.open(database_url, keys_path=keys)
    yield opened
    await opened.close()
