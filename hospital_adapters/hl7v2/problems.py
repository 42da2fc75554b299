"""What can be wrong with a message, as a value: cause, HL7 error code, and where (for the ERR segment)."""

from dataclasses import dataclass

SEGMENT_SEQUENCE = 100
REQUIRED_FIELD_MISSING = 101
DATA_TYPE = 102
TABLE_VALUE = 103
UNSUPPORTED_MESSAGE_TYPE = 200
UNSUPPORTED_EVENT = 201
UNSUPPORTED_PROCESSING_ID = 202
UNSUPPORTED_VERSION = 203
UNKNOWN_KEY = 204
INTERNAL = 207


@dataclass(frozen=True, slots=True)
class ParseProblem:
    """One reason why a message was not understood.

    `code` is a code of HL7 table 0357 (100 to 207); `segment`, `sequence` (of that segment, from 1), `field` and
    `component` say where, as ERR-2 does. `header` is the MSH segment's field texts where they could be read, so that
    an acknowledgement can still be addressed; index 0 is "MSH", index n is MSH-n.
    """

    cause: str
    code: int
    segment: str | None = None
    field: int | None = None
    sequence: int = 1
    component: int | None = None
    header: tuple[str, ...] = ()
