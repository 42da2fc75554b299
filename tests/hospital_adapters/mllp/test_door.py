"""What is kept of a frame and what is answered: a table over acknowledgement modes and faults."""

import pytest

from ehr.store.inbox import InboxMessage
from hospital_adapters.feeds import Feed
from hospital_adapters.mllp.door import inbox_message
from hospital_adapters.mllp.frames import Frame

FEED = Feed("feed", "first-hospital", "hl7v2")
PID = "PID|1||1^^^H^MR||Zhang^Wei"


def message(kind: str = "ADT^A08^ADT_A01", accept: str = "", application: str = "", pid: str = PID) -> bytes:
    header = f"MSH|^~\\&|LIS|H|K|R|20260102030405+0800||{kind}|C1|P|2.5.1|||{accept}|{application}"
    return f"{header}\rEVN|A08|20260102030405+0800\r{pid}\rPV1|1|O\r".encode()


def kept(frame: Frame) -> tuple[InboxMessage, list[str]]:
    row = inbox_message(FEED, frame)
    answers = [text for text in (row.answer or b"").decode().split("\x0b") if text]
    return row, [text.split("MSA|")[1].split("|")[0] for text in answers]


@pytest.mark.parametrize(
    ("accept", "application", "good", "bad"),
    [
        ("", "", ["AA"], ["AR"]),
        ("AL", "", ["CA"], ["CR"]),
        ("AL", "NE", ["CA"], ["CR"]),
        ("AL", "AL", ["CA", "AA"], ["CR", "AR"]),
        ("NE", "AL", ["AA"], ["AR"]),
        ("NE", "NE", [], []),
        ("ER", "ER", [], ["CR", "AR"]),
        ("SU", "SU", ["CA", "AA"], []),
        ("AL", "ER", ["CA"], ["CR", "AR"]),
        ("", "AL", ["AA"], ["AR"]),
    ],
)
def test_answers_follow_msh_15_and_16(accept: str, application: str, good: list[str], bad: list[str]) -> None:
    row, answers = kept(Frame(message(accept=accept, application=application)))
    assert (row.state, answers) == ("waiting", good)
    row, answers = kept(Frame(message("SIU^S12", accept, application)))
    assert (row.state, answers) == ("quarantined", bad)
    assert row.place == "MSH[1]-9"


def test_a_fault_in_the_message_is_an_error_with_its_place() -> None:
    row, answers = kept(Frame(message(pid="PID|1")))
    assert answers == ["AE"]
    assert row.state == "quarantined"
    assert row.place == "PID[1]-3"
    assert b"ERR|" in (row.answer or b"")


@pytest.mark.parametrize(("fault", "code"), [("no-end-block", "AE"), ("too-large", "AR")])
def test_an_incomplete_frame_is_kept_and_refused(fault: str, code: str) -> None:
    row, answers = kept(Frame(message()[:60], fault))  # type: ignore[arg-type]  # the table's texts are the faults
    assert answers == [code]
    assert (row.state, row.body) == ("quarantined", message()[:60])


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"MSH", b"MSH|", b"\xff\xfe" * 40, b"MSH|^~\\&|\x00|\xed\xa0\x80|||||ADT^A08|\x00|P|2.5"]
)
def test_whatever_comes_can_be_stored(content: bytes) -> None:
    row, _ = kept(Frame(content))
    assert row.state == "quarantined"
    for text in (row.sender, row.control_id, row.trace, row.message_type, row.cause or "", row.place or ""):
        assert "\x00" not in text
        text.encode("utf-8")


def test_the_same_message_has_the_same_answer_and_key() -> None:
    first, second = inbox_message(FEED, Frame(message())), inbox_message(FEED, Frame(message()))
    assert first == second
