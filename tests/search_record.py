"""A record filled straight from resources, for tests of searching: rows and index as the writer makes them."""

import gzip
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import asyncpg
import msgspec

from ehr.audit_note import AuditNote
from ehr.definitions import type_number
from ehr.indexing import Extractor
from ehr.keys import TermHasher, row_key
from ehr.row_filter import EVERYTHING, RowFilter
from ehr.scopes import ReadScope
from ehr.search import SearchResult, parse, search
from ehr.store import Store
from ehr.store.bodies import NEWEST_DICTIONARY, pack_body

SHARED_DATA = Path(os.environ.get("KANGLIAN_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
SYNTHEA = SHARED_DATA / "synthea"
_SUBJECTS = ("subject", "patient", "beneficiary", "individual")
_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode
START_US = 1_600_000_000_000_000

_COLUMNS = [
    *("key", "last_updated", "holder", "others", "custodian", "labels", "class", "until", "at", "version"),
    *("last_version", "type", "dictionary", "deleted", "id", "body", "terms"),
]


@dataclass(frozen=True, slots=True)
class Kept:
    """A resource with what the row says about it."""

    resource: dict[str, Any]
    last_updated_us: int
    holder: int
    custodian: int = 1
    labels: int = 0
    deleted: bool = False

    @property
    def name(self) -> str:
        return f"{self.resource['resourceType']}/{self.resource['id']}"

    @property
    def key(self) -> int:
        return row_key(self.resource["resourceType"], self.resource["id"])


def holder_of(resource: dict[str, Any]) -> int:
    """The row key of the Patient whom a resource is about, 0 for none."""
    if resource["resourceType"] == "Patient":
        return row_key("Patient", resource["id"])
    for field in _SUBJECTS:
        reference = resource.get(field)
        text = reference.get("reference", "") if isinstance(reference, dict) else ""
        if text.startswith("Patient/"):
            return row_key("Patient", text.removeprefix("Patient/"))
    return 0


def kept(resources: Iterable[dict[str, Any]], *, custodians: int = 3) -> list[Kept]:
    """Resources as rows: a second apart, custodians and labels by turns."""
    rows = []
    for number, resource in enumerate(resources):
        rows.append(
            Kept(
                resource,
                START_US + number * 1_000_000,
                holder_of(resource),
                custodian=1 + number % custodians,
                labels=1 << (number % 5) if number % 7 == 0 else 0,
            )
        )
    return rows


async def fill(connection: asyncpg.Connection, hasher: TermHasher, rows: Iterable[Kept]) -> None:
    """Write rows and index entries."""
    extractor = Extractor(hasher)
    records, dates, numbers, quantities = [], [], [], []
    for row in rows:
        resource = row.resource
        resource["meta"] = resource.get("meta", {}) | {"versionId": "1"}
        entries = extractor.entries(resource["resourceType"], resource)
        records.append(
            (
                row.key,
                row.last_updated_us,
                row.holder,
                None,
                row.custodian,
                row.labels,
                0,
                entries.until,
                entries.at,
                1,
                1,
                type_number(resource["resourceType"]),
                NEWEST_DICTIONARY,
                row.deleted,
                resource["id"],
                pack_body(_encode(resource)),
                entries.terms,
            )
        )
        dates += [(row.key, low, high, parameter) for parameter, low, high in entries.dates]
        numbers += [(row.key, parameter, low, high) for parameter, low, high in entries.numbers]
        quantities += [(row.key, *units, p, low, high) for p, *units, low, high in entries.quantities]
    await connection.executemany(
        "insert into implied_term (implied, term) values ($1, $2) on conflict do nothing", extractor.implied.unwritten
    )
    await connection.copy_records_to_table("resource", records=records, columns=_COLUMNS)
    await connection.copy_records_to_table("index_date", records=dates, columns=["key", "low", "high", "parameter"])
    await connection.copy_records_to_table("index_number", records=numbers, columns=["key", "parameter", "low", "high"])
    await connection.copy_records_to_table(
        "index_quantity",
        records=quantities,
        columns=["key", "system_code", "code", "unit", "parameter", "low", "high"],
    )


def synthea(files: int | None = None) -> list[dict[str, Any]]:
    """The resources of the given Synthea bundles with references resolved; `files` limits the patients' bundles."""
    names: dict[str, str] = {}
    found: list[dict[str, Any]] = []
    paths = sorted(SYNTHEA.glob("*.json.gz"))
    common = [path for path in paths if path.name.startswith("0-")]
    chosen = common + [path for path in paths if path not in common][:files]
    for path in chosen:
        for entry in _decode(gzip.decompress(path.read_bytes()))["entry"]:
            resource = entry["resource"]
            resource.setdefault("id", entry["fullUrl"].removeprefix("urn:uuid:"))
            name = f"{resource['resourceType']}/{resource['id']}"
            names[entry["fullUrl"]] = name
            for identifier in resource.get("identifier", ()):
                criteria = f"{identifier.get('system')}|{identifier.get('value')}"
                names.setdefault(f"{resource['resourceType']}?identifier={criteria}", name)
            found.append(resource)
    for resource in found:
        for reference in _references(resource):
            reference["reference"] = names.get(reference["reference"], reference["reference"])
    return found


def _references(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value
        for child in value.values():
            yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)


def plain(text: str) -> dict[str, Any]:
    """A resource from JSON text, decimals as Decimal."""
    return json.loads(text, parse_float=Decimal)


@contextmanager
def recorded_statements() -> Iterator[list[str]]:
    """The text of every statement with values that any asyncpg connection runs meanwhile."""
    texts: list[str] = []
    original = asyncpg.connection.Connection._execute

    async def recording(connection: Any, query: str, *args: Any, **kwargs: Any) -> Any:
        texts.append(query)
        return await original(connection, query, *args, **kwargs)

    asyncpg.connection.Connection._execute = recording
    try:
        yield texts
    finally:
        asyncpg.connection.Connection._execute = original


def scope_of(row_filter: RowFilter, *, actor: str = "dr.wang", purpose: str = "TREAT", epoch: int = 1) -> ReadScope:
    """A scope that admits what the filter does."""
    return ReadScope(
        actor=actor,
        organisation="first-hospital",
        purpose_of_use=purpose,
        shape="broad",
        row_filter=row_filter,
        epoch=epoch,
        highest_class=0,
        valid_until=datetime.now(UTC) + timedelta(hours=1),
        decision="test",
    )


NOTE = AuditNote(
    action="E",
    interaction="search-type",
    actor="dr.wang",
    client="test",
    organisation="first-hospital",
    roles=("clinician",),
    purpose_of_use="TREAT",
    reason=None,
    query="GET",
    trace="test",
    decision="test",
)
LINK_KEY = b"k" * 32


async def ask(
    store: Store, text: str, row_filter: RowFilter = EVERYTHING, *, cursor: str | None = None, **scope: Any
) -> SearchResult:
    """One page of `Type?name=value&...`."""
    resource_type, _, rest = text.partition("?")
    query = parse(resource_type, parse_qsl(rest, keep_blank_values=True))
    return await search(store, scope_of(row_filter, **scope), query, NOTE, link_key=LINK_KEY, cursor=cursor)


async def ask_all(store: Store, text: str, row_filter: RowFilter = EVERYTHING) -> list[str]:
    """The names ("Type/id") of all matches, page after page."""
    names: list[str] = []
    cursor = None
    while True:
        result = await ask(store, text, row_filter, cursor=cursor)
        names += [f"{match.resource_type}/{match.resource_id}" for match in result.matches]
        cursor = result.next_cursor
        if cursor is None:
            return names
