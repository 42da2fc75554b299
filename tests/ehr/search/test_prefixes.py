"""Every prefix on dates, numbers and quantities, against the table of ranges written down here once more.

https://hl7.org/fhir/R4/search.html#prefix: a search value stands for the range [L, H) that its precision implies, a
resource's value for [l, h). For numbers gt, lt, ge, le, sa and eb take the value as it is.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from ehr.store import Store
from tests.search_record import ask_all, fill, kept

pytestmark = pytest.mark.database

Span = tuple[Any, Any]
PAST, FUTURE = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
LEAST, MOST = Decimal(-(10**30)), Decimal(10**30)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


STORED_DATES: dict[str, tuple[dict[str, Any], datetime, datetime]] = {
    "year": ({"DateTime": "2013"}, at("2013-01-01T00:00+08:00"), at("2014-01-01T00:00+08:00")),
    "month": ({"DateTime": "2013-01"}, at("2013-01-01T00:00+08:00"), at("2013-02-01T00:00+08:00")),
    "leap": ({"DateTime": "2012-02"}, at("2012-02-01T00:00+08:00"), at("2012-03-01T00:00+08:00")),
    "day": ({"DateTime": "2013-01-14"}, at("2013-01-14T00:00+08:00"), at("2013-01-15T00:00+08:00")),
    "second": (
        {"DateTime": "2013-01-14T10:00:00+08:00"},
        at("2013-01-14T10:00:00+08:00"),
        at("2013-01-14T10:00:01+08:00"),
    ),
    "fraction": (
        {"DateTime": "2013-01-14T02:00:00.500Z"},
        at("2013-01-14T10:00:00.500+08:00"),
        at("2013-01-14T10:00:00.501+08:00"),
    ),
    "days": (
        {"Period": {"start": "2013-01-13", "end": "2013-01-15"}},
        at("2013-01-13T00:00+08:00"),
        at("2013-01-16T00:00+08:00"),
    ),
    "years": (
        {"Period": {"start": "2010", "end": "2013"}},
        at("2010-01-01T00:00+08:00"),
        at("2014-01-01T00:00+08:00"),
    ),
    "hours": (
        {"Period": {"start": "2013-01-14T09:00:00+08:00", "end": "2013-01-14T11:00:00+08:00"}},
        at("2013-01-14T09:00:00+08:00"),
        at("2013-01-14T11:00:01+08:00"),
    ),
    "since": ({"Period": {"start": "2013-01-14"}}, at("2013-01-14T00:00+08:00"), FUTURE),
    "until": ({"Period": {"end": "2013-01-14"}}, PAST, at("2013-01-15T00:00+08:00")),
    "later": ({"DateTime": "2014-05-01"}, at("2014-05-01T00:00+08:00"), at("2014-05-02T00:00+08:00")),
}
SEARCHED_DATES: dict[str, tuple[datetime, datetime]] = {
    "2013": (at("2013-01-01T00:00+08:00"), at("2014-01-01T00:00+08:00")),
    "2012-02": (at("2012-02-01T00:00+08:00"), at("2012-03-01T00:00+08:00")),
    "2013-01-14": (at("2013-01-14T00:00+08:00"), at("2013-01-15T00:00+08:00")),
    "2013-01-14T10:00": (at("2013-01-14T10:00+08:00"), at("2013-01-14T10:01+08:00")),
    "2013-01-14T02:00:00Z": (at("2013-01-14T10:00+08:00"), at("2013-01-14T10:00:01+08:00")),
    "2013-01-14T10:00:00.5+08:00": (at("2013-01-14T10:00:00.500+08:00"), at("2013-01-14T10:00:00.600+08:00")),
    "2014-05-01": (at("2014-05-01T00:00+08:00"), at("2014-05-02T00:00+08:00")),
}
RANGES: dict[str, Callable[[Any, Any, Any, Any], bool]] = {
    "eq": lambda low, high, wanted, until: wanted <= low and high <= until,
    "ne": lambda low, high, wanted, until: not (wanted <= low and high <= until),
    "gt": lambda _low, high, _wanted, until: high > until,
    "lt": lambda low, _high, wanted, _until: low < wanted,
    "ge": lambda low, high, wanted, until: high > until or (wanted <= low and high <= until),
    "le": lambda low, high, wanted, until: low < wanted or (wanted <= low and high <= until),
    "sa": lambda low, _high, _wanted, until: low >= until,
    "eb": lambda _low, high, wanted, _until: high <= wanted,
    "ap": lambda low, high, wanted, until: low < until and high > wanted,
}
PLAIN: dict[str, Any] = {"value": 0, "system": "http://unitsofmeasure.org", "code": "mg"}
NUMBERS = ("0.8", "0.80", "0.75", "0.85", "0.849", "0.72", "0.88", "0.881", "0.5", "0", "1", "100", "99.6", "-0.8")
STORED_NUMBERS: dict[str, Span] = {text: (Decimal(text), Decimal(text)) for text in NUMBERS}
STORED_RANGES: dict[str, Span] = {
    "0.1 to 0.9": (Decimal("0.1"), Decimal("0.9")),
    "to 0.8": (LEAST, Decimal("0.8")),
    "from 0.8": (Decimal("0.8"), MOST),
}
SEARCHED_NUMBERS = ("0.8", "0.80", "8e-1", "1", "100", "1e2", "0.5", "-0.8", "0", "0.0", "99.6", "+1")


def number_admits(prefix: str, span: Span, text: str) -> bool:
    low, high = span
    value = Decimal(text)
    half = Decimal(5).scaleb(int(value.as_tuple().exponent) - 1)
    tenth = abs(value) / 10
    around = (min(value - tenth, value - half), max(value + tenth, value + half))
    within = value - half <= low and high < value + half
    return {
        "eq": within,
        "ne": not within,
        "gt": high > value,
        "lt": low < value,
        "ge": high >= value,
        "le": low <= value,
        "sa": low > value,
        "eb": high < value,
        "ap": low <= around[1] and high >= around[0],
    }[prefix]


def resources() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, (value, _, _) in STORED_DATES.items():
        (kind, date), subject = next(iter(value.items())), {"reference": "Patient/1"}
        head = {"id": name, "subject": subject, "code": {"text": "dated"}}
        found.append({"resourceType": "Observation", "status": "final", f"effective{kind}": date} | head)
        order = {"resourceType": "ServiceRequest", "status": "active", "intent": "order"}
        found.append(order | {f"occurrence{kind}": date} | head)
    for number, (text, (low, high)) in enumerate((STORED_NUMBERS | STORED_RANGES).items()):
        if low == high:
            quantity = PLAIN | {"value": Decimal(text)}
            probability: dict[str, Any] = {"probabilityDecimal": Decimal(text)}
        else:
            ends = {"low": {"value": low}, "high": {"value": high}}
            probability = {"probabilityRange": {k: v for k, v in ends.items() if v["value"] not in {LEAST, MOST}}}
            comparator = {LEAST: "<=", MOST: ">="}
            quantity = PLAIN | {"value": Decimal("0.8"), "comparator": comparator.get(low) or comparator.get(high)}
        status = {"status": "final", "subject": {"reference": "Patient/1"}, "id": f"n{number}"}
        found.append({"resourceType": "RiskAssessment", "prediction": [probability]} | status)
        if text != "0.1 to 0.9":
            found.append({"resourceType": "Observation", "code": {"text": "n"}, "valueQuantity": quantity} | status)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _filled(store: Store, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await fill(connection, store.hasher, kept(resources()))
    await connection.close()


async def ids(store: Store, query: str) -> set[str]:
    return {name.partition("/")[2] for name in await ask_all(store, f"{query}&_count=100")}


@pytest.mark.parametrize("prefix", RANGES)
@pytest.mark.parametrize("parameter", ["Observation?date", "ServiceRequest?occurrence"])
async def test_dates(store: Store, parameter: str, prefix: str) -> None:
    now = datetime.now(UTC)
    for text, (low, high) in SEARCHED_DATES.items():
        wanted, until = low, high
        if prefix == "ap":
            wanted, until = low - abs(now - low) / 10, high + abs(now - high) / 10
        expected = {name for name, (_, l, h) in STORED_DATES.items() if RANGES[prefix](l, h, wanted, until)}  # noqa: E741 - as in the table
        assert await ids(store, f"{parameter}={prefix}{text.replace('+', '%2B')}") == expected, text
        if prefix == "eq":
            assert await ids(store, f"{parameter}={text.replace('+', '%2B')}") == expected, text


@pytest.mark.parametrize("prefix", RANGES)
async def test_numbers_and_quantities(store: Store, prefix: str) -> None:
    names = {f"n{number}": span for number, span in enumerate((STORED_NUMBERS | STORED_RANGES).values())}
    of_quantities = {name: span for name, span in names.items() if span != STORED_RANGES["0.1 to 0.9"]}
    for text in SEARCHED_NUMBERS:
        written = prefix + text.replace("+", "%2B")
        expected = {name for name, span in names.items() if number_admits(prefix, span, text)}
        assert await ids(store, f"RiskAssessment?probability={written}") == expected, text
        quantities = {name for name in expected if name in of_quantities}
        for unit in ("", "||mg", "|http://unitsofmeasure.org|mg"):
            assert await ids(store, f"Observation?value-quantity={written}{unit}") == quantities, (text, unit)
        assert await ids(store, f"Observation?value-quantity={written}||g") == set()


def test_the_ranges_differ() -> None:
    """No prefix is told apart by nothing: each pair of prefixes answers some search differently."""
    answers = {
        prefix: tuple(
            admits(l, h, low, high)
            for _, l, h in STORED_DATES.values()  # noqa: E741 - as in the table
            for low, high in SEARCHED_DATES.values()
        )
        for prefix, admits in RANGES.items()
    }
    assert len(set(answers.values())) == len(RANGES)
    assert timedelta(0) < STORED_DATES["hours"][2] - STORED_DATES["hours"][1]
