"""A population question: small JSON, checked whole before anything is counted.

    {"title": "...", "subject": "measurement", "count": "persons",
     "where": {"diagnosed": ["http://hl7.org/fhir/sid/icd-10|E11*"], "code": ["http://loinc.org|4548-4"]},
     "numerator": {"value": {"below": 7.0}},
     "group_by": ["county", "quarter"], "period": {"from": "2025-01", "below": "2026-01"}}

Conditions of `where` hold together; alternatives inside a list. A rate is the share of `where` that `numerator` holds
for as well. Codes are "system|code", a trailing star matches every code that begins so. Bounds lie on fixed steps: two
questions that differ by a year of age, or a kilometre, would differ by a person or two (decision record 0015).
"""

import re
from typing import Literal

import msgspec

from ehr.errors import Invalid

Subject = Literal["person", "encounter", "measurement", "referral", "movement"]
Group = Literal[
    "county",
    "township",
    "sex",
    "age_band",
    "year",
    "quarter",
    "organisation",
    "sender",
    "receiver",
    "direction",
    "distance_band",
]
MOST_GROUPS = 3
AGE_STEP, OTHER_AGES = 5, frozenset({1, 6, 14, 18})
"""Bounds of age: multiples of the step, and the ages at which law and medicine part childhood."""
DISTANCE_STEP_KM = 5
VALUE_DIGITS = 3
"""Significant digits of a bound of a measured value: 11.1 mmol/L, not 11.13."""
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")

_OF_EVENTS: frozenset[Group] = frozenset({"year", "quarter"})
_OF_PEOPLE: frozenset[Group] = frozenset({"county", "township", "sex", "age_band"})
_BETWEEN: frozenset[Group] = frozenset({"sender", "receiver", "direction"})
GROUPS_OF: dict[Subject, frozenset[Group]] = {
    "person": _OF_PEOPLE,
    "encounter": _OF_PEOPLE | _OF_EVENTS | {"organisation", "distance_band"},
    "measurement": _OF_PEOPLE | _OF_EVENTS,
    "referral": _OF_PEOPLE | _OF_EVENTS | _BETWEEN,
    "movement": _OF_PEOPLE | _OF_EVENTS | _BETWEEN,
}
_CONDITIONS_OF: dict[str, frozenset[Subject]] = {
    "kind": frozenset({"encounter"}),
    "organisation": frozenset({"encounter"}),
    "distance_km": frozenset({"encounter"}),
    "code": frozenset({"measurement"}),
    "value": frozenset({"measurement"}),
    "direction": frozenset({"referral", "movement"}),
    "arrived": frozenset({"referral"}),
}


class Range(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Half open: `from` <= x < `below`; either may be left out."""

    start: float | None = msgspec.field(name="from", default=None)
    below: float | None = None


class Period(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Months, half open: "2025-01" up to but not including "2026-01"."""

    start: str = msgspec.field(name="from")
    below: str


class Measured(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The person's last such measurement, at most `within_months` before the event (or before the last file)."""

    code: str
    value: Range
    within_months: int = 6


class Conditions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Conditions on a subject; all that are given must hold."""

    diagnosed: tuple[str, ...] = ()
    sex: tuple[str, ...] = ()
    age: Range | None = None
    county: tuple[str, ...] = ()
    township: tuple[str, ...] = ()
    measured: Measured | None = None
    controlled: tuple[Measured, ...] = ()
    """Of these, each that the person has had is in its range, and there is one at least."""
    kind: tuple[str, ...] = ()
    organisation: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    value: Range | None = None
    unit: str | None = None
    direction: Literal["up", "down", "level"] | None = None
    arrived: bool | None = None
    distance_km: Range | None = None


class Question(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One question; `count` says whether people or events are counted."""

    title: str
    subject: Subject
    where: Conditions
    group_by: tuple[Group, ...] = ()
    count: Literal["persons", "events"] = "persons"
    numerator: Conditions | None = None
    period: Period | None = None
    project: str = ""
    """The research project or duty that the question serves; written to the audit."""


def read_question(data: bytes) -> Question:
    """Read and check a question; `Invalid` names the key that is wrong."""
    try:
        question = msgspec.json.decode(data, type=Question)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"the question is not understood: {error}") from error
    _check(question)
    return question


def _check(question: Question) -> None:
    if len(question.group_by) > MOST_GROUPS or len(set(question.group_by)) != len(question.group_by):
        raise Invalid(f"group_by takes at most {MOST_GROUPS} different columns")
    foreign = set(question.group_by) - GROUPS_OF[question.subject]
    if foreign:
        raise Invalid(f"a {question.subject} cannot be grouped by {', '.join(sorted(foreign))}")
    for conditions in (question.where, question.numerator):
        if conditions is not None:
            _check_conditions(question.subject, conditions)
    if question.subject == "measurement" and not question.where.code:
        raise Invalid("a question about measurements names their code")
    if question.subject == "person" and question.period is not None:
        raise Invalid("people have no period; ask for encounters or measurements")
    for month in (question.period.start, question.period.below) if question.period else ():
        if not _MONTH.fullmatch(month):
            raise Invalid(f"period: '{month}' is not a month such as 2025-01")


def _check_conditions(subject: Subject, conditions: Conditions) -> None:
    for name, subjects in _CONDITIONS_OF.items():
        given = getattr(conditions, name)
        if given not in (None, ()) and subject not in subjects:
            raise Invalid(f"a {subject} has no '{name}'")
    measured = (*([conditions.measured] if conditions.measured else []), *conditions.controlled)
    _check_steps(conditions, [each.value for each in measured])
    codes = (*conditions.diagnosed, *conditions.kind, *conditions.code)
    for code in (*codes, *(each.code for each in measured)):
        if "|" not in code or len(code) > 200 or len(code.rstrip("*")) < len(code) - 1:
            raise Invalid(f"'{code}' is not of the form system|code or system|prefix*")


def _check_steps(conditions: Conditions, measured: list[Range]) -> None:
    for bound in _bounds([conditions.age]):
        if bound % AGE_STEP and bound not in OTHER_AGES:
            others = ", ".join(map(str, sorted(OTHER_AGES)))
            raise Invalid(f"age: {bound:g} is no bound of an age class: take a multiple of {AGE_STEP}, or {others}")
    for bound in _bounds([conditions.distance_km]):
        if bound % DISTANCE_STEP_KM:
            raise Invalid(f"distance_km: {bound:g} is not a multiple of {DISTANCE_STEP_KM}")
    for bound in _bounds([conditions.value, *measured]):
        if bound != float(f"{bound:.{VALUE_DIGITS}g}"):
            raise Invalid(f"value: {bound!r} has more than {VALUE_DIGITS} significant digits")


def _bounds(ranges: list[Range | None]) -> list[float]:
    return [bound for each in ranges if each for bound in (each.start, each.below) if bound is not None]
