"""Finds clinical rows that a statement reads without the caller's scope; tests apply it to every statement they ran.

Each alias of `resource` and `resource_history` in each select, subselects and common tables included, must be
constrained where it is read (`where`, or the `on` of its join) by a conjunct that holds the mark of a row filter:
`alias.key is not null` or `alias.key is null`, as `ehr.row_filter.Everything` and `Nothing` render. A filter that
`consent` builds begins with that mark.
"""

from collections.abc import Iterator
from typing import Any

import sqlglot
from sqlglot import exp

CLINICAL_TABLES = frozenset({"resource", "resource_history"})


def unscoped_aliases(sql: str, tables: frozenset[str] = CLINICAL_TABLES) -> list[str]:
    """The aliases of clinical tables that one PostgreSQL statement reads without a scope, as "table alias"."""
    read = (
        table
        for statement in sqlglot.parse(sql, dialect="postgres")
        if statement is not None
        for table in statement.find_all(exp.Table)
        if table.name in tables and not table.db and not _is_written(table)
    )
    return [f"{table.name} {table.alias_or_name}" for table in read if not _is_scoped(table)]


def _is_written(table: exp.Table) -> bool:
    """Whether the table is the target of an insert, update or delete rather than read."""
    parent = table.parent
    if isinstance(parent, exp.Schema):
        parent = parent.parent
    return isinstance(parent, exp.Insert | exp.Update | exp.Delete) and table.arg_key == "this"


def _is_scoped(table: exp.Table) -> bool:
    select = table.find_ancestor(exp.Select, exp.Update, exp.Delete)
    if select is None:
        return False
    conditions = [select.args["where"].this] if select.args.get("where") else []
    join = table.parent if isinstance(table.parent, exp.Join) else None
    if join is not None and join.args.get("on") is not None:
        conditions.append(join.args["on"])
    return any(_marks(conjunct, table.alias_or_name) for condition in conditions for conjunct in _conjuncts(condition))


def _conjuncts(condition: Any) -> Iterator[Any]:
    match condition:
        case exp.And():
            yield from _conjuncts(condition.left)
            yield from _conjuncts(condition.right)
        case exp.Paren():
            yield from _conjuncts(condition.this)
        case _:
            yield condition


def _marks(conjunct: Any, alias: str) -> bool:
    test = conjunct.this if isinstance(conjunct, exp.Not) else conjunct
    if isinstance(test, exp.Paren):
        test = test.this
    if not isinstance(test, exp.Is) or not isinstance(test.expression, exp.Null):
        return _alternatives_mark(conjunct, alias)
    column = test.this
    return isinstance(column, exp.Column) and column.name == "key" and column.table == alias


def _alternatives_mark(conjunct: Any, alias: str) -> bool:
    """A disjunction is a scope where each side is one (a writer's own rows or those it sees)."""
    if not isinstance(conjunct, exp.Or):
        return False
    sides = (conjunct.left, conjunct.right)
    return all(any(_marks(inner, alias) for inner in _conjuncts(side)) for side in sides)
