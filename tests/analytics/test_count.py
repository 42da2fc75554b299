"""Counting: the statement against a naive count in Python over made-up files."""

import datetime as dt
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from analytics.count import PEOPLE_SCHEMA, Counter
from analytics.deidentify import arrow_schema
from analytics.files import AnalyticsFiles, Manifest
from analytics.question import read_question

AREA = "http://terminology.hl7.org/CodeSystem/location-physical-type|area"
E11 = "http://hl7.org/fhir/sid/icd-10|E11.9"
HBA1C = "http://loinc.org|4548-4"


def write(folder: Path, rows: dict[str, list[dict[str, Any]]], people: list[dict[str, Any]]) -> AnalyticsFiles:
    files = AnalyticsFiles(folder)
    manifest = Manifest()
    for resource_type, listed in rows.items():
        complete = [{"row": i, "holder": 0, "sequence": i, "deleted": False, **row} for i, row in enumerate(listed, 1)]
        table = pa.Table.from_pylist(complete, schema=arrow_schema(resource_type))
        manifest.parts[resource_type] = [files.write_part(f"{resource_type}-1", table)]
    manifest.people = files.write_part("people-1", pa.Table.from_pylist(people, schema=PEOPLE_SCHEMA))
    files.commit(manifest)
    return files


def ask(files: AnalyticsFiles, question: str) -> list[tuple[Any, ...]]:
    counter = Counter(files)
    try:
        cells = counter.cells(read_question(question.encode()))
    finally:
        counter.close()
    return [(*cell.group.values(), cell.count, cell.persons, cell.numerator) for cell in cells]


@pytest.fixture
def county(tmp_path: Path) -> AnalyticsFiles:
    """Four persons of five source patients; 1 and 5 are the same, 4 refused."""
    month = dt.date(2026, 2, 1)
    patients = [
        {
            "holder": h,
            "sex": "female" if h % 2 else "male",
            "birth_year": 1950 + h,
            "township": "白云镇",
            "county": "清溪县",
        }
        for h in range(1, 6)
    ]
    measured = [(1, 6.5), (5, 8.0), (2, 6.9), (3, 7.0), (4, 6.0)]
    return write(
        tmp_path,
        {
            "Patient": patients,
            "Condition": [{"holder": h, "codes": [E11], "month": month} for h in (1, 2, 3, 4)],
            "Observation": [
                {"holder": h, "codes": [HBA1C], "month": dt.date(2026, 1 + (h == 5), 1), "value": v, "unit": "%"}
                for h, v in measured
            ],
            "Encounter": [
                {"holder": 1, "kinds": [], "month": month, "organisation": "township-clinic"},
                {"holder": 5, "kinds": [], "month": dt.date(2026, 3, 1), "organisation": "county-hospital"},
            ],
            "ServiceRequest": [
                {"holder": h, "codes": [], "month": month, "sender": "township-clinic", "receiver": "county-hospital"}
                for h in (1, 2, 4)
            ],
            "Organization": [
                {"identifier": "township-clinic", "levels": ["urn:kanglian:hospital-level|1"]},
                {"identifier": "county-hospital", "levels": ["urn:kanglian:hospital-level|2"]},
            ],
            "Location": [
                {"name": "白云镇", "kinds": [AREA], "county": "清溪县", "latitude": 29.74, "longitude": 119.12},
                {
                    "name": "医院",
                    "kinds": [],
                    "organisation": "county-hospital",
                    "latitude": 29.61,
                    "longitude": 119.03,
                },
            ],
        },
        [{"holder": h, "person": 1 if h == 5 else h, "allowed": h != 4} for h in range(1, 6)],
    )


def test_a_rate_takes_each_persons_last_value_of_the_quarter(county: AnalyticsFiles) -> None:
    question = (
        '{"title": "x", "subject": "measurement", "where": {"diagnosed": ["http://hl7.org/fhir/sid/icd-10|E11*"],'
        f'"code": ["{HBA1C}"]}}, "numerator": {{"value": {{"below": 7.0}}}}, "group_by": ["county", "quarter"]}}'
    )
    assert ask(county, question) == [("清溪县", "2026-Q1", 3, 3, 1)]


def test_referrals_have_a_direction_and_arrivals(county: AnalyticsFiles) -> None:
    question = (
        '{"title": "x", "subject": "referral", "count": "events", "where": {}, "numerator": {"arrived": true},'
        '"group_by": ["sender", "receiver", "direction"]}'
    )
    assert ask(county, question) == [("township-clinic", "county-hospital", "up", 2, 2, 1)]


def test_movements_follow_the_person_across_source_patients(county: AnalyticsFiles) -> None:
    question = '{"title": "x", "subject": "movement", "where": {"direction": "up"}, "group_by": ["receiver"]}'
    assert ask(county, question) == [("county-hospital", 1, 1, None)]


def test_distance_is_from_the_township_to_the_hospital(county: AnalyticsFiles) -> None:
    question = '{"title": "x", "subject": "encounter", "where": {"distance_km": {"from": 15, "below": 20}}}'
    assert ask(county, question) == [(1, 1, None)]


def test_people_by_age_and_sex(county: AnalyticsFiles) -> None:
    question = (
        '{"title": "x", "subject": "person", "where": {"measured": {"code": "http://loinc.org|4548-4",'
        '"value": {"below": 7}, "within_months": 600}}, "group_by": ["sex"]}'
    )
    assert ask(county, question) == [("male", 1, 1, None)]


def test_controlled_is_every_measurement_that_the_person_has_had(county: AnalyticsFiles) -> None:
    systolic = '{"code": "http://loinc.org|8480-6", "value": {"below": 140}, "within_months": 600}'
    hba1c = f'{{"code": "{HBA1C}", "value": {{"below": 7}}, "within_months": 600}}'
    question = '{"title": "x", "subject": "person", "where": {"controlled": [%s]}, "group_by": ["sex"]}'
    assert ask(county, question % f"{hba1c}, {systolic}") == [("male", 1, 1, None)], "1 has 8.0, 3 has 7.0"
    assert ask(county, question % systolic) == [], "nobody has had one"


def test_only_the_newest_row_counts_and_deleted_ones_do_not(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        {
            "Patient": [
                {"row": 1, "holder": 1, "sequence": 1, "sex": "male"},
                {"row": 1, "holder": 1, "sequence": 2, "sex": "female"},
                {"row": 2, "holder": 2, "sequence": 3, "sex": "female"},
                {"row": 2, "holder": 2, "sequence": 4, "deleted": True},
            ]
        },
        [{"holder": h, "person": h, "allowed": True} for h in (1, 2)],
    )
    assert ask(files, '{"title": "x", "subject": "person", "where": {}, "group_by": ["sex"]}') == [
        ("female", 1, 1, None)
    ]


def test_random_measurements_against_a_naive_count(tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311 - a reproducible sample, not a secret
    rows = [
        {
            "holder": chance.randint(1, 40),
            "codes": [HBA1C],
            "month": dt.date(2026, chance.randint(1, 12), 1),
            "value": chance.choice([5.0, 7.0, 9.0]),
        }
        for _ in range(400)
    ]
    files = write(
        tmp_path,
        {"Patient": [{"holder": h, "sex": "male", "county": "清溪县"} for h in range(1, 41)], "Observation": rows},
        [{"holder": h, "person": h, "allowed": h % 4 != 0} for h in range(1, 41)],
    )
    question = (
        f'{{"title": "x", "subject": "measurement", "count": "events", "where": {{"code": ["{HBA1C}"],'
        '"value": {"from": 6.0}}, "numerator": {"value": {"below": 8.0}}, "group_by": ["quarter"],'
        '"period": {"from": "2026-02", "below": "2026-12"}}'
    )
    expected = []
    for quarter in range(1, 5):
        inside = [
            r
            for r in rows
            if r["holder"] % 4
            and r["value"] >= 6
            and 2 <= r["month"].month < 12
            and (r["month"].month + 2) // 3 == quarter
        ]
        low = sum(r["value"] < 8 for r in inside)
        expected.append((f"2026-Q{quarter}", len(inside), len({r["holder"] for r in inside}), low))
    assert ask(files, question) == expected


def test_a_refresh_between_manifest_and_files_is_followed(tmp_path: Path) -> None:
    people = [{"holder": h, "person": h, "allowed": True} for h in (1, 2)]
    files = write(tmp_path, {"Patient": [{"holder": 1, "sex": "male"}]}, people)
    older = files.manifest()
    write(tmp_path / "next", {"Patient": [{"holder": h, "sex": "male"} for h in (1, 2)]}, people)

    class Replaced(AnalyticsFiles):
        """Hands out the older manifest once, whose files are gone by then."""

        asked = 0

        def manifest(self) -> Manifest:
            self.asked += 1
            if self.asked > 1:
                return super().manifest()
            for path in self.folder.glob("*.parquet"):
                path.unlink()
            for path in (tmp_path / "next").iterdir():
                path.rename(self.folder / f"new-{path.name}" if path.suffix == ".parquet" else self.folder / path.name)
            renamed = super().manifest()
            renamed.parts = {name: [f"new-{part}" for part in parts] for name, parts in renamed.parts.items()}
            renamed.people = f"new-{renamed.people}"
            self.commit(renamed)
            return older

    question = '{"title": "x", "subject": "person", "where": {}}'
    assert ask(Replaced(tmp_path), question) == [(2, 2, None)]
