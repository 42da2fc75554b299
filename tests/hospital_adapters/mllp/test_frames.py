"""Framing: any split, several in a packet, no end block, start inside a message, bounds."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hospital_adapters.mllp.frames import Frame, FrameDecoder

CONTENT = st.binary(min_size=1, max_size=60).map(lambda b: b.replace(b"\x0b", b"a").replace(b"\x1c", b"b"))


def decode(*packets: bytes, limit_bytes: int = 1000) -> list[Frame]:
    decoder = FrameDecoder(limit_bytes)
    return [frame for packet in packets for frame in decoder.feed(packet)]


@given(
    st.lists(CONTENT, max_size=5),
    st.lists(st.integers(0, 400), max_size=12),
    st.sampled_from([b"\r", b"\n", b"\r\n", b""]),
)
def test_any_split_gives_the_same_messages(messages: list[bytes], cuts: list[int], tail: bytes) -> None:
    stream = b"".join(b"\x0b" + m + b"\x1c" + tail for m in messages)
    edges = sorted({0, len(stream), *(c for c in cuts if c < len(stream))})
    packets = [stream[a:b] for a, b in pairwise(edges)]
    assert decode(*packets) == [Frame(m) for m in messages]


def test_noise_between_messages_is_dropped() -> None:
    assert decode(b"noise\r\n\x0bA\x1c\rmore\x0bB\x1c\r") == [Frame(b"A"), Frame(b"B")]


def test_start_inside_a_message_ends_the_former_as_incomplete() -> None:
    assert decode(b"\x0bA", b"BC\x0bD\x1c\r") == [Frame(b"ABC", "no-end-block"), Frame(b"D")]


def test_giving_up_hands_out_what_is_held_once() -> None:
    decoder = FrameDecoder(100)
    assert list(decoder.feed(b"\x0bMSH|")) == []
    assert decoder.inside
    assert decoder.give_up() == Frame(b"MSH|", "no-end-block")
    assert decoder.give_up() is None


def test_a_message_over_the_bound_keeps_only_its_head() -> None:
    decoder = FrameDecoder(10_000)
    head = b"MSH|" + b"x" * 5000
    frames = list(decoder.feed(b"\x0b" + head))
    for _ in range(1000):
        frames += decoder.feed(b"y" * 1000)
        assert sum(map(len, decoder._parts)) <= 10_000
    frames += decoder.feed(b"\x1c\r\x0bnext\x1c\r")
    assert [f.fault for f in frames] == ["too-large", None]
    assert frames[0].content == head[:4096]
    assert frames[1].content == b"next"


def test_a_caller_who_takes_one_frame_and_leaves_finds_the_decoder_outside() -> None:
    decoder = FrameDecoder(1000)
    assert next(decoder.feed(b"\x0bfirst\x1c\r")).content == b"first"
    assert not decoder.inside
    assert next(decoder.feed(b"\x0bsecond\x1c\r")).content == b"second"
