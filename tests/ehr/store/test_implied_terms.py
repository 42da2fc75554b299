"""What stored terms imply is durable with the first row that needs it; rows from before are found as well."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from ehr.changes import Change
from ehr.store import Store, WriteOperation, migrate
from tests.ehr.store.record_fixtures import NOTE, AboutNamedPatient, loader
from tests.search_record import ask_all

pytestmark = pytest.mark.database


@pytest.fixture
def projection() -> AboutNamedPatient:
    return AboutNamedPatient()


@pytest_asyncio.fixture
async def stores(
    database_url: str, projection: AboutNamedPatient, tmp_path: Path
) -> AsyncIterator[tuple[Store, Store]]:
    """Two processes of one record, in which nothing is known yet."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("drop schema if exists public cascade; create schema public")
    await connection.close()
    await migrate(database_url)
    first, second = [
        await Store.open(database_url, keys_path=tmp_path / "index.key", projections=[projection]) for _ in range(2)
    ]
    yield first, second
    await first.close()
    await second.close()


def _observation(identity: str, **more: Any) -> WriteOperation:
    code = {"coding": [{"system": "http://loinc.org", "code": "718-7", "display": "Haemoglobin"}]}
    resource = {"resourceType": "Observation", "id": identity, "status": "final", "code": code, **more}
    return WriteOperation("update", "Observation", identity, json.dumps(resource).encode())


async def _write(store: Store, *operations: WriteOperation) -> None:
    await store.write(loader(), list(operations), NOTE)


async def test_the_row_after_an_undone_transaction_is_found(
    stores: tuple[Store, Store], projection: AboutNamedPatient
) -> None:
    store = stores[0]
    projection.refuse = "no"
    with pytest.raises(ValueError, match="no"):
        await _write(store, _observation("no"))
    projection.refuse = None
    await _write(store, _observation("o1"))
    assert not store.extractor.implied.unwritten
    assert await ask_all(store, "Observation?status:missing=false") == ["Observation/o1"]
    assert await ask_all(store, "Observation?status:missing=true") == []
    assert await ask_all(store, "Observation?code:text=haem") == ["Observation/o1"]
    assert await ask_all(store, "Observation?subject:missing=true") == ["Observation/o1"]


async def test_processes_that_meet_new_terms_at_once(stores: tuple[Store, Store]) -> None:
    shapes: list[dict[str, Any]] = [
        {name: value for bit, (name, value) in enumerate(_MORE.items()) if number >> bit & 1} for number in range(16)
    ]
    writes = [
        _write(store, _observation(f"o{place}-{number}", **more))
        for number, more in enumerate(shapes)
        for place, store in enumerate(stores)
    ]
    await asyncio.gather(*writes)
    for store in stores:
        assert not store.extractor.implied.unwritten
        for place, parameter in enumerate(("subject", "date", "value-string", "category")):
            without = {f"Observation/o{s}-{n}" for s in range(2) for n in range(16) if not n >> place & 1}
            assert set(await ask_all(store, f"Observation?{parameter}:missing=true")) == without
            assert len(await ask_all(store, f"Observation?{parameter}:missing=false")) == 32 - len(without)


_MORE: dict[str, Any] = {
    "subject": {"reference": "Patient/p"},
    "effectiveDateTime": "2024-05-06",
    "valueString": "words",
    "category": [{"coding": [{"code": "laboratory"}]}],
}


async def test_a_long_transaction_keeps_nobody_waiting_who_brings_the_same_terms(
    stores: tuple[Store, Store], projection: AboutNamedPatient
) -> None:
    first, second = stores
    begun, end = asyncio.Event(), asyncio.Event()
    at_once = projection.in_transaction

    async def in_transaction(connection: asyncpg.Connection, changes: Sequence[Change]) -> None:
        if changes[0].resource_id == "long":
            begun.set()
            await end.wait()
        await at_once(connection, changes)

    projection.in_transaction = in_transaction  # type: ignore[method-assign]
    long = asyncio.create_task(_write(first, _observation("long")))
    await begun.wait()
    await asyncio.wait_for(_write(second, _observation("short")), 1)
    assert await ask_all(second, "Observation?status:missing=false") == ["Observation/short"]
    end.set()
    await long
    assert len(await ask_all(second, "Observation?status:missing=false")) == 2


async def test_rows_from_before_have_the_terms_themselves(stores: tuple[Store, Store]) -> None:
    store, _ = stores
    await _write(store, _observation("old", subject={"reference": "Patient/p"}), _observation("new"))
    hasher = store.hasher
    before = {hasher.term("Observation", code, "present", "") for code in ("status", "code", "subject", "patient")}
    before |= {hasher.term("Observation", "code", "text", beginning) for beginning in ("haemoglo", "haem", "ha")}
    before |= {hasher.term("Observation", "status", "token", token) for token in ("final", "|final")}
    await store.pool.execute("update resource set terms = $1 where id = 'old'", sorted(before))
    assert set(await ask_all(store, "Observation?status:missing=false")) == {"Observation/old", "Observation/new"}
    assert await ask_all(store, "Observation?subject:missing=true") == ["Observation/new"]
    assert await ask_all(store, "Observation?subject:missing=false") == ["Observation/old"]
    for text in ("ha", "hae", "haem", "haemoglo", "haemoglobin"):
        assert len(await ask_all(store, f"Observation?code:text={text}")) == 2, text
    assert len(await ask_all(store, "Observation?status=|final")) == 2
