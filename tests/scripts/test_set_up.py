"""The set-up script without a network: what it says when something is missing, and that it does nothing twice."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("scripts", "requirements"):
        shutil.copytree(_ROOT / name, tmp_path / name)
    for name in ("pyproject.toml", "Makefile"):
        shutil.copy(_ROOT / name, tmp_path / name)
    return tmp_path


def _fake_python(folder: Path, body: str) -> Path:
    folder.mkdir()
    python = folder / "python3"
    python.write_text(f"#!/bin/sh\n{body}\n")
    python.chmod(0o755)
    return python


def _set_up(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["scripts/set_up.sh"],
        cwd=checkout,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_a_python_that_is_too_old_is_told(checkout: Path) -> None:
    tools = checkout / "bin"
    _fake_python(tools, 'case "$1" in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac')
    for name in ("sh", "dirname", "pwd"):
        (tools / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    done = _set_up(checkout, PATH=str(tools), PYTHON="")
    assert done.returncode != 0
    assert "Python 3.11 or later is needed, found: Python 3.9.2" in done.stderr


def test_a_missing_venv_module_is_told(checkout: Path) -> None:
    real = shutil.which("python3")
    answers = f'*sys.executable*) echo "$0" ;; *ensurepip*) exit 1 ;; *) exec {real} "$@" ;;'
    python = _fake_python(checkout / "bin", f'case "$2" in {answers} esac')
    done = _set_up(checkout, PYTHON=str(python))
    assert done.returncode != 0
    assert "apt-get install python3-venv" in done.stderr


def test_an_unreachable_index_says_what_to_set(checkout: Path) -> None:
    done = _set_up(checkout, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0", PIP_TIMEOUT="1")
    assert done.returncode != 0
    assert "PIP_INDEX_URL=" in done.stderr


def test_a_second_run_does_nothing_quickly() -> None:
    if not (_ROOT / ".venv" / "kanglian-state").exists():
        pytest.skip("this checkout was not set up by make")
    before = (_ROOT / ".venv" / "kanglian-state").stat().st_mtime_ns
    started = time.monotonic()
    done = _set_up(_ROOT)
    assert done.returncode == 0
    assert not done.stderr
    assert (_ROOT / ".venv" / "kanglian-state").stat().st_mtime_ns == before
    assert time.monotonic() - started < 30
