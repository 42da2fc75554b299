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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml

from hospital_adapters.hl7v2.draft import Draft
from hospital_adapters.hl7v2.memory import LONGEST, Copies, FieldState, Made, Remembered, Step, copied
from hospital_adapters.hl7v2.parse import NULL, Node, Segment, readable

RULES = Path(__file__).parent.parent / "rules"
Setter = Callable[[dict[str, Any], Any], bool]
NodeRule = Callable[[Node, dict[str, Any], Draft], None]
_RULE = re.compile(r"\s*([A-Za-z_]\w*)(?:@([\w-]+))?(?:\(([^)]*)\))?\s*->\s*(\S+)\s*")
_STEP = re.compile(r"(?:ext\(([\w-]+)\)|(_?\w+)([+*])?)")


_FLEETING = frozenset(
    [
        *("MSH-7", "MSH-10", "EVN-2", "EVN-6", "ORC-2", "ORC-3", "ORC-9", "ORC-15", "OBR-2", "OBR-3", "OBR-6", "OBR-7"),
        *("OBR-8", "OBR-14", "OBR-22", "OBX-14", "OBX-19", "OBX-21", "SPM-2", "SPM-17", "SPM-18", "TQ1-7", "TQ1-8"),
    ]
)
"""Fields that say something else in each message: times and numbers of orders, results and messages."""


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
    *walk, (last_mode, last_name) = [_step(step, path) for step in path.split(".")]
    if last_mode == "ext" and last_name not in extensions():
        raise RuleError(f"{path}: extension '{last_name}' is not listed in extensions.yaml")
    put = _last_setter(last_mode, last_name, kind)
    if not walk:
        return put

    def put_inside(target: dict[str, Any], value: Any) -> bool:
        for mode, name in walk:
            target = _descend(target, mode, name)
        return put(target, value)

    return put_inside


def _last_setter(mode: str, name: str, kind: str) -> Setter:
    url, key = extensions().get(name), f"value{kind}"

    def put_extension(target: dict[str, Any], value: Any) -> bool:
        target.setdefault("extension", []).append({"url": url, key: value})
        return True

    def append(target: dict[str, Any], value: Any) -> bool:
        target.setdefault(name, []).append(value)
        return True

    def put_first(target: dict[str, Any], value: Any) -> bool:
        items = target.setdefault(name, [])
        if items:
            return False
        items.append(value)
        return True

    def put(target: dict[str, Any], value: Any) -> bool:
        if name in target:
            return target[name] == value or (kind == "CodeableConcept" and _join(target[name], value))
        target[name] = value
        return True

    return {"ext": put_extension, "+": append, "*": put_first, "": put}[mode]


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
        texts = [node.peek(*part) for part in parts]
        if texts[0]:
            return [str(number), *texts]
    return None


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

    __slots__ = ("constant", "name", "parts", "rules")

    def __init__(self, table: Mapping[str, Any], name: str) -> None:
        """Compile the table's `fields`."""
        self.name = name
        self.constant = table.get("constant", {})
        self.rules: list[tuple[int, FieldRule]] = []
        for position, entries in table["fields"].items():
            for entry in entries if isinstance(entries, list) else [entries]:
                field, _, component = str(position).partition(".")
                rule = FieldRule(name[:3], int(field), int(component or 0), entry, f"{name} {position}")
                self.rules.append((int(field), rule))
        self.rules.sort(key=lambda rule: rule[0])
        self.parts: list[tuple[int, Block | FieldRule]] = []
        for fleeting, listed in groupby((rule for _, rule in self.rules), key=lambda rule: rule.site in _FLEETING):
            rules = list(listed)
            self.parts += [(rule.field, rule) for rule in rules] if fleeting else [(rules[0].field, Block(rules))]

    def apply(self, segment: Segment, target: dict[str, Any], draft: Draft) -> None:
        """Run each rule whose field has a value."""
        count = len(segment.fields)
        for field, part in self.parts:
            if field >= count:
                break
            part.apply(segment, target, draft)
        for key, value in self.constant.items():
            target.setdefault(key, copy.deepcopy(value))


class Block:
    """Rules over neighbouring fields, whose outcome is remembered by the texts of the fields."""

    __slots__ = ("_texts", "field", "fields", "rules")

    def __init__(self, rules: list["FieldRule"]) -> None:
        """Take the rules, in the order of their fields."""
        self.rules = rules
        self.field = rules[0].field
        self.fields = tuple(dict.fromkeys(rule.field for rule in rules))
        last = self.fields[-1]
        self._texts: Callable[[list[str]], Any] = (
            itemgetter(slice(self.field, last + 1))
            if len(self.fields) == last + 1 - self.field
            else itemgetter(*self.fields)
        )

    def apply(self, segment: Segment, target: dict[str, Any], draft: Draft) -> None:
        """Run each rule whose field has a value, or do again what was made of the same texts."""
        fields = segment.fields
        last = self.fields[-1]
        texts = self._texts(fields if len(fields) > last else fields + [""] * (last + 1 - len(fields)))
        if not any(texts):
            return
        key: object = (self, *texts)
        if segment.states or segment.nodes or segment.whole:
            if not (segment.nodes.keys().isdisjoint(self.fields) and segment.whole.isdisjoint(self.fields)):
                self._run(segment, target, draft)
                return
            before = tuple([segment.states.get(field) for field in self.fields])
            key = (self, *texts, before) if any(before) else key
        found = draft.memory.recall(key)
        if found is not None:
            self._run_again(found, segment, target, draft)
        elif draft.memory.is_met_again(key) and sum(map(len, texts)) <= LONGEST:
            found = self._remembered(segment, target, draft)
            if found is not None:
                draft.memory.remember(key, found)
        else:
            self._run(segment, target, draft)

    def _run(self, segment: Segment, target: dict[str, Any], draft: Draft) -> None:
        fields = segment.fields
        count = len(fields)
        for rule in self.rules:
            if rule.field >= count:
                return
            if fields[rule.field]:
                draft.site = rule.site
                rule.run(segment.repetitions(rule.field), target, draft)

    def _run_again(self, found: Remembered, segment: Segment, target: dict[str, Any], draft: Draft) -> None:
        draft.site = found.site
        if target or found.content is None:
            nodes = segment.nodes
            for rule, step in found.steps:
                if rule.field in nodes:  # something that was read before had no place this time
                    rule.run(nodes[rule.field], target, draft)
                else:
                    rule.repeat(step, segment, target, draft)
            return
        for added in found.added:
            draft.add_again(added)
        if found.warnings:
            draft.warnings.extend(found.warnings)
        target.update(found.content.next())
        segment.states.update(found.states)

    def _remembered(self, segment: Segment, target: dict[str, Any], draft: Draft) -> Remembered | None:
        """Run the rules, and note what they make; None where that does not follow from the texts alone."""
        was_empty = not target
        steps: list[tuple[FieldRule, Step]] = []
        fields, states = segment.fields, segment.states
        count, repeatable = len(fields), True
        for rule in self.rules:
            if rule.field >= count or not fields[rule.field]:
                continue
            draft.site = rule.site
            if rule.field in segment.nodes:
                rule.run(segment.nodes[rule.field], target, draft)
                continue
            state = states.get(rule.field) or FieldState(fields[rule.field], segment.delimiters)
            step, is_same = rule.first_step(state, segment, target, draft)
            steps.append((rule, step))
            repeatable = repeatable and is_same
        if not repeatable:
            return None
        return Remembered(
            tuple(steps),
            Copies(copied(target)) if was_empty else None,
            tuple(added for _, step in steps for added in step.added),
            tuple(warning for _, step in steps for warning in step.warnings),
            {rule.field: states[rule.field] for rule, _ in steps},
            draft.site,
        )


class FieldRule:
    """One rule of a segment's field."""

    __slots__ = ("argument", "component", "convert", "field", "leaf", "put", "site", "wrap")

    def __init__(self, segment_name: str, field: int, component: int, entry: Any, where: str) -> None:
        """Compile the rule; `component` is 0 where it takes the whole field."""
        converter, self.argument, self.put, self.wrap = _specification(entry, where)
        self.convert: Callable[..., Any] = converter.convert
        self.leaf = isinstance(converter, Leaf)
        self.field, self.component = field, component
        self.site = f"{segment_name}-{field}"

    def apply(self, segment: Segment, target: dict[str, Any], draft: Draft) -> None:
        """Put what the field has into the target."""
        field = self.field
        raw = segment.fields[field]
        if not raw:
            return
        draft.site = self.site
        is_plain = self.leaf and self.component < 2 and not segment.delimiters.is_parted(raw) and raw != NULL
        if not is_plain or field in segment.nodes or field in segment.states:
            self.run(segment.repetitions(field), target, draft)
            return
        text = readable(raw)
        value = self.convert(text, draft, self.argument) if text else None
        if not text or (value is not None and self.put(target, _filled(self.wrap, value) if self.wrap else value)):
            segment.whole.add(field)

    def run(self, nodes: Sequence[Node], target: dict[str, Any], draft: Draft) -> None:
        """Put what each repetition has into the target; where that has no place, nothing was read."""
        for node in nodes:
            value, taken = self._value(node, draft)
            if value is None or not self.put(target, value):
                self._refuse(node, taken=taken)

    def first_step(
        self, state: FieldState, segment: Segment, target: dict[str, Any], draft: Draft
    ) -> tuple[Step, bool]:
        """As `run`, of a field that was read so far; what came of it, and whether that would be so at any time."""
        nodes = state.nodes()
        draft.journal, draft.repeatable = [], True
        warned = len(draft.warnings)
        made: list[Made] = []
        for place, node in enumerate(nodes):
            value, taken = self._value(node, draft)
            if value is None:
                self._refuse(node, taken=taken)
            else:
                made.append(Made(Copies(copied(value)), place, taken))
        added, draft.journal = tuple(draft.journal), None
        marks = tuple(node.marks() for node in nodes)
        following = state if marks == state.marks else FieldState(state.raw, state.delimiters, marks)
        step = Step(tuple(made), added, tuple(draft.warnings[warned:]), following)
        if self._put_all(step, segment, target):
            return step, draft.repeatable
        return step, False

    def repeat(self, step: Step, segment: Segment, target: dict[str, Any], draft: Draft) -> None:
        """Do again what was done."""
        for added in step.added:
            draft.add_again(added)
        if step.warnings:
            draft.warnings.extend(step.warnings)
        self._put_all(step, segment, target)

    def _put_all(self, step: Step, segment: Segment, target: dict[str, Any]) -> bool:
        """Put copies of what was made into the target; whether all of it has a place there."""
        refused = [each for each in step.made if not self.put(target, each.copies.next())]
        if not refused:
            segment.states[self.field] = step.following
            return True
        nodes = step.following.nodes()
        for each in refused:
            self._refuse(nodes[each.repetition], taken=each.taken)
        segment.states.pop(self.field, None)
        segment.nodes[self.field] = nodes
        return False

    def _value(self, node: Node, draft: Draft) -> tuple[Any, bool]:
        """What the rule makes of a repetition, and whether the mark of its part stays where that has no place."""
        if self.leaf:
            part = self.component or 1
            taken = bool(node.read >> part & 1)
            text = node.text(part)
            if text is None:
                return None, True
            value = self.convert(text, draft, self.argument)
        else:
            taken = False
            value = self.convert(node.child(self.component) if self.component else node, draft, self.argument)
        return (_filled(self.wrap, value) if self.wrap and value is not None else value), taken

    def _refuse(self, node: Node, *, taken: bool) -> None:
        if not self.leaf:
            (node.child(self.component) if self.component else node).forget()
        elif not taken:
            node.unmark(self.component or 1)


@lru_cache(maxsize=1)
def segment_tables() -> Mapping[str, SegmentTable]:
    """Every table of `rules/segments/`, by its name there (`PID[Patient]`)."""
    tables: dict[str, SegmentTable] = {}
    for path in sorted((RULES / "segments").glob("*.yaml")):
        for target, table in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            name = f"{path.stem}[{target}]"
            tables[name] = SegmentTable(table, name)
    return tables
