"""Bytes to a message: segments at once, fields, repetitions, components and sub-components on demand.

HL7 v2 chapter 2 (2.1 to 2.8). Nothing here raises for what a sender may write: a message that cannot be read is a
`ParseProblem`. Every leaf that is read is marked, so that the rest can be reported as lost.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hospital_adapters.hl7v2.character_sets import codec_of, decode
from hospital_adapters.hl7v2.escapes import unescaper
from hospital_adapters.hl7v2.problems import (
    DATA_TYPE,
    REQUIRED_FIELD_MISSING,
    SEGMENT_SEQUENCE,
    UNSUPPORTED_VERSION,
    ParseProblem,
)

if TYPE_CHECKING:
    from hospital_adapters.hl7v2.memory import FieldState

_WRAPPERS = ("FHS", "BHS", "BTS", "FTS")
_MESSAGE_START = re.compile(rb"(?:\A\s*|[\r\n]\s*|\xef\xbb\xbf)(?=MSH[^\w\s])")
_VERSIONS = ("2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.8", "2.9")
_KNOWN = frozenset(
    {
        *("EVN", "PID", "PD1", "NK1", "PV1", "PV2", "MRG", "ROL", "PRT", "AL1", "IAM", "DG1", "DRG", "PR1", "GT1"),
        *("IN1", "IN2", "IN3", "ACC", "ORC", "OBR", "OBX", "NTE", "SPM", "TQ1"),
    }
)
"""Segments that are told from a text's next line even in small letters."""
_MOST_REPETITIONS, _MOST_PARTS = 5000, 200
"""What stands behind so many separators stays one text."""
NULL = '""'
Marks = tuple[int, tuple[tuple[int, Any], ...]]
"""What of a node was read: its bit mask, and (part, marks) of the parts that were taken apart."""
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff\ufffe\uffff\ud800-\udfff]")


def readable(text: str) -> str:
    """Text without control characters (but tab and line ends) and without white space at its ends."""
    return text.strip() if text.isprintable() else _UNREADABLE.sub("", text).strip()


class Delimiters:
    """The five or six delimiters that a message declares in MSH-1 and MSH-2, and what undoes its escapes."""

    __slots__ = ("component", "escape", "field", "is_parted", "repetition", "subcomponent", "truncation", "unescape")

    def __init__(self, field: str, encoding: str, codec: str) -> None:
        r"""Take MSH-1 and MSH-2; delimiters left out of MSH-2 keep their usual meaning (`^~\&`) unless already used."""
        self.field = field
        chosen: list[str] = []
        for position, usual in enumerate("^~\\&"):
            sent = encoding[position] if position < len(encoding) else usual
            chosen.append("" if sent in (*chosen, field) else sent)
        self.component, self.repetition, self.escape, self.subcomponent = chosen
        self.truncation = encoding[4] if len(encoding) > 4 else ""
        signs = self.component + self.repetition + self.escape + self.subcomponent
        self.is_parted = re.compile(f"[{re.escape(signs)}]").search
        """Finds a sign for which a text must be taken apart."""
        self.unescape: Callable[[str], str] = str
        if self.escape:
            separators = field + self.component + self.repetition + self.subcomponent + self.truncation
            self.unescape = unescaper(separators, self.escape, codec)


@lru_cache(maxsize=256)
def delimiters_of(field: str, encoding: str, codec: str) -> Delimiters:
    """The delimiters of MSH-1 and MSH-2; the same ones for the same texts."""
    return Delimiters(field, encoding, codec)


class Node:
    """One repetition of a field (depth 1: components) or one component (depth 2: sub-components).

    `parts` are the raw texts; a part that is read is marked in the bit mask `read`.
    """

    __slots__ = ("_children", "_delimiters", "_inner", "depth", "parts", "raw", "read")

    def __init__(self, raw: str, depth: int, delimiters: Delimiters) -> None:
        """Cut `raw` by the separator of its depth."""
        self.raw = raw
        self.depth = depth
        self._delimiters = delimiters
        if depth == 1:
            separator, self._inner = delimiters.component, delimiters.subcomponent
        else:
            separator, self._inner = (delimiters.subcomponent if depth == 2 else ""), ""
        self.parts = raw.split(separator, _MOST_PARTS) if separator else [raw]
        self.read = 0
        self._children: dict[int, Node] | None = None

    def text(self, position: int) -> str | None:
        """The text of part `position` (from 1), unescaped and stripped; None where empty; marks it as read.

        Where the part has sub-components, the first of them.
        """
        if position > len(self.parts):
            return None
        raw = self.parts[position - 1]
        if not raw:
            return None
        if self._inner and self._inner in raw:
            return self.child(position).text(1)
        self.read |= 1 << position
        if raw == NULL:
            return None
        escape = self._delimiters.escape
        text = self._delimiters.unescape(raw) if escape and escape in raw else raw
        return readable(text) or None

    def has(self, position: int) -> bool:
        """Whether part `position` has anything in it."""
        return position <= len(self.parts) and bool(self.parts[position - 1])

    def child(self, position: int) -> "Node":
        """Part `position` as a node of the next depth; always the same node."""
        if self._children is None:
            self._children = {}
        found = self._children.get(position)
        if found is None:
            raw = self.parts[position - 1] if position <= len(self.parts) else ""
            found = self._children[position] = Node(raw, self.depth + 1, self._delimiters)
            if self.read >> position & 1:
                found.read = -1
        return found

    @property
    def has_inner(self) -> bool:
        """Whether a part of this node has parts of its own."""
        return bool(self._inner) and self._inner in self.raw

    def unmark(self, position: int) -> None:
        """Take back the mark of a part whose value turned out to have no home."""
        if self._children is not None and position in self._children:
            self._children[position].unmark(1)
        else:
            self.read &= ~(1 << position)

    def forget(self) -> None:
        """Take back all marks: what was made of the node had no home."""
        self.read = 0
        self._children = None

    def mark_all(self) -> None:
        """Mark every part: the whole node was taken as text."""
        self.read = -1
        for child in (self._children or {}).values():
            child.mark_all()

    def marks(self) -> Marks:
        """What was read of the node, for `mark`."""
        children = self._children
        return self.read, tuple((place, child.marks()) for place, child in children.items()) if children else ()

    def mark(self, marks: Marks) -> None:
        """Take over the marks of a node of the same text; this one has none."""
        for place, inner in marks[1]:
            self.child(place).mark(inner)
        self.read = marks[0]

    def peek(self, part: int, inner: int = 1) -> str:
        """The text of a sub-part without a mark, case folded; empty where absent."""
        if part > len(self.parts):
            return ""
        separator = self._delimiters.subcomponent if self.depth == 1 else ""
        return (_plain(_piece(self.parts[part - 1], inner, separator), self._delimiters) or "").casefold()

    def whole(self) -> str | None:
        """All of the node as one text, separators kept, unescaped; marks everything."""
        self.mark_all()
        return None if self.raw == NULL else readable(self._delimiters.unescape(self.raw)) or None

    def unread(self) -> Iterator[tuple[int, int, str]]:
        """Each (part, sub-part or 0, text) that has a value and was not read."""
        for position, raw in enumerate(self.parts, 1):
            if not raw or raw == NULL:
                continue
            child = (self._children or {}).get(position)
            if child is None and self.read >> position & 1 and not (self._inner and self._inner in raw):
                continue
            if child is None and self._inner and self._inner in raw:
                child = self.child(position)
            if child is not None and len(child.parts) > 1:
                yield from ((position, sub, text) for sub, _, text in child.unread())
            elif not (self.read >> position & 1) and not (child is not None and child.read >> 1 & 1):
                yield position, 0, raw


def nodes_of(raw: str, delimiters: Delimiters) -> list[Node]:
    """The repetitions of a field that have a value, in order."""
    return [Node(text, 1, delimiters) for text in _repeated(raw, delimiters) if text]


def _repeated(raw: str, delimiters: Delimiters) -> list[str]:
    separator = delimiters.repetition
    return raw.split(separator, _MOST_REPETITIONS) if separator and separator in raw else [raw]


def _piece(raw: str, position: int, separator: str) -> str:
    if separator and separator in raw:
        parts = raw.split(separator, _MOST_PARTS)
        return parts[position - 1] if position <= len(parts) else ""
    return raw if position == 1 else ""


def _plain(raw: str, delimiters: Delimiters) -> str | None:
    """Raw text as `Node.text` gives it."""
    if not raw or raw == NULL:
        return None
    escape = delimiters.escape
    return readable(delimiters.unescape(raw) if escape and escape in raw else raw) or None


class Segment:
    """One segment: its name, its number among those of the same name (from 1), and its fields (index n is field n)."""

    __slots__ = ("delimiters", "fields", "name", "nodes", "sequence", "states", "whole")

    def __init__(self, name: str, sequence: int, fields: list[str], delimiters: Delimiters) -> None:
        """Take the raw field texts; `fields[0]` is the name."""
        self.name = name
        self.sequence = sequence
        self.fields = fields
        self.delimiters = delimiters
        self.nodes: dict[int, list[Node]] = {}
        """Fields that were taken apart."""
        self.states: dict[int, FieldState] = {}
        """Fields that were not, since it is remembered what they become."""
        self.whole: set[int] = set()
        """Fields of a single part that were read."""

    def repetitions(self, field: int) -> list[Node]:
        """The repetitions of a field that have a value, in order."""
        nodes = self.nodes.get(field)
        if nodes is None:
            raw = self.fields[field] if field < len(self.fields) else ""
            if not raw:
                return []
            state = self.states.pop(field, None)
            nodes = self.nodes[field] = nodes_of(raw, self.delimiters) if state is None else state.nodes()
            if field in self.whole:
                self.whole.remove(field)
                nodes[0].read = 2
        return nodes

    def raw(self, field: int) -> list[str]:
        """The repetitions of a field that have a value as they were sent: to decide, not to keep."""
        raw = self.fields[field] if field < len(self.fields) else ""
        return [text for text in _repeated(raw, self.delimiters) if text] if raw else []

    def first(self, field: int) -> Node | None:
        """The first repetition that has a value, or None."""
        nodes = self.repetitions(field)
        return nodes[0] if nodes else None

    def text(self, field: int, component: int = 1) -> str | None:
        """The text of a component of the first repetition, marked as read."""
        if component == 1 and field not in self.nodes and field not in self.states and field < len(self.fields):
            raw = self.fields[field]
            if raw and raw != NULL and not self.delimiters.is_parted(raw):
                self.whole.add(field)
                return readable(raw) or None
        nodes = self.repetitions(field)
        return nodes[0].text(component) if nodes else None

    def peek(self, field: int, component: int = 1) -> str | None:
        """As `text`, without a mark: to decide, not to keep."""
        raw = self.fields[field] if field < len(self.fields) else ""
        return peeked(raw, component, self.delimiters) if raw else None


def peeked(raw: str, component: int, delimiters: Delimiters, subcomponent: int = 1) -> str | None:
    """The text of a component of the first repetition of a field, read without a mark."""
    separator = delimiters.repetition
    if separator and separator in raw:
        raw = raw.partition(separator)[0]
    part = _piece(raw, component, delimiters.component)
    return _plain(_piece(part, subcomponent, delimiters.subcomponent), delimiters)


class Message:
    """A message as sent.

    `content` is the SHA-256 of its bytes, `codec` the character set read with, `notes` what was odd about the envelope.
    """

    __slots__ = ("_kind", "codec", "content", "control_id", "delimiters", "notes", "segments")

    def __init__(
        self, segments: list[Segment], delimiters: Delimiters, codec: str, notes: list[str], content: bytes
    ) -> None:
        """Take the segments, MSH first."""
        self.content = content
        self.segments = segments
        self.delimiters = delimiters
        self.codec = codec
        self.notes = notes
        self.control_id = self.header.peek(10) or ""
        """MSH-10, or an empty text."""
        self._kind: tuple[str, str] | None = None

    @property
    def header(self) -> Segment:
        """The MSH segment."""
        return self.segments[0]

    @property
    def kind(self) -> tuple[str, str]:
        """(message type, trigger event): ("ADT", "A01"); the event is from EVN-1 or MSH-9.3 where 9.2 is empty."""
        if self._kind is None:
            self._kind = self._read_kind()
        return self._kind

    def _read_kind(self) -> tuple[str, str]:
        code = self.header.peek(9, 1) or ""
        event = self.header.peek(9, 2)
        if event is None:
            event = next((s.peek(1) for s in self.segments if s.name == "EVN"), None)
            event = event or (self.header.peek(9, 3) or "").partition("_")[2]
        if not event and "_" in code:
            code, _, event = code.partition("_")
        if not event and code.upper() == "ORU":  # 2.1 has one kind of result, and no event in MSH-9
            event = "R01"
        return code.upper(), (event or "").upper()

    @property
    def version(self) -> str:
        """MSH-12, or an empty text."""
        return self.header.peek(12) or ""

    @property
    def sender(self) -> tuple[str, str]:
        """(MSH-3, MSH-4) as sent."""
        fields = self.header.fields
        return (fields[3] if len(fields) > 3 else ""), (fields[4] if len(fields) > 4 else "")


def _declared_character_set(data: bytes) -> str:
    """MSH-18's first repetition, read from the bytes before they can be decoded."""
    start = data.find(b"MSH")
    if start < 0:
        return ""
    end = min((e for e in (data.find(b"\r", start), data.find(b"\n", start)) if e >= 0), default=len(data))
    head = data[start:end]
    separator = head[3:4]
    fields = head.split(separator) if separator else []
    if len(fields) < 18:
        return ""
    repetition = fields[1][1:2]
    repeated = fields[17].split(repetition) if repetition else [fields[17]]
    names = [name.decode("ascii", "replace").strip() for name in repeated]
    return next((name for name in names if name and codec_of(name)), next(iter(filter(None, names)), ""))


def messages_in(data: bytes) -> list[bytes]:
    """The messages of a batch or file, each from its MSH up to the next; one item where there is only one."""
    starts = [match.end() for match in _MESSAGE_START.finditer(data)]
    if len(starts) < 2:
        return [data]
    starts[0] = 0
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def parse(data: bytes) -> Message | ParseProblem:
    """Read one message; the first message of a batch where wrapped by FHS and BHS. Never raises."""
    text, codec, note = decode(data, _declared_character_set(data))
    notes = [note] if note else []
    lines = text.replace("\r\n", "\r").replace("\n", "\r").strip("\x0b\x1c\x00 \ufeff\r").split("\r")
    start = next((n for n, line in enumerate(lines) if line.lstrip(" \t\ufeff").startswith("MSH")), None)
    if start is None:
        return ParseProblem("the message has no MSH segment", SEGMENT_SEQUENCE, "MSH")
    head = lines[start].lstrip(" \t\ufeff")
    if any(line.strip() and line[:3] not in _WRAPPERS for line in lines[:start]):
        notes.append("text before MSH was passed over")
    if len(head) < 6 or head[3].isalnum() or not head[3].isprintable() or head[3].isspace():
        return ParseProblem("MSH-1, the field separator, is missing or not usable", REQUIRED_FIELD_MISSING, "MSH", 1)
    delimiters = delimiters_of(head[3], head[4:].split(head[3], 1)[0], codec)
    if not delimiters.component:
        return ParseProblem("MSH-2 repeats a delimiter", DATA_TYPE, "MSH", 2)
    segments = _segments([head, *lines[start + 1 :]], delimiters, notes)
    if isinstance(segments, ParseProblem):
        return segments
    return _checked(Message(segments, delimiters, codec, notes, hashlib.sha256(data).digest()))


def _segments(lines: list[str], delimiters: Delimiters, notes: list[str]) -> list[Segment] | ParseProblem:
    separator = delimiters.field
    counts: dict[str, int] = {}
    segments: list[Segment] = []
    header: tuple[str, ...] = ()
    for number, sent in enumerate(lines):
        line = sent.strip("\x0b\x1c\x00\t ")
        name = line[:3]
        if name.upper() in _KNOWN and not name.isupper() and line[3:4] == separator:
            name = name.upper()
            notes.append(f"line {number + 1} names its segment in small letters")
        if not line or name in _WRAPPERS:
            continue
        if name == "MSH" and segments:
            notes.append("the file holds more than one message; only the first was read")
            break
        if not (name.isalnum() and name.isascii() and name.isupper() and line[3:4] in ("", separator)):
            if segments and len(segments) > 1:  # a line break inside of a text field: the line goes on
                last = segments[-1].fields
                more = line.split(separator)
                last[-1] += f"\n{more[0]}"
                last.extend(more[1:])
                notes.append(f"line {number + 1} does not start a segment; it was joined to {segments[-1].name}")
                continue
            return ParseProblem(f"line {number + 1} is not a segment", SEGMENT_SEQUENCE, None, header=header)
        fields = line.split(separator)
        if name == "MSH":
            fields.insert(1, separator)
            header = tuple(fields)
        counts[name] = counts.get(name, 0) + 1
        segments.append(Segment(name, counts[name], fields, delimiters))
    return segments


def _checked(message: Message) -> Message | ParseProblem:
    header = tuple(message.header.fields)
    if not message.header.peek(9):
        return ParseProblem("MSH-9, the message type, is empty", REQUIRED_FIELD_MISSING, "MSH", 9, header=header)
    if not message.control_id:
        return ParseProblem("MSH-10, the control id, is empty", REQUIRED_FIELD_MISSING, "MSH", 10, header=header)
    version = message.version
    if version and not version.startswith(_VERSIONS):
        return ParseProblem(f"version '{version[:20]}' is not known", UNSUPPORTED_VERSION, "MSH", 12, header=header)
    return message
