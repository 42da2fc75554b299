"""Functions on types and the additions of FHIR (https://hl7.org/fhir/R4/fhirpath.html#functions)."""

from html.parser import HTMLParser

from ehr.fhirpath import model
from ehr.fhirpath.environment import Compile, Environment, Step
from ehr.fhirpath.errors import FhirPathError
from ehr.fhirpath.nodes import Item, Node, all_children, child_nodes, has_value, is_type, system_value, type_of
from ehr.fhirpath.operators import single
from ehr.fhirpath.registry import builder, on_collection
from ehr.fhirpath.syntax import Expression, Member

# ruff: noqa: FBT001 - builders have one shape, whose last argument is the strict flag

PROFILES = "http://hl7.org/fhir/StructureDefinition/"


def type_argument(expression: Expression) -> str:
    """The type name that an argument of is(), as() or ofType() spells."""
    if isinstance(expression, Member):
        if expression.source is None:
            return expression.name
        return f"{type_argument(expression.source)}.{expression.name}"
    raise FhirPathError("FHIRPath: a type name is wanted")


def checked_type(type_name: str, *, may_be_unknown: bool = False) -> str:
    """The name itself; an error where neither FHIR nor FHIRPath define it."""
    namespace, _, name = type_name.rpartition(".")
    known = (namespace in {"", "System"} and name in model.SYSTEM_TYPES) or (
        namespace in {"", "FHIR"} and model.is_known(name)
    )
    if not known and not may_be_unknown:
        raise FhirPathError(f"FHIRPath: {type_name} is no type of FHIR R4")
    return type_name


def is_step(items: list[Item], type_name: str) -> list[Item]:
    """`is`: whether the single item is of the type."""
    if not items:
        return []
    if len(items) > 1:
        raise FhirPathError(f"FHIRPath: is takes one item, found {len(items)}")
    return [is_type(items[0], type_name)]


def as_step(items: list[Item], type_name: str, *, strict: bool) -> list[Item]:
    """`as`: the item where it is of the type; several items only outside strict mode."""
    if strict and len(items) > 1:
        raise FhirPathError(f"FHIRPath: as takes one item, found {len(items)}")
    return [item for item in items if is_type(item, type_name, exactly=True)]


@builder("is", 1)
def _is(expressions: tuple[Expression, ...], _compiled: Compile, _: bool) -> Step:
    type_name = checked_type(type_argument(expressions[0]), may_be_unknown=True)
    return lambda items, _this, _environment: is_step(items, type_name)


@builder("as", 1)
def _as(expressions: tuple[Expression, ...], _compiled: Compile, strict: bool) -> Step:
    type_name = checked_type(type_argument(expressions[0]))
    return lambda items, _this, _environment: as_step(items, type_name, strict=strict)


@builder("ofType", 1)
def _of_type(expressions: tuple[Expression, ...], _compiled: Compile, _: bool) -> Step:
    type_name = checked_type(type_argument(expressions[0]))
    return lambda items, _this, _environment: [item for item in items if is_type(item, type_name, exactly=True)]


@on_collection("type")
def _type(items: list[Item]) -> list[Item]:
    found: list[Item] = []
    for item in items:
        namespace, name = type_of(item)
        found.append(Node({"namespace": namespace, "name": name}, "System.TypeInfo"))
    return found


@on_collection("children")
def _children(items: list[Item]) -> list[Item]:
    return [child for item in items for child in all_children(item)]


@on_collection("hasValue")
def _has_value(items: list[Item]) -> list[Item]:
    return [len(items) == 1 and has_value(items[0])]


@on_collection("getValue")
def _get_value(items: list[Item]) -> list[Item]:
    value = system_value(items[0]) if len(items) == 1 and has_value(items[0]) else None
    return [] if value is None else [value]


@on_collection("extension", 1)
def _extension(items: list[Item], url: list[Item]) -> list[Item]:
    wanted = single(url, "extension()")
    found: list[Item] = []
    for item in items:
        if isinstance(item, Node):
            extensions = child_nodes(item, "extension") or ()
            found += [e for e in extensions if isinstance(e.value, dict) and e.value.get("url") == wanted]
    return found


@on_collection("conformsTo", 1)
def _conforms_to(items: list[Item], profile: list[Item]) -> list[Item]:
    url = single(profile, "conformsTo()")
    if len(items) != 1 or not isinstance(url, str):
        return []
    name = url.removeprefix(PROFILES)
    if not url.startswith(PROFILES) or not model.is_known(name):
        raise FhirPathError(f"FHIRPath: the profile {url} is not known")
    return [is_type(items[0], f"FHIR.{name}")]


@on_collection("memberOf", 1)
def _member_of(items: list[Item], value_set: list[Item]) -> list[Item]:
    codes = model.codes_of(str(single(value_set, "memberOf()")))
    if codes is None or len(items) != 1:
        return []
    item = items[0]
    value = item.value if isinstance(item, Node) else item
    if isinstance(value, str):
        return [any(code == value for _, code in codes)]
    codings = value.get("coding", [value]) if isinstance(value, dict) else []
    return [any((coding.get("system"), coding.get("code")) in codes for coding in codings if isinstance(coding, dict))]


@builder("resolve")
def _resolve(_expressions: tuple[Expression, ...], _compiled: Compile, _: bool) -> Step:
    def step(items: list[Item], _this: list[Item], environment: Environment) -> list[Item]:
        found = (resolved(item, environment) for item in items)
        return [item for item in found if item is not None]

    return step


def resolved(item: Item, environment: Environment) -> Item | None:
    """The target of a reference: contained, from the resolver, or a stand-in of which only the type is known."""
    value = item.value if isinstance(item, Node) else item
    named_type = None
    if isinstance(value, dict):
        named_type = value.get("type")
        value = value.get("reference")
    if isinstance(value, str) and value.startswith("#"):
        return _contained(value[1:], environment)
    if isinstance(value, str) and environment.resolver is not None:
        target = environment.resolver(value)
        if target is not None:
            return Node(target, str(target["resourceType"]))
    parts = value.split("/_history/")[0].split("/") if isinstance(value, str) else []
    type_name = parts[-2] if len(parts) > 1 and parts[-2] in model.RESOURCE_TYPES else named_type
    if type_name not in model.RESOURCE_TYPES:
        return None
    return Node({"resourceType": type_name, "id": parts[-1] if parts else ""}, str(type_name))


def _contained(local_id: str, environment: Environment) -> Item | None:
    for root in environment.root:
        if not isinstance(root, Node) or not isinstance(root.value, dict):
            continue
        if not local_id:
            return root
        for contained in root.value.get("contained", ()):
            if isinstance(contained, dict) and contained.get("id") == local_id:
                return Node(contained, str(contained.get("resourceType")))
    return None


_HTML_TAGS = frozenset(
    """a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 h3 h4 h5 h6 hr i img
    li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul var""".split()  # noqa: SIM905 - reads as the list in the specification
)
_HTML_ATTRIBUTES = frozenset(
    """abbr accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing cellvalign char charoff charset
    cite class colspan compact coords dir frame headers height href hreflang hspace id lang longdesc name nowrap rel
    rev rowspan rules scope shape span src start style summary tabindex title type valign value vspace width xmlns
    xml:lang xml:space xml:base""".split()  # noqa: SIM905 - likewise
)


class _Narrative(HTMLParser):
    """Finds out whether XHTML holds only what narrative may (https://hl7.org/fhir/R4/narrative.html#xhtml)."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.allowed = True
        self.content = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _HTML_TAGS:
            self.allowed = False
        if tag == "img":
            self.content = True
        for name, value in attrs:
            allowed = name in _HTML_ATTRIBUTES or name.startswith("xmlns:")
            if not allowed or (value or "").strip().lower().startswith(("javascript:", "vbscript:")):
                self.allowed = False

    def handle_data(self, data: str) -> None:
        self.content = self.content or bool(data.strip())

    def handle_decl(self, decl: str) -> None:  # noqa: ARG002 - the parser's signature
        self.allowed = False


def html_allowed(text: str) -> bool:
    """Whether an XHTML narrative has content and only the elements and attributes that FHIR allows (txt-1, txt-2)."""
    parser = _Narrative()
    parser.feed(text)
    parser.close()
    return parser.allowed and parser.content and text.lstrip().startswith("<div")


@on_collection("htmlChecks")
def _html_checks(items: list[Item]) -> list[Item]:
    return [all(html_allowed(text) for text in map(system_value, items) if isinstance(text, str))]
