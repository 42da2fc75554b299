"""The two servers, and everything that they log meanwhile."""

import asyncio
import logging
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import asyncpg
import pytest

from tests.fhir_api.conftest import serving
from tests.security.attacks.twins import Twin, fill, hidden_ids


class Lines(logging.Handler):
    """Keeps every line that anybody logs, as it would be written."""

    def __init__(self) -> None:
        """Keep from the finest level on."""
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line, its traceback included."""
        self.texts.append(self.format(record))


@dataclass
class Twins:
    """The record with the hidden rows, the same without them, and the lines logged."""

    full: Twin
    absent: Twin
    full_database: str
    absent_database: str
    lines: Lines

    @cached_property
    def hidden_at_first(self) -> list[str]:
        """The hidden rows as they were loaded."""
        return self.hidden_rows()

    def hidden_rows(self) -> list[str]:
        """The hidden rows with their access columns and who may reach their people, as text."""

        async def run() -> list[str]:
            connection = await asyncpg.connect(self.full_database)
            rows = await connection.fetch(_HIDDEN, hidden_ids())
            await connection.close()
            return [str(row) for row in rows]

        return asyncio.run(run())


_HIDDEN = """select id, version, labels, holder, others, custodian, deleted, md5(body) from resource r
where id = any($1::text[]) and r.key is not null
union all select 'reach', kind, 0, person, null, organisation, false, until::text from reach
  where holder in (select key from resource b where b.id = 'first-hospital.b' and b.key is not null)
order by 1, 2, 4, 6"""


def _database(postgres_url: str, statement: str) -> None:
    async def run() -> None:
        server = await asyncpg.connect(postgres_url)
        await server.execute(statement)
        await server.close()

    asyncio.run(run())


@pytest.fixture(scope="session")
def twins(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """Both servers over databases of their own, the same keys and the same people."""
    base, _, query = postgres_url.partition("?")
    names = [f"test_{uuid.uuid4().hex[:12]}" for _ in range(2)]
    urls = [f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "") for name in names]
    keys = [tmp_path_factory.mktemp("attacks") / side for side in ("full", "absent")]
    lines = Lines()
    logging.getLogger().addHandler(lines)
    with ExitStack() as stack:
        for name in names:
            _database(postgres_url, f'create database "{name}"')
            stack.callback(_database, postgres_url, f'drop database "{name}" with (force)')
        full = Twin(stack.enter_context(serving(urls[0], _made(keys[0]), analytics=keys[0] / "analytics")))
        shutil.copytree(keys[0], keys[1])  # the same keys: what is hashed lies in the same order
        absent = Twin(stack.enter_context(serving(urls[1], keys[1])))
        fill(full, hidden=True)
        fill(absent, hidden=False)
        twins = Twins(full, absent, *urls, lines)
        assert len(twins.hidden_at_first) > len(hidden_ids())
        yield twins
    logging.getLogger().removeHandler(lines)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
