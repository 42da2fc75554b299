"""Attack 25: no regular expression of the project takes more than linear time, whatever text it is given.

Every pattern that a module keeps, wherever it keeps it, and every literal in the sources is tried with texts that
repeat one piece a few thousand times and then break off; four times the text may take about four times as long.
"""

import ast
import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PACKAGES = ("ehr", "consent", "fhir_api", "hospital_adapters", "analytics", "kanglian")
CHECKOUT = Path(__file__).resolve().parents[3]
SHORT, LONG = 750, 3_000
LONGEST_S = 0.4
_READ_NO_INPUT = {"ehr.validation.invariants": "reads the invariants of the definitions, never what is sent"}
_METHODS = ("match", "fullmatch", "search")
_SCANNING = frozenset({"search", "sub", "subn", "findall", "finditer", "split"})
_PIECES = (
    *"a0 .-/_:|^\\,;~&<>\"'[](){}=+*%#é你",
    *(
        "ab",
        "a ",
        " a",
        "a.",
        "0.",
        "0-",
        "a/",
        "a,",
        "a=",
        "\t",
        "\n",
        "\r\n",
        "<b>",
        "&a;",
        "aA0_",
        "00:",
        "T0",
        "\\,",
    ),
    *("http://a.", "depressive ", "2000-01-", "/_history/", "Patient/", "user/", "%41", "a:b", "1e1", "x|"),
)
_ENDS = ("", "\x00", "\n")


def _modules() -> Iterator[ModuleType]:
    for package in PACKAGES:
        root = importlib.import_module(package)
        yield root
        for found in pkgutil.walk_packages(root.__path__, f"{package}."):
            if not found.name.endswith("__main__") and ".migrations." not in found.name:
                yield importlib.import_module(found.name)


def _kept(value: Any, depth: int = 3) -> Iterator[re.Pattern[Any]]:
    """The patterns in a module's value: alone, or in tuples, sets and dictionaries."""
    if isinstance(value, re.Pattern):
        yield value
    elif depth and isinstance(value, dict):
        for each in value.values():
            yield from _kept(each, depth - 1)
    elif depth and isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _kept(each, depth - 1)


def _literals(source: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(pattern, uses) of calls like `re.sub(r"...", ...)` and `re.compile(r"...").match`."""
    tree = ast.parse(source)
    bound = {id(node.value): node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="re"), attr=name), args=[ast.Constant(value=str(text)), *_]
            ):
                used = bound.get(id(node), name)
                yield text, (used,) if used in _METHODS else ("search",) if used in _SCANNING else _METHODS


def _uses(source: str, name: str) -> tuple[str, ...]:
    """How a module uses one of its patterns: from the start of the text only, or from everywhere in it."""
    called = set(re.findall(rf"\b{re.escape(name)}\.(\w+)\(", source))
    if not called & (_SCANNING | set(_METHODS)):
        return _METHODS
    return tuple(m for m in _METHODS if m in called or (m == "search" and called & _SCANNING))


@cache
def _patterns() -> dict[tuple[str, int, tuple[str, ...]], str]:
    """Every pattern with its flags and uses, and a module that has it."""
    found: dict[tuple[str, int, tuple[str, ...]], str] = {}
    for module in _modules():
        path = module.__file__
        if path is None or module.__name__ in _READ_NO_INPUT:
            continue
        source = Path(path).read_text(encoding="utf-8")
        for name, value in list(vars(module).items()):
            for pattern in _kept(value):
                if isinstance(pattern.pattern, str):
                    found.setdefault(
                        (pattern.pattern, pattern.flags & ~re.UNICODE, _uses(source, name)), module.__name__
                    )
        for text, uses in _literals(source):
            if not any(key[0] == text for key in found):
                found[text, 0, uses] = module.__name__
    return found


def _seconds(pattern: re.Pattern[str], method: str, text: str) -> float:
    started = time.process_time()
    getattr(pattern, method)(text)
    return time.process_time() - started


def test_every_pattern_is_found() -> None:
    texts = {key[0] for key in _patterns()}
    assert len(texts) > 40
    for known in (r"[A-Za-z0-9\-.]{1,64}\Z", r"[A-Za-z0-9_-]+\Z"):
        assert known in texts


@pytest.mark.parametrize("key", sorted(_patterns()), ids=lambda key: f"25-{_patterns()[key]}-{key[0][:40]}")
def test_linear(key: tuple[str, int, tuple[str, ...]]) -> None:
    text, flags, methods = key
    pattern = re.compile(text, flags)
    for method in methods:
        for piece in _PIECES:
            for end in _ENDS:
                # an exponential one is found by thirty repetitions, before the long texts would hang on it
                assert _seconds(pattern, method, piece * 30 + end) < LONGEST_S, (method, piece, end)
                _assert_linear(pattern, method, piece, end)


def _assert_linear(pattern: re.Pattern[str], method: str, piece: str, end: str) -> None:
    long = _seconds(pattern, method, piece * (LONG // len(piece)) + end)
    if long < 0.004:
        return
    short = min(_seconds(pattern, method, piece * (SHORT // len(piece)) + end) for _ in range(3))
    long = min(_seconds(pattern, method, piece * (LONG // len(piece)) + end) for _ in range(3))
    assert long < 0.004 or long < 9 * short, (method, piece, end, short, long)


def test_the_trial_finds_quadratic_and_exponential_patterns() -> None:
    with pytest.raises(AssertionError):
        _assert_linear(re.compile(r"[\w.]*canary"), "search", "a", "!")
    assert _seconds(re.compile(r"(a+)+$"), "match", "a" * 22 + "!") > 0.1
