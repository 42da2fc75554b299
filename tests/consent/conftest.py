"""A region on a fresh database for each module that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from consent import Consent
from ehr.store import Store, migrate
from tests.consent.house import LOADER, House


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Three hospitals and no people."""
    await migrate(database_url)
    decisions = Consent("cn-county")
    keys: Path = tmp_path_factory.mktemp("keys") / "index.key"
    store = await Store.open(database_url, keys_path=keys, projections=decisions.projections())
    await decisions.open(store)
    house = House(store, decisions)
    names = ("first-hospital", "county-hospital", "township-clinic")
    await house.put(LOADER, *({"resourceType": "Organization", "id": name, "name": name} for name in names))
    yield house
    await store.close()
