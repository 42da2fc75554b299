"""What other packages call: `compile` for values, `invariant` for rules."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from ehr.fhirpath import model
from ehr.fhirpath.compiler import closure_of
from ehr.fhirpath.environment import Environment, Resolver, Trace
from ehr.fhirpath.errors import FhirPathError
from ehr.fhirpath.nodes import Item, plain, root_node
from ehr.fhirpath.operators import truth

Invariant = Callable[..., bool]
"""Takes the element, the resource that holds it and (when contained) the outermost resource."""

_CORRECTED = {
    # SC-7: answer is a FHIR boolean; the published `answer is Boolean` (System.Boolean) of que-7 could never hold
    "operator = 'exists' implies (answer is Boolean)": "operator = 'exists' implies (answer is boolean)",
    # SC-40: `in` takes one item on its left, and `when` repeats
    "offset.empty() or (when.exists() and ((when in ('C' | 'CM' | 'CD' | 'CV')).not()))": (
        "offset.empty() or (when.exists() and when.where($this in ('C' | 'CM' | 'CD' | 'CV')).empty())"
    ),
}


class CompiledExpression:
    """An expression ready to run on JSON values as `ehr.json_text.parse` gives them."""

    __slots__ = ("_closure", "_context_type", "expression")

    def __init__(self, expression: str, context_type: str | None = None, *, strict: bool = False) -> None:
        """Compile `expression`; `context_type` is the FHIR type of what it will be run on, if that is no resource."""
        self.expression = expression
        self._context_type = None if context_type is None else model.type_at(context_type)
        try:
            self._closure = closure_of(expression, strict=strict)
        except RecursionError as error:
            raise FhirPathError("FHIRPath: too long a chain of steps") from error

    def items(
        self,
        value: Any,
        *,
        resource: Any = None,
        root: Any = None,
        variables: Mapping[str, Any] | None = None,
        trace: Trace | None = None,
        resolver: Resolver | None = None,
        now: datetime | None = None,
    ) -> list[Item]:
        """The result with types: Nodes and System values (see `ehr.fhirpath.nodes`).

        `resource` is %resource (default: `value`), `root` %rootResource (default: `resource`). Raises FhirPathError.
        """
        context = [] if value is None else [root_node(value, self._context_type)]
        holder = context if resource is None else [root_node(resource)]
        outermost = holder if root is None else [root_node(root)]
        environment = Environment(
            context, holder, outermost, variables=variables, trace=trace, resolver=resolver, moment=now
        )
        try:
            return self._closure(context, environment)
        except RecursionError as error:
            raise FhirPathError("FHIRPath: nested too deep") from error
        except ArithmeticError as error:
            raise FhirPathError("FHIRPath: a number left its range") from error
        except (TypeError, AttributeError, ValueError) as error:
            raise FhirPathError("FHIRPath: an element has not the form of its type") from error

    def __call__(self, value: Any, **known: Any) -> list[Any]:
        """The result as plain values: JSON of elements, System values as they are; keywords as for `items`."""
        return [plain(item) for item in self.items(value, **known)]


@lru_cache(maxsize=8192)
def compile(  # noqa: A001 - the name of what it does
    expression: str, *, context_type: str | None = None, strict: bool = False
) -> CompiledExpression:
    """Compile an expression; raises FhirPathError where it cannot be read.

    `context_type` names the FHIR type of the focus where that is no resource ("HumanName", "Patient.contact").
    `strict` refuses unknown element names and several items before `as`, which the specification leaves to engines.
    """
    return CompiledExpression(expression, context_type, strict=strict)


@lru_cache(maxsize=8192)
def invariant(expression: str, context_type: str) -> Invariant:
    """Compile a rule to a function (element, resource, root=None) that says whether the element keeps it.

    `context_type` is the type or backbone path of the element. A rule that cannot be evaluated on what it is given
    (several values where one is allowed, wrong types) is not kept; so is one whose result is empty (SC-9).
    """
    compiled = CompiledExpression(_CORRECTED.get(expression, expression), context_type)

    def kept(element: Any, resource: Any, root: Any = None) -> bool:
        try:
            return truth(compiled.items(element, resource=resource, root=root), "an invariant") is True
        except FhirPathError:
            return False

    return kept
