"""The types that search by holder are those whose first named person is the subject."""

import csv
from pathlib import Path

import pytest

from ehr.definitions import RESOURCE_TYPES, structure
from ehr.search.person import names_holder

_RULES = Path(__file__).parents[3] / "consent" / "persons_of.csv"


@pytest.mark.parametrize("resource_type", [name for name in RESOURCE_TYPES if names_holder(name, "patient")])
def test_holder_is_the_subject(resource_type: str) -> None:
    with _RULES.open(encoding="utf-8") as lines:
        rules = {row["type"]: row for row in csv.DictReader(lines)}
    first = rules[resource_type]["persons"].split()[0]
    assert first == ("subject" if names_holder(resource_type, "subject") else "patient")
    assert structure(resource_type).element(f"{resource_type}.{first}").max == 1
