"""For any bytes: an answer, never an exception; for any message: the same Bundle again, valid, everything accounted."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ehr import json_text
from ehr.validation import check
from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2 import ack
from hospital_adapters.hl7v2.convert import Conversion, convert
from hospital_adapters.hl7v2.parse import Message, parse
from tests.hospital_adapters.hl7v2.hl7v2_messages import message_text

FEED = Feed("lab", "first-hospital", "hl7v2")
LOOSE = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
_SIGNS = "|^~\\&\r\n#\"' .-+0123456789abcXYZ王é\t\x0b\x1c\x00\ufeff"
_ATOMS = st.sampled_from(
    [
        "",
        "1",
        "A",
        "N",
        "Y",
        "M",
        "20240601",
        "202406010830+0800",
        "19990230",
        "Wang",
        '""',
        "1.2.3.4",
        "ISO",
        "LN",
        "L",
    ]
)
_ODD_ATOMS = st.sampled_from(
    ["\\F\\", "\\X41\\", "\\.br\\", "HL70001", "NM", "CWE", "ED", "-1", "1e400", "1.50", "<5", "a b  c", "http://x y"]
)
_WORDS = st.sampled_from(
    ["WPN", "PH", "Internet", "a@b", "A01", "王小明", "\u200b", "\x7f", "11010519491231002X", "Base64", "AL", "0"]
)
_COMPONENTS = st.lists(_ATOMS | _ODD_ATOMS | _WORDS, max_size=4).map("&".join)
_FIELDS = st.lists(_COMPONENTS, max_size=14).map("^".join)
_REPEATED = st.lists(_FIELDS, max_size=2).map("~".join)
_NAMES = [
    "PD1",
    "NK1",
    "PV1",
    "PV2",
    "EVN",
    "ROL",
    "PRT",
    "NTE",
    "OBX",
    "OBR",
    "ORC",
    "SPM",
    "AL1",
    "DG1",
    "PR1",
    "GT1",
    "IN1",
    "IN2",
    "ACC",
    "DB1",
    "PDA",
    "ARV",
    "RF1",
    "TQ1",
    "MRG",
    "SFT",
    "ZZZ",
]
_SEGMENT = st.tuples(st.sampled_from(_NAMES), st.lists(_REPEATED, max_size=55)).map(lambda s: "|".join([s[0], *s[1]]))


@LOOSE
@given(st.binary(max_size=400) | st.text(_SIGNS, max_size=400).map(lambda t: b"MSH|^~\\&" + t.encode("utf-8")))
def test_parsing_and_answering_never_raise(data: bytes) -> None:
    message = parse(data)
    result = convert(message, FEED) if isinstance(message, Message) else message
    problems = [] if isinstance(result, Conversion) else [result]
    assert ack.acknowledge(message, "AE", problems).startswith(b"M")
    ack.wanted(message)


@settings(LOOSE, max_examples=60)
@given(st.sampled_from(["ADT^A01", "ADT^A08", "ADT^A40", "ORU^R01"]), st.lists(_SEGMENT, min_size=1, max_size=6))
def test_converting_is_pure_valid_and_whole(kind: str, segments: list[str]) -> None:
    data = message_text(kind, "PID|1||7^^^A^MR||Wang", *segments, "MRG|6^^^A^MR").encode()
    message, again = parse(data), parse(data)
    assert isinstance(message, Message)
    assert isinstance(again, Message)
    one, two = convert(message, FEED), convert(again, FEED)
    assert isinstance(one, Conversion)
    assert isinstance(two, Conversion)
    assert json_text.encode(one.bundle) == json_text.encode(two.bundle)
    assert one.loss == two.loss
    for entry in one.bundle["entry"]:
        assert check(entry["resource"]) == []
