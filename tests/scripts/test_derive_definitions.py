"""The parts of scripts/derive_definitions.py that decide: unions, branches by type, the pinned jar."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "scripts" / "derive_definitions.py"
    spec = importlib.util.spec_from_file_location("derive_definitions", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("expression", "branches"),
    [
        ("A.x", ["A.x"]),
        ("A.x | B.y", ["A.x", "B.y"]),
        ("(A.x | A.y).z | B", ["(A.x | A.y).z", "B"]),
        ("A.where(s='a|b') | B[0]", ["A.where(s='a|b')", "B[0]"]),
    ],
)
def test_unions_are_split_outside_of_brackets_and_quotes(
    script: ModuleType, expression: str, branches: list[str]
) -> None:
    assert script.union_branches(expression) == branches


def test_branches_go_to_their_types(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    types = {"A", "B", "C"}
    found = script.split_by_type("url", ["A", "B"], "A.x | (B.y as dateTime) | A.z | name", types)
    assert found == {"A": "A.x | A.z | name", "B": "(B.y as dateTime) | name"}
    assert capsys.readouterr().out == ""
    script.split_by_type("url", ["A"], "C.x", types)
    assert "C, which is no base" in capsys.readouterr().out


def test_another_jar_is_refused(script: ModuleType, tmp_path: Path) -> None:
    jar = tmp_path / "x.jar"
    jar.write_bytes(b"x")
    with pytest.raises(SystemExit, match="SHA-256"):
        script.read_jar(jar)
