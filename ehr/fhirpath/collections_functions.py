"""Functions on collections: existence, filtering, subsetting, combining (http://hl7.org/fhirpath/N1/#functions)."""

from functools import cmp_to_key

from ehr.fhirpath.environment import Closure, Compile, Environment, Step
from ehr.fhirpath.errors import FhirPathError
from ehr.fhirpath.nodes import Item, descendants, system_value
from ehr.fhirpath.operators import FALSE, TRUE, distinct, member, members, ordered, single, truth
from ehr.fhirpath.registry import builder, on_collection
from ehr.fhirpath.syntax import Expression, Polarity

MAXIMUM_REPEATS = 100_000
# ruff: noqa: FBT001 - builders have one shape, whose last argument is the strict flag


@builder("where", 1)
def _where(expressions: tuple[Expression, ...], compiled: Compile, _: bool) -> Step:
    criteria = compiled(expressions[0])
    return lambda items, _this, environment: _filtered(items, criteria, environment)


def _filtered(items: list[Item], criteria: Closure, environment: Environment) -> list[Item]:
    index = environment.index
    found = []
    for place, item in enumerate(items):
        environment.index = place
        environment.tick()
        if truth(criteria([item], environment), "where()"):
            found.append(item)
    environment.index = index
    return found


@builder("exists", 0, 1)
def _exists(expressions: tuple[Expression, ...], compiled: Compile, _: bool) -> Step:
    if not expressions:
        return lambda items, _this, _environment: TRUE if items else FALSE
    criteria = compiled(expressions[0])
    return lambda items, _this, environment: TRUE if _filtered(items, criteria, environment) else FALSE


@builder("all", 1)
def _all(expressions: tuple[Expression, ...], compiled: Compile, _: bool) -> Step:
    criteria = compiled(expressions[0])
    return lambda items, _this, environment: (
        TRUE if len(_filtered(items, criteria, environment)) == len(items) else FALSE
    )


@builder("select", 1)
def _select(expressions: tuple[Expression, ...], compiled: Compile, _: bool) -> Step:
    projection = compiled(expressions[0])

    def step(items: list[Item], _this: list[Item], environment: Environment) -> list[Item]:
        index = environment.index
        found: list[Item] = []
        for place, item in enumerate(items):
            environment.index = place
            environment.tick()
            found.extend(projection([item], environment))
        environment.index = index
        return found

    return step


@builder("repeat", 1)
def _repeat(expressions: tuple[Expression, ...], compiled: Compile, _: bool) -> Step:
    projection = compiled(expressions[0])

    def step(items: list[Item], _this: list[Item], environment: Environment) -> list[Item]:
        found: list[Item] = []
        waiting = list(items)
        while waiting:
            fresh: list[Item] = []
            for item in waiting:
                environment.tick()
                for result in projection([item], environment):
                    if not _seen(found, result):
                        found.append(result)
                        fresh.append(result)
            if len(found) > MAXIMUM_REPEATS:
                raise FhirPathError("FHIRPath: repeat() found too much")
            waiting = fresh
        return found

    return step


def _seen(found: list[Item], item: Item) -> bool:
    value = getattr(item, "value", None)
    if isinstance(value, dict):
        return any(getattr(other, "value", None) is value for other in found)
    return member(found, item)


@builder("aggregate", 1, 2)
def _aggregate(expressions: tuple[Expression, ...], compiled: Compile, _: bool) -> Step:
    aggregator = compiled(expressions[0])
    initial = compiled(expressions[1]) if len(expressions) > 1 else None

    def step(items: list[Item], this: list[Item], environment: Environment) -> list[Item]:
        outer = environment.total, environment.index
        environment.total = initial(this, environment) if initial else []
        for place, item in enumerate(items):
            environment.index = place
            environment.total = aggregator([item], environment)
        found = environment.total
        environment.total, environment.index = outer
        return found

    return step


@builder("iif", 2, 3)
def _iif(expressions: tuple[Expression, ...], compiled: Compile, strict: bool) -> Step:
    closures = [compiled(expression) for expression in expressions]

    def step(items: list[Item], _this: list[Item], environment: Environment) -> list[Item]:
        if len(items) > 1:
            raise FhirPathError(f"FHIRPath: iif() takes one item, found {len(items)}")
        criterion = closures[0](items, environment)
        if strict and criterion and type(system_value(criterion[0])) is not bool:
            raise FhirPathError("FHIRPath: the criterion of iif() is no Boolean")
        if truth(criterion, "iif()"):
            return closures[1](items, environment)
        return closures[2](items, environment) if len(closures) > 2 else []

    return step


@builder("trace", 1, 2)
def _trace(expressions: tuple[Expression, ...], compiled: Compile, _: bool) -> Step:
    name = compiled(expressions[0])
    projection = compiled(expressions[1]) if len(expressions) > 1 else None

    def step(items: list[Item], this: list[Item], environment: Environment) -> list[Item]:
        if environment.trace is not None:
            shown = items if projection is None else [r for item in items for r in projection([item], environment)]
            environment.trace(str(single(name(this, environment), "trace()")), shown)
        return items

    return step


@builder("sort", 0, 9)
def _sort(expressions: tuple[Expression, ...], compiled: Compile, _: bool) -> Step:
    keys: list[tuple[Closure | None, int]] = []
    for expression in expressions:
        descending = isinstance(expression, Polarity) and expression.sign == "-"
        operand = expression.operand if descending and isinstance(expression, Polarity) else expression
        keys.append((compiled(operand), -1 if descending else 1))
    if not keys:
        keys.append((None, 1))

    def step(items: list[Item], _this: list[Item], environment: Environment) -> list[Item]:
        def compare(left: Item, right: Item) -> int:
            for key, sign in keys:
                mine = [left] if key is None else key([left], environment)
                others = [right] if key is None else key([right], environment)
                if not mine or not others:
                    order = bool(mine) - bool(others)  # what has no key comes first, in both directions
                else:
                    order = (ordered(mine, others, "sort()") or 0) * sign
                if order:
                    return order
            return 0

        return sorted(items, key=cmp_to_key(compare))

    return step


@on_collection("empty")
def _empty(items: list[Item]) -> list[Item]:
    return FALSE if items else TRUE


@on_collection("not")
def _not(items: list[Item]) -> list[Item]:
    found = truth(items, "not()")
    return [] if found is None else [not found]


@on_collection("count")
def _count(items: list[Item]) -> list[Item]:
    return [len(items)]


@on_collection("first")
def _first(items: list[Item]) -> list[Item]:
    return items[:1]


@on_collection("last")
def _last(items: list[Item]) -> list[Item]:
    return items[-1:]


@on_collection("tail")
def _tail(items: list[Item]) -> list[Item]:
    return items[1:]


@on_collection("single")
def _single(items: list[Item]) -> list[Item]:
    if len(items) > 1:
        raise FhirPathError(f"FHIRPath: single() found {len(items)} items")
    return items


def _number(items: list[Item], what: str) -> int:
    value = single(items, what)
    if type(value) is not int:
        raise FhirPathError(f"FHIRPath: {what} takes an Integer")
    return value


@on_collection("skip", 1)
def _skip(items: list[Item], count: list[Item]) -> list[Item]:
    return items[max(_number(count, "skip()"), 0) :]


@on_collection("take", 1)
def _take(items: list[Item], count: list[Item]) -> list[Item]:
    return items[: max(_number(count, "take()"), 0)]


@on_collection("distinct")
def _distinct(items: list[Item]) -> list[Item]:
    return distinct(items)


@on_collection("isDistinct")
def _is_distinct(items: list[Item]) -> list[Item]:
    return [len(distinct(items)) == len(items)]


@on_collection("union", 1)
def _union(items: list[Item], other: list[Item]) -> list[Item]:
    return distinct(items + other)


@on_collection("combine", 1)
def _combine(items: list[Item], other: list[Item]) -> list[Item]:
    return items + other


@on_collection("intersect", 1)
def _intersect(items: list[Item], other: list[Item]) -> list[Item]:
    return distinct([item for item, held in zip(items, members(other, items), strict=True) if held])


@on_collection("exclude", 1)
def _exclude(items: list[Item], other: list[Item]) -> list[Item]:
    return [item for item, held in zip(items, members(other, items), strict=True) if not held]


@on_collection("subsetOf", 1)
def _subset_of(items: list[Item], other: list[Item]) -> list[Item]:
    return [all(members(other, items))]


@on_collection("supersetOf", 1)
def _superset_of(items: list[Item], other: list[Item]) -> list[Item]:
    return [all(members(items, other))]


def _booleans(items: list[Item], what: str) -> list[bool]:
    found = [system_value(item) for item in items]
    if any(type(value) is not bool for value in found):
        raise FhirPathError(f"FHIRPath: {what} takes Booleans")
    return found


@on_collection("allTrue")
def _all_true(items: list[Item]) -> list[Item]:
    return [all(_booleans(items, "allTrue()"))]


@on_collection("anyTrue")
def _any_true(items: list[Item]) -> list[Item]:
    return [any(_booleans(items, "anyTrue()"))]


@on_collection("allFalse")
def _all_false(items: list[Item]) -> list[Item]:
    return [not any(_booleans(items, "allFalse()"))]


@on_collection("anyFalse")
def _any_false(items: list[Item]) -> list[Item]:
    return [not all(_booleans(items, "anyFalse()"))]


@on_collection("descendants")
def _descendants(items: list[Item]) -> list[Item]:
    return descendants(items)
