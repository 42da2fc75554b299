"""Messages without measure: time that grows with their length and no faster, and bounds that are told."""

import time

import pytest

from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2.convert import MOST_SEGMENTS, Conversion, convert
from hospital_adapters.hl7v2.parse import Message, parse
from hospital_adapters.hl7v2.problems import ParseProblem
from hospital_adapters.mllp.door import inbox_message
from hospital_adapters.mllp.frames import Frame
from tests.hospital_adapters.hl7v2.hl7v2_messages import message_text

FEED = Feed("lab", "first-hospital", "hl7v2")
PID = "PID|1||7^^^A^MR||Wang"


def conversion_of(kind: str, *segments: str) -> tuple[float, Conversion | ParseProblem]:
    """CPU seconds, and what it became."""
    started = time.process_time()
    message = parse(message_text(kind, *segments).encode())
    assert isinstance(message, Message)
    conversion = convert(message, FEED)
    return time.process_time() - started, conversion


@pytest.mark.parametrize(
    ("kind", "first", "each"),
    [
        ("ORU^R01", "OBR|1|P1|F1|GLU|||20240601", "OBX|{0}|NM|C{0}^x^L||{0}|mg"),
        ("ADT^A01", "PV1|1|I", "DG1|{0}||D{0}^x^L"),
        ("ADT^A40", "MRG|x^^^A^MR", "MRG|{0}^^^A^MR"),
    ],
)
def test_a_message_eight_times_as_long_takes_no_more_than_its_share(kind: str, first: str, each: str) -> None:
    conversion_of(kind, PID, first)  # compiles the tables
    short, _ = conversion_of(kind, PID, first, *(each.format(n) for n in range(500)))
    long, conversion = conversion_of(kind, PID, first, *(each.format(n) for n in range(4000)))
    assert isinstance(conversion, Conversion)
    assert len(conversion.bundle["entry"]) > 4000
    assert long < 30 * short  # 8 by length, 64 where each looked at all before it


def test_more_segments_than_a_message_may_have_are_refused_with_the_reason() -> None:
    text = message_text("ADT^A08", PID, *(["NTE|1||x"] * MOST_SEGMENTS))
    row = inbox_message(FEED, Frame(text.encode()))
    assert row.state == "quarantined"
    assert f"over {MOST_SEGMENTS}" in str(row.cause)
    assert b"MSA|AE|" in (row.answer or b"")


def test_endless_repetitions_components_and_unknown_segments_stay_within_bounds() -> None:
    pid = f"PID|1||{'~'.join(f'{n}^^^A^MR' for n in range(20_000))}||{'^'.join(str(n) for n in range(20_000))}"
    _, conversion = conversion_of("ADT^A08", pid, *(["ZZZ|1|2|3"] * 8_000))
    assert isinstance(conversion, Conversion)
    assert len(conversion.loss) <= 10_000
