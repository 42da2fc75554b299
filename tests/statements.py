"""Examines the statements that a suite's process runs: each alias of a clinical table carries the predicate of a scope.

`tests/conftest.py` asks after every module, about what was not seen before. Statements of other processes (tests/flow)
are not among them; they are the same code's.
"""

import re
from collections.abc import Iterable

from ehr.search.scope_linter import unscoped_aliases

# What may read a clinical row without being constrained by a scope, and why. Patterns match from the start.
_SCOPE = r"\(r\.key is (not )?null\)"
_EXCEPTIONS = {
    # the writer: whether the writer's scope admits the rows in place is the answer of the statement, not its filter
    r"select \(+r\.key is not null\)": "a scope's predicate as a column",
    # conditional criteria match what the writer sees and the custodian's own rows (DESIGN 4.3, WriteScope)
    rf"select r\.(key|body)[^()]* from resource r where .*{_SCOPE}.* or \(r\.custodian = \$\d+::bigint\)": "own rows",
    # the writer moves the versions that it replaces, locked and judged before by key
    r"with (inserted|moved) as \(insert into resource(_history)? ": "the writer's own rows",
    # labels spread inside the write's transaction, to rows that its projection names by key
    r"with given as \( select \* from unnest\(.*\) as g\(key, labels\) \), locked": "relabel",
    # tests that count what is there, and that look for canaries in every byte of a table
    r"select count\(\*\) from resource where (type = \$1 and id like \$1 and )?not deleted$": "a test's own",
    r"select string_agg\(t::text, ' '\) from resource(_history)? t$": "a test's own",
}


def _form(text: str) -> str:
    """The statement on one line; of statements of many forms one for each, whatever their numbers."""
    line = " ".join(text.split())
    return re.sub(r"\b\d+\b", "1", line)


_SCOPED = re.compile(r"\(\((\w+)\.key is not null\) and ")
"""Where the predicate of a scope begins, as `ehr.row_filter.Everything` marks it."""


def _without_predicates(text: str, inner: set[str]) -> str:
    """The statement with the mark alone in the place of each scope's predicate, which is added to `inner`.

    The same predicate stands in hundreds of statements, and parsing is what costs here: each part is parsed once.
    """
    pieces, position = [], 0
    while (found := _SCOPED.search(text, position)) is not None:
        depth, end = 1, found.start() + 1
        while depth and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        pieces += [text[position : found.start()], f"({found[1]}.key is not null)"]
        inner.add(f"select 1 from parts as {found[1]} where {text[found.end() : end - 1]}")
        position = end
    return "".join([*pieces, text[position:]])


class Examination:
    """What a process has examined so far: a form is parsed once, however many modules run it."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._forms: set[str] = set()

    def unscoped(self, texts: Iterable[str]) -> dict[str, list[str]]:
        """The new ones among these statements that read a clinical row without a scope, with the aliases."""
        found: dict[str, list[str]] = {}
        for text in set(texts) - self._texts:
            self._texts.add(text)
            if "resource" not in text:
                continue
            predicates: set[str] = set()
            form = _without_predicates(_form(text), predicates)
            for part in {form, *predicates} - self._forms:
                self._forms.add(part)
                if "resource" in part and not any(re.match(pattern, part) for pattern in _EXCEPTIONS):
                    aliases = unscoped_aliases(part)
                    if aliases:
                        found[part[:300]] = aliases
        return found
