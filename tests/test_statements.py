"""Every statement that the suite ran: each alias of a clinical table carries the predicate of a scope.

Runs last. Statements of other processes (tests/flow) are not among them; they are the same code's.
"""

import re

import pytest

from ehr.search.scope_linter import unscoped_aliases

pytestmark = pytest.mark.database

# What may read a clinical row without being constrained by a scope, and why. Patterns match from the start.
_SCOPE = r"\(r\.key is (not )?null\)"
_EXCEPTIONS = {
    # the writer: whether the writer's scope admits the rows in place is the answer of the statement, not its filter
    r"select \(\(r\.key is not null\)": "a scope's predicate as a column",
    # conditional criteria match what the writer sees and the custodian's own rows (DESIGN 4.3, WriteScope)
    rf"select r\.key(, r\.id)? from resource r where .*{_SCOPE}.* or \(r\.custodian = \$\d+::bigint\)": "own rows",
    # the writer moves the versions that it replaces, locked and judged before by key
    r"with (inserted|moved) as \(insert into resource(_history)? ": "the writer's own rows",
    # labels spread inside the write's transaction, to rows that its projection names by key
    r"with given as \( select \* from unnest\(.*\) as g\(key, labels\) \), locked": "relabel",
    # tests that count what is there, and that look for canaries in every byte of a table
    r"select count\(\*\) from resource where (type = \$1 and id like \$2 and )?not deleted$": "a test's own",
    r"select string_agg\(t::text, ' '\) from resource(_history)? t$": "a test's own",
}


def _form(text: str) -> str:
    """The statement on one line; of searches, whose texts are long and many, one for each form."""
    line = " ".join(text.split())
    return re.sub(r"\b\d+\b", "1", line) if line.startswith("with ") else line


def test_each_clinical_alias_carries_a_scope(statements_run: set[str]) -> None:
    clinical = {_form(text) for text in statements_run if "resource" in text}
    if not clinical:
        pytest.skip("the run has not touched the record: run the suite whole")
    allowed = [re.compile(pattern) for pattern in _EXCEPTIONS]
    unscoped = {
        text[:300]: aliases
        for text in clinical
        if (aliases := unscoped_aliases(text)) and not any(pattern.match(text) for pattern in allowed)
    }
    assert not unscoped
