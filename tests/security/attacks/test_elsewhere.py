"""The attacks that other tests hold: the tests named in `cases/elsewhere.yaml` are there."""

import re
from pathlib import Path

import pytest

from tests.security.attacks.tables import table

CHECKOUT = Path(__file__).resolve().parents[3]
NAMED = [(group, name) for group, names in table("elsewhere.yaml")["tests"].items() for name in names]


@pytest.mark.parametrize(("group", "name"), NAMED, ids=lambda value: str(value).rpartition(":")[2])
def test_the_test_is_there(group: int, name: str) -> None:
    path, _, function = name.partition("::")
    source = (CHECKOUT / path).read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def {function}\(", source, re.MULTILINE), f"attack {group}: {name}"
