"""FHIR files: whole files, NDJSON, gzip, broken gzip and bounds."""

import gzip
from pathlib import Path

import pytest

from ehr.errors import Malformed, TooCostly
from hospital_adapters.fhir import files
from hospital_adapters.fhir.files import Entry, read_entries


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_is_an_entry_and_empty_lines_are_none(tmp_path: Path, packed: bool) -> None:  # noqa: FBT001 - a table
    content = b'{"a": 1}\r\n\n{"b": 2}'
    path = tmp_path / ("x.ndjson.gz" if packed else "x.ndjson")
    path.write_bytes(gzip.compress(content) if packed else content)
    assert list(read_entries(path)) == [Entry(1, b'{"a": 1}'), Entry(3, b'{"b": 2}')]


def test_a_json_file_is_one_entry(tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    path.write_bytes(b'{\n"resourceType": "Bundle"\n}\n')
    assert list(read_entries(path)) == [Entry(1, b'{\n"resourceType": "Bundle"\n}\n')]


def test_broken_gzip_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:-20])
    with pytest.raises(Malformed, match="line"):
        list(read_entries(path))


def test_a_gzip_bomb_stops_at_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_LINE_BYTES", 1_000_000)  # the bound itself is under test, not replaced
    path = tmp_path / "x.ndjson.gz"
    path.write_bytes(gzip.compress(b"x" * 50_000_000))
    with pytest.raises(TooCostly, match="line 1"):
        list(read_entries(path))
