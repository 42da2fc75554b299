"""CSV feeds: reading rows with bad ones apart, and turning a row into resources by a YAML file."""

from decimal import Decimal
from pathlib import Path

import pytest

from ehr.errors import Invalid
from hospital_adapters.csv.layout import CsvLayout, csv_layout
from hospital_adapters.csv.rows import BadRow, Row, read_rows, resources_of, unread_columns
from hospital_adapters.feeds import Feed, read_feed

FEED = """
feed: clinic
organisation: township-clinic
kind: csv
encoding: gb18030
row: 就诊号
event_time: {column: 时间, date: "%Y-%m-%d %H:%M"}
code_maps:
  sex: {男: male, 女: female}
resources:
  - type: Patient
    identity: [病历号]
    elements:
      active: "=true"
      name[0].text: 姓名
      telecom[0].system: "=phone"
      telecom[0].value: 电话
      gender: {column: 性别, map: sex}
      birthDate: {column: 出生, date: "%Y/%m/%d"}
  - type: Observation
    when: 收缩压
    identity: [就诊号, "=8480-6"]
    elements:
      status: "=final"
      code.coding[0].system: "=http://loinc.org"
      code.coding[0].code: "=8480-6"
      subject: {reference: Patient}
      performer[0]: {organisation: true}
      effectiveDateTime: {column: 时间, date: "%Y-%m-%d %H:%M"}
      valueQuantity.value: {column: 收缩压, number: true}
"""
HEADER = "就诊号,病历号,姓名,性别,出生,电话,时间,收缩压,备注"


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    path = tmp_path / "clinic.yaml"
    path.write_text(FEED, encoding="utf-8")
    return read_feed(path)


@pytest.fixture
def layout(feed: Feed) -> CsvLayout:
    return csv_layout(feed)


def rows(layout: CsvLayout, *lines: str | bytes) -> list[Row | BadRow]:
    data = b"\n".join(line if isinstance(line, bytes) else line.encode("gb18030") for line in (HEADER, *lines))
    return list(read_rows(layout, data))


def test_a_row_becomes_resources_with_stable_ids_and_digits_kept(feed: Feed, layout: CsvLayout) -> None:
    [row] = rows(layout, "V1,P1,王芳,女,1970/02/03,,2026-01-02 08:30,130.50,很好")
    assert isinstance(row, Row)
    patient, observation = resources_of(feed, layout, row.values)
    assert patient["gender"] == "female"
    assert patient["birthDate"] == "1970-02-03"
    assert patient["active"] is True
    assert "telecom" not in patient
    assert patient["id"].startswith("township-clinic.")
    assert observation["subject"] == {"reference": f"Patient/{patient['id']}"}
    assert observation["valueQuantity"]["value"] == Decimal("130.50")
    assert observation["effectiveDateTime"] == "2026-01-02T08:30:00+08:00"
    assert observation["performer"] == [{"reference": "Organization/township-clinic"}]
    assert unread_columns(layout, row.values) == ["备注"]


def test_bad_rows_are_told_with_their_line_and_the_good_ones_come_through(layout: CsvLayout) -> None:
    good = "V1,P1,王芳,女,1970/02/03,,2026-01-02 08:30,130,"
    result = rows(layout, good, "V2,P2,too,few", b"V3,P3,\xff\xff\xff,x,,,,,", "", good.replace("V1", "V4"))
    assert [(type(r), r.line) for r in result] == [(Row, 2), (BadRow, 3), (BadRow, 4), (Row, 6)]
    assert "4 columns" in result[1].cause  # type: ignore[union-attr] # the line above holds its type
    assert "gb18030" in result[2].cause  # type: ignore[union-attr] # likewise


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("V1,P1,王芳,不详,1970/02/03,,2026-01-02 08:30,130,", "'不详' is not in the code map 'sex'"),
        ("V1,P1,王芳,女,1970/02/30,,2026-01-02 08:30,130,", "'1970/02/30' is not a date"),
        ("V1,P1,王芳,女,1970/02/03,,2026-01-02 08:30,high,", "'high' is not a number"),
        ("V1,P1,王芳,女,1970/02/03,,2026-01-02 08:30,NaN,", "'NaN' is not a number"),
        ("V1,,王芳,女,1970/02/03,,2026-01-02 08:30,130,", "病历号: empty"),
    ],
)
def test_a_fault_names_column_and_value(feed: Feed, layout: CsvLayout, line: str, cause: str) -> None:
    [row] = rows(layout, line)
    assert isinstance(row, Row)
    with pytest.raises(Invalid, match=cause):
        resources_of(feed, layout, row.values)


def test_a_missing_column_is_told_before_any_row(layout: CsvLayout) -> None:
    with pytest.raises(Invalid, match="收缩压"):
        list(read_rows(layout, "就诊号,病历号,姓名,性别,出生,电话,时间\n".encode("gb18030")))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (("encoding: gb18030", "encoding: klingon"), "unknown encoding"),
        (("{reference: Patient}", "{reference: Nobody}"), "Nobody"),
        (("map: sex", "map: six"), "no code map 'six'"),
        (("type: Observation", "type: Observatory"), "Observatory"),
        (("name[0].text", "name[0]..text"), "is not a path"),
        (("row: 就诊号", "raw: 就诊号"), "'row'"),
    ],
)
def test_a_wrong_feed_file_is_told_by_its_key(tmp_path: Path, change: tuple[str, str], cause: str) -> None:
    path = tmp_path / "clinic.yaml"
    path.write_text(FEED.replace(*change), encoding="utf-8")
    with pytest.raises(Invalid, match=cause):
        csv_layout(read_feed(path))


SIMPLE = """
feed: f
organisation: o
kind: csv
row: id
resources:
  - {type: Patient, identity: [id], elements: {gender: sex}}
"""


def simple(tmp_path: Path, **settings: str) -> CsvLayout:
    path = tmp_path / "f.yaml"
    path.write_text(SIMPLE + "".join(f"{key}: {value}\n" for key, value in settings.items()), encoding="utf-8")
    return csv_layout(read_feed(path))


def told(layout: CsvLayout, data: bytes) -> list[tuple[int, str]]:
    """(line, value of the second column, or the cause)."""
    return [(r.line, r.values["sex"] if isinstance(r, Row) else r.cause) for r in read_rows(layout, data)]


@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        ("gb18030", "gb18030"),
        ("gbk", "gbk"),
        ("utf-8", "utf-8"),
        ("utf-8", "utf-8-sig"),
        ("gb18030", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-8", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("big5", "big5"),
    ],
)
def test_encodings_and_marks(tmp_path: Path, declared: str, codec: str) -> None:
    layout = simple(tmp_path, encoding=declared)
    assert told(layout, "id,sex\r\n1,男女\r\n".encode(codec)) == [(2, "男女")]


@pytest.mark.parametrize(("delimiter", "sign"), [("','", ","), ("';'", ";"), ('"\\t"', "\t"), ("'|'", "|")])
def test_delimiters(tmp_path: Path, delimiter: str, sign: str) -> None:
    assert told(simple(tmp_path, delimiter=delimiter), f"id{sign}sex\n1{sign}m\n".encode()) == [(2, "m")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('1,"two\nlines"\n2,m\n', [(2, "two\nlines"), (4, "m")]),
        ('1,"a ""quoted"" word"\r\n2,m', [(2, 'a "quoted" word'), (3, "m")]),
        ("1,m,\n2,m,,,\n", [(2, "m"), (3, "m")]),
        (
            "1,m,x\n2\n3,m\n",
            [(2, "3 columns where the header has 2"), (3, "1 columns where the header has 2"), (4, "m")],
        ),
        ('1,"never closed\n2,m\n3,"m"\n', [(2, "not readable as CSV: "), (3, "m"), (4, "m")]),
        ('1,m\n2,"never closed', [(2, "m"), (3, "not readable as CSV: ")]),
        ('1,5" pipe\n2,m\n', [(2, '5" pipe'), (3, "m")]),
        ('1,"5" and 6" pipes"\n2,m\n', [(2, '5 and 6" pipes"'), (3, "m")]),
        ("1,a\x00b\n2,m\n", [(2, "a NUL character"), (3, "m")]),
        (f"1,{'x' * 200_000}\n2,m\n", [(2, "not readable as CSV: field larger"), (3, "m")]),
        ("1,a\x0bb\x85c\u2028d\x1ce\n2,m\n", [(2, "a\x0bb\x85c\u2028d\x1ce"), (3, "m")]),
        ("\n\n ,\n1,m\n,,\n", [(5, "m")]),
        ("1,m\r2,f\r", [(2, "m"), (3, "f")]),
        ("1,\ufffd\n", [(2, "bytes that are not utf-8-sig")]),
    ],
)
def test_bad_rows_cost_no_good_ones(tmp_path: Path, body: str, expected: list[tuple[int, str]]) -> None:
    found = told(simple(tmp_path), ("id,sex\n" + body).encode())
    assert [line for line, _ in found] == [line for line, _ in expected]
    for (_, text), (_, begins) in zip(found, expected, strict=True):
        assert text == begins or (begins.startswith("not readable") and text.startswith(begins))


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b"id\n1\n", "line 1: the header lacks sex"),
        (b"id,sex,id\n1,m,2\n", "line 1: the header names id twice"),
        ("id,sex\n".encode("utf-16-le"), "lacks id, sex"),
    ],
)
def test_a_header_that_cannot_be_right_is_told(tmp_path: Path, data: bytes, cause: str) -> None:
    with pytest.raises(Invalid, match=cause):
        told(simple(tmp_path), data)


def test_a_column_that_is_not_read_may_come_twice_and_is_reported_twice(tmp_path: Path) -> None:
    layout = simple(tmp_path)
    [row] = read_rows(layout, b"id,sex,note,note,\n1,m,a,b,\n")
    assert isinstance(row, Row)
    assert unread_columns(layout, row.values) == ["note", "note (4)"]
