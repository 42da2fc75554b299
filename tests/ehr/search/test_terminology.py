"""Tokens by value sets and by what subsumes what, over stored CodeSystems and ValueSets.

https://hl7.org/fhir/R4/search.html#token, https://hl7.org/fhir/R4/valueset.html#compositions
"""

from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from ehr.errors import BadSearch, TooCostly
from ehr.row_filter import AllOf, CustodianIn, Everything
from ehr.search import limits
from ehr.search.scope_linter import unscoped_aliases
from ehr.store import Store
from tests.search_record import START_US, Kept, ask, ask_all, fill, recorded_statements

pytestmark = pytest.mark.database
FLAT, NESTED, PARTS = "http://x.org/flat", "http://x.org/nested", "http://x.org/parts"
SETS = "http://x.org/sets"


def concept(code: str, *below: dict[str, Any], **properties: str) -> dict[str, Any]:
    found: dict[str, Any] = {"code": code, "display": f"Display {code}"}
    if below:
        found["concept"] = list(below)
    if properties:
        found["property"] = [{"code": name, "valueCode": value} for name, value in properties.items()]
    return found


def code_system(name: str, url: str, *concepts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "resourceType": "CodeSystem", "id": name, "url": url, "status": "active", "content": "complete",
        "concept": list(concepts),
    } | fields  # fmt: skip


SYSTEMS = [
    # animals over mammals over cat and dog; over birds over duck
    code_system(
        "nested", NESTED,
        concept("animal", concept("mammal", concept("cat"), concept("dog")), concept("bird", concept("duck"))),
        concept("stone", colour="grey"),
        hierarchyMeaning="is-a",
    ),
    # the same said by properties, one of them under a name of its own, one concept below two others
    code_system(
        "flat", FLAT,
        concept("a"), concept("b", parent="a"), concept("c", above="b"), concept("d", parent="a", above="c"),
        concept("e", child="d"), concept("old", inactive="true"),
        property=[{"code": "above", "type": "code", "uri": "http://hl7.org/fhir/concept-properties#parent"}],
    ),
    code_system("parts", PARTS, concept("leg", concept("foot")), hierarchyMeaning="part-of"),
    code_system("first", "http://x.org/versions", concept("one"), version="1"),
    code_system("second", "http://x.org/versions", concept("one"), concept("two"), version="2"),
    code_system("empty", "http://x.org/empty", content="not-present") | {"concept": []},
    code_system("round", "http://x.org/round", concept("x", parent="y"), concept("y", parent="x")),
]  # fmt: skip


def value_set(name: str, *include: dict[str, Any], exclude: Any = (), **fields: Any) -> dict[str, Any]:
    compose: dict[str, Any] = {"include": list(include)}
    if exclude:
        compose["exclude"] = list(exclude)
    body = {"resourceType": "ValueSet", "id": name, "url": f"{SETS}/{name}", "status": "active", "compose": compose}
    return {key: value for key, value in (body | fields).items() if value is not None}


def chosen(system: str, *filters: tuple[str, str, str]) -> dict[str, Any]:
    return {"system": system, "filter": [{"property": p, "op": o, "value": v} for p, o, v in filters]}


def listed(system: str, *codes: str) -> dict[str, Any]:
    return {"system": system, "concept": [{"code": code} for code in codes]}


def contains(*codes: str, system: str = FLAT) -> list[dict[str, Any]]:
    return [{"system": system, "code": code} for code in codes]


VALUE_SETS = [
    value_set("listed", listed(NESTED, "cat", "duck"), listed(FLAT, "a")),
    value_set("mammals", chosen(NESTED, ("concept", "is-a", "mammal"))),
    value_set("kinds-of-mammals", chosen(NESTED, ("concept", "descendent-of", "mammal"))),
    value_set("not-mammals", chosen(NESTED, ("concept", "is-not-a", "mammal"))),
    value_set("above-cat", chosen(NESTED, ("concept", "generalizes", "cat"))),
    value_set("grey", chosen(NESTED, ("colour", "=", "grey"))),
    value_set("coloured", chosen(NESTED, ("colour", "exists", "true"))),
    value_set("two-of", chosen(NESTED, ("code", "in", "cat,stone"))),
    value_set("two-filters", chosen(NESTED, ("concept", "is-a", "animal"), ("code", "not-in", "cat,dog"))),
    value_set(
        "whole", {"system": NESTED}, exclude=[listed(NESTED, "cat"), chosen(NESTED, ("concept", "is-a", "bird"))]
    ),
    value_set("imports", {"valueSet": [f"{SETS}/mammals"]}, listed(FLAT, "b")),
    value_set("both", {"valueSet": [f"{SETS}/mammals", f"{SETS}/listed"]}),
    value_set("narrowed", {"system": NESTED, "valueSet": [f"{SETS}/listed"]}),
    value_set("elsewhere", {"system": "http://not.stored"}),
    value_set("elsewhere-listed", listed("http://not.stored", "z")),
    value_set("elsewhere-without", {"system": "http://not.stored"}, exclude=[listed("http://not.stored", "z")]),
    value_set("elsewhere-filtered", chosen("http://not.stored", ("concept", "is-a", "z"))),
    value_set("expanded", chosen("http://not.stored", ("concept", "is-a", "z")), expansion={
        "timestamp": "2020-01-01", "contains": [{"system": FLAT, "code": "a", "contains": contains("b")},
                                                {"system": FLAT, "code": "c", "abstract": True}]}),
    value_set("expanded-only", compose=None, expansion={"timestamp": "2020-01-01", "contains": contains("c", "d")}),
    value_set("expanded-in-part", compose=None, expansion={
        "timestamp": "2020-01-01", "total": 3, "contains": contains("c", "d")}),
    value_set("regex", chosen(NESTED, ("code", "regex", "c.*"))),
    value_set("itself", {"valueSet": [f"{SETS}/itself"]}),
    value_set("active", {"system": FLAT}) | {
        "compose": {"inactive": False, "include": [{"system": FLAT}]}},
    value_set("first-version", {"system": "http://x.org/versions", "version": "1"}),
    value_set("newest-version", {"system": "http://x.org/versions"}),
    value_set("many", *[listed(FLAT, *(f"code-{number}" for number in range(start, start + 3000)))
                        for start in range(0, 12_000, 3000)]),
]  # fmt: skip
ROWS = [
    *((NESTED, code) for code in ("animal", "mammal", "cat", "dog", "bird", "duck", "stone")),
    *((FLAT, code) for code in ("a", "b", "c", "d", "e", "old")),
    *((PARTS, code) for code in ("leg", "foot")),
    *(("http://x.org/versions", code) for code in ("one", "two")),
    ("http://not.stored", "z"), ("http://not.stored", "y"), ("http://x.org/round", "x"), (None, "cat"),
]  # fmt: skip


def observation(number: int, *codings: tuple[str | None, str]) -> dict[str, Any]:
    coding = [{"code": code} | ({"system": system} if system else {}) for system, code in codings]
    return {
        "resourceType": "Observation", "id": f"o{number}", "status": "final",
        "code": {"coding": coding} if coding else {"text": "none"},
    }  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _filled(store: Store, database_url: str) -> None:
    resources = [*SYSTEMS, *VALUE_SETS, *(observation(number, row) for number, row in enumerate(ROWS))]
    resources += [observation(90, (NESTED, "cat"), (FLAT, "e")), observation(91)]
    resources.append(
        {
            "resourceType": "Patient",
            "id": "typed",
            "identifier": [
                {"type": {"coding": [{"system": "urn:t", "code": "MR"}, {"code": "X"}]}, "value": "7"},
                {"type": {"coding": [{"system": "urn:t", "code": "SS"}]}, "system": "urn:s", "value": "8"},
            ],
        }
    )
    connection = await asyncpg.connect(database_url)
    await fill(connection, store.hasher, [Kept(one, START_US + n, 0) for n, one in enumerate(resources)])
    await connection.close()


async def codes(store: Store, text: str) -> set[str]:
    """The codes of the observations found; those of two codings by their ids."""
    named = {f"Observation/o{number}": f"{(system or '-').rpartition('/')[2]}:{code}" for number, (system, code) in
             enumerate(ROWS)}  # fmt: skip
    return {named.get(name, name) for name in await ask_all(store, f"Observation?{text}")}


BOTH = "Observation/o90"
IN = {
    "listed": {"nested:cat", "nested:duck", "flat:a", BOTH},
    "mammals": {"nested:mammal", "nested:cat", "nested:dog", BOTH},
    "kinds-of-mammals": {"nested:cat", "nested:dog", BOTH},
    "not-mammals": {"nested:animal", "nested:bird", "nested:duck", "nested:stone"},
    "above-cat": {"nested:animal", "nested:mammal", "nested:cat", BOTH},
    "grey": {"nested:stone"},
    "coloured": {"nested:stone"},
    "two-of": {"nested:cat", "nested:stone", BOTH},
    "two-filters": {"nested:animal", "nested:mammal", "nested:bird", "nested:duck"},
    "whole": {"nested:animal", "nested:mammal", "nested:dog", "nested:stone"},
    "imports": {"nested:mammal", "nested:cat", "nested:dog", "flat:b", BOTH},
    "both": {"nested:cat", BOTH},
    "narrowed": {"nested:cat", "nested:duck", BOTH},
    "elsewhere": {"not.stored:z", "not.stored:y"},
    "elsewhere-listed": {"not.stored:z"},
    "expanded": {"flat:a", "flat:b"},
    "expanded-only": {"flat:c", "flat:d"},
    "active": {"flat:a", "flat:b", "flat:c", "flat:d", "flat:e", BOTH},
    "first-version": {"versions:one"},
    "newest-version": {"versions:one", "versions:two"},
}


@pytest.mark.parametrize("name", IN)
async def test_a_value_set_holds_what_it_composes(store: Store, name: str) -> None:
    every = await codes(store, "")
    assert await codes(store, f"code:in={SETS}/{name}") == IN[name]
    assert await codes(store, f"code:not-in={SETS}/{name}") == every - IN[name]
    assert await codes(store, f"combo-code:in=ValueSet/{name}") == IN[name]


async def test_several_sets_and_the_rest_of_the_grammar(store: Store) -> None:
    assert await codes(store, f"code:in={SETS}/grey,{SETS}/expanded-only") == IN["grey"] | IN["expanded-only"]
    assert await codes(store, f"code:in={SETS}/listed&code:in={SETS}/mammals") == IN["both"]
    assert await codes(store, f"code:in={SETS}/grey|") == IN["grey"]
    result = await ask(store, f"Observation?code:in={SETS}/mammals&_total=accurate&_count=2")
    assert (len(result.matches), result.total) == (2, 4)
    assert result.next_cursor is not None
    result = await ask(store, f"Observation?code:in={SETS}/mammals&_summary=count")
    assert result.total == 4
    own = await ask(store, "Observation?status:in=http://hl7.org/fhir/ValueSet/observation-status&_summary=count")
    assert own.total == len(ROWS) + 2


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (f"code:below={NESTED}|mammal", {"nested:mammal", "nested:cat", "nested:dog", BOTH}),
        (f"code:below={NESTED}|cat", {"nested:cat", BOTH}),
        (f"code:below={NESTED}|cat,{NESTED}|bird", {"nested:cat", "nested:bird", "nested:duck", BOTH}),
        (f"code:above={NESTED}|cat", {"nested:animal", "nested:mammal", "nested:cat", BOTH}),
        (f"code:below={FLAT}|a", {"flat:a", "flat:b", "flat:c", "flat:d"}),
        (f"code:below={FLAT}|e", {"flat:d", "flat:e", BOTH}),
        (f"code:above={FLAT}|d", {"flat:a", "flat:b", "flat:c", "flat:d", "flat:e", BOTH}),
        (f"code:below={PARTS}|leg", {"parts:leg"}),
        ("code:below=http://x.org/round|x", {"round:x"}),
        (f"code:below={NESTED}|unheard-of", set()),
    ],
)
async def test_the_code_system_says_what_is_subsumed(store: Store, asked: str, expected: set[str]) -> None:
    assert await codes(store, asked) == expected


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("code:in=http://x.org/sets/absent", "http://x.org/sets/absent"),
        ("code:in=ValueSet/absent", "ValueSet/absent"),
        (f"code:not-in={SETS}/listed|7", "listed|7"),
        (f"code:in={SETS}/elsewhere-filtered", "http://not.stored"),
        (f"code:in={SETS}/elsewhere-without", "elsewhere-without"),
        (f"code:in={SETS}/expanded-in-part", "expanded-in-part"),
        (f"code:in={SETS}/regex", "regex"),
        (f"code:in={SETS}/itself", "itself"),
        ("code:below=http://not.stored|z", "http://not.stored"),
        ("code:above=http://x.org/empty|z", "http://x.org/empty"),
        ("code:below=cat", "code:below"),
        (f"code:below={NESTED}|", "code:below"),
        ("code:in=words", "code:in"),
        ("value-quantity:in=http://x.org", "value-quantity:in"),
        ("identifier:in=http://x.org", "identifier:in"),
        ("code:of-type=a|b|c", "code:of-type"),
    ],
)
async def test_what_cannot_be_told_is_refused_by_name(store: Store, asked: str, names: str) -> None:
    with pytest.raises(BadSearch, match=names.replace("|", r"\|").replace(".", r"\.")):
        await ask(store, f"Observation?{asked}")


async def test_more_codes_than_the_bound_are_refused(store: Store) -> None:
    with pytest.raises(TooCostly, match=str(limits.EXPANDED_CODES)):
        await ask(store, f"Observation?code:in={SETS}/many")


async def test_a_set_that_the_caller_does_not_see_is_unknown(store: Store) -> None:
    hidden = AllOf((Everything(), CustodianIn(frozenset({2}))))
    for asked in (f"code:in={SETS}/mammals", f"code:below={NESTED}|mammal"):
        with pytest.raises(BadSearch, match="not stored here"):
            await ask(store, f"Observation?{asked}", hidden)
    with recorded_statements() as statements:
        await ask(store, f"Observation?code:in={SETS}/imports")
    reads = [text for text in statements if "dictionary" in text]
    assert len(reads) > 3
    assert {alias for text in reads for alias in unscoped_aliases(text)} == set()


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("urn:t|MR|7", True), ("urn:t|SS|8", True), ("urn:t|MR|8", False), ("urn:t|X|7", False),
        ("urn:t|MR|8,urn:t|SS|8", True),
    ],
)  # fmt: skip
async def test_identifiers_by_their_type(store: Store, asked: str, found: bool) -> None:  # noqa: FBT001 - a table
    assert await ask_all(store, f"Patient?identifier:of-type={asked}") == (["Patient/typed"] if found else [])


@pytest.mark.parametrize("asked", ["7", "MR|7", "|MR|7", "urn:t|MR|", "urn:t||7", "urn:t|MR|7|8"])
async def test_a_type_needs_all_three_parts(store: Store, asked: str) -> None:
    with pytest.raises(BadSearch, match="identifier:of-type"):
        await ask(store, f"Patient?identifier:of-type={asked}")
    assert (await ask(store, "Patient?identifier:of-type=urn:t|MR|7")).matches


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (f"url:below={SETS}", {"listed", "grey"}),
        (f"url:below={SETS}/", {"listed", "grey"}),
        (f"url:below={SETS}/gre", set()),
        (f"url:below={SETS}/grey", {"grey"}),
        (f"url:above={SETS}/grey/below/it", {"grey"}),
        (f"url:above={SETS}/grey|2", {"grey"}),
        (f"url:above={SETS}", set()),
        (f"url:below=http://other.org,{SETS}/grey", {"grey"}),
    ],
)
async def test_addresses_above_and_below(store: Store, asked: str, found: set[str]) -> None:
    names = {name.removeprefix("ValueSet/") for name in await ask_all(store, f"ValueSet?{asked}")}
    assert names & {"listed", "grey"} == found
    assert len(names) in {0, 1, len(VALUE_SETS)}


@pytest.mark.parametrize("modifier", ["above", "below"])
async def test_an_address_without_levels_is_refused(store: Store, modifier: str) -> None:
    with pytest.raises(BadSearch, match=f"url:{modifier}"):
        await ask(store, f"ValueSet?url:{modifier}=urn:oid:1.2.3")
