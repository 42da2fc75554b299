"""Nothing is undocumented: settings, commands, make targets, routes; and no page points nowhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kanglian import commands
from kanglian.cli import build_parser
from kanglian.settings import OTHER_VARIABLES, VARIABLES

_ROOT = Path(__file__).resolve().parents[1]
_PAGES = sorted([*_ROOT.glob("README*.md"), *(_ROOT / "docs").rglob("*.md")])
_OF_THE_SET_UP = {"KANGLIAN_SET_UP_LOCKED"}


def _text(*names: str) -> str:
    return "\n".join((_ROOT / name).read_text(encoding="utf-8") for name in names)


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    documented = set(re.findall(r"`(KANGLIAN_[A-Z_]+)`", _text("docs/settings.md")))
    assert documented == VARIABLES.keys() | OTHER_VARIABLES


def test_no_other_setting_is_used_anywhere() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=_ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    used: set[str] = set()
    for name in filter(None, listed.stdout.split("\0")):
        path = _ROOT / name
        if path.suffix in {".py", ".sh", ".md", ".yaml", ".env", ""} and path.is_file():
            used |= set(re.findall(r"\bKANGLIAN_[A-Z]+(?:_[A-Z]+)*\b", path.read_text(encoding="utf-8")))
    known = VARIABLES.keys() | OTHER_VARIABLES | _OF_THE_SET_UP
    misspelt_on_purpose = {"KANGLIAN_PROT"}
    assert not used - known - misspelt_on_purpose


def test_every_command_is_documented() -> None:
    text = _text("docs/commands.md")
    for command in commands.ALL:
        assert f"`kanglian {command.NAME}" in text, f"docs/commands.md does not name {command.NAME}"
    named = set(re.findall(r"`kanglian ([a-z]+)", text))
    assert named == {command.NAME for command in commands.ALL}


@pytest.mark.parametrize("command", [command.NAME for command in commands.ALL])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([command, "--help"])
    assert ended.value.code == 0
    assert len(capsys.readouterr().out) > 80


def test_pages_name_only_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", _text("Makefile"), flags=re.MULTILINE))
    for page in _PAGES:
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            assert target in targets, f"{page.relative_to(_ROOT)} names `make {target}`"


def test_links_between_pages_lead_somewhere() -> None:
    links = (
        (page, target)
        for page in _PAGES
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if "://" not in target
    )
    broken = [f"{page.relative_to(_ROOT)} -> {target}" for page, target in links if not (page.parent / target).exists()]
    assert not broken


def test_one_message_names_only_files_that_exist() -> None:
    named = re.findall(r"`([a-z_]+/[a-z0-9_/.]*)`", _text("docs/one_message.md"))
    assert named
    assert not [name for name in named if not (_ROOT / name).exists()]


def test_the_command_line_answers_at_once() -> None:
    code = "import sys, kanglian.cli; kanglian.cli.build_parser(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    slow = {"asyncpg", "duckdb", "fastapi", "httpx", "pandas", "pyarrow", "sqlalchemy", "uvicorn"}
    assert not slow & set(modules), "import these inside the command that needs them"


def test_the_performance_page_is_what_the_raw_results_give() -> None:
    command = [sys.executable, str(_ROOT / "benchmarks" / "performance_page.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
