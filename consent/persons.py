"""Whom a resource is about: the rule of each resource type (`persons_of.csv`) and the Patients that a resource names.

The first person of the table's paths is the row's holder; every other Patient named anywhere, contained resources and
Bundle entries included, must be visible too. A type without a rule is seen by nobody.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from consent.labels import Reading, targets_of

Kind = Literal["directory", "personal", "custodian", "consent", "audit", "nobody"]


@dataclass(frozen=True, slots=True)
class TypeRule:
    """One line of `persons_of.csv`."""

    type: str
    kind: Kind
    persons: tuple[tuple[str, ...], ...]
    inherits: tuple[tuple[str, ...], ...]
    """Paths to other rows whose persons the row takes (a Provenance's targets)."""


def _paths(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(path.replace("[x]", "Reference").split(".")) for path in text.split())


@cache
def type_rules() -> dict[str, TypeRule]:
    """The table, by resource type."""
    with (Path(__file__).parent / "persons_of.csv").open(encoding="utf-8", newline="") as lines:
        return {
            row["type"]: TypeRule(row["type"], row["rule"], _paths(row["persons"]), _paths(row["inherits"]))  # type: ignore[arg-type]  # a test holds the column's words
            for row in csv.DictReader(lines)
        }


@cache
def types_of_kind(*kinds: Kind) -> frozenset[str]:
    """The resource types whose rule is one of these."""
    return frozenset(rule.type for rule in type_rules().values() if rule.kind in kinds)


@lru_cache(maxsize=16_384)
def split_reference(reference: str, base_url: str = "") -> tuple[str, str] | None:
    """(type, id) of a literal reference to this server, versions cut off; None for others' and contained ones."""
    if base_url and reference.startswith(base_url):
        reference = reference[len(base_url) :].lstrip("/")
    parts = reference.split("/")
    if len(parts) >= 2 and parts[0][:1].isupper() and parts[1] and (len(parts) == 2 or parts[2:3] == ["_history"]):
        return parts[0], parts[1]
    return None


@dataclass(frozen=True, slots=True)
class Naming:
    """The persons of one resource: ids of Patients in order, and rows from which it takes more."""

    patients: tuple[str, ...]
    inherited: tuple[tuple[str, str], ...]
    """(type, id) of rows whose persons this row shares."""
    custodian_only: bool
    """True where personal content stands in a row that everybody would see."""


def _patients(references: Iterable[str], base_url: str) -> Iterator[str]:
    for reference in references:
        if "Patient/" not in reference:
            continue
        split = split_reference(reference, base_url)
        if split is not None and split[0] == "Patient":
            yield split[1]


def _first_named(resource: Mapping[str, Any], rule: TypeRule, base_url: str) -> Iterator[str]:
    for path in rule.persons:
        if path == ("(self)",):
            identity = resource.get("id")
            if isinstance(identity, str):
                yield identity
        else:
            yield from _patients(targets_of(resource, path), base_url)


def name_persons(
    resource_type: str, resource_id: str, resource: Mapping[str, Any], reading: Reading, base_url: str = ""
) -> Naming:
    """The persons of a resource by its type's rule."""
    rule = type_rules().get(resource_type)
    if rule is None or rule.kind in ("custodian", "nobody", "audit"):
        return Naming((), (), custodian_only=True)
    if resource_type == "Patient":
        resource = {**resource, "id": resource_id}
    found = dict.fromkeys(_first_named(resource, rule, base_url))
    found.update(dict.fromkeys(_patients(reading.references, base_url)))
    personal_inside = False
    for inside_type, identity in reading.inside:
        if inside_type == "Patient" and identity and resource_type == "Bundle":
            found[identity] = None
        personal_inside = personal_inside or _is_personal(inside_type)
    inherited = tuple(
        split
        for path in rule.inherits
        for reference in targets_of(resource, path)
        if (split := split_reference(reference, base_url)) is not None and split[0] != "Patient"
    )
    if not found and not inherited:
        inherited = tuple(_related_persons(reading.references, base_url))
    directory = rule.kind == "directory"
    return Naming(tuple(found), inherited, custodian_only=directory and personal_inside)


def _is_personal(resource_type: str) -> bool:
    rule = type_rules().get(resource_type)
    return rule is None or rule.kind != "directory"


def _related_persons(references: list[str], base_url: str) -> Iterator[tuple[str, str]]:
    for reference in references:
        split = split_reference(reference, base_url)
        if split is not None and split[0] == "RelatedPerson":
            yield split
