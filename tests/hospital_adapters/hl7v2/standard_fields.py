"""Messages in which each field and component that HL7 v2.8 knows has a value of its own (`standard_fields.yaml`)."""

from itertools import count
from pathlib import Path

import yaml

_TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
SEGMENTS: dict[str, str] = _TABLE["segments"]
TYPES: dict[str, str] = _TABLE["types"]
_CODES = {
    **dict.fromkeys(("SI", "YN"), "1"),
    **dict.fromkeys(("OS", "RS", "SEX"), "F"),
    "AID": "AL",
    "OC": "RE",
    "PRI": "R",
    "AL": "DA",
    "SV": "SV",
    "CUR": "CNY",
    "VER": "2.8",
    "ID3": "CHN",
}
EVENTS = ("A01", "A02", "A03", "A04", "A08", "A40", "R01")
_ADT = ("EVN", "PID", "PD1", "NK1", "PV1", "PV2", "DG1", "AL1", "PR1", "ROL", "GT1", "IN1", "IN2")
_BODIES = {
    "A40": ("EVN", "PID", "PD1", "MRG"),
    "R01": ("PID", "PD1", "NTE", "NK1", "PV1", "PV2", "ORC", "OBR", "NTE", "PRT", "OBX", "NTE", "SPM"),
}


class Words:
    """Values that occur once: words, numbers, and days from 1990 on."""

    def __init__(self, first: int = 1) -> None:
        """Begin to count at `first`."""
        self._next = count(first)

    def value(self, data_type: str) -> str:
        """A value of a primitive type."""
        number = next(self._next)
        if data_type in _CODES:
            return _CODES[data_type]
        if data_type in ("DT", "DTM"):
            day = f"{1990 + number % 29}{1 + number % 12:02d}{1 + number % 27:02d}"
            return day if data_type == "DT" else f"{day}{number % 24:02d}3015+0800"
        if data_type == "NM":
            return str(100_000 + number)
        if data_type == "OID":
            return f"1.2.156.{100_000 + number}"
        return f"w{number}q"

    def field(self, data_type: str, separators: str = "^&", components: int = 99) -> str:
        """A value of any type, its components (at most so many) filled."""
        parts = TYPES.get(data_type)
        if parts is None:
            return self.value(data_type)
        if not separators:  # no room below: the first component stands for the whole
            return self.field(parts.split()[0], "")
        inner = (self.field(part, separators[1:], components) for part in parts.split()[:components])
        return separators[0].join(inner)

    def segment(self, name: str, components: int = 99) -> str:
        """A whole segment (MSH apart)."""
        return "|".join([name, *(self.field(kind, components=components) for kind in SEGMENTS[name].split())])


def whole_message(event: str, version: str = "2.8", first: int = 1, components: int = 99) -> str:
    """A message of an event with every segment, field and component that the standard knows for it."""
    words = Words(first)
    kind = "ORU" if event == "R01" else "ADT"
    header = ["MSH", "^~\\&", *(words.field(each, components=components) for each in SEGMENTS["MSH"].split()[2:])]
    for field, text in ((7, f"{kind}^{event}"), (9, "P"), (10, version), (16, "UNICODE UTF-8")):
        header[field + 1] = text
    segments = ["|".join(header)]
    return "\r".join([*segments, *(words.segment(name, components) for name in _BODIES.get(event, _ADT))])
