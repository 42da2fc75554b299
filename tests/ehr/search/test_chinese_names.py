"""Chinese names by characters in any order and form, by pinyin and initials; identity numbers in any writing."""

from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from ehr.row_filter import AllOf, CustodianIn, Everything
from ehr.store import Store
from tests.search_record import START_US, Kept, ask, ask_all, fill

pytestmark = pytest.mark.database
ID = "urn:oid:2.16.156.1"


def patient(name: str, *names: dict[str, Any], identifier: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"resourceType": "Patient", "id": name, "name": list(names)}
    if identifier is not None:
        kind = {"coding": [{"system": "urn:t", "code": "NNCHN"}]}
        found["identifier"] = [{"system": ID, "value": identifier, "type": kind}]
    return found


ROWS = [
    patient("parts", {"family": "王", "given": ["小明"]}, identifier="11010519491231002X"),
    patient("text", {"text": "王小明"}, identifier="110105-19491231-002x"),
    patient("zhang", {"family": "張", "given": ["偉"]}, identifier="１１０１０１１９８００１０１００１９"),
    patient("zhang-simple", {"text": "张 伟"}),
    patient("ouyang", {"family": "欧阳", "given": ["娜娜"]}),
    patient("lu", {"family": "吕", "given": ["绿"]}),
    patient("shan", {"family": "单", "given": ["明"]}),
    patient("latin", {"family": "Wang", "given": ["Xiaoming"], "text": "Wang Xiaoming"}),
    patient("english", {"family": "Liwei", "given": ["Ann"]}),
    patient("twice", {"text": "李明"}, {"text": "王丽"}),
    patient("wide", {"text": "ＬＩ　ｗｅｉ"}),
    patient("long", {"text": "买买提吐尔逊阿卜杜拉"}),
    {"resourceType": "Practitioner", "id": "doctor", "name": [{"family": "李", "given": ["雷"]}]},
    {
        "resourceType": "Encounter",
        "id": "visit",
        "status": "planned",
        "class": {"code": "AMB"},
        "subject": {"identifier": {"system": ID, "value": "110105-19491231-002x"}},
    },
    {"resourceType": "Organization", "id": "hospital", "name": "王小明诊所"},
]
WANG = {"parts", "text"}
BOTH_ZHANG = {"zhang", "zhang-simple"}
FOUND = {
    # characters in any order, all of one name
    "name=王小明": WANG,
    "name=小明王": WANG,
    "name=明王": WANG,
    "name=明": {"parts", "text", "shan", "twice"},
    "name=王明": WANG,
    "name=王,单": {"parts", "text", "twice", "shan"},
    "name=明明": set(),
    "name=娜娜欧": {"ouyang"},
    "name=王小红": set(),
    "name=王 小明": WANG,
    "name=王·小明": WANG,
    "name=王小明,Liwei": {*WANG, "english"},
    # forms
    "name=张伟": BOTH_ZHANG,
    "name=張偉": BOTH_ZHANG,
    "name=偉张": BOTH_ZHANG,
    "name=歐陽": {"ouyang"},
    # pinyin
    "name=wangxiaoming": WANG,
    "name=wang xiaoming": {*WANG, "latin"},
    "name=wang xiao ming": WANG,
    "name=xiaoming wang": WANG,
    "name=wáng xiǎomíng": {*WANG, "latin"},
    "name=Wang2 Xiao3ming2": WANG,
    "name=wang2xiao3ming2": WANG,
    "name=wangxiaom": WANG,
    "name=WANG": {*WANG, "latin", "twice"},
    "name=ｗａｎｇ": {*WANG, "latin", "twice"},
    "name=wang xiaohong": set(),
    "name=xiaom": WANG | {"latin"},
    "name=zhang wei": BOTH_ZHANG,
    "name=ouyang": {"ouyang"},
    "name=ou'yang nana": {"ouyang"},
    "name=lü": {"lu"},
    "name=lv": {"lu"},
    "name=lyu lv": {"lu"},
    "name=shan ming": {"shan"},
    "name=dan": {"shan"},
    "name=maimaiti": {"long"},
    # initials
    "name=wxm": WANG,
    "name=xmw": WANG,
    "name=w x m": WANG,
    "name=oynn": {"ouyang"},
    "name=zw": BOTH_ZHANG,
    # what is written in letters stays what it was
    "name=li wei": {"wide"},
    "name=liwei": {"english"},
    "name=ann": {"english"},
    # parts, and what is as it was
    "family=王": {"parts"},
    "family=wang": {"parts", "latin"},
    "family=zh": {"zhang"},
    "family=张": {"zhang"},
    "given=xiaoming": {"parts", "latin"},
    "given=xm": {"parts"},
    "given=明小": {"parts"},
    "phonetic=wangxiaoming": WANG,
    "name:exact=王小明": {"text"},
    "name:exact=张伟": set(),
    "name:contains=小明": WANG,
    "name:contains=iaomin": {"latin"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _filled(store: Store, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    rows = [Kept(one, START_US + n, 0, custodian=1 + n % 2) for n, one in enumerate(ROWS)]
    await fill(connection, store.hasher, rows)
    await connection.close()


async def patients(store: Store, asked: str) -> set[str]:
    return {name.removeprefix("Patient/") for name in await ask_all(store, f"Patient?{asked}")}


@pytest.mark.parametrize("asked", FOUND)
async def test_names_are_found_as_people_look_for_them(store: Store, asked: str) -> None:
    assert await patients(store, asked) == FOUND[asked]
    assert (await ask(store, f"Patient?{asked}&_total=accurate&_count=1")).total == len(FOUND[asked])


async def test_other_types_and_other_strings(store: Store) -> None:
    for asked in ("name=雷李", "name=lilei", "given=lei", "family=li"):
        assert await ask_all(store, f"Practitioner?{asked}") == ["Practitioner/doctor"], asked
    assert await ask_all(store, "Organization?name=王小") == ["Organization/hospital"]
    for asked in ("name=明王", "name=wxm"):
        assert await ask_all(store, f"Organization?{asked}") == [], asked


async def test_hidden_names_are_not_found(store: Store) -> None:
    seen = []
    for custodian in (1, 2):
        sees = AllOf((Everything(), CustodianIn(frozenset({custodian}))))
        for asked in ("小明王", "wang xiao ming", "wxm"):
            result = await ask(store, f"Patient?name={asked}", sees)
            assert result.total == len(result.matches) == 1
            seen.append(result.matches[0].resource_id)
    assert seen == ["parts"] * 3 + ["text"] * 3


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("11010519491231002X", WANG), ("11010519491231002x", WANG), ("110105-19491231-002X", WANG),
        ("110105 19491231 002x", WANG), ("１１０１０５１９４９１２３１００２Ｘ", WANG),
        (f"{ID}|110105-19491231-002x", WANG),
        ("urn:other|11010519491231002X", set()), ("|11010519491231002X", set()), ("110101198001010019", {"zhang"}),
        ("110105194912310029", set()), ("1101051949123100", set()),
    ],
)  # fmt: skip
async def test_identity_numbers_in_any_writing(store: Store, asked: str, found: set[str]) -> None:
    assert await patients(store, f"identifier={asked}") == found
    everybody = {row["id"] for row in ROWS if row["resourceType"] == "Patient"}
    assert await patients(store, f"identifier:not={asked}") == everybody - found


async def test_identity_numbers_of_references(store: Store) -> None:
    for asked in ("11010519491231002x", "110105-19491231-002X", f"{ID}|11010519491231002X"):
        assert await ask_all(store, f"Encounter?subject:identifier={asked}") == ["Encounter/visit"], asked
    assert await ask_all(store, "Encounter?subject:identifier=urn:other|11010519491231002X") == []


async def test_an_identity_number_of_a_type(store: Store) -> None:
    assert await patients(store, "identifier:of-type=urn:t|NNCHN|110105-19491231-002x") == WANG
    assert await patients(store, "identifier:of-type=urn:t|MR|110105-19491231-002x") == set()
