"""Sensitivity and confidentiality of a row as a bit mask, found from its codes and its `meta.security`.

Bits: 0-2 confidentiality U, L, M; 3-4 R, V (normal, N, sets none); 5-30 sensitivities, whatever their source; 32-57 the
same sensitivities where the row's own codes say so; 60-61 the server's marks. A mask of 0 is an unlabelled row.
https://terminology.hl7.org/CodeSystem/v3-Confidentiality, https://terminology.hl7.org/CodeSystem/v3-ActCode
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

CONFIDENTIALITY_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT_CODE_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

LEVELS = ("U", "L", "M", "N", "R", "V")
_LEVEL_BIT = {"U": 1 << 0, "L": 1 << 1, "M": 1 << 2, "R": 1 << 3, "V": 1 << 4}
SENSITIVITIES = (
    *("HIV", "STD", "PSY", "PSYTHPN", "MH", "BH", "ETH", "ETHUD", "OPIOIDUD", "SUD", "SDV", "VIO", "SEX", "GDIS"),
    *("SICKLE", "ADOL", "CEL", "EMP", "DEMO", "TBOO", "COGN", "DVD", "EMOTDIS", "MST"),
)
_SENSITIVITY_BIT = {code: 1 << (5 + place) for place, code in enumerate(SENSITIVITIES)}
OWN_SHIFT = 27
"""A sensitivity at bit n stands again at bit n + 27 where the row's own codes gave it."""

REVIEW = 1 << 60
"""A break-glass review that only the privacy officer sees."""
KEPT = 1 << 61
"""A directory row with personal content inside: only its custodian sees it."""

SENSITIVE = sum(_SENSITIVITY_BIT.values())
ABOVE_NORMAL = _LEVEL_BIT["R"] | _LEVEL_BIT["V"]
BELOW_NORMAL = _LEVEL_BIT["U"] | _LEVEL_BIT["L"] | _LEVEL_BIT["M"]
LABELLED = SENSITIVE | ABOVE_NORMAL | REVIEW | KEPT
"""The bits that a permit must name to open the row."""
SPREADING = SENSITIVE | ABOVE_NORMAL
_LONGEST_PREFIX = 7


def sensitivity_mask(codes: Mapping[str, Any] | frozenset[str] | list[str]) -> int:
    """The bits of these sensitivity codes."""
    return sum(_SENSITIVITY_BIT[code] for code in set(codes))


def at_or_above(level: str) -> tuple[int, bool]:
    """Bits of the levels from `level` up, and whether rows without a level (normal) are among them."""
    levels = LEVELS[LEVELS.index(level) :]
    return sum(_LEVEL_BIT.get(code, 0) for code in levels), "N" in levels


def above(level: str) -> tuple[int, bool]:
    """Bits of the levels over `level`, and whether rows without a level (normal) are among them."""
    levels = LEVELS[LEVELS.index(level) + 1 :]
    return sum(_LEVEL_BIT.get(code, 0) for code in levels), "N" in levels


def own_of(labels: int) -> int:
    """The sensitivities that the row's own codes gave, as ordinary bits."""
    return (labels >> OWN_SHIFT) & SENSITIVE


@dataclass(frozen=True, slots=True)
class Spread:
    """One kind of reference along which labels spread."""

    type: str
    element: tuple[str, ...]
    parameter: str | None
    """The search parameter by which the referring rows are found; R4 has none for some elements."""
    up: bool
    down: bool


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The value sets, compiled."""

    exact: dict[tuple[str, str], int]
    anywhere: dict[str, int]
    prefixes: dict[str, dict[str, int]]
    words: re.Pattern[str]
    word_masks: tuple[tuple[re.Pattern[str], int], ...]
    spreads: tuple[Spread, ...]

    def of_coding(self, system: str, code: str) -> int:
        """The mask of one coding."""
        mask = self.exact.get((system, code), 0) | self.anywhere.get(code.upper(), 0)
        table = self.prefixes.get(system)
        if table is not None:
            bare = code.upper().replace(".", "")
            for length in range(1, min(len(bare), _LONGEST_PREFIX) + 1):
                mask |= table.get(bare[:length], 0)
        return mask

    def of_text(self, text: str) -> int:
        """The mask of the words of a display or text."""
        if self.words.search(text) is None:
            return 0
        return sum(mask for pattern, mask in self.word_masks if pattern.search(text))


def read_table(text: str) -> LabelTable:
    """Compile a table in the form of `labels.yaml`; ValueError where it names an unknown sensitivity or system."""
    data = yaml.safe_load(text)
    exact: dict[tuple[str, str], int] = {}
    anywhere: dict[str, int] = {}
    prefixes: dict[str, dict[str, int]] = {}
    words: list[tuple[re.Pattern[str], int]] = []
    for sensitivity, sources in data["sensitivities"].items():
        if sensitivity not in _SENSITIVITY_BIT:
            raise ValueError(f"unknown sensitivity {sensitivity}")
        bit = _SENSITIVITY_BIT[sensitivity]
        for name, codes in sources.get("codes", {}).items():
            for system in data["systems"][name]:
                for code in codes:
                    if system == "*":
                        anywhere[str(code).upper()] = anywhere.get(str(code).upper(), 0) | bit
                    else:
                        exact[system, str(code)] = exact.get((system, str(code)), 0) | bit
        for name, beginnings in sources.get("prefixes", {}).items():
            for system in data["systems"][name]:
                table = prefixes.setdefault(system, {})
                for beginning in beginnings:
                    bare = str(beginning).replace(".", "")
                    table[bare] = table.get(bare, 0) | bit
        words.append((re.compile("|".join(sources["words"]), re.IGNORECASE), bit))
    spreads = tuple(
        Spread(
            row["type"],
            tuple(row["element"].split(".")),
            row.get("parameter"),
            row.get("up", False),
            row.get("down", False),
        )
        for row in data["spreads"]
    )
    every = re.compile("|".join(f"(?:{pattern.pattern})" for pattern, _ in words), re.IGNORECASE)
    return LabelTable(exact, anywhere, prefixes, every, tuple(words), spreads)


SETS = Path(__file__).parent / "labels.yaml"
_READING = "reading 1"
"""Raise it where the code below reads more from a resource than it did: stored rows are then read anew."""


@cache
def table() -> LabelTable:
    """The table of the platform."""
    return read_table(SETS.read_text("utf-8"))


@cache
def sets_text() -> str:
    """What the sets say, a line for each code, word and spread, sorted: two texts differ where labels may differ."""
    data = yaml.safe_load(SETS.read_text("utf-8"))
    lines = {_READING, *(f"spread {sorted(spread.items())}" for spread in data["spreads"])}
    for sensitivity, sources in data["sensitivities"].items():
        for kind in ("codes", "prefixes"):
            for name, codes in sources.get(kind, {}).items():
                lines |= {f"{sensitivity} {kind} {s} {code}" for s in data["systems"][name] for code in codes}
        lines |= {f"{sensitivity} words {word}" for word in sources["words"]}
    return "\n".join(sorted(lines))


@cache
def spreads_of(resource_type: str) -> tuple[Spread, ...]:
    """The references of a type along which labels spread."""
    return tuple(spread for spread in table().spreads if spread.type == resource_type)


@dataclass(slots=True)
class Reading:
    """What one walk over a resource finds: own labels, references, and personal resources inside."""

    labels: int
    references: list[str]
    inside: list[tuple[str, str]]
    """(type, id or "") of contained resources and Bundle entries."""
    urls: list[str]
    """Values of members named url: those of attachments among them."""


_TEXT_KEYS = frozenset({"text", "display", "title"})


@lru_cache(maxsize=65_536)
def _coding_mask(system: str, code: str) -> int:
    # security labels of contained resources and entries count as the row's own
    return _SENSITIVITY_BIT.get(code, 0) if system == ACT_CODE_SYSTEM else table().of_coding(system, code)


@lru_cache(maxsize=16_384)
def _text_mask(text: str) -> int:
    return table().of_text(text)


def _mask_of(node: Mapping[str, Any], name: str, value: str) -> int:
    """What a code or a text of `node` says."""
    if name == "code":
        system = node.get("system")
        return _coding_mask(system if type(system) is str else "", value)
    return _text_mask(value) if len(value) < 256 else table().of_text(value)


def read_resource(resource: Mapping[str, Any]) -> Reading:
    """Walk the resource once, contained resources and Bundle entries included."""
    found = Reading(0, [], [], [])
    labels = 0
    pending: list[Any] = [resource]
    while pending:
        node = pending.pop()
        for name, value in node.items():
            kind = type(value)
            if kind is str:
                if name == "reference":
                    found.references.append(value)
                elif name == "code" or name in _TEXT_KEYS:
                    labels |= _mask_of(node, name, value)
                elif name == "url":
                    found.urls.append(value)
                elif name == "resourceType":
                    identity = node.get("id")
                    found.inside.append((value, identity if type(identity) is str else ""))
            elif kind is dict:
                pending.append(value)
            elif kind is list:
                pending += [item for item in value if type(item) is dict]
    # the walk meets the resource itself first
    del found.inside[: 1 if "resourceType" in resource else 0]
    labels &= SENSITIVE
    found.labels = labels | labels << OWN_SHIFT | _security_labels(resource)
    return found


def _codes(codings: Any) -> Iterator[tuple[str, str]]:
    for coding in codings if isinstance(codings, list) else ():
        if isinstance(coding, dict) and isinstance(coding.get("code"), str):
            yield coding.get("system") or "", coding["code"]


def _security_labels(resource: Mapping[str, Any]) -> int:
    """Levels of `meta.security`, the highest only, of the resource and of those inside it."""
    highest = -1
    inside = [item for item in resource.get("contained", ()) if isinstance(item, dict)]
    inside += [e["resource"] for e in resource.get("entry", ()) if isinstance(e, dict) and "resource" in e]
    for part in (resource, *inside):
        meta = part.get("meta")
        for system, code in _codes(meta.get("security") if isinstance(meta, dict) else None):
            if system == CONFIDENTIALITY_SYSTEM and code in LEVELS:
                highest = max(highest, LEVELS.index(code))
    return _LEVEL_BIT.get(LEVELS[highest], 0) if highest >= 0 else 0


def targets_of(resource: Mapping[str, Any], element: tuple[str, ...]) -> Sequence[str]:
    """The literal references at a path, "Type/id" as written."""
    if len(element) == 1:
        value = resource.get(element[0])
        if value is None:
            return ()
        if value.__class__ is dict:  # most elements are one reference, or absent
            reference = value.get("reference")
            return (reference,) if reference.__class__ is str else ()
    level: list[Any] = [resource]
    for name in element:
        following: list[Any] = []
        for node in level:
            value = node.get(name) if isinstance(node, dict) else None
            following.extend(value if isinstance(value, list) else () if value is None else (value,))
        level = following
    return [node["reference"] for node in level if isinstance(node, dict) and isinstance(node.get("reference"), str)]


def with_level(labels: int) -> int:
    """The mask with only the highest confidentiality bit kept."""
    levels = labels & (ABOVE_NORMAL | BELOW_NORMAL)
    if levels & (levels - 1):
        labels = labels & ~levels | 1 << (levels.bit_length() - 1)
    return labels


def names_of(labels: int) -> list[str]:
    """The codes of a mask, for explanations."""
    return [code for code, bit in (*_LEVEL_BIT.items(), *_SENSITIVITY_BIT.items()) if labels & bit]
