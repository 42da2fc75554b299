"""Units of UCUM in their base units, exactly: https://ucum.org/ucum.

The table of units is the "essence" that UCUM publishes, as the package `ucumvert` carries it; it is read as a file,
without that package's own code. Factors are fractions, so that 5.4 mg and 0.0054 g are the same number.
"""

import re
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact
from fractions import Fraction
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree as ET

SYSTEM = "http://unitsofmeasure.org"
_LONGEST = 200
_DEEPEST = 20
_LARGEST_EXPONENT = 30
_LARGEST_BITS = 4000
_DIGITS = 40
"""Significant digits of a value that no decimal holds exactly, such as five ninths."""
_EXACT_DIGITS = 1000
_NAMESPACE = "{http://unitsofmeasure.org/ucum-essence}"
_SYMBOL = re.compile(r"(?:[^\[\]{}()./\s]|\[[^\[\]\s]*\])+")
_EXPONENT = re.compile(r"(.*?[^0-9+\-])([+\-]?[0-9]+)", re.DOTALL)
_SHIFTED = {"Cel": Fraction("273.15"), "[degRe]": Fraction("273.15"), "[degF]": Fraction("459.67") * 5 / 9}
"""What is added, in kelvin, to a value in the scales of temperature; other special units are no multiples."""
Powers = dict[str, int]


_EXACT = Context(prec=_EXACT_DIGITS, traps=[Inexact])


def _as_decimal(number: Fraction) -> Decimal | None:
    try:
        return _EXACT.divide(Decimal(number.numerator), Decimal(number.denominator))
    except Inexact:
        return None


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as a multiple of base units; of the scales of temperature the zero is elsewhere."""

    dimension: str
    """The base units with their powers ("g.m-1.s-2"), "1" for a bare number; equal for units that can be compared."""
    factor: Fraction
    shift: Fraction = Fraction(0)
    multiple: Decimal | None = field(init=False, compare=False)
    """The factor, where a decimal is exactly that and nothing is added."""

    def __post_init__(self) -> None:
        """See whether a multiplication is all there is to do."""
        factor = None if self.shift else _as_decimal(self.factor)
        object.__setattr__(self, "multiple", factor)

    def converted(self, number: Decimal) -> Decimal:
        """A number of this unit in base units; infinities stay."""
        if not number.is_finite():
            return number
        if self.multiple is not None:
            try:
                return _EXACT.multiply(number, self.multiple)
            except Inexact:
                pass  # more digits than are kept: rounded below
        exact = Fraction(number) * self.factor + self.shift
        numerator, denominator = Decimal(exact.numerator), Decimal(exact.denominator)
        precise = Context(prec=_EXACT_DIGITS)
        found = precise.divide(numerator, denominator)
        return Context(prec=_DIGITS).divide(numerator, denominator) if precise.flags[Inexact] else found


@dataclass(frozen=True, slots=True)
class _Term:
    """A product of powers."""

    factor: Fraction
    powers: tuple[tuple[str, int], ...] = ()

    def times(self, other: "_Term", sign: int) -> "_Term":
        powers: Powers = dict(self.powers)
        for base, power in other.powers:
            powers[base] = powers.get(base, 0) + sign * power
        factor = self.factor * other.factor if sign > 0 else self.factor / other.factor
        return _Term(factor, tuple(sorted((base, power) for base, power in powers.items() if power)))

    def to_the(self, exponent: int) -> "_Term":
        if abs(exponent) > _LARGEST_EXPONENT:
            raise ValueError("an exponent beyond those of units")
        return _Term(self.factor**exponent, tuple((base, power * exponent) for base, power in self.powers if exponent))


@dataclass(frozen=True, slots=True)
class _Defined:
    """A unit as the table defines it."""

    text: str
    value: Fraction
    metric: bool
    arbitrary: bool
    special: bool


@dataclass(frozen=True, slots=True)
class _Table:
    bases: frozenset[str]
    prefixes: dict[str, Fraction]
    units: dict[str, _Defined]


@cache
def _table() -> _Table:
    found = find_spec("ucumvert")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("ucumvert")
    path = Path(found.submodule_search_locations[0]) / "vendor" / "ucum-essence.xml"
    root = ET.parse(path).getroot()  # noqa: S314 - a file of a package that is pinned by its hash
    bases = [each.attrib["Code"] for each in root.iterfind(f"{_NAMESPACE}base-unit")]
    prefixes = {
        each.attrib["Code"]: Fraction(_value_of(each).attrib["value"]) for each in root.iterfind(f"{_NAMESPACE}prefix")
    }
    units = {each.attrib["Code"]: _defined(each) for each in root.iterfind(f"{_NAMESPACE}unit")}
    return _Table(frozenset(bases), prefixes, units)


def _value_of(element: ET.Element) -> ET.Element:
    found = element.find(f"{_NAMESPACE}value")
    if found is None:
        raise ValueError(f"UCUM: {element.attrib['Code']} has no value")
    return found


def _defined(element: ET.Element) -> _Defined:
    value = _value_of(element)
    function = value.find(f"{_NAMESPACE}function")
    stated = value if function is None else function
    return _Defined(
        stated.attrib["Unit"],
        Fraction(stated.attrib["value"]),
        element.attrib.get("isMetric") == "yes",
        element.attrib.get("isArbitrary") == "yes",
        element.attrib.get("isSpecial") == "yes",
    )


@lru_cache(maxsize=4096)
def unit_of(code: str) -> Unit | None:
    """The unit of a code of UCUM; None for what is none, or is no multiple of base units (pH, bel)."""
    if not code or len(code) > _LONGEST or not code.isascii():
        return None
    try:
        shifted = _temperature(code)
        if shifted is not None:
            return shifted
        term = _Reader(code).whole()
    except (ValueError, ZeroDivisionError):
        return None
    if not term.factor or max(term.factor.numerator.bit_length(), term.factor.denominator.bit_length()) > _LARGEST_BITS:
        return None
    dimension = ".".join(base if power == 1 else f"{base}{power}" for base, power in term.powers)
    return Unit(dimension or "1", term.factor)


def _temperature(code: str) -> Unit | None:
    """A scale of temperature, alone, with its prefix where it is metric and with an annotation."""
    symbol, brace, annotation = code.partition("{")
    if brace and not (annotation.endswith("}") and "{" not in annotation and annotation.count("}") == 1):
        return None
    for name, shift in _SHIFTED.items():
        if not symbol.endswith(name):
            continue
        defined, prefix = _table().units[name], symbol.removesuffix(name)
        scale = Fraction(1) if not prefix else _table().prefixes.get(prefix) if defined.metric else None
        if scale is not None:
            kelvin = _Reader(defined.text).whole()
            return Unit("K", kelvin.factor * defined.value * scale, shift)
    return None


class _Reader:
    """Reads one code: `term` of UCUM's grammar."""

    def __init__(self, code: str) -> None:
        self._code = code
        self._at = 0

    def whole(self) -> _Term:
        found = _Term(Fraction(1)).times(self._term(0), -1) if self._takes("/") else self._term(0)
        if self._at != len(self._code):
            raise ValueError("no unit")
        return found

    def _takes(self, character: str) -> bool:
        taken = self._code.startswith(character, self._at)
        self._at += taken
        return taken

    def _term(self, depth: int) -> _Term:
        if depth > _DEEPEST:
            raise ValueError("nested too deep")
        found = self._component(depth)
        while True:
            if self._takes("."):
                found = found.times(self._component(depth), 1)
            elif self._takes("/"):
                found = found.times(self._component(depth), -1)
            else:
                return found

    def _component(self, depth: int) -> _Term:
        if self._takes("("):
            found = self._term(depth + 1)
            if not self._takes(")"):
                raise ValueError("an open bracket")
            self._annotation()
            return found
        match = _SYMBOL.match(self._code, self._at)
        if match is None:
            if self._annotation():
                return _Term(Fraction(1))
            raise ValueError("no unit")
        self._at = match.end()
        self._annotation()
        return _powered(match[0])

    def _annotation(self) -> bool:
        if not self._takes("{"):
            return False
        end = self._code.find("}", self._at)
        if end < 0 or "{" in self._code[self._at : end]:
            raise ValueError("an open annotation")
        self._at = end + 1
        return True


def _powered(text: str) -> _Term:
    """A number, or a unit with its exponent."""
    if text.isdigit():
        return _Term(Fraction(int(text)))
    match = _EXPONENT.fullmatch(text)
    if match is None:
        return _simple(text)
    return _simple(match[1]).to_the(int(match[2]))


def _simple(symbol: str) -> _Term:
    """A unit, or a prefix with a metric unit."""
    table = _table()
    if symbol in table.bases or symbol in table.units:
        return _atom(symbol)
    for prefix, scale in table.prefixes.items():
        name = symbol.removeprefix(prefix)
        if name == symbol or not (name in table.bases or (name in table.units and table.units[name].metric)):
            continue
        atom = _atom(name)
        return _Term(scale * atom.factor, atom.powers)
    raise ValueError("no unit")


@cache
def _atom(symbol: str) -> _Term:
    table = _table()
    if symbol in table.bases:
        return _Term(Fraction(1), ((symbol, 1),))
    defined = table.units[symbol]
    if defined.special:
        raise ValueError("no multiple of base units")
    if defined.arbitrary and not (defined.text in table.units and table.units[defined.text].arbitrary):
        return _Term(Fraction(1), ((symbol, 1),))  # what one unit of it is depends on the procedure
    found = _Reader(defined.text).whole()
    return _Term(found.factor * defined.value, found.powers)
