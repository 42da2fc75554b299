"""Reads the tables of attacks in `cases/`: one file a group of `attacks.md`, one entry an attack.

A case is what is asked, as whom, and the status that is right; `as` may name several callers, each a case of its own.
`default` holds for all cases of a file. `then` are further requests whose answers count as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.security.attacks.twins import Ask

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True, slots=True)
class Case:
    """One attack by one caller."""

    group: int
    who: str
    asks: tuple[Ask, ...]
    status: int | list[int]
    more: dict[str, Any]

    @property
    def name(self) -> str:
        """The test's id: group, caller, request."""
        what = self.more.get("name") or f"{self.asks[0].method} {self.asks[0].address or '/'}"
        return f"{self.group:02}-{self.who}-{what}"[:120]


def table(name: str) -> dict[str, Any]:
    """One file as written."""
    found: dict[str, Any] = yaml.safe_load((CASES / name).read_text(encoding="utf-8"))
    return found


def cases(*groups: int) -> list[Case]:
    """The cases of some groups, in the order of the files."""
    documents = [table(path.name) for path in sorted(CASES.glob("*.yaml"))]
    found = [case for document in documents if document["group"] in groups for case in _read(document)]
    assert {case.group for case in found} == set(groups)
    return found


def _read(document: dict[str, Any]) -> Iterator[Case]:
    for entry in document["cases"]:
        member = document.get("default", {}) | entry
        callers, ask = member.pop("as"), member.pop("ask")
        asks = (
            Ask.read(ask, member.pop("body", None), member.pop("headers", None)),
            *(Ask.read(text) for text in member.pop("then", ())),
        )
        for who in [callers] if isinstance(callers, str) else callers:
            yield Case(document["group"], who, asks, member["status"], member)
