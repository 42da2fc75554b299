"""The loss report: each component that no rule has taken, by its place; values are never repeated in it."""

from collections.abc import Iterator
from dataclasses import dataclass

from hospital_adapters.hl7v2.parse import Message, Segment

_OWN = {"MSH": (1, 2)}
_SET_IDS = frozenset(
    {"PID", "NK1", "PV1", "OBR", "OBX", "SPM", "NTE", "AL1", "DG1", "PR1", "GT1", "IN1", "ARV", "DB1", "TQ1", "FT1"}
)


@dataclass(frozen=True, slots=True)
class LostValue:
    """A value without a home in the Bundle: segment and its sequence, field, repetition, component, sub-component.

    Positions count from 1; `subcomponent` is 0 where the component has none.
    """

    segment: str
    sequence: int
    field: int
    repetition: int
    component: int
    subcomponent: int

    @property
    def path(self) -> str:
        """`PID[1]-3[2].4.1`: as an interface engineer writes it."""
        inner = f".{self.subcomponent}" if self.subcomponent else ""
        return f"{self.segment}[{self.sequence}]-{self.field}[{self.repetition}].{self.component}{inner}"


def lost_values(message: Message) -> Iterator[LostValue]:
    """Each value that was sent and not read; delimiters and set ids are no values."""
    for segment in message.segments:
        for field in range(1, len(segment.fields)):
            if not segment.fields[field] or field in _OWN.get(segment.name, ()):
                continue
            if field == 1 and segment.name in _SET_IDS:
                continue
            yield from _lost(segment, field)


def _lost(segment: Segment, field: int) -> Iterator[LostValue]:
    for repetition, node in enumerate(segment.repetitions(field), 1):
        if node.read == -1 or (node.read == 2 and len(node.parts) == 1 and not node.has_inner):
            continue
        for component, subcomponent, text in node.unread():
            if text.strip():
                yield LostValue(segment.name, segment.sequence, field, repetition, component, subcomponent)
