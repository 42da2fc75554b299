"""Disclosure control of a table of counts: small cells suppressed, the rest rounded, rates from rounded counts.

A cell is suppressed where fewer than `SMALLEST_CELL` people stand behind it, or behind its complement in a rate. No
margins are ever made, so a suppressed cell cannot be found by subtraction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SMALLEST_CELL = 10
ROUNDING = 5


@dataclass(frozen=True, slots=True)
class ExactCell:
    """One cell before control: its group, exact count, and the people behind it.

    `numerator` and the two after it are given for rates only: the people behind the numerator, and those behind what is
    counted but not in it (of events, somebody may be behind both).
    """

    group: Mapping[str, Any]
    count: int
    persons: int
    numerator: int | None = None
    numerator_persons: int | None = None
    other_persons: int | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell that may be published; None stands for suppressed (or, of a rate, not asked)."""

    group: Mapping[str, Any]
    count: int | None
    numerator: int | None = None
    rate: float | None = None


def rounded(count: int) -> int:
    """Round to the nearest multiple of `ROUNDING`, halves up."""
    return (count + ROUNDING // 2) // ROUNDING * ROUNDING


def control(cell: ExactCell) -> Cell:
    """The publishable form of one cell; a rate is `rounded numerator / rounded count`, to three decimals."""
    if cell.persons < SMALLEST_CELL:
        return Cell(cell.group, None)
    count = rounded(cell.count)
    if cell.numerator is None or cell.numerator_persons is None or cell.other_persons is None:
        return Cell(cell.group, count)
    if cell.numerator_persons < SMALLEST_CELL or cell.other_persons < SMALLEST_CELL:
        return Cell(cell.group, count)
    numerator = rounded(cell.numerator)
    return Cell(cell.group, count, numerator, round(numerator / count, 3))
