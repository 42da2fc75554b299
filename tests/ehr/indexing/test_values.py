"""Normal forms of strings, ranges of numbers."""

from decimal import Decimal

import pytest

from ehr.indexing import decimal_range, normalise_string, text_prefix


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("  Müller   Lüdenscheidt ", "muller ludenscheidt"),
        ("ÉCOLE", "ecole"),
        ("Straße", "strasse"),
        ("张 伟", "张 伟"),
        ("ＡＢＣ１２", "abc12"),
        ("İstanbul", "istanbul"),
        ("한국", "한국"),
        ("", ""),
    ],
)
def test_normalised(text: str, normalised: str) -> None:
    assert normalise_string(text) == normalised
    assert normalise_string(normalised) == normalised


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("5.4", "5.35", "5.45"),
        ("100", "99.5", "100.5"),
        ("1e2", "50", "150"),
        ("-3", "-3.5", "-2.5"),
        ("0.00", "-0.005", "0.005"),
    ],
)
def test_precision_implies_a_range(value: str, low: str, high: str) -> None:
    assert decimal_range(value) == (Decimal(low), Decimal(high))


def test_no_range_of_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match="finite"):
        decimal_range("NaN")


@pytest.mark.parametrize(
    ("text", "prefix"), [("", ""), ("a", ""), ("abc", "ab"), ("abcdefgh", "abcdefgh"), ("x" * 40, "x" * 8)]
)
def test_prefix_of_a_text(text: str, prefix: str) -> None:
    assert text_prefix(text) == prefix
