"""An open store on a fresh database."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ehr.store import Store, migrate
from tests.ehr.store.record_fixtures import AboutNamedPatient, IdentifierTerms, match_identifier, require_gender


@pytest.fixture(scope="module")
def projection() -> AboutNamedPatient:
    return AboutNamedPatient()


@pytest_asyncio.fixture(scope="module")
async def store(
    database_url: str, projection: AboutNamedPatient, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Store]:
    await migrate(database_url)
    opened = await Store.open(
        database_url,
        keys_path=Path(tmp_path_factory.mktemp("keys")) / "index.key",
        projections=[projection],
        extractor=IdentifierTerms(),
        check=require_gender,
        matching_keys=match_identifier,
    )
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def connection(database_url: str, store: Store) -> AsyncIterator[asyncpg.Connection]:  # noqa: ARG001 - a migrated database
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()
