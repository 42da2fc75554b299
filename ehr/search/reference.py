"""Reference parameters: https://hl7.org/fhir/R4/search.html#reference."""

import re

from ehr.definitions import RESOURCE_TYPES, SearchParameter, is_resource_type
from ehr.errors import BadSearch
from ehr.keys import row_key
from ehr.search import person
from ehr.search.query import Criterion, ReferenceValue, TokenValue
from ehr.search.rendering import NEVER, Condition, Rendering
from ehr.search.text import unescape
from ehr.search.token import as_identity

MODIFIERS = frozenset({"missing", "identifier", "mdm"})
_LOCAL = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_ONLY_PATIENT = ".where(resolve() is Patient)"
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:.+", re.DOTALL)


def targets_of(parameter: SearchParameter) -> tuple[str, ...]:
    """The types that a parameter's references may name."""
    if (parameter.expression or "").endswith(_ONLY_PATIENT) and " | " not in (parameter.expression or ""):
        return ("Patient",)
    declared = parameter.targets
    return RESOURCE_TYPES if not declared or "Resource" in declared else declared


def parse_value(
    name: str, text: str, targets: tuple[str, ...], only: str | None, base_url: str | None
) -> ReferenceValue:
    """Read `id`, `Type/id` or a URL; `only` is the type that a `:Type` modifier asks for."""
    plain = unescape(text)
    if base_url and plain.startswith(base_url.rstrip("/") + "/"):
        plain = plain[len(base_url.rstrip("/")) + 1 :]
    if match := _LOCAL.fullmatch(plain):
        if not is_resource_type(match[1]):
            raise BadSearch(f"{name}: no resource type {match[1]}")
        fits = only is None or only == match[1]
        return ReferenceValue(((match[1], match[2]),) if fits else ())
    if _ID.fullmatch(plain):
        return ReferenceValue(tuple((target, plain) for target in ((only,) if only else targets)))
    if _ABSOLUTE.fullmatch(plain):
        return ReferenceValue((), plain)
    raise BadSearch(f"{name}: a reference is an id, Type/id or a URL")


def condition(rendering: Rendering, alias: str, criterion: Criterion) -> list[Condition]:
    """Rows that refer to one of the targets."""
    if criterion.modifier == "identifier":
        return [_identified(rendering, criterion)]
    values = [value for value in criterion.values if isinstance(value, ReferenceValue)]
    if criterion.modifier == "mdm":
        return [_whole_person(rendering, alias, criterion, values)]
    targets = tuple(target for value in values for target in value.targets)
    hasher, resource_type, code = rendering.hasher, criterion.resource_type, criterion.code
    terms = [hasher.reference(resource_type, code, *target) for target in targets]
    uris = [value.uri for value in values if value.uri is not None]
    terms += [hasher.term(resource_type, code, "uri", uri) for uri in uris]
    if not terms:
        return [NEVER]
    if not uris and person.names_holder(resource_type, code):
        patients = [target for target in targets if target[0] == "Patient"]
        if len(patients) == len(targets) or code == "patient":
            return _of_holders(rendering, alias, criterion, [row_key(*target) for target in patients], terms)
    return [Condition(tuple(terms))]


def _of_holders(
    rendering: Rendering, alias: str, criterion: Criterion, keys: list[int], terms: list[int]
) -> list[Condition]:
    """Rows about one of these Patients; of those whom the caller does not see at all no row is looked at."""
    seen = rendering.holders(keys, criterion.resource_type)
    if seen is None:
        by_holder = Condition(sql=f"{alias}.holder = any({rendering.add(keys, 'bigint[]')})", keyed=True)
        return [Condition(tuple(terms)), by_holder]
    salt = rendering.add(rendering.hasher.reference_salt(criterion.resource_type, criterion.code), "bigint")
    # compared with the row's own holder, so that the index of terms is not read for those who are hidden
    named = f"{alias}.terms @> array[{alias}.holder # {salt}]"
    return [Condition(sql=f"({alias}.holder = any({seen}) and {named})", keyed=True)]


def _identified(rendering: Rendering, criterion: Criterion) -> Condition:
    terms = tuple(
        rendering.hasher.term(criterion.resource_type, criterion.code, "identifier", value.text)
        for value in map(as_identity, criterion.values)
        if isinstance(value, TokenValue)
    )
    return Condition(terms) if terms else NEVER


def _whole_person(rendering: Rendering, alias: str, criterion: Criterion, values: list[ReferenceValue]) -> Condition:
    """Rows about any source Patient of the same person; a Patient whom the caller does not see spans only itself."""
    keys = [row_key(*target) for value in values for target in value.targets if target[0] == "Patient"]
    if not keys:
        return NEVER
    named, known, others = rendering.alias("p"), rendering.alias("h"), rendering.alias("h")
    given = rendering.add(keys, "bigint[]")
    salt = rendering.add(rendering.hasher.reference_salt(criterion.resource_type, criterion.code), "bigint")
    spanned = (
        f"select {others}.holder from resource {named} join holder_person {known} on {known}.holder = {named}.key"
        f" join holder_person {others} on {others}.person = {known}.person"
        f" where {named}.key = any({given}) and {rendering.row(named, 'Patient')}"
    )
    literal = f"select unnest({given})"
    if person.names_holder(criterion.resource_type, criterion.code):
        literal = f"select unnest({rendering.holders(keys, criterion.resource_type) or given})"
        return Condition(
            sql=f"({alias}.holder = any(array({literal} union {spanned}))"
            f" and {alias}.terms @> array[{alias}.holder # {salt}])"
        )
    holder = rendering.alias("k")
    return Condition(
        sql=f"{alias}.terms && array(select {holder}.holder # {salt} from ({literal} union {spanned})"
        f" as {holder}(holder))"
    )
