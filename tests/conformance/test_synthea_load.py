"""The given Synthea bundles are taken whole: directory first, then all patients, with nothing refused."""

import gzip
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from consent import Consent
from ehr import transaction
from ehr.errors import StaleScope
from ehr.store import Store, migrate
from tests.consent.house import LOADER, NOTE
from tests.search_record import SYNTHEA

pytestmark = [
    pytest.mark.database,
    pytest.mark.skipif(not SYNTHEA.is_dir(), reason="the given data is not there"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def record(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Store, Consent]]:
    await migrate(database_url)
    decisions = Consent("cn-county")
    keys = tmp_path_factory.mktemp("keys") / "index.key"
    store = await Store.open(database_url, keys_path=keys, projections=decisions.projections())
    await decisions.open(store)
    yield store, decisions
    await store.close()


async def test_given_bundles_load_without_a_refusal(record: tuple[Store, Consent]) -> None:
    store, decisions = record
    names = sorted(path.name for path in SYNTHEA.glob("*.json.gz"))
    directory = [name for name in names if name.startswith("0-")]
    patients = [name for name in names if not name.startswith("0-")]
    written = 0
    for name in (*directory, *patients):
        results = await _run(store, decisions, gzip.decompress((SYNTHEA / name).read_bytes()))
        assert [str(result.error) for result in results if result.error] == [], name
        written += len(results)
    counted = await store.pool.fetchval("select count(*) from resource where not deleted")
    assert counted == written


async def _run(store: Store, decisions: Consent, bundle: bytes) -> list[transaction.EntryResult]:
    while True:
        try:
            return await transaction.run(store, await decisions.write_scope(LOADER), bundle, NOTE)
        except StaleScope:
            await decisions.refresh()
