"""Disclosure control: the table of rules, and a property over all cells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.disclosure import SMALLEST_CELL, ExactCell, control


@pytest.mark.parametrize(
    ("count", "persons", "numerator", "numerator_persons", "expected"),
    [
        (9, 9, None, None, (None, None, None)),
        (10, 10, None, None, (10, None, None)),
        (12, 12, None, None, (10, None, None)),
        (13, 13, None, None, (15, None, None)),
        (40, 9, None, None, (None, None, None)),
        (60, 60, 30, 30, (60, 30, 0.5)),
        (60, 60, 9, 9, (60, None, None)),
        (60, 60, 51, 51, (60, None, None)),
        (60, 60, 60, 60, (60, None, None)),
        (62, 62, 33, 33, (60, 35, 0.583)),
    ],
)
def test_rule(
    count: int,
    persons: int,
    numerator: int | None,
    numerator_persons: int | None,
    expected: tuple[int | None, int | None, float | None],
) -> None:
    other = persons - numerator_persons if numerator_persons is not None else None
    cell = control(ExactCell({}, count, persons, numerator, numerator_persons, other))
    assert (cell.count, cell.numerator, cell.rate) == expected


@given(st.integers(0, 300), st.integers(0, 300))
def test_nothing_published_stands_for_few_people(persons: int, inside: int) -> None:
    inside = min(persons, inside)
    cell = control(ExactCell({}, persons, persons, inside, inside, persons - inside))
    if cell.count is not None:
        assert persons >= SMALLEST_CELL
        assert cell.count % 5 == 0
    if cell.numerator is not None:
        assert min(inside, persons - inside) >= SMALLEST_CELL
        assert cell.rate is not None
        assert 0 < cell.rate <= 1
