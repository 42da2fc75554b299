"""The extractor: one compiled walk for each resource type."""

from collections.abc import Callable, Iterator, Mapping
from datetime import tzinfo
from functools import partial
from typing import Any

from ehr.definitions import SearchParameter
from ehr.fhirpath import CompiledExpression
from ehr.fhirpath import compile as compile_expression
from ehr.fhirpath.nodes import Node
from ehr.indexing.chinese import is_of_names, names_of
from ehr.indexing.composite import Elements, Found
from ehr.indexing.dates import PLATFORM_ZONE
from ehr.indexing.derived import is_derived
from ehr.indexing.entries import IndexEntries
from ehr.indexing.implied import Implied, NothingStored, PresentParameters
from ehr.indexing.main_columns import MAIN_DATE, ONE_DATE
from ehr.indexing.measures import QuantityLeaves, date_leaf, number_leaf
from ehr.indexing.plan import Branch, Leaf, NotPlain, Tree, branches_of, implicit_systems, indexed_parameters
from ehr.indexing.reference import References, reference_leaf, uri_leaf
from ehr.indexing.same_tokens import implied_systems
from ehr.indexing.string import string_leaf, texts_of
from ehr.indexing.token import Term, TokenLeaves
from ehr.keys import TermHasher, canonical_number, parameter_number

Walk = Callable[[Mapping[str, Any], Any], None]
LeafFor = Callable[[SearchParameter, Branch], Leaf | None]


class Extractor:
    """Extracts index entries; a type's plan is compiled when its first resource comes.

    Not for several threads at once: plans keep caches of the terms of repeated values.
    """

    def __init__(self, hasher: TermHasher, *, zone: tzinfo = PLATFORM_ZONE, base_url: str | None = None) -> None:
        """Take the hasher of terms, the zone of dates without one, and the FHIR base whose absolute URLs are ours."""
        self.hasher = hasher
        self.zone = zone
        self.base_url = base_url
        self._references = References(base_url)
        self.implied = Implied()
        """What the terms made so far imply; the store writes it with the rows."""
        self._plans: dict[str, tuple[Walk, PresentParameters]] = {}
        self._text_walks: dict[tuple[str, str], Walk] = {}
        self._name_walks: dict[tuple[str, str], Walk] = {}
        self._reference_walks: dict[str, Walk] = {}
        self._elements: dict[tuple[str, str], Elements] = {}

    def entries(self, resource_type: str, resource: Mapping[str, Any]) -> IndexEntries:
        """The index entries of a valid resource, as `ehr.json_text.parse` gives it."""
        plan = self._plans.get(resource_type)
        if plan is None:
            plan = self._plans[resource_type] = self._plan(resource_type)
        walk, parameters = plan
        found = IndexEntries()
        walk(resource, found)
        found.terms, found.present = parameters.shortened(found.terms)
        if len(found.dates) > 1:
            found.dates = list(dict.fromkeys(found.dates))
        return found

    def texts(self, resource_type: str, code: str, resource: Mapping[str, Any]) -> list[str]:
        """The strings as written that a string or uri parameter, or a token's `:text`, is searched by.

        Search re-checks them where terms give candidates only. KeyError for a parameter without index entries.
        """
        walk = self._text_walks.get((resource_type, code))
        if walk is None:
            parameter = next((p for p in indexed_parameters(resource_type) if p.code == code), None)
            if parameter is None:
                raise KeyError(code)
            walk = self._text_walks[resource_type, code] = _walk(resource_type, [parameter], _text_leaf)
        found: list[str] = []
        walk(resource, found)
        return found

    def names(self, resource_type: str, code: str, resource: Mapping[str, Any]) -> list[str]:
        """The names that a parameter selects, each with its parts together; see `ehr.indexing.chinese`."""
        walk = self._name_walks.get((resource_type, code))
        if walk is None:
            parameter = next(p for p in indexed_parameters(resource_type) if p.code == code)
            walk = self._name_walks[resource_type, code] = _walk(resource_type, [parameter], _names_leaf)
        found: list[str] = []
        walk(resource, found)
        return found

    def reference_values(self, resource_type: str, resource: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
        """The (type, id) of the platform's own resources that each reference parameter names, for `_include`."""
        walk = self._reference_walks.get(resource_type)
        if walk is None:
            parameters = [p for p in indexed_parameters(resource_type) if p.kind == "reference"]
            walk = self._reference_walks[resource_type] = _walk(resource_type, parameters, self._target_leaf)
        found: dict[str, list[tuple[str, str]]] = {}
        walk(resource, found)
        return {code: list(dict.fromkeys(targets)) for code, targets in found.items()}

    def elements(self, resource_type: str, code: str, resource: Mapping[str, Any]) -> Iterator[tuple[Found, ...]]:
        """What each element of a composite parameter has for its parts."""
        walk = self._elements.get((resource_type, code))
        if walk is None:
            leaf_maker = partial(self._leaf_maker, implied=NothingStored())
            walk = self._elements[resource_type, code] = Elements(resource_type, code, leaf_maker)
        return walk(resource)

    def _plan(self, resource_type: str) -> tuple[Walk, PresentParameters]:
        parameters = [p for p in indexed_parameters(resource_type) if not is_derived(resource_type, p.code)]
        makers = {parameter.code: self._leaf_maker(resource_type, parameter, self.implied) for parameter in parameters}
        walk = _walk(resource_type, parameters, lambda p, branch: makers[p.code](p, branch))
        return walk, PresentParameters(self.hasher, resource_type, makers, self.implied)

    def _leaf_maker(self, resource_type: str, parameter: SearchParameter, implied: Implied) -> LeafFor:
        """What makes the leaves of one parameter, sharing caches between its branches."""
        code, hasher = parameter.code, self.hasher
        term: Term = hasher.terms_of(resource_type, code)
        number = parameter_number(resource_type, code)
        tokens: dict[str | None, TokenLeaves] = {}
        quantities = QuantityLeaves(term, number, canonical_number(resource_type, code))
        main = MAIN_DATE.get(resource_type) == code
        codes_alone = implied_systems(resource_type, code) is not None

        def make(_parameter: SearchParameter, branch: Branch) -> Leaf | None:  # noqa: PLR0911 - one return for each kind
            name = branch.type_name
            match parameter.kind:
                case "token":
                    return _token(branch)
                case "string":
                    return string_leaf(term, name, names=is_of_names(parameter.expression or ""))
                case "reference":
                    salt = hasher.reference_salt(resource_type, code)
                    return reference_leaf(term, salt, self._references, name, branch.target)
                case "uri":
                    return uri_leaf(term)
                case "date":
                    return date_leaf(term, number, self.zone, name, main=main, only=main and resource_type in ONE_DATE)
                case "quantity":
                    return quantities.leaf(name)
                case _:
                    return number_leaf(term, number, name)

        def _token(branch: Branch) -> Leaf | None:
            value_set = implicit_systems(branch.element) if branch.type_name == "code" else None
            if value_set not in tokens:
                bound = None if codes_alone else value_set
                tokens[value_set] = TokenLeaves(term, bound, implied, codes_alone=codes_alone)
            return tokens[value_set].leaf(branch.type_name)

        return make

    def _target_leaf(self, parameter: SearchParameter, branch: Branch) -> Leaf | None:
        target_of, wanted, code = self._references.target, branch.target, parameter.code

        def leaf(value: Any, sink: dict[str, list[tuple[str, str]]]) -> None:
            text = value if type(value) is str else value.get("reference")
            target = target_of(text) if text is not None else None
            if target is not None and wanted in {None, target[0]}:
                sink.setdefault(code, []).append(target[:2])

        return leaf if branch.type_name in {"Reference", "canonical", "uri"} else None


def _names_leaf(_parameter: SearchParameter, _branch: Branch) -> Leaf:
    def leaf(value: Any, sink: list[str]) -> None:
        sink.extend(names_of(value))

    return leaf


def _text_leaf(parameter: SearchParameter, branch: Branch) -> Leaf | None:
    name = branch.type_name

    def strings(value: Any, sink: list[str]) -> None:
        sink.extend(texts_of(value, name))

    def coded(value: Any, sink: list[str]) -> None:
        codings = value.get("coding", ()) if name == "CodeableConcept" else (value,)
        texts = [coding.get("display") for coding in codings] if name != "Identifier" else []
        texts.append(value.get("type", {}).get("text") if name == "Identifier" else value.get("text"))
        sink.extend(text for text in texts if text is not None)

    if parameter.kind in {"string", "uri"}:
        return strings
    return coded if name in {"CodeableConcept", "Coding", "Identifier"} else None


def _walk(resource_type: str, parameters: list[SearchParameter], leaf_for: LeafFor) -> Walk:
    """One walk over a type for some parameters: a tree of plain paths, then what needs FHIRPath."""
    tree = Tree()
    general: list[tuple[CompiledExpression, Callable[[str], Leaf | None]]] = []
    for parameter in parameters:
        expression = parameter.expression or ""
        try:
            branches = branches_of(resource_type, expression)
        except NotPlain:
            general.append((compile_expression(expression), _leaf_by_type(parameter, leaf_for)))
            continue
        for branch in dict.fromkeys(branches):
            leaf = leaf_for(parameter, branch)
            if leaf is not None:
                tree.add(branch, leaf)
    walk_tree = tree.compiled()
    if not general:
        return walk_tree

    def walk(resource: Mapping[str, Any], sink: Any) -> None:
        walk_tree(resource, sink)
        for expression, leaf_of in general:
            for item in expression.items(resource):
                leaf = leaf_of(item.type if isinstance(item, Node) else "boolean")
                value = item.value if isinstance(item, Node) else item
                if leaf is not None and value is not None:
                    leaf(value, sink)

    return walk


def _leaf_by_type(parameter: SearchParameter, leaf_for: LeafFor) -> Callable[[str], Leaf | None]:
    known: dict[str, Leaf | None] = {}

    def leaf_of(type_name: str) -> Leaf | None:
        if type_name not in known:
            known[type_name] = leaf_for(parameter, Branch((), type_name))
        return known[type_name]

    return leaf_of
