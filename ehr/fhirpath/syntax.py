"""Parser of FHIRPath: text to a tree (http://hl7.org/fhirpath/N1/grammar.html)."""

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from ehr.fhirpath.errors import FhirPathError
from ehr.fhirpath.lexer import Token, tokens
from ehr.fhirpath.quantity import CALENDAR_UNITS, Quantity
from ehr.fhirpath.temporal import Temporal

MAXIMUM_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant; `value` None is the empty collection."""

    value: bool | int | str | Decimal | Temporal | Quantity | None


@dataclass(frozen=True, slots=True)
class Variable:
    """$this, $index or $total (`name` without the dollar sign)."""

    name: str


@dataclass(frozen=True, slots=True)
class External:
    """A constant of the environment: %resource, %ucum, %`vs-name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """A child element by name; `source` None means the focus."""

    source: "Expression | None"
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function; `source` None means the focus."""

    source: "Expression | None"
    name: str
    arguments: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Index:
    """An element of a collection by its number, from 0."""

    source: "Expression"
    index: "Expression"


@dataclass(frozen=True, slots=True)
class Polarity:
    """Unary plus or minus."""

    sign: str
    operand: "Expression"


@dataclass(frozen=True, slots=True)
class Binary:
    """An operator with two operands."""

    operator: str
    left: "Expression"
    right: "Expression"


@dataclass(frozen=True, slots=True)
class TypeTest:
    """`operand is type` or `operand as type`; `type_name` may carry a namespace ("FHIR.string")."""

    operator: str
    operand: "Expression"
    type_name: str


Expression = Literal | Variable | External | Member | Call | Index | Polarity | Binary | TypeTest

_PRECEDENCE = {
    "implies": 1,
    "or": 2,
    "xor": 2,
    "and": 3,
    "in": 4,
    "contains": 4,
    "=": 5,
    "~": 5,
    "!=": 5,
    "!~": 5,
    "<": 6,
    ">": 6,
    "<=": 6,
    ">=": 6,
    "|": 7,
    "is": 8,
    "as": 8,
    "+": 9,
    "-": 9,
    "&": 9,
    "*": 10,
    "/": 10,
    "div": 10,
    "mod": 10,
}
_POLARITY = 11


class _Parser:
    """A precedence climber over the tokens."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens = tokens(expression)
        self.position = 0
        self.depth = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    def advance(self) -> Token:
        token = self.token
        self.position += 1
        return token

    def fail(self, wanted: str) -> FhirPathError:
        token = self.token
        found = repr(token.text) if token.kind != "end" else "the end"
        return FhirPathError(f"FHIRPath: {wanted} wanted at character {token.at + 1}, found {found}")

    def accept(self, sign: str) -> bool:
        if self.token.kind == "sign" and self.token.text == sign:
            self.position += 1
            return True
        return False

    def expect(self, sign: str) -> None:
        if not self.accept(sign):
            raise self.fail(f"{sign!r}")

    def whole(self) -> Expression:
        found = self.expression_of(0)
        if self.token.kind != "end":
            raise self.fail("an operator")
        return found

    def expression_of(self, lowest: int) -> Expression:
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            raise FhirPathError(f"FHIRPath: nested deeper than {MAXIMUM_DEPTH}")
        left = self.prefixed()
        while self.token.kind in {"sign", "word"} and _PRECEDENCE.get(self.token.text, -1) > lowest:
            operator = self.advance().text
            if operator in {"is", "as"}:
                left = TypeTest(operator, left, self.type_name())
            else:
                left = Binary(operator, left, self.expression_of(_PRECEDENCE[operator]))
        self.depth -= 1
        return left

    def prefixed(self) -> Expression:
        if self.token.kind == "sign" and self.token.text in {"+", "-"}:
            sign = self.advance().text
            return Polarity(sign, self.expression_of(_POLARITY))
        return self.postfixed()

    def postfixed(self) -> Expression:
        found = self.term()
        while True:
            if self.accept("."):
                found = self.invocation(found)
            elif self.accept("["):
                found = Index(found, self.expression_of(0))
                self.expect("]")
            else:
                return found

    def invocation(self, source: Expression | None) -> Expression:
        token = self.token
        if token.kind == "variable":
            self.advance()
            return Variable(token.text)
        if token.kind not in {"word", "quoted"}:
            raise self.fail("a name")
        self.advance()
        if self.accept("("):
            return Call(source, token.text, self.arguments())
        return Member(source, token.text)

    def arguments(self) -> tuple[Expression, ...]:
        found: list[Expression] = []
        if self.accept(")"):
            return ()
        while True:
            found.append(self.expression_of(0))
            if self.accept(")"):
                return tuple(found)
            self.expect(",")

    def type_name(self) -> str:
        parts = []
        while True:
            if self.token.kind not in {"word", "quoted"}:
                raise self.fail("a type name")
            parts.append(self.advance().text)
            if not self.accept("."):
                return ".".join(parts)

    def term(self) -> Expression:
        token = self.token
        if self.accept("("):
            found = self.expression_of(0)
            self.expect(")")
            return found
        if self.accept("{"):
            self.expect("}")
            return Literal(None)
        if token.kind == "word" and token.text in {"true", "false"}:
            self.advance()
            return Literal(token.text == "true")
        if token.kind in {"word", "quoted", "variable"}:
            return self.invocation(None)
        return self.constant()

    def constant(self) -> Expression:
        token = self.advance()
        if token.kind == "string":
            return Literal(token.text)
        if token.kind == "external":
            return External(token.text)
        if token.kind in {"date", "datetime", "time"}:
            return Literal(Temporal.literal(token.kind, token.text))
        if token.kind == "number":
            return self.number(token)
        self.position -= 1
        raise self.fail("a value")

    def number(self, token: Token) -> Expression:
        value = Decimal(token.text)
        following = self.token
        if following.kind == "string":
            self.advance()
            return Literal(Quantity(value, following.text))
        if following.kind == "word" and following.text in CALENDAR_UNITS:
            self.advance()
            return Literal(Quantity(value, following.text, calendar=True))
        return Literal(value if "." in token.text else int(token.text))


@lru_cache(maxsize=4096)
def parse(expression: str) -> Expression:
    """Parse an expression; raises FhirPathError naming the place."""
    return _Parser(expression).whole()
