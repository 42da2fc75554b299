"""Units of UCUM against their published examples, and against another implementation."""

import csv
import os
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
import ucumvert

from ehr.indexing import unit_of

AVOGADRO = 6.02214076e23
EVERY = 1 if os.environ.get("KANGLIAN_TEST_ALL") == "1" else 8
NO_MULTIPLES = {"dB", "[pH]"}
NOT_IN_THE_TABLE = {"Torr"}


def examples() -> list[str]:
    path = Path(ucumvert.__file__).parent / "vendor" / "ucum_examples.tsv"
    rows = csv.reader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t")
    return [row[1] for row in rows][1:]


def test_every_published_example_is_read() -> None:
    unread = {code for code in examples() if unit_of(code) is None}
    assert unread == NO_MULTIPLES | NOT_IN_THE_TABLE


def test_factors_are_those_of_pint() -> None:
    registry = ucumvert.PintUcumRegistry()
    compared = 0
    for code in examples()[::EVERY]:
        unit = unit_of(code)
        other = registry.from_ucum(code) if unit is not None and not unit.shift else None
        if unit is None or not hasattr(other, "to_base_units"):
            continue  # annotations alone are no quantities there
        found = other.to_base_units()
        powers = dict(found.dimensionality)
        # pint counts in kilograms and moles, UCUM in grams and pieces
        expected = found.magnitude * 1000.0 ** powers.get("[mass]", 0) * AVOGADRO ** powers.get("[substance]", 0)
        assert float(unit.factor) == pytest.approx(expected, rel=1e-5), (
            code
        )  # of a column of mercury UCUM says 133.322 kPa
        compared += 1
    assert compared > 600 // EVERY


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("5.4", "mg"), ("0.0054", "g")), (("1", "[lb_av]"), ("453.59237", "g")), (("1", "mmol/L"), ("1", "mol/m3")),
        (("120", "mm[Hg]"), ("15.99864", "kPa")), (("7", "10*9/L"), ("7", "10*3/uL")), (("60", "/min"), ("1", "Hz")),
        (("37", "Cel"), ("98.6", "[degF]")), (("37", "Cel"), ("310.15", "K")), (("50", "%"), ("0.5", "1")),
        (("1", "[IU]/L"), ("1", "m[iU]/mL")), (("1", "U/L"), ("1", "umol/min/L")), (("1", "kg/m2"), ("0.1", "g/cm2")),
        (("1", "{score}"), ("1", "1")), (("2", "mL/min/{1.73_m2}"), ("2", "ml/min")), (("1", "d"), ("24", "h")),
        (("1", "cm[H2O]"), ("98.0665", "Pa")), (("1", "g/(8.h){shift}"), ("0.125", "g/h")),
    ],
)  # fmt: skip
def test_equal_amounts_are_the_same_number(first: tuple[str, str], second: tuple[str, str]) -> None:
    units = [unit_of(first[1]), unit_of(second[1])]
    assert units[0] is not None
    assert units[1] is not None
    assert units[0].dimension == units[1].dimension
    assert units[0].converted(Decimal(first[0])) == units[1].converted(Decimal(second[0]))


def test_other_dimensions_and_procedures_are_told_apart() -> None:
    for first, second in (("mg", "mL"), ("[IU]", "[arb'U]"), ("mg/dL", "mmol/L"), ("K", "/K"), ("m", "m2")):
        one, other = unit_of(first), unit_of(second)
        assert one is not None
        assert other is not None
        assert one.dimension != other.dimension, (first, second)


@pytest.mark.parametrize(
    "code",
    [
        "", " ", "mg ", "m g", "xyz", "mg/", "/", "(mg", "mg)", "m{a", "{a}{b}", "m}", "mmHg", "degC", "µg", "km[Hg",
        "m99", "m-99", "10*999", "Ym30.Ym30.Ym30.Ym30.Ym30.Ym30", "a" * 300, "(" * 40 + "m" + ")" * 40, "mg//L", "0",
        "1/0", "m.0/0", "dd", "k[lb_av]", "B[SPL]", "Cel2", "Cel/min", "10.Cel", "{Cel", "Cel{a}{b}", "ⅿ",
    ],
)  # fmt: skip
def test_what_is_no_unit_or_no_multiple_is_none(code: str) -> None:
    assert unit_of(code) is None


def test_what_no_decimal_holds_is_rounded_alike() -> None:
    fahrenheit, foot = unit_of("[degF]"), unit_of("[mi_us]")
    assert fahrenheit is not None
    assert foot is not None
    assert fahrenheit.converted(Decimal(5)) == fahrenheit.converted(Decimal("5.0"))
    assert abs(Fraction(foot.converted(Decimal(1))) - foot.factor) < Fraction(1, 10**36)
    assert fahrenheit.converted(Decimal("Infinity")) == Decimal("Infinity")
    for number in ("1e308", "-1e-308", "0"):
        assert foot.converted(Decimal(number)).is_finite()
