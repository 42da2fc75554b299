"""The loss report: each component that no rule has taken, by its place; values are never repeated in it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hospital_adapters.hl7v2.memory import unread_of
from hospital_adapters.hl7v2.parse import Message, Segment

_OWN = {"MSH": (1, 2)}
_SET_IDS = frozenset(
    {"PID", "NK1", "PV1", "OBR", "OBX", "SPM", "NTE", "AL1", "DG1", "PR1", "GT1", "IN1", "ARV", "DB1", "TQ1", "FT1"}
)

_SET_ID = re.compile(r"\s*\d{1,4}\s*")


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
    kept: bool = False
    """It is in the Bundle as it was sent, in an extension beside the element that it did not fit."""

    @property
    def path(self) -> str:
        """`PID[1]-3[2].4.1`: as an interface engineer writes it."""
        inner = f".{self.subcomponent}" if self.subcomponent else ""
        return f"{self.segment}[{self.sequence}]-{self.field}[{self.repetition}].{self.component}{inner}"

    @property
    def line(self) -> str:
        """The line of the loss report."""
        return f"{self.path} as sent" if self.kept else self.path

    def as_sent(self) -> "LostValue":
        """The same place, its value kept as it was sent."""
        return replace(self, kept=True)


def unread_values(message: Message) -> Iterator[tuple[Segment, LostValue, str]]:
    """Each value that was sent and not read, with its raw text; delimiters and set ids are no values."""
    for segment in message.segments:
        name = segment.name
        own = _OWN.get(name, ())
        whole, states = segment.whole, segment.states
        for field, text in enumerate(segment.fields):
            if not text or not field or field in whole or field in own:
                continue
            if field == 1 and name in _SET_IDS and _SET_ID.fullmatch(text):
                continue
            state = states.get(field)
            unread = unread_of(segment.repetitions(field)) if state is None else state.unread()
            for repetition, component, subcomponent, value in unread:
                yield segment, LostValue(name, segment.sequence, field, repetition, component, subcomponent), value
