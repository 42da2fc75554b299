"""Random includes on a random web of references: what comes along is what following them one by one finds."""

import asyncio
import os
import random
from collections.abc import Iterable
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ehr.row_filter import EVERYTHING, AllOf, CustodianIn, RowFilter
from ehr.search.scope_linter import unscoped_aliases
from ehr.store import Store
from tests.search_record import Kept, ask, fill, kept, recorded_statements

pytestmark = pytest.mark.database
LINKS = {
    ("Observation", "has-member"): ("hasMember", True, ("Observation",)),
    ("Observation", "derived-from"): ("derivedFrom", True, ("Observation",)),
    ("Observation", "subject"): ("subject", False, ("Patient", "Location")),
    ("Observation", "encounter"): ("encounter", False, ("Encounter",)),
    ("Encounter", "part-of"): ("partOf", False, ("Encounter",)),
    ("Encounter", "service-provider"): ("serviceProvider", False, ("Organization",)),
    ("Patient", "organization"): ("managingOrganization", False, ("Organization",)),
    ("Organization", "partof"): ("partOf", False, ("Organization",)),
    ("Location", "partof"): ("partOf", False, ("Location",)),
}
"""(type, parameter): element, whether it repeats, types that it names here."""
TYPES = ("Observation", "Encounter", "Patient", "Organization", "Location")
EACH = 12
EXAMPLES = 4_000 if os.environ.get("KANGLIAN_TEST_ALL") else 60
Link = tuple[str, str, str]
"""Name of the row that refers, parameter, name of the row that it names."""


def _web(seed: int) -> list[Kept]:
    rnd = random.Random(seed)  # noqa: S311 - test data
    resources = []
    for kind in TYPES:
        for number in range(EACH):
            resource: dict[str, Any] = {"resourceType": kind, "id": f"{number}"}
            for (source, _), (element, repeats, targets) in LINKS.items():
                if source != kind or rnd.random() < 0.4:
                    continue
                named = [{"reference": f"{rnd.choice(targets)}/{rnd.randrange(EACH + 2)}"} for _ in range(2)]
                resource[element] = named if repeats else named[0]
            resources.append(resource)
    return kept(resources, custodians=3)


ROWS = _web(7)
FILTERS: dict[str, tuple[RowFilter, frozenset[int]]] = {
    "everything": (EVERYTHING, frozenset({1, 2, 3})),
    "custodian": (AllOf((EVERYTHING, CustodianIn(frozenset({1, 3})))), frozenset({1, 3})),
}


def _links(rows: Iterable[Kept]) -> list[Link]:
    found = []
    for row in rows:
        for (source, code), (element, _, _) in LINKS.items():
            if source == row.resource["resourceType"] and element in row.resource:
                value = row.resource[element]
                named = value if isinstance(value, list) else [value]
                found += [(row.name, code, each["reference"]) for each in named]
    return found


def _type(name: str) -> str:
    return name.partition("/")[0]


Wanted = tuple[str, str]


def _follows(wanted: Wanted, link: Link) -> bool:
    source, _, rest = wanted[1].partition(":")
    code, _, target = rest.partition(":")
    return wanted[1] == "*" or (
        source == _type(link[0]) and code in ("*", link[1]) and (not target or target == _type(link[2]))
    )


def _closure(matches: set[str], wanted: list[Wanted], visible: list[Kept]) -> set[str]:
    names = {row.name for row in visible}
    links = [link for link in _links(visible) if link[2] in names]
    reached = set(matches)
    first = True
    while True:
        new = set()
        for link in links:
            for one in wanted:
                start, end = (link[2], link[0]) if one[0].startswith("_rev") else (link[0], link[2])
                of = reached if one[0].endswith("iterate") else matches
                if start in of and end not in reached and _follows(one, link):
                    new.add(end)
        if not new and not first:
            return reached - matches
        first = False
        reached |= new


@st.composite
def _asked(draw: st.DrawFn) -> tuple[str, list[str], list[Wanted]]:
    kind = draw(st.sampled_from(TYPES))
    ids = draw(st.lists(st.integers(0, EACH - 1), min_size=1, max_size=3, unique=True))
    wanted: list[Wanted] = []
    for _ in range(draw(st.integers(1, 4))):
        reverse, iterate = draw(st.booleans()), draw(st.booleans())
        name = ("_revinclude" if reverse else "_include") + (":iterate" if iterate else "")
        fitting = [
            (source, code, target)
            for (source, code), (_, _, targets) in LINKS.items()
            for target in targets
            if iterate or (target if reverse else source) == kind
        ]
        if not fitting or draw(st.integers(0, 7)) == 0:
            wanted.append((name, "*"))
            continue
        source, code, target = draw(st.sampled_from(fitting))
        forms = [f"{source}:{code}", f"{source}:{code}:{target}", f"{source}:*"]
        wanted.append((name, draw(st.sampled_from(forms))))
    return kind, [str(number) for number in ids], wanted


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _filled(store: Store, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("truncate resource, index_date, index_number, index_quantity")
    await fill(connection, store.hasher, ROWS)
    await connection.close()


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("name", FILTERS)
async def test_included_rows_equal_the_closure(store: Store, name: str) -> None:
    row_filter, custodians = FILTERS[name]
    visible = [row for row in ROWS if row.custodian in custodians]
    loop = asyncio.get_running_loop()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
              suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
    @given(_asked())
    def compare(asked: tuple[str, list[str], list[Wanted]]) -> None:
        kind, ids, wanted = asked
        text = f"{kind}?_id={','.join(ids)}" + "".join(f"&{name}={value}" for name, value in wanted)
        result = asyncio.run_coroutine_threadsafe(ask(store, text, row_filter), loop).result(30)
        matches = {row.name for row in visible if row.name in {f"{kind}/{each}" for each in ids}}
        assert {f"{row.resource_type}/{row.resource_id}" for row in result.matches} == matches
        found = [f"{row.resource_type}/{row.resource_id}" for row in result.includes]
        assert len(found) == len(set(found))
        assert set(found) == _closure(matches, wanted, visible), text
        assert not result.issues

    with recorded_statements() as statements:
        await asyncio.to_thread(compare)
    assert {alias for text in statements if "resource" in text for alias in unscoped_aliases(text)} == set()


async def test_what_is_cut_off_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ("Organization?_count=50&_revinclude:iterate=*", "Patient?_count=50&_revinclude=Observation:*",
             "Observation?_count=50&_include=*", "Observation?_id=0,1,3,4&_include:iterate=*")  # fmt: skip
    whole = [await ask(store, text) for text in texts]
    assert not any(found.issues for found in whole)
    fewer = min(len(found.includes) for found in whole) - 1
    assert fewer > 0
    monkeypatch.setattr("ehr.search.limits.INCLUDED_ROWS", fewer)
    for text in texts:
        found = await ask(store, text)
        assert len(found.includes) == fewer, text
        assert [issue.code for issue in found.issues] == ["too-costly"], text
    monkeypatch.undo()
    monkeypatch.setattr("ehr.search.limits.INCLUDE_STEPS", 1)
    short = await ask(store, "Observation?_count=50&_include:iterate=*")
    assert [issue.severity for issue in short.issues] == ["warning"]
