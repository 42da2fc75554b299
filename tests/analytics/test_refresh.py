"""From the record to counts: refusals, labels, merges, deletions and late places, on a real database."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
import pytest_asyncio

from analytics.files import AnalyticsFiles
from analytics.refresh import Refresher
from analytics.service import AnalyticsService, supplied_question
from consent import Consent
from ehr.errors import Forbidden, Invalid
from ehr.store import Store, audit, migrate
from tests.consent.house import LI, LOADER, OTHERS, House, consent, observation, patient, resident

pytestmark = pytest.mark.database
ICD = "http://hl7.org/fhir/sid/icd-10"


class County:
    """A record, its analytics files and who answers over them."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house = house
        files = AnalyticsFiles(folder)
        store = house.store
        self.refresher = Refresher(files, store.pool, b"k" * 32, house.decisions.people_for_counts)
        self.service = AnalyticsService(files, store.record)

    async def count(self, where: str = "{}", group: str = "[]") -> list[tuple[object, ...]]:
        """People by group after a refresh, without disclosure control (the files are looked at directly)."""
        from analytics.count import Counter  # noqa: PLC0415 - the exact cells, which no door hands out
        from analytics.question import read_question  # noqa: PLC0415 - likewise

        await self.refresher.refresh()
        question = f'{{"title": "x", "subject": "person", "where": {where}, "group_by": {group}, "project": "p"}}'
        counter = Counter(self.service._files)
        try:
            cells = counter.cells(read_question(question.encode()))
        finally:
            counter.close()
        return [(*cell.group.values(), cell.count) for cell in cells]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def county(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[County]:
    folder = tmp_path_factory.mktemp("county")
    await migrate(database_url)
    decisions = Consent("cn-county")
    store = await Store.open(database_url, keys_path=folder / "index.key", projections=decisions.projections())
    await decisions.open(store)
    yield County(House(store, decisions), folder / "analytics")
    await store.close()


def resident_of(identity: str, township: str = "白云镇", **more: object) -> dict[str, object]:
    return patient(
        identity, gender="female", address=[{"line": ["人民路1号", township]}], birthDate="1950-01-01", **more
    )


async def test_people_are_counted_and_a_refusal_takes_one_out(county: County) -> None:
    await county.house.put(LOADER, *(resident_of(f"p{n}") for n in range(12)))
    assert await county.count() == [(12,)]
    await county.house.put(resident("p0"), consent("p0", base="OPTOUT"))
    assert await county.count() == [(11,)]


async def test_a_place_that_arrives_late_is_found_in_addresses_written_before(county: County) -> None:
    assert await county.count(group='["township"]') == []
    place = {
        "resourceType": "Location",
        "id": "township-1",
        "name": "白云镇",
        "physicalType": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/location-physical-type", "code": "area"}]
        },
        "address": {"district": "清溪县"},
    }
    await county.house.put(LOADER, place)
    assert await county.count(group='["county", "township"]') == [("清溪县", "白云镇", 11)]


async def test_rows_with_a_sensitivity_label_never_enter(county: County) -> None:
    hiv = observation("hiv", "p1", "75622-1", effectiveDateTime="2026-01-02")
    plain = observation("plain", "p1", "718-7", effectiveDateTime="2026-01-02")
    for resource in (hiv, plain):
        resource["valueQuantity"] = {"value": 1, "system": "http://unitsofmeasure.org", "code": "1"}
    await county.house.put(LOADER, hiv, plain)
    measured = '{{"measured": {{"code": "http://loinc.org|{}", "value": {{}}, "within_months": 600}}}}'
    assert await county.count(measured.format("718-7")) == [(1,)]
    assert await county.count(measured.format("75622-1")) == [(0,)]


async def test_nothing_that_names_a_person_is_written(county: County) -> None:
    await county.refresher.refresh()
    folder = county.service._files.folder
    written = "".join(str(pq.read_table(path).to_pylist()) for path in sorted(folder.glob("*.parquet")))
    assert "female" in written
    for canary in ("Zhang", "人民路", "1950-01-01", "p1"):
        assert canary not in written


async def test_answers_are_for_researchers_and_each_question_is_audited(county: County) -> None:
    question = msgspec.json.decode(supplied_question("diabetes-control"))
    with pytest.raises(Invalid, match="project"):
        await county.service.answer(msgspec.json.encode(question), OTHERS["researcher"], "trace-1")
    question["project"] = "control-2026"
    text = msgspec.json.encode(question)
    with pytest.raises(Forbidden):
        await county.service.answer(text, LI, "trace-2")
    answer = await county.service.answer(text, OTHERS["researcher"], "trace-3")
    assert answer.rows() == []
    assert list(answer.data_frame().columns) == ["county", "quarter", "count", "numerator", "rate"]
    rows = await county.house.store.pool.fetch("select outcome, entry->>'trace' as trace from audit_row order by at")
    found = {row["trace"]: row["outcome"] for row in rows}
    assert {name: found[f"trace-{name}"] for name in "123"} == {
        "1": audit.REFUSED,
        "2": audit.REFUSED,
        "3": audit.SUCCESS,
    }
