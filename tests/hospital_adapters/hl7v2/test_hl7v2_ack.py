import pytest

from hospital_adapters.hl7v2 import ack
from hospital_adapters.hl7v2.parse import Message, parse
from hospital_adapters.hl7v2.problems import ParseProblem
from tests.hospital_adapters.hl7v2.hl7v2_messages import message_text

PROBLEM = ParseProblem("PID-3 says a|b", 102, "PID", 3, 1, component=4)


def read(text: str, codec: str = "utf-8") -> Message | ParseProblem:
    return parse(text.encode(codec))


@pytest.mark.parametrize("code", ["AA", "AE", "AR", "CA", "CE", "CR"])
def test_codes_and_echo(code: ack.Code) -> None:
    answer = ack.acknowledge(read(message_text("ADT^A01^ADT_A01", "PID|1")), code)
    header, accepted = answer.decode().rstrip("\r").split("\r")
    assert header.startswith("MSH|^~\\&|KL|REGION|LAB|FIRST|20240601080000+0800||ACK^A01^ACK|")
    assert accepted == f"MSA|{code}|C1"
    assert answer == ack.acknowledge(read(message_text("ADT^A01^ADT_A01", "PID|1")), code)


@pytest.mark.parametrize(
    ("version", "error", "reason"),
    [
        ("2.3", r"ERR|PID^1^3^102&Data type error&HL70357", r"MSA|AE|C1|PID-3 says a\F\b"),
        (
            "2.5.1",
            r"ERR||PID^1^3^1^4|102^Data type error^HL70357|E|||PID-3 says a\F\b|PID-3 says a\F\b",
            r"MSA|AE|C1|PID-3 says a\F\b",
        ),
        ("2.8", r"ERR||PID^1^3^1^4|102^Data type error^HL70357|E|||PID-3 says a\F\b|PID-3 says a\F\b", "MSA|AE|C1"),
    ],
)
def test_errors_by_version(version: str, error: str, reason: str) -> None:
    original = read(message_text("ADT^A01", "PID|1").replace("2.5.1", version))
    lines = ack.acknowledge(original, "AE", [PROBLEM]).decode().split("\r")
    assert lines[1:3] == [reason, error]


def test_delimiters_and_character_set_are_the_senders() -> None:
    text = "MSH$%*!@$A$中心$C$D$20240601$$ADT%A01$1$P$2.5$$$$$$GB 18030-2000\rPID$1"
    answer = ack.acknowledge(read(text, "gb18030"), "AA")
    assert answer.decode("gb18030").startswith("MSH$%*!@$C$D$A$中心$20240601$$ACK%A01%ACK$")
    assert b"GB 18030-2000" in answer


def test_what_cannot_be_read_gets_an_answer_too() -> None:
    problem = read("hello")
    assert isinstance(problem, ParseProblem)
    lines = ack.acknowledge(problem, ack.refusal(problem)).decode().split("\r")
    assert lines[0].startswith("MSH|^~\\&|")
    assert lines[1].startswith("MSA|AE|")
    assert lines[2].startswith("ERR||MSH^1|100^")


@pytest.mark.parametrize(("code", "expected"), [(200, "AR"), (201, "AR"), (203, "AR"), (100, "AE"), (207, "AE")])
def test_refusals(code: int, expected: str) -> None:
    assert ack.refusal(ParseProblem("x", code)) == expected


@pytest.mark.parametrize(
    ("accept", "application", "expected"),
    [("", "", (None, None)), ("AL", "", ("AL", "NE")), ("", "ER", ("NE", "ER")), ("NE", "SU", ("NE", "SU"))],
)
def test_modes(accept: str, application: str, expected: tuple[str | None, str | None]) -> None:
    wanted = ack.wanted(read(message_text("ADT^A01") + f"|||{accept}|{application}"))
    assert (wanted.accept, wanted.application) == expected
    assert wanted.original_mode == (expected == (None, None))


@pytest.mark.parametrize(
    ("condition", "success", "due"),
    [
        ("AL", True, True),
        ("AL", False, True),
        ("NE", False, False),
        ("ER", False, True),
        ("ER", True, False),
        ("SU", True, True),
        (None, True, False),
    ],
)
def test_conditions(condition: ack.Condition | None, success: bool, due: bool) -> None:  # noqa: FBT001  a table's columns
    assert ack.is_due(condition, success=success) == due
