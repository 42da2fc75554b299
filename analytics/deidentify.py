"""De-identification by one allow-list: a resource goes in, the few coarse columns of `deidentify.toml` come out."""

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any

import pyarrow as pa

from ehr import fhirpath

_ARROW_TYPES: dict[str, pa.DataType] = {
    "code": pa.string(),
    "codings": pa.list_(pa.string()),
    "year": pa.int16(),
    "month": pa.date32(),
    "number": pa.float64(),
    "unit": pa.string(),
    "organisation": pa.string(),
    "township": pa.string(),
    "county": pa.string(),
    "position": pa.float64(),
    "text": pa.string(),
}
_NAMES = re.compile(r"(?:\([A-Z]\w+\.(?P<choice>\w+) as (?P<type>\w+)\)|[A-Z]\w+)(?P<names>(?:\.[a-z]\w*)*)")
_KEYS = (
    ("row", pa.int64()),
    ("holder", pa.int64()),
    ("sequence", pa.int64()),
    ("deleted", pa.bool_()),
)


@dataclass(frozen=True, slots=True)
class Gazetteer:
    """The townships that addresses are generalised to: township name to county name."""

    counties: Mapping[str, str]

    def township(self, address: Mapping[str, Any]) -> str | None:
        """The first known township named in an Address; never another part of it."""
        parts = [*address.get("line", ()), address.get("district"), address.get("city"), address.get("text")]
        for part in parts:
            for name in self.counties:
                if isinstance(part, str) and name in part:
                    return name
        return None


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    rule: str
    values: Callable[[Any], list[Any]]


@cache
def _columns() -> dict[str, tuple[_Column, ...]]:
    listed = tomllib.loads(files("analytics").joinpath("deidentify.toml").read_text(encoding="utf-8"))
    return {
        resource_type: tuple(
            _Column(name, column["rule"], _reader(column["path"], resource_type)) for name, column in columns.items()
        )
        for resource_type, columns in listed.items()
    }


def _reader(path: str, resource_type: str) -> Callable[[Any], list[Any]]:
    """What a path gives of a resource; of names one below the other it is read without FHIRPath's machinery."""
    whole: Callable[[Any], list[Any]] = fhirpath.compile(path, context_type=resource_type)
    match = _NAMES.fullmatch(path)
    if match is None:
        return whole
    chosen = match["choice"] + match["type"][:1].upper() + match["type"][1:] if match["choice"] else None
    names = [*([chosen] if chosen else ()), *filter(None, match["names"].split("."))]
    siblings = [f"_{name}" for name in names]

    def read(resource: Any) -> list[Any]:
        level = [resource]
        for name, sibling in zip(names, siblings, strict=True):
            following: list[Any] = []
            for node in level:
                if type(node) is not dict or sibling in node:
                    return whole(resource)
                value = node.get(name)
                if type(value) is list:
                    following += [item for item in value if item is not None]
                elif value is not None:
                    following.append(value)
            level = following
        return level

    return read


def written_types() -> frozenset[str]:
    """Resource types of which anything is written at all."""
    return frozenset(_columns())


@cache
def arrow_schema(resource_type: str) -> pa.Schema:
    """The explicit schema of a type's Parquet files: keys first, then the allow-list's columns."""
    columns = [(column.name, _ARROW_TYPES[column.rule]) for column in _columns()[resource_type]]
    return pa.schema([*_KEYS, *columns])


def pseudonym(secret: bytes, number: int) -> int:
    """A keyed 64-bit stand-in for a row, holder or person number; 0 stays 0 (nobody)."""
    if number == 0:
        return 0
    digest = hashlib.blake2b(number.to_bytes(8, "big", signed=True), key=secret, digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def columns_of(resource_type: str, resource: Mapping[str, Any], gazetteer: Gazetteer) -> dict[str, Any]:
    """The allowed columns of one resource in their coarse form; None where the element is absent."""
    return {
        column.name: _coarse(column.rule, column.values(resource), gazetteer) for column in _columns()[resource_type]
    }


def _coarse(rule: str, values: list[Any], gazetteer: Gazetteer) -> Any:
    if rule == "codings":
        return [text for value in values for text in _codings(value)]
    if not values:
        return None
    return _RULES[rule](values[0], gazetteer)


def _codings(value: Any) -> list[str]:
    codings = value.get("coding", ()) if "coding" in value else (value,)
    return [f"{coding.get('system', '')}|{coding['code']}" for coding in codings if "code" in coding]


def _text(value: Any, _: Gazetteer) -> str:
    return str(value)


def _year(value: Any, _: Gazetteer) -> int:
    return int(str(value)[:4])


def _month(value: Any, _: Gazetteer) -> date | None:
    text = str(value)
    return date(int(text[:4]), int(text[5:7]), 1) if len(text) >= 7 else None


def _number(value: Any, _: Gazetteer) -> float:
    return float(value)


def _organisation(value: Any, _: Gazetteer) -> str | None:
    reference = str(value.get("reference", ""))
    return reference.removeprefix("Organization/") if reference.startswith("Organization/") else None


def _township(value: Any, gazetteer: Gazetteer) -> str | None:
    return gazetteer.township(value)


def _county(value: Any, gazetteer: Gazetteer) -> str | None:
    township = gazetteer.township(value)
    return gazetteer.counties[township] if township is not None else None


_RULES: dict[str, Callable[[Any, Gazetteer], Any]] = {
    "code": _text,
    "year": _year,
    "month": _month,
    "number": _number,
    "unit": _text,
    "organisation": _organisation,
    "township": _township,
    "county": _county,
    "position": _number,
    "text": _text,
}
