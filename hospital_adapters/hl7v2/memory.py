"""What fields became before: fields whose texts come again are not taken apart again.

Within a feed the same texts come over and over: the patient of a stay, his visit, the ward, the doctor, the codes of
the laboratory. What a rule makes of a field follows from the field's text, its delimiters and the feed alone, and so
does what it leaves unread. A block of rules over neighbouring fields is remembered from the second time on. Fields that
say something else in each message (times, order numbers) stand in no block. Whatever else a rule looks at makes its
result unrepeatable: it is never remembered.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2.parse import Delimiters, Marks, Node, nodes_of

MOST = 8_192
"""Of each of two generations: what was met since the last change, and what was met before it."""
LONGEST = 1_000
"""Characters of a block's fields: what is longer is hardly ever sent twice."""
_MOST_MEMORIES = 64
_WORTH_COMPILING = 10


@dataclass(frozen=True, slots=True)
class Made:
    """One value that a rule made of one repetition."""

    copies: "Copies"
    repetition: int
    taken: bool
    """The part was read before, and so keeps its mark where this value has no place."""


@dataclass(frozen=True, slots=True)
class Added:
    """A resource of its own that a rule put into the Bundle."""

    reference: str
    resource: dict[str, Any]
    copies: "Copies"


@dataclass(slots=True, eq=False)
class FieldState:
    """How far a field of this text was read."""

    raw: str
    delimiters: Delimiters
    marks: tuple[Marks, ...] = ()
    """Of each repetition; none before the first rule."""
    _unread: tuple[tuple[int, int, int, str], ...] | None = None

    def nodes(self) -> list[Node]:
        """The repetitions of the field, marked."""
        nodes = nodes_of(self.raw, self.delimiters)
        for node, marks in zip(nodes, self.marks, strict=False):
            node.mark(marks)
        return nodes

    def unread(self) -> tuple[tuple[int, int, int, str], ...]:
        """(repetition, component, sub-component, text) of all that was sent and not read."""
        if self._unread is None:
            self._unread = tuple(unread_of(self.nodes()))
        return self._unread


@dataclass(frozen=True, slots=True)
class Step:
    """What one rule made of a field in one state."""

    made: tuple[Made, ...]
    added: tuple[Added, ...]
    warnings: tuple[str, ...]
    following: FieldState


def unread_of(nodes: list[Node]) -> Iterator[tuple[int, int, int, str]]:
    """As `FieldState.unread`, of nodes."""
    for repetition, node in enumerate(nodes, 1):
        if node.read == -1 or (node.read == 2 and len(node.parts) == 1 and not node.has_inner):
            continue
        for component, subcomponent, text in node.unread():
            if text.strip():
                yield repetition, component, subcomponent, text


class Copies:
    """Copies of one value; from the tenth on made by a function that is compiled for it, five times as fast."""

    __slots__ = ("_made", "_make", "_value")

    def __init__(self, value: Any) -> None:
        """Take a value of dictionaries, lists and what nobody changes."""
        self._value = value
        self._made = 0
        self._make: Callable[[], Any] | None = None

    def next(self) -> Any:
        """Another copy."""
        if self._make is not None:
            return self._make()
        if type(self._value) is str:
            return self._value
        self._made += 1
        if self._made == _WORTH_COMPILING:
            self._make = maker(self._value)
        return copied(self._value)


def maker(value: Any) -> Callable[[], Any]:
    """A function that makes the value anew: one expression over the parts that nobody changes."""
    parts: list[Any] = []

    def expression(each: Any) -> str:
        kind = type(each)
        if kind is dict:
            return "{" + ",".join(f"{expression(name)}:{expression(item)}" for name, item in each.items()) + "}"
        if kind is list:
            return "[" + ",".join(map(expression, each)) + "]"
        parts.append(each)
        return f"p{len(parts) - 1}"

    text = expression(value)
    names = ",".join(f"p{number}" for number in range(len(parts)))
    made: Callable[[], Any] = eval(f"lambda {names}: lambda: {text}")(*parts)  # noqa: S307 - brackets and own names
    return made


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the rules of a block made of some fields of a segment."""

    steps: tuple[tuple[Any, Step], ...]
    """(rule, its step) in order."""
    content: Copies | None
    """All that they made, where they began with an empty resource."""
    added: tuple[Added, ...]
    warnings: tuple[str, ...]
    states: dict[int, FieldState]
    """The fields as the last rule left them."""
    site: str


class Memory:
    """What blocks of rules made of the fields of one feed that were sent with the same delimiters."""

    __slots__ = ("_before", "_delimiters", "_known", "_once", "feed")

    def __init__(self, feed: Feed, delimiters: Delimiters) -> None:
        """Remember nothing yet."""
        self.feed = feed
        self._delimiters = delimiters
        self._known: dict[object, Remembered] = {}
        self._before: dict[object, Remembered] = {}
        self._once: set[int] = set()

    def recall(self, key: object) -> Remembered | None:
        """What is remembered under a key: the block, the texts of its fields, how far those were read before."""
        found = self._known.get(key)
        if found is None:
            found = self._before.pop(key, None)
            if found is not None:
                self.remember(key, found)
        return found

    def is_met_again(self, key: object) -> bool:
        """Whether the key was met before; what comes once is not worth keeping."""
        digest = hash(key)
        if digest in self._once:
            return True
        if len(self._once) >= MOST:
            self._once.clear()
        self._once.add(digest)
        return False

    def remember(self, key: object, made: Remembered) -> None:
        """Keep it, and of all else what was met lately."""
        if len(self._known) >= MOST:
            self._before, self._known = self._known, {}
        self._known[key] = made


_MEMORIES: dict[tuple[int, int], Memory] = {}


def memory_of(feed: Feed, delimiters: Delimiters) -> Memory:
    """The memory of a feed and of the delimiters that a message declares; of a feed that was read anew, a new one."""
    key = (id(feed), id(delimiters))
    found = _MEMORIES.get(key)
    if found is None:
        if len(_MEMORIES) >= _MOST_MEMORIES:
            _MEMORIES.clear()
        found = _MEMORIES[key] = Memory(feed, delimiters)
    return found


def copied(value: Any) -> Any:
    """A copy of a value: what is put into a resource may be changed there."""
    kind = type(value)
    if kind is dict:
        return {name: item if type(item) is str else copied(item) for name, item in value.items()}
    if kind is list:
        return [copied(item) for item in value]
    return value
