"""The five-minute walk, from the README's own text, with what the README says of each step."""

import html
import json
import re
import shlex
from typing import Any

import httpx
import pytest

from tests.flow.running import CHECKOUT, Running

pytestmark = pytest.mark.flow


def _walk(readme: str, heading: str) -> list[str]:
    text = (CHECKOUT / readme).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def test_both_languages_have_the_same_lines() -> None:
    lines = _walk("README.md", "Five minutes")
    assert len(lines) == 9
    assert lines == _walk("README.zh-CN.md", "五分钟")


def test_the_first_page_shows_accounts_links_and_the_same_lines(platform: Running) -> None:
    page = html.unescape(httpx.get(f"{platform.base_url}/").text)
    assert "<script" not in page
    for line in _walk("README.md", "Five minutes"):
        assert line in page
    for account in ("dr.wang", "dr.li", "zhang.wei", "liu.yang", "researcher.chen", "/fhir/metadata"):
        assert account in page


def test_the_walk_does_what_the_readme_says(platform: Running) -> None:
    lines = [shlex.split(line) for line in _walk("README.md", "Five minutes")]
    assert all(program == ".venv/bin/kanglian" for program, *_ in lines)
    send, as_wang, as_li, give, opened, withdraw, closed, looked, count = [arguments for _, *arguments in lines]

    assert "MSA|AA|" in platform.run(*send).stdout
    platform.settled(5)
    seen = platform.run(*as_wang).stdout
    assert re.search(r'"value":\s*4\.20\b', seen)
    (observation,) = [entry["resource"] for entry in json.loads(seen)["entry"]]
    assert observation["referenceRange"][0]["low"]["value"] == 3.5
    assert _found(platform, as_li) == []
    assert "county-hospital" in platform.run(*give).stdout
    assert [found["id"] for found in _found(platform, opened)] == [observation["id"]]
    assert "county-hospital" in platform.run(*withdraw).stdout
    assert _found(platform, closed) == []

    readers = {
        agent["who"]["display"] for event in _found(platform, looked) for agent in event["agent"] if agent["requestor"]
    }
    assert {"dr.wang", "dr.li", "zhang.wei"} <= readers

    cells = json.loads(platform.run(*count).stdout)["cells"]
    assert cells
    shown = [cell[name] for cell in cells for name in ("count", "numerator") if cell[name] is not None]
    assert all(number == 0 or number >= 10 for number in shown), "small cells are left out"


def _found(platform: Running, get: list[str]) -> list[dict[str, Any]]:
    bundle = json.loads(platform.run(*get).stdout)
    assert bundle["resourceType"] == "Bundle"
    return [entry["resource"] for entry in bundle.get("entry", ())]


def test_a_consent_to_nobody_is_refused_with_those_there_are(platform: Running) -> None:
    given = platform.run("consent", "give", "--user", "zhang.wei", "--to", "county-hopsital", ok=False)
    assert given.returncode == 1
    assert "there is no organisation 'county-hopsital'" in given.stderr
    assert "county-hospital (" in given.stderr
