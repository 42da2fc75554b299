"""Searches and counts under consent beside the same without: CPU of Python and of all PostgreSQL processes.

    .venv/bin/python benchmarks/search_speed.py [--people 20000] [--only few,broad-97] [--database URL]

It makes a record of its own, of people with seven rows each on an embedded server, straight in the tables; consents and
scopes are those that `consent` makes. The budgets are for a million people and five million rows; a page without a
total is what a client asks for that only turns pages, the default page also counts to 1,000. `--database` keeps the
record in an empty database of another server and uses it again.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import psutil
from store_speed import NOTE, CpuMeter

from consent import Caller, Consent, building
from consent.internal import internal_scope
from consent.normalise import BASE_SYSTEM
from ehr.definitions import type_number
from ehr.indexing import Extractor
from ehr.keys import organisation_key, row_key
from ehr.scopes import ReadScope
from ehr.search import parse, search
from ehr.store import Store, WriteOperation, migrate
from ehr.store.bodies import NEWEST_DICTIONARY, pack_body
from kanglian.embedded import EmbeddedPostgres

FULL_SIZE = 1_000_000
_CODES = ("4548-4", "718-7", "2823-3", "2951-2", "2075-0", "8480-6", "8462-4", "8310-5")
_START = datetime(2024, 1, 1, tzinfo=UTC)
_BULK, _FEW, _HALF, _WIDE, _MOST = "bulk-hospital", "few-hospital", "half-hospital", "wide-hospital", "most-hospital"
_COLUMNS = (
    *("key", "last_updated", "holder", "custodian", "labels", "class", "until", "at", "version", "last_version"),
    *("type", "dictionary", "deleted", "id", "body", "terms"),
)
_QUERIES = {"a common code": "Observation?code=http://loinc.org|4548-4", "a type": "Observation"}
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Shape:
    """One actor: how much of the record it sees, and what a page and a count may take (ms, or a factor)."""

    name: str
    caller: Caller | None
    page: str
    count: str


def _caller(role: str, organisation: str | None, patient: str | None = None) -> Caller:
    scopes = "patient/*.rs" if patient else "user/*.rs"
    subject = f"{role}.{organisation}"
    return Caller(subject, "b", organisation, frozenset({role}), patient, None, "", None, (scopes,), "jti", 9e12)


SHAPES = (
    Shape("unfiltered", None, "1x", "1x"),
    Shape("own: one resident", _caller("resident", None, "p17"), "1 ms", "1 ms"),
    Shape("few: 200 people", _caller("physician", _FEW), "1 ms", "1 ms"),
    Shape("half: 0.5 %", _caller("physician", _HALF), "25 ms", "20 ms"),
    Shape("wide: 45 %", _caller("physician", _WIDE), "0.5 ms", "200 ms"),
    Shape("most: 97 %", _caller("physician", _MOST), "1.15x", "3x"),
)


def _resources(number: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    subject = {"reference": f"Patient/p{number}"}
    yield {"resourceType": "Patient", "id": f"p{number}", "name": [{"family": f"F{number % 5000}"}],
           "birthDate": f"19{number % 90 + 10}-01-01"}  # fmt: skip
    yield {"resourceType": "Encounter", "id": f"e{number}", "status": "finished", "class": {"code": "AMB"},
           "subject": subject, "period": {"start": "2024-01-02", "end": "2024-01-03"}}  # fmt: skip
    yield {"resourceType": "Condition", "id": f"c{number}", "subject": subject,
           "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": f"E1{number % 9}"}]}}  # fmt: skip
    for place in range(4):
        coding = [{"system": "http://loinc.org", "code": _CODES[(number + place) % len(_CODES)]}]
        at = _START + timedelta(minutes=chance.randrange(1_000_000))
        value = {"value": chance.randrange(40, 200) / 10, "system": "http://unitsofmeasure.org", "code": "%"}
        yield {"resourceType": "Observation", "id": f"o{number}-{place}", "status": "final", "subject": subject,
               "code": {"coding": coding}, "effectiveDateTime": at.isoformat(), "valueQuantity": value}  # fmt: skip


def _custodian(number: int, people: int) -> str:
    """Half of those whom the few and the half see come to them by their own rows, the others by reach."""
    if number % people < 100:
        return _FEW
    return _HALF if 1000 <= number < 1000 + people // 400 else _BULK


async def fill(connection: asyncpg.Connection, store: Store, people: int) -> None:
    """Rows, index entries, people and reach."""
    chance = random.Random(1)  # noqa: S311 - a reproducible record
    extractor = Extractor(store.hasher)
    encode = msgspec.json.encode
    order = list(range(people))
    chance.shuffle(order)
    stamp = int(_START.timestamp() * 1e6)
    for start in range(0, people, 2000):
        rows, dates, quantities = [], [], []
        for number in order[start : start + 2000]:
            custodian, holder = organisation_key(_custodian(number, people)), row_key("Patient", f"p{number}")
            for resource in _resources(number, chance):
                stamp += 1_000_000
                kind, key = resource["resourceType"], row_key(resource["resourceType"], resource["id"])
                made = extractor.entries(kind, resource)
                body = pack_body(encode(resource | {"meta": {"versionId": "1", "lastUpdated": "2024-01-01T00:00:00Z"}}))
                rows.append((key, stamp, holder, custodian, 0, 0, made.until, made.at, 1, 1, type_number(kind),
                             NEWEST_DICTIONARY, False, resource["id"], body, made.terms))  # fmt: skip
                dates += [(key, low, high, parameter) for parameter, low, high in made.dates]
                quantities += [(key, *units, p, low, high) for p, *units, low, high in made.quantities]
        await connection.copy_records_to_table("resource", records=rows, columns=_COLUMNS)
        await connection.copy_records_to_table("index_date", records=dates, columns=["key", "low", "high", "parameter"])
        await connection.copy_records_to_table(
            "index_quantity",
            records=quantities,
            columns=["key", "system_code", "code", "unit", "parameter", "low", "high"],
        )
    await connection.copy_records_to_table(
        "implied_term", records=list(extractor.implied.unwritten), columns=["implied", "term"]
    )
    await _people(connection, people)


async def _people(connection: asyncpg.Connection, people: int) -> None:
    holders = [(row_key("Patient", f"p{n}"), f"p{n}", organisation_key(_custodian(n, people))) for n in range(people)]
    await connection.copy_records_to_table("person", records=[(key,) for key, _, _ in holders], columns=["person"])
    await connection.copy_records_to_table(
        "holder_person",
        records=[(key, key, name, custodian) for key, name, custodian in holders],
        columns=["holder", "person", "patient_id", "custodian"],
    )
    few = [(_FEW, holders[n][0]) for n in range(100, 200)]
    half = [(_HALF, holders[n][0]) for n in range(5000, 5000 + people // 400)]
    until = int((datetime.now(UTC) + timedelta(days=30)).timestamp() * 1e6)
    await connection.copy_records_to_table(
        "reach",
        records=[(organisation_key(name), key, key ^ 1, key, 1, until) for name, key in few + half],
        columns=["organisation", "person", "source", "holder", "kind", "until"],
    )


def _permit(patient: str, organisation: str) -> dict[str, Any]:
    scope = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}
    role = {"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "PRCP"}
    actor = {"role": {"coding": [role]}, "reference": {"reference": f"Organization/{organisation}"}}
    return {
        "resourceType": "Consent", "status": "active", "scope": {"coding": [scope]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient}"}, "dateTime": "2024-01-01",
        "policyRule": {"coding": [{"system": BASE_SYSTEM, "code": "preset"}]},
        "provision": {"provision": [{"type": "permit", "actor": [actor]}]},
    }  # fmt: skip


async def consents(connection: asyncpg.Connection, store: Store, decisions: Consent, people: int) -> None:
    """45 % permit two hospitals, 52 % one of them, 3 % neither; one person of each kind files, others are copied."""
    loader = await decisions.write_scope(
        Caller("loader", "b", None, frozenset({"loader"}), None, None, "", None, ("system/*.cruds",), "j", 9e12)
    )
    wide, most = "p2000", "p2001"
    filed = [_permit(wide, _WIDE), _permit(wide, _MOST), _permit(most, _MOST)]
    await store.write(loader, [WriteOperation("create", "Consent", resource=each) for each in filed], NOTE)
    keys = [row_key("Patient", f"p{n}") for n in range(people) if n not in (2000, 2001)]
    share = random.Random(3)  # noqa: S311 - a reproducible record
    drawn = {key: share.random() for key in keys}
    groups = {wide: [k for k, d in drawn.items() if d < 0.45], most: [k for k, d in drawn.items() if 0.45 <= d < 0.97]}
    for pattern, members in groups.items():
        await connection.execute(
            'update person p set "class" = o."class" from person o where o.person = $1 and p.person = any($2)',
            row_key("Patient", pattern),
            members,
        )
    await connection.execute(
        'update resource r set "class" = p."class" from person p where p.person = r.holder and r."class" <> p."class"'
    )
    await connection.execute("delete from restamp")


@asynccontextmanager
async def opened(url: str | None, people: int) -> AsyncIterator[tuple[Store, Consent, CpuMeter]]:
    """The record, filled where it is not yet."""
    with tempfile.TemporaryDirectory(prefix="kanglian-search-speed-") as folder:
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder)) if url is None else None
        if server is not None:
            server.start()
        address = server.url if server is not None else str(url)
        await migrate(address)
        decisions = Consent("cn-county")
        keys = Path(tempfile.gettempdir()) / "kanglian-search-speed.key"
        keys.write_bytes(b"k" * 32)
        store = await Store.open(address, keys_path=keys, projections=decisions.projections())
        connection = await asyncpg.connect(address)
        try:
            await decisions.open(store)
            if not await connection.fetchval("select count(*) from person"):
                await fill(connection, store, people)
                await consents(connection, store, decisions, people)
                await connection.execute("vacuum analyze")
            await decisions.refresh()
            decisions.state.populations_until = 0
            await decisions.refresh()
            backend = psutil.Process(await connection.fetchval("select pg_backend_pid()"))
            yield store, decisions, CpuMeter(backend.ppid())
        finally:
            await connection.close()
            await store.close()
            if server is not None:
                server.stop()


async def measure(meter: CpuMeter, store: Store, scope: ReadScope, text: str) -> tuple[float, float, int | None]:
    """Median CPU ms of one answer, (Python, PostgreSQL), and the total."""
    resource_type, _, rest = text.partition("?")
    pairs = [(name, value) for name, _, value in (part.partition("=") for part in rest.split("&") if part)]

    async def answer() -> int | None:
        query = parse(resource_type, pairs)
        return (await search(store, scope, query, NOTE, link_key=b"l" * 32)).total

    total, repeat = await answer(), 1
    rounds: list[tuple[float, float]] = []
    while len(rounds) < _ROUNDS:
        begun = meter.read()
        for _ in range(repeat):
            await answer()
        own, server = (after - before for after, before in zip(meter.read(), begun, strict=True))
        if own + server < 0.15 and repeat < 400:  # CPU times are counted in hundredths of a second
            repeat *= 2
            continue
        rounds.append((1000 * own / repeat, 1000 * server / repeat))
    return statistics.median(r[0] for r in rounds), statistics.median(r[1] for r in rounds), total


async def run(arguments: argparse.Namespace) -> None:
    """Each shape, page and count, beside the unfiltered statement and the budget."""
    # the threshold is for a million people: as many in proportion here
    building.BROAD_FROM_PERSONS = building.BROAD_FROM_PERSONS * arguments.people // FULL_SIZE
    async with opened(arguments.database, arguments.people) as (store, decisions, meter):
        print(f"{arguments.people} people with 7 rows each; budgets are for {FULL_SIZE} people and 5 million rows")
        for query, text in _QUERIES.items():
            plain: dict[str, float] = {}
            for shape in SHAPES:
                if arguments.only and shape.name.split(":")[0] not in (*arguments.only.split(","), "unfiltered"):
                    continue
                scope = internal_scope("indexing")
                if shape.caller is not None:
                    scope = await decisions.read_scope(shape.caller, interaction="search")
                joint = "&" if "?" in text else "?"
                asked = {
                    "page": f"{text}{joint}_total=none",
                    "page and total": text,
                    "count": f"{text}{joint}_summary=count",
                }
                for what, whole in asked.items():
                    own, server, total = await measure(meter, store, scope, whole)
                    plain.setdefault(what, server)
                    budget = shape.count if what == "count" else shape.page if what == "page" else ""
                    print(
                        f"{query:14} {shape.name:18} {scope.shape:7} {what:15} PostgreSQL {server:8.2f} ms"
                        f" {server / plain[what]:7.2f}x  Python {own:6.2f} ms  budget {budget:7}  total {total}",
                        flush=True,
                    )


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--only", default="", help="shapes, by the word before the colon")
    parser.add_argument("--database", help="address of a database to keep the record in")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
