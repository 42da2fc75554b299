"""Rule tables of `hospital_adapters/rules/`, compiled once to closures.

A rule says how one field or component becomes one element:

    5: XPN -> name+                      # field 5 by the table of data type XPN, appended to Patient.name
    8: code(administrative-sex) -> gender
    7: {rule: XCN@Practitioner -> participant+, wrap: {individual: $, type: [...]}}
    31: [CWE(0130) -> ext(visit-indicator)]

Left of the arrow a converter: a leaf (`ST`, `DTM`, `code(map)`), a data type's table (`XPN`, `XCN@Practitioner` for
another shape of the same type) or a Python function registered under a name. Right of it the path: `name`, `name+`
(append), `name*` (the first item), `ext(name)` (an extension listed in `extensions.yaml`), joined by dots. `wrap` puts
the value in the place of `$`. A value that a converter refuses keeps no mark and so appears in the loss report.
"""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from hospital_adapters.hl7v2.draft import Draft
from hospital_adapters.hl7v2.parse import Node, Segment

RULES = Path(__file__).parent.parent / "rules"
Setter = Callable[[dict[str, Any], Any], bool]
NodeRule = Callable[[Node, dict[str, Any], Draft], None]
FieldRule = Callable[[Segment, dict[str, Any], Draft], None]
_RULE = re.compile(r"\s*([A-Za-z_]\w*)(?:@([\w-]+))?(?:\(([^)]*)\))?\s*->\s*(\S+)\s*")
_STEP = re.compile(r"(?:ext\(([\w-]+)\)|(_?\w+)([+*])?)")


class RuleError(ValueError):
    """A rule table that cannot be compiled; names file and rule."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A converter of one text: `convert(text, draft, argument)` gives the value or None; `kind` is its FHIR type."""

    kind: str
    convert: Callable[[str, Draft, str], Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """A converter of a node (a data type); `kind` is the FHIR type of what it gives."""

    kind: str
    convert: Callable[[Node, Draft, str], Any]


Converter = Leaf | Shape
REGISTRY: dict[str, Converter] = {}


@lru_cache(maxsize=1)
def extensions() -> Mapping[str, str]:
    """Name to URL of every extension that rules may write."""
    entries = yaml.safe_load((RULES / "extensions.yaml").read_text(encoding="utf-8"))
    return {name: entry.get("url", f"urn:kanglian:extension:{name}") for name, entry in entries.items()}


@lru_cache(maxsize=1)
def code_maps() -> Mapping[str, Mapping[str, str]]:
    """Name to (v2 code to FHIR code) of every map in `rules/codes/`."""
    paths = sorted((RULES / "codes").glob("*.yaml"))
    maps = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))["map"] for path in paths}
    return {name: {str(k).upper(): str(v) for k, v in entries.items()} for name, entries in maps.items()}


def setter(path: str, kind: str) -> Setter:
    """A function that puts a value of FHIR type `kind` at `path`; it answers False where another is there already."""
    steps = [_step(step, path) for step in path.split(".")]
    *walk, (last_mode, last_name) = steps

    def put(target: dict[str, Any], value: Any) -> bool:
        for mode, name in walk:
            target = _descend(target, mode, name)
        if last_mode == "ext":
            target.setdefault("extension", []).append({"url": name_of(last_name), f"value{kind}": value})
            return True
        if last_mode == "+":
            target.setdefault(last_name, []).append(value)
            return True
        if last_mode:
            items = target.setdefault(last_name, [])
            if items:
                return False
            items.append(value)
            return True
        if last_name in target:
            return target[last_name] == value or (kind == "CodeableConcept" and _join(target[last_name], value))
        target[last_name] = value
        return True

    if last_mode == "ext" and last_name not in extensions():
        raise RuleError(f"{path}: extension '{last_name}' is not listed in extensions.yaml")
    return put


def _join(concept: dict[str, Any], other: dict[str, Any]) -> bool:
    """Put a second code into the concept in place: a code that stood as text alone would escape the labels."""
    mine, theirs = concept.get("text"), other.get("text")
    if mine and theirs and mine != theirs:
        return False
    codings = concept.setdefault("coding", [])
    codings.extend(coding for coding in other.get("coding", ()) if coding not in codings)
    concept.setdefault("extension", []).extend(other.get("extension", ()))
    if theirs:
        concept["text"] = theirs
    return True


def name_of(extension: str) -> str:
    """The URL of a listed extension."""
    return extensions()[extension]


def _step(text: str, path: str) -> tuple[str, str]:
    match = _STEP.fullmatch(text)
    if match is None:
        raise RuleError(f"{path}: '{text}' is not a step of a path")
    extension, name, mode = match.groups()
    return ("ext", extension) if extension else (mode or "", name)


def _descend(target: dict[str, Any], mode: str, name: str) -> dict[str, Any]:
    if mode == "+":
        item: dict[str, Any] = {}
        target.setdefault(name, []).append(item)
        return item
    if mode:
        items = target.setdefault(name, [])
        if not items:
            items.append({})
        found: dict[str, Any] = items[0]
        return found
    inner: dict[str, Any] = target.setdefault(name, {})
    return inner


def _filled(template: Any, value: Any) -> Any:
    if template == "$":
        return value
    if isinstance(template, dict):
        return {key: _filled(inner, value) for key, inner in template.items()}
    if isinstance(template, list):
        return [_filled(inner, value) for inner in template]
    return template


def _specification(entry: Any, where: str) -> tuple[Converter, str, Setter, Any]:
    rule, wrap = (entry["rule"], entry.get("wrap")) if isinstance(entry, dict) else (entry, None)
    match = _RULE.fullmatch(str(rule))
    if match is None:
        raise RuleError(f"{where}: '{rule}' is not 'converter -> path'")
    name, shape, argument, path = match.groups()
    converter = converter_named(f"{name}@{shape}" if shape else name, where)
    return converter, argument or "", setter(path, converter.kind), wrap


def converter_named(name: str, where: str = "") -> Converter:
    """The registered converter, or the data type's table of that name (`XCN`, `XCN@Practitioner`)."""
    found = REGISTRY.get(name)
    if found is None:
        data_type, _, shape = name.partition("@")
        path = RULES / "types" / f"{data_type}.yaml"
        if not path.is_file():
            raise RuleError(f"{where}: no converter and no table named '{name}'")
        shapes = yaml.safe_load(path.read_text(encoding="utf-8"))
        shape = shape or next(iter(shapes))
        if shape not in shapes:
            raise RuleError(f"{where}: {path.name} has no shape '{shape}'")
        found = REGISTRY[name] = type_table(shapes[shape], shape, path.name)
    return found


def element(name: str, node: Node, draft: Draft) -> Any:
    """Convert a node by the shape or table of that name; None where nothing was found in it."""
    convert: Callable[..., Any] = converter_named(name).convert
    return convert(node, draft, "")


def type_table(table: Mapping[str, Any], shape: str, where: str) -> Shape:
    """Compile one shape of a data type: an element, or (with `resource` and `identity`) a resource of its own."""
    rules = _node_rules(table["parts"], where)
    constant = table.get("constant", {})

    def content_of(node: Node, draft: Draft, _argument: str) -> dict[str, Any] | None:
        result: dict[str, Any] = {}
        run_parts(rules, node, result, draft)
        if result and constant:
            result.update(copy.deepcopy(constant))
        return result or None

    resource = table.get("resource")
    if resource is None:
        return Shape(table.get("type", shape), content_of)
    alternatives = [[tuple(int(p) for p in str(part).split(".")) for part in keys] for keys in table["identity"]]

    def reference(node: Node, draft: Draft, argument: str) -> dict[str, Any] | None:
        content = content_of(node, draft, argument)
        keys = _identity(alternatives, node)
        if content is None or keys is None:
            return None
        return {"reference": draft.add({"resourceType": resource, **content}, *keys)}

    return Shape("Reference", reference)


def _identity(alternatives: list[list[tuple[int, ...]]], node: Node) -> list[str] | None:
    for number, parts in enumerate(alternatives):
        texts = [peek(node, part) for part in parts]
        if texts[0]:
            return [str(number), *texts]
    return None


def peek(node: Node, part: tuple[int, ...]) -> str:
    """The text at `part` without changing marks; empty where absent."""
    if part[0] > len(node.parts):
        return ""
    inner = Node(node.parts[part[0] - 1], node.depth + 1, node._delimiters)  # noqa: SLF001  same package, read only
    return (inner.text(part[1] if len(part) > 1 else 1) or "").casefold()


def _node_rules(parts: Mapping[Any, Any], where: str) -> list[tuple[int, NodeRule]]:
    rules: list[tuple[int, NodeRule]] = []
    for position, entries in parts.items():
        major, _, minor = str(position).partition(".")
        for entry in entries if isinstance(entries, list) else [entries]:
            rule = _node_rule(int(major), int(minor or 0), entry, f"{where} {position}")
            rules.append((int(major), rule))
    return sorted(rules, key=lambda rule: rule[0])


def run_parts(rules: list[tuple[int, NodeRule]], node: Node, target: dict[str, Any], draft: Draft) -> None:
    """Run the rules of the parts that have a value."""
    parts = node.parts
    count = len(parts)
    for position, run in rules:
        if position > count:
            return
        if parts[position - 1]:
            run(node, target, draft)


def _node_rule(position: int, inner: int, entry: Any, where: str) -> NodeRule:
    converter, argument, put, wrap = _specification(entry, where)
    convert: Callable[..., Any] = converter.convert
    leaf = isinstance(converter, Leaf)

    def run(node: Node, target: dict[str, Any], draft: Draft) -> None:
        source = node.child(position) if inner > 1 else node
        part = inner if inner > 1 else position
        if leaf:
            taken = source.read >> part & 1
            text = source.text(part)
            if text is None:
                return
            value = convert(text, draft, argument)
        else:
            value = convert(source.child(part), draft, argument)
        if value is None or not put(target, _filled(wrap, value) if wrap else value):
            if not leaf:
                source.child(part).forget()
            elif not taken:
                source.unmark(part)

    return run


class SegmentTable:
    """One segment's rules for one target; `apply` fills a resource from a segment."""

    __slots__ = ("constant", "name", "rules")

    def __init__(self, table: Mapping[str, Any], name: str) -> None:
        """Compile the table's `fields`."""
        self.name = name
        self.constant = table.get("constant", {})
        self.rules: list[tuple[int, FieldRule]] = []
        for position, entries in table["fields"].items():
            for entry in entries if isinstance(entries, list) else [entries]:
                field, _, component = str(position).partition(".")
                rule = _field_rule(name[:3], int(field), int(component or 0), entry, f"{name} {position}")
                self.rules.append((int(field), rule))
        self.rules.sort(key=lambda rule: rule[0])

    def apply(self, segment: Segment, target: dict[str, Any], draft: Draft) -> None:
        """Run each rule whose field has a value."""
        fields = segment.fields
        count = len(fields)
        for field, run in self.rules:
            if field >= count:
                break
            if fields[field]:
                run(segment, target, draft)
        for key, value in self.constant.items():
            target.setdefault(key, copy.deepcopy(value))


def _field_rule(segment_name: str, field: int, component: int, entry: Any, where: str) -> FieldRule:
    converter, argument, put, wrap = _specification(entry, where)
    convert: Callable[..., Any] = converter.convert
    leaf = isinstance(converter, Leaf)
    site = f"{segment_name}-{field}"

    def run(segment: Segment, target: dict[str, Any], draft: Draft) -> None:
        draft.site = site
        for node in segment.repetitions(field):
            if leaf:
                taken = node.read >> (component or 1) & 1
                text = node.text(component or 1)
                if text is None:
                    continue
                value = convert(text, draft, argument)
            else:
                source = node.child(component) if component else node
                value = convert(source, draft, argument)
            if value is None or not put(target, _filled(wrap, value) if wrap else value):
                if not leaf:
                    source.forget()
                elif not taken:
                    node.unmark(component or 1)

    return run


@lru_cache(maxsize=1)
def segment_tables() -> Mapping[str, SegmentTable]:
    """Every table of `rules/segments/`, by its name there (`PID[Patient]`)."""
    tables: dict[str, SegmentTable] = {}
    for path in sorted((RULES / "segments").glob("*.yaml")):
        for target, table in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            name = f"{path.stem}[{target}]"
            tables[name] = SegmentTable(table, name)
    return tables
