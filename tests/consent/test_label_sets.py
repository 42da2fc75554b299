"""The value sets of labels: codes that exist, what they label and what not, and a given laboratory message."""

import csv
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from consent import labels
from consent.labels import names_of, read_resource
from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2.convert import Conversion, convert
from hospital_adapters.hl7v2.parse import Message, parse
from tests.consent.house import House

SHARED = Path(os.environ.get("KANGLIAN_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
DATA = yaml.safe_load((Path(labels.__file__).parent / "labels.yaml").read_text("utf-8"))
ICD10 = "http://hl7.org/fhir/sid/icd-10"
ATC = "http://www.whocc.no/atc"


def _codes(system: str) -> list[str]:
    return [str(code) for each in DATA["sensitivities"].values() for code in each.get("codes", {}).get(system, ())]


def _verhoeff(digits: str) -> bool:
    """Whether the last digit is the Verhoeff check digit, as SNOMED CT identifiers end."""
    check = 0
    for place, digit in enumerate(map(int, reversed(digits))):
        turned = digit
        for _ in range(place % 8):
            turned = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[turned]
        first, second = check, turned
        if first < 5:
            check = (first + second) % 5 + (5 if second >= 5 else 0)
        else:
            check = (first - second) % 5 + (0 if second >= 5 else 5)
    return check == 0


def test_identifiers_of_snomed_have_their_check_digit() -> None:
    assert [code for code in _codes("snomed") if not _verhoeff(code)] == []
    assert not _verhoeff("51647005")


def test_codes_of_loinc_have_their_check_digit() -> None:
    for code in _codes("loinc"):
        body, check = code.split("-")
        doubled = [int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(body))]
        assert -sum(each // 10 + each % 10 for each in doubled) % 10 == int(check), code


def test_categories_of_icd10_exist() -> None:
    path = SHARED / "china" / "icd-10" / "disease.csv"
    if not path.exists():
        pytest.skip("the given list of categories is not there")
    with path.open(encoding="utf-8-sig", newline="") as lines:
        known = {row["code"].rstrip("*+"): row["disease"] for row in csv.DictReader(lines, delimiter="\t")}
    for each in DATA["sensitivities"].values():
        for code in each["prefixes"]["icd10"]:
            category = str(code)[:3]
            # the list has no chapters V to Z
            assert category[0] in "XYZ" or any(name.startswith(category) for name in known), code
    for code, disease in known.items():
        # A65 is bejel, which is not venereal
        if code != "A65" and any(word in disease for word in ("人类免疫缺陷病毒", "精神分裂", "梅毒")):
            assert labels.table().of_coding(ICD10, code), (code, disease)


def test_laws_are_cited_by_articles_that_were_read() -> None:
    """An article number stands only where the law's text was at hand; a law without one is cited as a whole."""
    read = {"个人信息保护法": {"六", "十三", "二十三", "二十八", "二十九", "四十五"}, "精神卫生法": {"四"}}
    for preset in sorted((Path(labels.__file__).parent / "policies").glob("*.yaml")):
        for rule in yaml.safe_load(preset.read_text("utf-8"))["rules"]:
            for part in re.split("[;；]", rule["law"]):
                law = part.strip().partition(" ")[0]
                numbers = set(re.findall("[一二三四五六七八九十百]+(?=[条、章])", re.sub("第.款第.项", "", part)))
                assert numbers <= read.get(law, set()), (preset.name, part)


CODINGS = [
    (ICD10, "B20.000", {"HIV"}),
    (ICD10, "b24", {"HIV"}),
    (ICD10, "Z114", {"HIV"}),
    (ICD10, "Z11.3", {"STD"}),
    (ICD10, "O987", {"HIV"}),
    (ICD10, "O98.101", {"STD"}),
    (ICD10, "A63.000", {"STD"}),
    (ICD10, "F02.4", {"HIV", "PSY"}),
    (ICD10, "F32.901", {"PSY"}),
    (ICD10, "I10.x00", set()),
    (ICD10, "E11.900", set()),
    (ICD10, "B18.1", set()),
    (ICD10, "Z83.3", set()),
    (ATC, "J05AF07", {"HIV"}),
    (ATC, "J05AR20", {"HIV"}),
    (ATC, "J05AF10", set()),
    (ATC, "N05AX12", {"PSY"}),
    (ATC, "A10BA02", set()),
    ("http://loinc.org", "24313-9", set()),
    ("http://loinc.org", "75622-1", {"HIV"}),
    ("http://loinc.org", "105080-6", {"HIV"}),
    ("http://loinc.org", "59419-2", {"HIV"}),
    ("http://loinc.org", "24110-9", {"STD"}),
    (ICD10, "Z22.4", {"STD"}),
]


@pytest.mark.parametrize(("system", "code", "expected"), CODINGS)
def test_what_a_code_labels(system: str, code: str, expected: set[str]) -> None:
    condition = {"resourceType": "Condition", "code": {"coding": [{"system": system, "code": code}]}}
    assert set(names_of(read_resource(condition).labels)) == expected


def _converted(text: str) -> list[dict[str, Any]]:
    message = parse(text.encode())
    assert isinstance(message, Message)
    conversion = convert(message, Feed("laboratory", "first-hospital", "hl7v2"))
    assert isinstance(conversion, Conversion)
    return [entry["resource"] for entry in conversion.bundle["entry"]]


@pytest.mark.database
async def test_labels_spread_in_a_given_message(house: House) -> None:
    path = SHARED / "hl7v2" / "microsoft" / "LAB-ORU-2.hl7"
    if not path.exists():
        pytest.skip("the given message is not there")
    text = path.read_text("utf-8").replace("\r\n", "\r").replace("\n", "\r")
    plain = _converted(text)
    assert [each for each in plain if read_resource(each).labels] == []
    lines = text.split("\r")
    place = next(number for number, line in enumerate(lines) if line.startswith("OBX|"))
    fields = lines[place].split("|")
    fields[3] = "75622-1^HIV 1+2 Ab^LN"
    lines[place] = "|".join(fields)
    sensitive = _converted("\r".join(lines))
    await house.feed("first-hospital", *sensitive)
    found = {
        f"{each['resourceType']}/{each['id']}": await house.labels(f"{each['resourceType']}/{each['id']}")
        for each in sensitive
        if each["resourceType"] != "Provenance"
    }
    labelled = {reference.split("/")[0] for reference, of in found.items() if of == {"HIV"}}
    assert {"Observation", "DiagnosticReport"} <= labelled
    assert not {"Patient", "Organization", "Practitioner"} & labelled
    observations = [of for reference, of in found.items() if reference.startswith("Observation/")]
    assert sum(of == {"HIV"} for of in observations) == 1
