"""Random queries on a random record: the search answers what a naive filter over the resources selects."""

import asyncio
import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from typing import Any
from urllib.parse import urlencode

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ehr.definitions import search_parameters
from ehr.person_filter import EveryPerson, InReach, KeptBy
from ehr.row_filter import EVERYTHING, AboutNobody, AllOf, AnyOf, CustodianIn, Everything, LabelsNone, RowFilter
from ehr.search.scope_linter import unscoped_aliases
from ehr.store import Store
from tests.generative.naive_kinds import (
    ASKED_NAMES,
    CODE_SYSTEM,
    COMPOSITES,
    MEMBERS,
    NAME_CODES,
    NAMES,
    VALUE_SETS,
)
from tests.generative.naive_search import UCUM, Compared, Question, Values, folded, sort_value, values_of
from tests.search_record import START_US, SYNTHEA, Kept, ask, fill, kept, plain, recorded_statements, synthea

pytestmark = pytest.mark.database
EXAMPLES = 28_600 if os.environ.get("KANGLIAN_TEST_ALL") else 130
MASK = 0b101
PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "")
CODES = {
    "Patient": "identifier name family given gender birthdate address address-city language telecom death-date "
    "phonetic",
    "Observation": "code status category date value-quantity subject encounter value-concept combo-code "
    "combo-value-quantity component-code code-value-quantity component-code-value-quantity combo-code-value-quantity",
    "Condition": "code clinical-status onset-date subject recorded-date abatement-date",
    "Encounter": "class type status date subject reason-code",
    "MedicationRequest": "status intent authoredon code subject",
    "Organization": "name address identifier active",
    "DiagnosticReport": "code date result subject",
}
LINKS = [
    *((source, "subject", "Patient") for source in ("Observation", "Condition", "Encounter", "DiagnosticReport")),
    ("MedicationRequest", "patient", "Patient"),
    *((source, "encounter", "Encounter") for source in ("Observation", "Condition", "DiagnosticReport")),
    ("DiagnosticReport", "result", "Observation"),
    ("Encounter", "service-provider", "Organization"),
]
"""Type, parameter and target of the references of the record that paths follow."""
CODED = frozenset({"code", "combo-code", "component-code", "class", "reason-code"})
REACHING = 77
KEEPER = 1
FILTERS: dict[str, tuple[RowFilter, Callable[[Kept], bool]]] = {
    "everything": (Everything(), lambda row: True),  # noqa: ARG005 - admits each row
    "custodian": (AllOf((Everything(), CustodianIn(frozenset({1, 2})))), lambda row: row.custodian in {1, 2}),
    "labels": (
        AllOf((Everything(), CustodianIn(frozenset({1, 3})), LabelsNone(MASK))),
        lambda row: row.custodian in {1, 3} and not row.labels & MASK,
    ),
    "people": (
        AllOf(
            (
                EVERYTHING,
                AnyOf(
                    (
                        EveryPerson(KeptBy((KEEPER,), EVERYTHING, InReach((REACHING,)))),
                        AllOf((AboutNobody(), CustodianIn(frozenset({1, 2})))),
                    )
                ),
            )
        ),
        lambda row: row.custodian == KEEPER or row.holder % 2 == 0 if row.holder else row.custodian in {1, 2},
    ),
}
PEOPLE = f"""
insert into person (person) select distinct holder from resource where holder <> 0;
insert into holder_person (holder, person, patient_id) select person, person, 'x' from person;
insert into reach (organisation, person, source, holder, kind, until)
select {REACHING}, person, person, person, 1, 9000000000000000000 from person where person % 2 = 0
"""


def _edge_resources(seed: int) -> Iterator[dict[str, Any]]:
    """Few values in many combinations, so that criteria meet."""
    rnd = random.Random(seed)  # noqa: S311 - test data
    names = [
        "Li",
        "LI WEI",
        "Élodie Müller-Straße von Hohenstein",
        *NAMES,
        "O'Brien, Pat|rick",
        "a%_b",
        " x  y ",
    ]
    dates = ["2020", "2020-02", "2020-02-29", "2020-02-29T23:59:59Z", "2020-03-01T00:00:00.000+08:00", "1999-12-31"]
    numbers = ["100", "100.0", "99.50", "0.001", "0.1", "-5", "1000000.25"]
    units = [{}, {"unit": "mg"}, {"system": UCUM, "code": "mg", "unit": "mg"}, {"system": UCUM, "code": "g"}]
    units.append({"code": "g"})
    systems = [{}, {"system": "urn:a"}, {"system": "urn:b"}]
    for number in range(40):
        patient: dict[str, Any] = {"resourceType": "Patient", "id": f"edge-{number}"}
        if rnd.random() < 0.8:
            patient["name"] = [{"family": rnd.choice(names), "given": [rnd.choice(names)]}]
        if rnd.random() < 0.8:
            patient["birthDate"] = rnd.choice(dates)[:10]
        if rnd.random() < 0.8:
            patient["identifier"] = [rnd.choice(systems) | {"value": rnd.choice(["1", "2,3", "x$y", "Li"])}]
        yield patient
    for number in range(160):
        observation: dict[str, Any] = {
            "resourceType": "Observation",
            "id": f"edge-{number}",
            "status": rnd.choice(["final", "amended"]),
            "code": {"coding": [rnd.choice(systems) | {"code": rnd.choice("abc"), "display": rnd.choice(names)}]},
            "subject": {"reference": f"Patient/edge-{rnd.randrange(45)}"},
        }
        if rnd.random() < 0.7:
            observation["effectiveDateTime"] = rnd.choice(dates)
        elif rnd.random() < 0.7:
            observation["effectivePeriod"] = {rnd.choice(["start", "end"]): rnd.choice(dates)}
        if rnd.random() < 0.7:
            observation["valueQuantity"] = {"value": Decimal(rnd.choice(numbers))} | rnd.choice(units)
        if rnd.random() < 0.4:
            observation["component"] = [
                {
                    "code": {"coding": [rnd.choice(systems) | {"code": rnd.choice("abc")}]},
                    "valueQuantity": {"value": Decimal(rnd.choice(numbers))} | rnd.choice(units),
                }
                for _ in range(2)
            ]
        yield observation


@cache
def _rows() -> list[Kept]:
    resources = list(_edge_resources(4))
    if SYNTHEA.is_dir():
        wanted = [one for one in synthea(4) if one["resourceType"] in CODES]
        by_type: dict[str, list[dict[str, Any]]] = {}
        for one in wanted:
            by_type.setdefault(one["resourceType"], []).append(one)
        resources += [one for group in by_type.values() for one in group[:350]]
    resources = [plain(json.dumps(one, default=_number)) for one in resources]
    # whoever sees anything sees the terminology
    terminology = [Kept(one, START_US - 1, 0) for one in (CODE_SYSTEM, *VALUE_SETS)]
    return kept(resources) + terminology


def _number(value: Any) -> float | int:
    number = Decimal(value)
    return int(number) if number == number.to_integral_value() and number.as_tuple().exponent >= 0 else float(number)


@dataclass(slots=True)
class Oracle:
    rows: list[Kept]
    seen: dict[tuple[str, str], Values] = field(default_factory=dict)

    def values(self, row: Kept, code: str) -> Values:
        found = self.seen.get((row.name, code))
        if found is None:
            found = self.seen[row.name, code] = values_of(row.resource, code)
        return found

    def of_type(self, resource_type: str, admits: Callable[[Kept], bool]) -> list[Kept]:
        return [row for row in self.rows if row.resource["resourceType"] == resource_type and admits(row)]

    def answer(self, asked: "Asked", admits: Callable[[Kept], bool]) -> list[str]:
        found = [
            row
            for row in self.of_type(asked.resource_type, admits)
            if all(question.holds(self.values(row, question.code)) for question in asked.questions)
            and (asked.filtered is None or asked.filtered.holds(row, self))
        ]
        for path in asked.paths:
            names = self.meeting(path, admits)
            found = [row for row in found if row.name in names]
        if not asked.sort:
            return [row.name for row in sorted(found, key=lambda row: (-row.last_updated_us, -row.key))]
        found.sort(key=lambda row: row.key, reverse=asked.sort[-1][1])
        for code, descending in reversed(asked.sort):
            found = self._sorted(found, code, descending=descending)
        return [row.name for row in found]

    def _sorted(self, rows: list[Kept], code: str, *, descending: bool) -> list[Kept]:
        """In the order of one parameter, those without it last; equal ones stay as they are."""
        kind = search_parameters(rows[0].resource["resourceType"])[code].kind if rows else ""
        values = {row.name: sort_value(self.values(row, code), kind, descending=descending) for row in rows}
        having = [row for row in rows if values[row.name] is not None]
        having.sort(key=lambda row: values[row.name], reverse=descending)
        return having + [row for row in rows if values[row.name] is None]

    def meeting(self, path: "Path", admits: Callable[[Kept], bool]) -> set[str]:
        """The names of the rows from which a path leads, step by step, to a row that meets its end."""
        below = path.below
        if isinstance(below, Question):
            ends = self.of_type(path.resource_type, admits)
            return {row.name for row in ends if below.holds(self.values(row, below.code))}
        ends_of_step = self.meeting(below, admits)
        if path.reverse:
            sources = (row for row in self.of_type(below.resource_type, admits) if row.name in ends_of_step)
            named = {name for source in sources for name in self.values(source, path.code).references}
            return named.intersection(row.name for row in self.of_type(path.resource_type, admits))
        rows = self.of_type(path.resource_type, admits)
        return {row.name for row in rows if ends_of_step.intersection(self.values(row, path.code).references)}


@dataclass(frozen=True, slots=True)
class Path:
    """A criterion behind any number of references: each leads on (`code:Type.`) or back (`_has:Type:code:`)."""

    resource_type: str
    code: str
    reverse: bool
    below: "Path | Question"
    typed: bool = True

    def text(self) -> tuple[str, str]:
        if isinstance(self.below, Question):
            return self.below.text()
        name, value = self.below.text()
        if self.reverse:
            return f"_has:{self.below.resource_type}:{self.code}:{name}", value
        return f"{self.code}{f':{self.below.resource_type}' if self.typed else ''}.{name}", value


@dataclass(frozen=True, slots=True)
class Filtered:
    """A `_filter`: comparisons joined by and, or and not."""

    operator: str
    parts: "tuple[Filtered, ...] | Compared"

    def text(self) -> str:
        if isinstance(self.parts, Compared):
            return self.parts.text()
        if self.operator == "not":
            return f"not ({self.parts[0].text()})"
        return "(" + f" {self.operator} ".join(part.text() for part in self.parts) + ")"

    def holds(self, row: Kept, oracle: "Oracle") -> bool:
        if isinstance(self.parts, Compared):
            return self.parts.holds(oracle.values(row, self.parts.question.code))
        held = [part.holds(row, oracle) for part in self.parts]
        return {"and": all(held), "or": any(held), "not": not held[0]}[self.operator]


@dataclass(frozen=True, slots=True)
class Asked:
    resource_type: str
    questions: tuple[Question, ...]
    paths: tuple[Path, ...]
    filtered: Filtered | None
    sort: tuple[tuple[str, bool], ...]
    """(code, descending)"""
    count: int
    total: str

    def text(self) -> str:
        pairs = [question.text() for question in self.questions]
        pairs += [path.text() for path in self.paths]
        pairs += [("_filter", self.filtered.text())] if self.filtered is not None else []
        order = ",".join(f"{'-' if descending else ''}{code}" for code, descending in self.sort)
        pairs += [("_sort", order)] if order else []
        pairs += [("_count", str(self.count)), ("_total", self.total)]
        return f"{self.resource_type}?{urlencode(pairs)}"


ORACLE = Oracle(_rows())


def _candidates(resource_type: str, code: str, kind: str) -> list[str]:
    """Texts to ask for, taken from the record."""
    texts: set[str] = set()
    for row in ORACLE.of_type(resource_type, lambda _: True)[-120:]:
        found = ORACLE.values(row, code)
        texts.update(found.references)
        texts.update(text for text in found.texts if kind == "string" and text.strip())
        for system, value in found.tokens:
            texts.update({f"{system}|", f"{system}|{value}"} if system else {f"|{value}"})
            texts.update({value} if value else set())
        for low, high, unit in found.quantities:
            texts.update({str(low), str(high), f"{low:.0f}"})
            if "code" in unit:
                texts.update({f"{low}||{unit['code']}", f"{low}|{unit.get('system', 'urn:none')}|{unit['code']}"})
        texts.update(span[0].isoformat() for span in found.spans if 1900 < span[0].year < 9000)
        texts.update(span[0].isoformat()[:10] for span in found.spans if 1900 < span[0].year < 9000)
        texts.update(span[0].isoformat()[:4] for span in found.spans if 1900 < span[0].year < 9000)
    usable = sorted(text for text in texts if text and "None" not in text and text != "|")
    return usable or {"date": ["2020"], "quantity": ["1"], "number": ["1"]}.get(kind, ["nothing"])


_cached_candidates = cache(_candidates)


def _coded_texts(resource_type: str, code: str) -> list[str]:
    texts = {text for row in ORACLE.of_type(resource_type, lambda _: True) for text in ORACLE.values(row, code).texts}
    return sorted(text for text in texts if folded(text)) or ["nothing"]


_cached_coded_texts = cache(_coded_texts)


@st.composite
def _composites(draw: st.DrawFn, resource_type: str, code: str) -> Question:
    tokens = _cached_candidates(resource_type, "combo-code", "token")
    amounts = _cached_candidates(resource_type, "combo-value-quantity", "quantity")
    choices = draw(
        st.lists(
            st.tuples(st.sampled_from(PREFIXES), st.sampled_from(tokens), st.sampled_from(amounts)),
            min_size=1,
            max_size=2,
        )
    )
    return Question(code, "composite", None, tuple((prefix, f"{token}${amount}") for prefix, token, amount in choices))


@st.composite
def _questions(draw: st.DrawFn, resource_type: str) -> Question:
    code = draw(st.sampled_from(CODES[resource_type].split()))
    kind = search_parameters(resource_type)[code].kind
    modifiers: dict[str, list[str | None]] = {
        "token": [None, None, "not", "text", "missing"],
        "string": [None, "exact", "contains", "missing"],
        "composite": [None],
    }
    coded = ["in", "not-in", "below", "above"] if code in CODED else []
    modifier = draw(st.sampled_from([*modifiers.get(kind, [None, None, "missing"]), *coded]))
    if modifier in coded:
        known = sorted(text for taken, text in MEMBERS if taken == modifier.removeprefix("not-"))
        asked = draw(st.lists(st.sampled_from(known), min_size=1, max_size=2, unique=True))
        return Question(code, kind, modifier, tuple(("", text) for text in asked))
    if kind == "composite":
        return draw(_composites(resource_type, code))
    if modifier == "missing":
        return Question(code, kind, modifier, (("", draw(st.sampled_from(["true", "false"]))),))
    known = (
        _cached_coded_texts(resource_type, code)
        if modifier == "text"
        else _cached_candidates(resource_type, code, kind)
    )
    if kind == "string" and code in NAME_CODES and modifier is None and draw(st.booleans()):
        asked = draw(st.lists(st.sampled_from(ASKED_NAMES), min_size=1, max_size=3))
        return Question(code, kind, None, tuple(("", text) for text in asked))
    choices = []
    for text in draw(st.lists(st.sampled_from(known), min_size=1, max_size=3)):
        asked = text
        if kind == "string" or modifier == "text":
            start = draw(st.integers(0, max(len(text) - 2, 0))) if modifier == "contains" else 0
            asked = text if modifier == "exact" else text[start : start + draw(st.integers(1, 30))]
            asked = asked if folded(asked) else text
        prefix = draw(st.sampled_from(PREFIXES)) if kind in ("date", "quantity", "number") else ""
        choices.append((prefix, asked))
    return Question(code, kind, modifier, tuple(choices))


@st.composite
def _paths(draw: st.DrawFn, resource_type: str, depth: int) -> Path:
    """A path of at most this many steps; along a reference to people without naming their type now and then."""
    steps = [(code, False, target) for source, code, target in LINKS if source == resource_type]
    steps += [(code, True, source) for source, code, target in LINKS if target == resource_type]
    if not depth or not steps:
        return Path(resource_type, "", reverse=False, below=draw(_questions(resource_type)))
    code, reverse, other = draw(st.sampled_from(steps))
    below = draw(_paths(other, depth - 1))
    # only one of the types of the record has these parameters
    typed = reverse or not isinstance(below.below, Question) or below.below.code not in {"birthdate", "gender"}
    return Path(resource_type, code, reverse, below, typed)


OPERATORS = {
    "token": ("eq", "ne"),
    "string": ("eq", "ne", "co", "sw", "ew"),
    "reference": ("eq", "re", "ne"),
    "date": ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "po"),
    "quantity": ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"),
}


@st.composite
def _compared(draw: st.DrawFn, resource_type: str) -> Filtered:
    question = draw(_questions(resource_type).filter(lambda each: each.kind in OPERATORS))
    if question.modifier == "missing":
        return Filtered("", Compared(question, "pr"))
    question = replace(question, modifier=None, choices=question.choices[:1])
    if question.kind == "token":
        known = _cached_candidates(resource_type, question.code, "token")
        question = replace(question, choices=(("", draw(st.sampled_from(known))),))
    return Filtered("", Compared(question, draw(st.sampled_from(OPERATORS[question.kind]))))


def _filters(resource_type: str) -> st.SearchStrategy[Filtered]:
    def joined(parts: st.SearchStrategy[Filtered]) -> st.SearchStrategy[Filtered]:
        two = st.tuples(parts, parts)
        return st.one_of(
            st.builds(Filtered, st.sampled_from(["and", "or"]), two),
            st.builds(Filtered, st.just("not"), st.tuples(parts)),
        )

    return st.recursive(_compared(resource_type), joined, max_leaves=4)


@st.composite
def _asked(draw: st.DrawFn) -> Asked:
    resource_type = draw(st.sampled_from(sorted(CODES)))
    questions = tuple(draw(st.lists(_questions(resource_type), min_size=0, max_size=2)))
    deepest = draw(st.sampled_from([0, 1, 1, 2, 3]))
    paths = tuple(draw(_paths(resource_type, deepest)) for _ in range(draw(st.integers(1, 2)) if deepest else 0))
    filtered = draw(_filters(resource_type)) if draw(st.integers(0, 2)) == 0 else None
    count = draw(st.sampled_from([5, 50, 1000]))
    total = draw(st.sampled_from(["accurate", "none", "estimate"]))
    sortable = [code for code in CODES[resource_type].split() if code not in COMPOSITES]
    keys = st.tuples(st.sampled_from(sortable), st.booleans())
    sort = tuple(draw(st.lists(keys, max_size=3))) if draw(st.integers(0, 2)) == 0 else ()
    return Asked(resource_type, questions, paths, filtered, sort, count, total)


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _filled(store: Store, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await fill(connection, store.hasher, _rows())
    await connection.execute(PEOPLE)
    await connection.execute("analyze")
    await connection.close()


@pytest.mark.timeout(28_800)
@pytest.mark.parametrize("name", FILTERS)
async def test_search_equals_filter(store: Store, name: str) -> None:
    row_filter, admits = FILTERS[name]
    loop = asyncio.get_running_loop()

    async def answer(asked: Asked) -> tuple[list[str], int | None]:
        names: list[str] = []
        total, cursor = None, None
        for page in range(4):
            result = await ask(store, asked.text(), row_filter, cursor=cursor)
            names += [f"{match.resource_type}/{match.resource_id}" for match in result.matches]
            total = result.total if page == 0 else total
            cursor = result.next_cursor
            if cursor is None:
                break
        return names, total

    @settings(
        max_examples=EXAMPLES if name != "people" else EXAMPLES // 3,  # these take three times as long
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(_asked())
    def compare(asked: Asked) -> None:
        expected = ORACLE.answer(asked, admits)
        found, total = asyncio.run_coroutine_threadsafe(answer(asked), loop).result(30)
        assert found == expected[: asked.count * 4], asked.text()
        if asked.total != "none" and (asked.total == "accurate" or len(expected) < 1000):
            assert total == len(expected), asked.text()

    with recorded_statements() as statements:
        await asyncio.to_thread(compare)
    clinical = {text for text in statements if "resource" in text}
    assert clinical
    assert {alias for text in clinical for alias in unscoped_aliases(text)} == set()
