"""Breaks the access rules on purpose, one place at a time, each in a process of its own: every break must be found.

    python -m tests.security.non_interference.broken_filters [name ...]

Needs the address of a PostgreSQL server in KANGLIAN_TEST_DATABASE_URL. Nothing in the tree is edited: a break replaces
a function of the running process. Prints a table; exit code 1 where a break was not found.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from consent import decision, filing, labels, smart, spreading
from ehr import filter_forms, person_filter
from ehr.access import classes
from ehr.definitions import type_number
from ehr.errors import PreconditionFailed
from ehr.row_filter import EVERYTHING, AllOf, RowRule, TypeIn
from ehr.search import opening, run, statement
from ehr.store import conditions, planning, record_store, write_rows, writer
from tests.security.non_interference.comparison import Interference
from tests.security.non_interference.trial import Trial, platforms

REQUESTS = 2_500
FOUND, CLEAN = 3, 0
BREAKS: dict[str, tuple[str, Callable[[], None]]] = {}


def a_break(text: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register a break under its function's name."""

    def register(apply: Callable[[], None]) -> Callable[[], None]:
        BREAKS[apply.__name__] = (text, apply)
        return apply

    return register


def _unfiltered(aliases: str) -> None:
    """Leave the caller's predicate out at table aliases of this form."""
    original = AllOf.sql

    def sql(self: AllOf, alias: str, parameters: Any, person: Any = None) -> str:
        if self.filters[:1] == (EVERYTHING,) and re.fullmatch(aliases, alias):
            return f"({alias}.key is not null)"
        return original(self, alias, parameters, person)

    AllOf.sql = sql  # type: ignore[method-assign]


@a_break("chains pass through hidden rows")
def chains() -> None:
    _unfiltered(r"c\d+")


@a_break("_has looks at hidden rows")
def reverse_chains() -> None:
    _unfiltered(r"s\d+")


@a_break("_include shows hidden rows")
def includes() -> None:
    _unfiltered(r"i\d*")


@a_break("_revinclude shows hidden rows")
def reverse_includes() -> None:
    _unfiltered(r"v\d+")


@a_break("versions that were hidden are shown in history")
def history() -> None:
    _unfiltered("h")


@a_break(":mdm spans the person of a hidden Patient")
def whole_persons() -> None:
    _unfiltered(r"p\d+")


@a_break("_summary=count counts hidden rows")
def counts() -> None:
    original = statement.count_statement

    def counted(rendering: Any, query: Any) -> str:
        rendering.row_filter, rendering.lead = EVERYTHING, None
        return original(rendering, query)

    run.count_statement = counted  # type: ignore[attr-defined]


@a_break("searches that open bodies open hidden ones")
def opened_bodies() -> None:
    original = opening.Opening._rendering

    def rendering(self: Any) -> Any:
        made = original(self)
        made.row_filter = EVERYTHING
        return made

    opening.Opening._rendering = rendering  # type: ignore[method-assign]


@a_break("conditional writes match hidden rows")
def conditional_writes() -> None:
    conditions.writer_filter = lambda _: EVERYTHING  # type: ignore[assignment]


@a_break("conditional references match hidden rows")
def conditional_references() -> None:
    record_store.writer_filter = lambda _: EVERYTHING  # type: ignore[attr-defined, assignment]


@a_break("a write to a hidden row is refused otherwise than one to an absent row")
def hidden_rows_in_place() -> None:
    async def visible(_self: Any, _connection: Any, wave: Any, in_place: Any) -> set[Any]:
        keys = {(request, request.operations[place].key) for request, place in wave}
        return {(request, key) for request, key in keys if key in in_place}

    writer.Writer._visible = visible  # type: ignore[method-assign]


@a_break("If-Match is compared with the version of a hidden row")
def entity_tags() -> None:
    original = planning._require_touch

    def require_touch(meeting: Any) -> None:
        wanted, current = meeting.prepared.operation.if_match, meeting.current
        if current is not None and wanted is not None and wanted != current["version"]:
            raise PreconditionFailed("If-Match names another version than the current one.")
        original(meeting)

    planning._require_touch = require_touch


@a_break("included rows come in the order in which the tables hold them")
def order_of_included_rows() -> None:
    def distinct(matches: list[Any], rows: Any) -> list[Any]:
        seen = {match.key for match in matches}
        return [row for row in rows if row.key not in seen and not seen.add(row.key)]  # type: ignore[func-returns-value]

    run._distinct = distinct


@a_break("a deleted row forgets the codes by which it was hidden")
def deleted_rows() -> None:
    text, number = write_rows._PARTS["changed"]
    write_rows._PARTS["changed"] = (
        re.sub(r"case when n\.deleted then r\.(\w+) else n\.\w+ end", r"n.\1", text),
        number,
    )


@a_break("only the first person of a row is asked")
def several_persons() -> None:
    person_filter._others_checked = lambda *_: "true"  # type: ignore[assignment]


@a_break("reach never ends")
def ended_reach() -> None:
    for module in (person_filter, filter_forms):
        for name in ("NOW_US", "_NOW"):
            if hasattr(module, name):
                setattr(module, name, "0")


@a_break("anybody's emergency opens a record")
def emergencies() -> None:
    original = person_filter.InEmergency.sql

    def sql(self: Any, alias: str, parameters: Any, person: Any = None) -> str:
        return re.sub(r"e_\.actor = (\S+)", r"(e_.actor = \1 or true)", original(self, alias, parameters, person))

    person_filter.InEmergency.sql = sql  # type: ignore[method-assign]


@a_break("a provision that denies is passed over")
def denials() -> None:
    def permitted(found: Any, otherwise: RowRule) -> RowRule:
        return decision.any_of(*(each.matches for each in found if each.rule.permit), otherwise)

    decision._permitted = permitted


@a_break("labels do not spread along references")
def spreading_labels() -> None:
    async def nothing(*_: Any, **__: Any) -> None:
        return None

    spreading._edges = lambda *_: iter(())  # type: ignore[assignment]
    spreading.raise_referrers = nothing


@a_break("a Provenance does not take the labels of its targets")
def labels_of_provenance() -> None:
    found = labels.table()
    object.__setattr__(found, "spreads", tuple(each for each in found.spreads if each.type != "Provenance"))
    labels.spreads_of.cache_clear()


@a_break("a corrected row loses what a report said of it")
def corrected_rows() -> None:
    async def nothing(*_: Any) -> dict[int, int]:
        return {}

    spreading.said_by_others = nothing


@a_break("of a merged person's consents any one opens, before the merge is reviewed")
def merged_persons() -> None:
    filing._groups = lambda person: (tuple(filing.decode_consent(each.rules) for each in person.consents),)  # type: ignore[assignment]


@a_break("what a hospital attests opens everybody's rows")
def attested_consents() -> None:
    original = filing.read_written

    def read_written(changes: Any, zone: Any) -> dict[int, Any]:
        return {key: replace(consent, attested_by=None) for key, consent in original(changes, zone).items()}

    filing.read_written = read_written


@a_break("rows keep the stamp of the class that their person had")
def stamps() -> None:
    classes._CLASSIFY = classes._CLASSIFY.replace("from changed union", "from changed where false union").replace(
        "where $4::boolean", "where $4::boolean and false"
    )


@a_break("a search parameter in a SMART scope narrows nothing")
def narrowed_scopes() -> None:
    smart._narrowed = lambda grant, _: TypeIn(frozenset({type_number(grant.type)}))  # type: ignore[assignment]


@a_break("every Consent is shown to whom any Consent names")
def named_grantees() -> None:
    person_filter.NamedIn.sql = lambda _self, alias, _parameters, _person=None: f"({alias}.key is not null)"  # type: ignore[method-assign, assignment]


async def _trial(requests: int) -> str | None:
    """What was found, or None."""
    for preset in ("cn-county",):
        with tempfile.TemporaryDirectory() as keys:
            async with platforms(os.environ["KANGLIAN_TEST_DATABASE_URL"], Path(keys), preset) as pair:
                trial = Trial(pair, preset)
                seed = int(os.environ.get("KANGLIAN_TEST_SEED", "1"))
                while trial.asked < requests:
                    try:
                        await trial.region(seed, 250)
                    except Interference as found:
                        return f"{trial.asked}\n{found}"
                    seed += 1
    return None


def _one(name: str) -> int:
    """Apply one break ("" for none) and look for it."""
    if name:
        BREAKS[name][1]()
    found = asyncio.run(_trial(REQUESTS))
    print(found or "", flush=True)  # noqa: T201 - the parent reads it
    return CLEAN if found is None else FOUND


def _row(name: str, text: str, expected: int) -> bool:
    """Run one break, print its line; False where it was missed."""
    started = time.monotonic()
    child = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--one", name], capture_output=True, text=True, check=False, timeout=900
    )
    asked, _, report = child.stdout.partition("\n")
    lines = [line for line in report.splitlines() if line and not line.startswith("KANGLIAN")]
    how = "row by row" if lines and "should be" in lines[0] else "by an answer" if lines else "-"
    result = {FOUND: "found", CLEAN: "nothing"}.get(child.returncode, "failed")
    good = child.returncode == expected
    after = asked if child.returncode == FOUND else str(REQUESTS)
    print(  # noqa: T201 - a script prints
        f"| {name or 'no break'} | {text} | {result}{'' if good else ' (WRONG)'} | {how} | {after} |"
        f" {time.monotonic() - started:.0f} s |",
        flush=True,
    )
    if result == "failed":
        print(child.stderr[-2_000:])  # noqa: T201 - likewise
    return good


def main(names: list[str]) -> int:
    """Run the breaks named, or all of them and the unbroken code."""
    if names[:1] == ["--one"]:
        return _one(names[1] if len(names) > 1 else "")
    print("| break | what it does | result | seen | after requests | took |\n|---|---|---|---|---|---|")  # noqa: T201
    good = [_row(name, BREAKS[name][0], FOUND) for name in (names or BREAKS)]
    if not names:
        good.append(_row("", "the code as it is", CLEAN))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
