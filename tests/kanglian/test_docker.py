"""The image and the compose file, as far as they can be checked without a container engine."""

import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from kanglian import commands
from kanglian.settings import VARIABLES, Settings

_ROOT = Path(__file__).resolve().parents[2]
_INSTRUCTIONS = {
    "FROM", "ARG", "RUN", "COPY", "USER", "WORKDIR", "ENV", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "CMD",
}  # fmt: skip


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    text = (_ROOT / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((_ROOT / "docker" / "compose.yaml").read_text())["services"]
    return services


def test_the_builder_knows_every_instruction(instructions: list[tuple[str, str]]) -> None:
    assert {name for name, _ in instructions} <= _INSTRUCTIONS
    assert instructions[0][0] == "FROM"


def test_every_copied_source_exists_and_reaches_the_builder(instructions: list[tuple[str, str]]) -> None:
    allowed = [line[1:] for line in (_ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [
        source
        for name, rest in instructions
        if name == "COPY" and "--from" not in rest
        for source in shlex.split(rest)[:-1]
    ]
    assert sources
    for source in sources:
        assert (_ROOT / source).exists(), source
        assert source.split("/")[0] in allowed, f"{source} is kept from the builder by .dockerignore"


def test_the_packages_of_the_project_are_all_in_the_image(instructions: list[tuple[str, str]]) -> None:
    packages = re.search(r"^packages = (\[.*\])$", (_ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert packages is not None
    copied = {shlex.split(rest)[0] for name, rest in instructions if name == "COPY"}
    assert set(yaml.safe_load(packages.group(1))) <= copied


def test_it_runs_as_an_ordinary_user_and_is_asked_how_it_is(instructions: list[tuple[str, str]]) -> None:
    names = [name for name, _ in instructions]
    assert names.index("USER") < names.index("CMD")
    assert "HEALTHCHECK" in names


def test_only_settings_that_exist_are_set(instructions: list[tuple[str, str]], services: dict[str, Any]) -> None:
    in_image = {name for kind, rest in instructions if kind == "ENV" for name in re.findall(r"KANGLIAN_[A-Z_]+", rest)}
    set_there = {name for service in services.values() for name in service.get("environment", ())}
    in_compose = {name for name in set_there if name.startswith("KANGLIAN_")}
    assert in_image
    assert in_image | in_compose <= VARIABLES.keys()


def test_the_settings_of_compose_let_the_platform_serve(services: dict[str, Any]) -> None:
    filled = {
        name: re.sub(r"\$\{(\w+)[^}]*\}", lambda found: _example(found.group(1)), str(value))
        for name, value in services["platform"]["environment"].items()
    }
    settings = Settings.read({**filled, "KANGLIAN_HOST": "0.0.0.0"})  # noqa: S104 - a text, nothing listens
    settings.check_serving()
    assert not settings.embedded_default
    assert settings.base_url == "https://kanglian.example.cn"


def test_bulk_work_has_its_broker_its_worker_and_its_beat(services: dict[str, Any]) -> None:
    names = {command.NAME for command in commands.ALL}
    for name in ("worker", "beat"):
        service = services[name]
        assert service["command"] == ["kanglian", name]
        assert name in names
        assert service["environment"].items() <= services["platform"]["environment"].items(), "other settings"
        assert service["volumes"] == services["platform"]["volumes"], "another folder of files"
        assert "broker" in service["depends_on"]
    address = urlsplit(services["platform"]["environment"]["KANGLIAN_BROKER_URL"])
    assert address.hostname in services


def _example(name: str) -> str:
    return {
        "DATABASE_PASSWORD": "secret",
        "KANGLIAN_OIDC_ISSUER": "https://sso.example.cn/realms/kanglian",
        "KANGLIAN_BASE_URL": "https://kanglian.example.cn",
        "KANGLIAN_POLICY": "cn-strict",
        "KANGLIAN_WORKERS": "2",
    }[name]


def test_what_must_be_filled_in_stands_in_the_example(services: dict[str, Any]) -> None:
    text = (_ROOT / "docker" / "compose.yaml").read_text()
    required = set(re.findall(r"\$\{(\w+):\?", text))
    offered = set(re.findall(r"^(\w+)=", (_ROOT / "docker" / "example.env").read_text(), flags=re.MULTILINE))
    assert required == offered
    assert set(services["platform"]["depends_on"]) <= services.keys()
