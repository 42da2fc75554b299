"""From the tree of an expression to a Python closure (http://hl7.org/fhirpath/N1/#path-selection and following)."""

from functools import lru_cache

from ehr.fhirpath import (
    collections_functions,
    model,
    number_functions,
    precision_functions,
    text_functions,
    types_functions,
)
from ehr.fhirpath.environment import Closure, Environment, Step
from ehr.fhirpath.errors import FhirPathError
from ehr.fhirpath.nodes import Item, Node, child_nodes, root_node
from ehr.fhirpath.operators import (
    LOGIC,
    calculated,
    distinct,
    equal,
    equivalent,
    member,
    ordered,
    single,
    truth,
)
from ehr.fhirpath.quantity import Quantity
from ehr.fhirpath.registry import FUNCTIONS
from ehr.fhirpath.syntax import (
    Binary,
    Call,
    Expression,
    External,
    Index,
    Literal,
    Member,
    Polarity,
    TypeTest,
    Variable,
    parse,
)

_FUNCTION_MODULES = (collections_functions, number_functions, precision_functions, text_functions, types_functions)
_CONSTANTS = {
    "ucum": "http://unitsofmeasure.org",
    "sct": "http://snomed.info/sct",
    "loinc": "http://loinc.org",
}
_UNORDERED = frozenset({"children", "descendants"})
_ORDER_DEPENDENT = frozenset({"first", "last", "tail", "skip", "take"})


@lru_cache(maxsize=8192)
def closure_of(expression: str, *, strict: bool = False) -> Closure:
    """Compile the text of an expression; cached."""
    return _Compiler(strict=strict).closure(parse(expression))


def closure_of_tree(tree: Expression) -> Closure:
    """Compile a part of a parsed expression."""
    return _Compiler(strict=False).closure(tree)


class _Compiler:
    """Builds closures; `strict` holds what the specification lets engines check (unknown names, single items of as)."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict

    def closure(self, node: Expression) -> Closure:  # noqa: PLR0911 - one return for each kind of node
        """The closure of one node of the tree."""
        match node:
            case Literal():
                items = [] if node.value is None else [node.value]
                return lambda _this, _environment: items
            case Variable():
                return _variable(node.name)
            case External():
                return _external(node.name)
            case Member():
                return self.member(node)
            case Call():
                return self.call(node)
            case Index():
                return self.index(node)
            case Polarity():
                return self.polarity(node)
            case TypeTest():
                return self.type_test(node)
            case Binary():
                return self.binary(node)

    def member(self, node: Member) -> Closure:
        name, strict = node.name, self.strict
        if node.source is None:
            if model.is_known(name):
                return _typed_root(name, strict=strict)
            return lambda this, _environment: _children(this, name, strict=strict)
        cast = node.source.type_name if isinstance(node.source, TypeTest) and node.source.operator == "as" else None
        if strict and cast is not None and name not in model.children(cast):
            raise FhirPathError(f"FHIRPath: {cast} has no element {name}")
        source = self.closure(node.source)
        return lambda this, environment: _children(source(this, environment), name, strict=strict)

    def call(self, node: Call) -> Closure:
        function = FUNCTIONS.get(node.name)
        if function is None:
            raise FhirPathError(f"FHIRPath: there is no function {node.name}()")
        if not function.fewest <= len(node.arguments) <= function.most:
            raise FhirPathError(f"FHIRPath: {node.name}() does not take {len(node.arguments)} arguments")
        unordered = isinstance(node.source, Call) and node.source.name in _UNORDERED
        if self.strict and unordered and node.name in _ORDER_DEPENDENT:
            raise FhirPathError(f"FHIRPath: {node.name}() on children, which have no order")
        step: Step = function.build(node.arguments, self.closure, self.strict)
        if node.source is None:
            return lambda this, environment: step(this, this, environment)
        source = self.closure(node.source)
        return lambda this, environment: step(source(this, environment), this, environment)

    def index(self, node: Index) -> Closure:
        source, index = self.closure(node.source), self.closure(node.index)

        def indexed(this: list[Item], environment: Environment) -> list[Item]:
            items = source(this, environment)
            place = single(index(this, environment), "[]")
            if type(place) is not int:
                raise FhirPathError("FHIRPath: an index is an Integer")
            return items[place : place + 1] if place >= 0 else []

        return indexed

    def polarity(self, node: Polarity) -> Closure:
        operand, negative = self.closure(node.operand), node.sign == "-"

        def signed(this: list[Item], environment: Environment) -> list[Item]:
            value = single(operand(this, environment), node.sign)
            if value is None:
                return []
            if isinstance(value, Quantity):
                return [Quantity(-value.value, value.unit, value.calendar) if negative else value]
            if isinstance(value, bool | str) or not hasattr(value, "__neg__"):
                raise FhirPathError(f"FHIRPath: {node.sign} takes a number")
            return [-value if negative else value]

        return signed

    def type_test(self, node: TypeTest) -> Closure:
        operand, strict = self.closure(node.operand), self.strict
        type_name = types_functions.checked_type(node.type_name, may_be_unknown=node.operator == "is")
        if node.operator == "is":
            return lambda this, environment: types_functions.is_step(operand(this, environment), type_name)
        return lambda this, environment: types_functions.as_step(operand(this, environment), type_name, strict=strict)

    def binary(self, node: Binary) -> Closure:  # noqa: PLR0911 - one return for each kind of operator
        left, right, operator = self.closure(node.left), self.closure(node.right), node.operator
        if operator in LOGIC:
            return _logic(operator, left, right)
        if operator in {"=", "!="}:
            return _equality(left, right, negated=operator == "!=")
        if operator in {"~", "!~"}:
            wanted = operator == "~"
            return lambda this, env: [equivalent(left(this, env), right(this, env)) is wanted]
        if operator in {"<", "<=", ">", ">="}:
            return _comparison(operator, left, right)
        if operator == "|":
            return lambda this, env: distinct(left(this, env) + right(this, env))
        if operator == "in":
            return lambda this, env: _member(left(this, env), right(this, env))
        if operator == "contains":
            return lambda this, env: _member(right(this, env), left(this, env))
        if operator == "&":
            return lambda this, env: [_text(left(this, env)) + _text(right(this, env))]
        return lambda this, env: calculated(operator, left(this, env), right(this, env))


def _children(items: list[Item], name: str, *, strict: bool) -> list[Item]:
    if len(items) == 1 and type(items[0]) is Node:
        only = child_nodes(items[0], name)
        if only is not None:
            return only
    found: list[Item] = []
    known = not items
    for item in items:
        below = child_nodes(item, name) if type(item) is Node else None
        if below is not None:
            found += below
            known = True
    if strict and not known:
        raise FhirPathError(f"FHIRPath: there is no element {name}")
    return found


def _typed_root(name: str, *, strict: bool) -> Closure:
    """A type's name at the start of a path: the focus itself where it is of that type."""

    def rooted(this: list[Item], _environment: Environment) -> list[Item]:
        found = [item for item in this if type(item) is Node and model.is_subtype(item.type, name)]
        return found or _children(this, name, strict=strict)

    return rooted


def _variable(name: str) -> Closure:
    if name == "this":
        return lambda this, _environment: this
    if name == "index":
        return lambda _this, environment: [environment.index]
    return lambda _this, environment: environment.total


def _external(name: str) -> Closure:
    if name == "resource":
        return lambda _this, environment: environment.resource
    if name == "rootResource":
        return lambda _this, environment: environment.root
    if name == "context":
        return lambda _this, environment: environment.context
    constant = _CONSTANTS.get(name)
    if name.startswith("vs-"):
        constant = f"http://hl7.org/fhir/ValueSet/{name[3:]}"
    elif name.startswith("ext-"):
        constant = f"http://hl7.org/fhir/StructureDefinition/{name[4:]}"
    if constant is not None:
        items: list[Item] = [constant]
        return lambda _this, _environment: items
    return lambda _this, environment: _supplied(environment, name)


def _supplied(environment: Environment, name: str) -> list[Item]:
    if name not in environment.variables:
        raise FhirPathError(f"FHIRPath: %{name} is not known")
    value = environment.variables[name]
    values = value if isinstance(value, list) else [value]
    return [root_node(item) for item in values if item is not None]


def _logic(operator: str, left: Closure, right: Closure) -> Closure:
    combine = LOGIC[operator]
    decided = {"and": False, "or": True}.get(operator)

    def combined(this: list[Item], environment: Environment) -> list[Item]:
        mine = truth(left(this, environment), operator)
        if mine is decided and decided is not None:
            return [decided]
        found = combine(mine, truth(right(this, environment), operator))
        return [] if found is None else [found]

    return combined


def _equality(left: Closure, right: Closure, *, negated: bool) -> Closure:
    def compared(this: list[Item], environment: Environment) -> list[Item]:
        found = equal(left(this, environment), right(this, environment))
        return [] if found is None else [found is not negated]

    return compared


def _comparison(operator: str, left: Closure, right: Closure) -> Closure:
    accepted = {"<": (-1,), "<=": (-1, 0), ">": (1,), ">=": (0, 1)}[operator]

    def compared(this: list[Item], environment: Environment) -> list[Item]:
        order = ordered(left(this, environment), right(this, environment), operator)
        return [] if order is None else [order in accepted]

    return compared


def _member(items: list[Item], collection: list[Item]) -> list[Item]:
    if not items:
        return []
    if len(items) > 1:
        raise FhirPathError(f"FHIRPath: in and contains take one item, found {len(items)}")
    return [member(collection, items[0])]


def _text(items: list[Item]) -> str:
    value = single(items, "&")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FhirPathError("FHIRPath: & takes strings")
    return value
