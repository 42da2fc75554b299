"""Acknowledgements: ACK messages with MSA and ERR, in the version, delimiters and character set of the message.

HL7 v2 chapter 2.9 (original and enhanced mode) and 2.15 (ACK, MSA, ERR; ERR as of 2.5, the older ERR-1 before it).
A pure function: the same message and problems give the same bytes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hospital_adapters.hl7v2.character_sets import codec_of
from hospital_adapters.hl7v2.parse import Message
from hospital_adapters.hl7v2.problems import (
    UNSUPPORTED_EVENT,
    UNSUPPORTED_MESSAGE_TYPE,
    UNSUPPORTED_PROCESSING_ID,
    UNSUPPORTED_VERSION,
    ParseProblem,
)

Code = Literal["AA", "AE", "AR", "CA", "CE", "CR"]
Condition = Literal["AL", "NE", "ER", "SU"]
_REJECTING = frozenset({UNSUPPORTED_MESSAGE_TYPE, UNSUPPORTED_EVENT, UNSUPPORTED_PROCESSING_ID, UNSUPPORTED_VERSION})
_TEXTS = {
    100: "Segment sequence error",
    101: "Required field missing",
    102: "Data type error",
    103: "Table value not found",
    200: "Unsupported message type",
    201: "Unsupported event code",
    202: "Unsupported processing id",
    203: "Unsupported version id",
    204: "Unknown key identifier",
    205: "Duplicate key identifier",
    206: "Application record locked",
    207: "Application internal error",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a message asks for: MSH-15 (accept) and MSH-16 (application); both None is the original mode."""

    accept: Condition | None
    application: Condition | None

    @property
    def original_mode(self) -> bool:
        """Whether one application answer (AA, AE, AR) is all that is asked for."""
        return self.accept is None and self.application is None


def wanted(message: Message | ParseProblem) -> Wanted:
    """MSH-15 and MSH-16 of a message; in enhanced mode an empty one means NE (never)."""
    fields = _header(message)
    accept, application = _condition(fields, 15), _condition(fields, 16)
    if accept is None and application is None:
        return Wanted(None, None)
    return Wanted(accept or "NE", application or "NE")


def is_due(condition: Condition | None, *, success: bool) -> bool:
    """Whether a condition of table 0155 asks for an answer to a message that succeeded or failed."""
    return condition in ("AL", "SU" if success else "ER")


def refusal(problem: ParseProblem) -> Literal["AE", "AR"]:
    """AR for what this receiver never takes (type, event, processing id, version), AE for errors in the message."""
    return "AR" if problem.code in _REJECTING else "AE"


def acknowledge(original: Message | ParseProblem, code: Code, problems: Sequence[ParseProblem] = ()) -> bytes:
    """The ACK for a message: MSH answering the sender, MSA echoing MSH-10, an ERR for each problem.

    Where the message's header could not be read, the answer is addressed to nobody, in version 2.5.
    """
    fields = _header(original)
    if isinstance(original, ParseProblem) and not problems and code not in ("AA", "CA"):
        problems = (original,)
    separator = fields[1] or "|"
    encoding = fields[2] or "^~\\&"
    component = encoding[0]
    version = _first(fields[12], component) or "2.5"
    charset = fields[18]
    kind = _kind(fields, component, version)
    control = _control_id(fields, code)
    header = ["MSH", encoding, fields[5], fields[6], fields[3], fields[4], fields[7], "", kind, control]
    header += [fields[11] or "P", fields[12] or "2.5", "", "", "", "", "", charset]
    accepted = ["MSA", code, fields[10], *_reason(problems, encoding, separator, version)]
    segments = [header, accepted, *(_error(problem, encoding, separator, version) for problem in problems)]
    text = "".join(separator.join(segment).rstrip(separator) + "\r" for segment in segments)
    return _encoded(text, original, charset)


def _header(original: Message | ParseProblem) -> list[str]:
    fields = list(original.header.fields if isinstance(original, Message) else original.header)
    return fields + [""] * (26 - len(fields))


def _condition(fields: Sequence[str], number: int) -> Condition | None:
    text = fields[number].strip().upper()
    return text if text in ("AL", "NE", "ER", "SU") else None  # type: ignore[return-value]  # narrowed by the test


def _first(text: str, component: str) -> str:
    return text.split(component, 1)[0].strip()


def _newer(version: str, than: tuple[int, int]) -> bool:
    parts = version.split(".")
    try:
        return (int(parts[0]), int(parts[1])) >= than
    except (ValueError, IndexError):
        return True


def _kind(fields: Sequence[str], component: str, version: str) -> str:
    event = fields[9].partition(component)[2].split(component)[0]
    if not event or not _newer(version, (2, 2)):
        return "ACK"
    return component.join(["ACK", event, "ACK"] if _newer(version, (2, 4)) else ["ACK", event])


def _control_id(fields: Sequence[str], code: Code) -> str:
    text = "\x1f".join((*fields[3:7], fields[7], fields[10], code))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


def _escaped(text: str, encoding: str, separator: str) -> str:
    escape = encoding[2] if len(encoding) > 2 else ""
    names = {"F": separator} | dict(zip("SRET", [encoding[0], *encoding[1:4]], strict=False))
    replaced = {sign: f"{escape}{name}{escape}" if escape else " " for name, sign in names.items()}
    return "".join(replaced.get(sign, " " if sign in "\r\n" else sign) for sign in text)


def _reason(problems: Sequence[ParseProblem], encoding: str, separator: str, version: str) -> list[str]:
    if not problems or _newer(version, (2, 7)):  # MSA-3 is withdrawn in 2.7
        return []
    return [_escaped(problems[0].cause[:80], encoding, separator)]


def _error(problem: ParseProblem, encoding: str, separator: str, version: str) -> list[str]:
    component = encoding[0]
    place = [problem.segment or "", str(problem.sequence) if problem.segment else "", str(problem.field or "")]
    text = _TEXTS.get(problem.code, _TEXTS[207])
    if not _newer(version, (2, 5)):
        inner = encoding[3] if len(encoding) > 3 else " "
        return ["ERR", component.join([*place, inner.join((str(problem.code), text, "HL70357"))])]
    if problem.component:
        place += ["1", str(problem.component)]
    location = component.join(place).rstrip(component)
    coded = component.join((str(problem.code), text, "HL70357"))
    cause = _escaped(problem.cause[:250], encoding, separator)
    return ["ERR", "", location, coded, "E", "", "", cause, cause]


def _encoded(text: str, original: Message | ParseProblem, charset: str) -> bytes:
    codec = original.codec if isinstance(original, Message) else codec_of(charset) or "utf-8"
    try:
        return text.encode(codec)
    except (UnicodeEncodeError, LookupError):
        return text.encode("utf-8", "replace")
