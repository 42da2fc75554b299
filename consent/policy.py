"""A deployment's preset: what holds where no consent decides; YAML files beside, each rule with its law.

The law is quoted from public texts for orientation; a deployment checks the articles before showing them to anybody.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

_PLACE = Path(__file__).parent / "policies"


@dataclass(frozen=True, slots=True)
class Policy:
    """One preset, as read from its file."""

    name: str
    title: str
    treatment_purposes: frozenset[str]
    custodian_purposes: frozenset[str]
    reach_opens: bool
    days_after_encounter: int
    referral_days_at_most: int
    strangers_a_day: int
    """Patients of other hospitals whom a hospital's Encounters may name in a day and be believed (record 0019)."""
    break_glass_hours: int
    break_glass_openings_a_day: int
    rules: tuple[tuple[str, str, str], ...]
    """(id, what it says, its law)."""


def read_policy(text: str) -> Policy:
    """Read a preset; KeyError or ValueError where something is missing or out of bounds."""
    data = yaml.safe_load(text)
    hours = int(data["break_glass"]["hours"])
    referral_days = int(data["reach"]["referral_days_at_most"])
    if not 0 < hours <= 24 or not 0 < referral_days <= 90:
        raise ValueError("break-glass lasts at most 24 hours, a referral at most 90 days")
    if any(not rule.get("law") for rule in data["rules"]):
        raise ValueError("each rule of a preset names its law")
    return Policy(
        name=data["name"],
        title=data["title"],
        treatment_purposes=frozenset(data["purposes"]["treatment"]),
        custodian_purposes=frozenset(data["purposes"]["custodian"]),
        reach_opens=bool(data["reach"]["opens"]),
        days_after_encounter=int(data["reach"]["days_after_encounter"]),
        referral_days_at_most=referral_days,
        strangers_a_day=int(data["reach"]["strangers_a_day"]),
        break_glass_hours=hours,
        break_glass_openings_a_day=int(data["break_glass"]["openings_a_day"]),
        rules=tuple((rule["id"], rule["says"], rule["law"]) for rule in data["rules"]),
    )


def presets() -> tuple[str, ...]:
    """Names of the presets that come with the platform."""
    return tuple(sorted(path.stem for path in _PLACE.glob("*.yaml")))


@cache
def preset(name: str) -> Policy:
    """A preset by name; ValueError where there is none of this name."""
    if name not in presets():
        raise ValueError(f"no consent policy {name}; there are {', '.join(presets())}")
    return read_policy((_PLACE / f"{name}.yaml").read_text("utf-8"))
