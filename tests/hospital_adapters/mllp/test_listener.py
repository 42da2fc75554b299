"""The listener over real sockets: order of answers, silence, bounds, and no answer where nothing was taken."""

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from ehr.errors import Unavailable
from hospital_adapters.mllp.frames import Frame
from hospital_adapters.mllp.listener import Limits, Listener

Door = Callable[[Frame], Awaitable[bytes]]


@asynccontextmanager
async def listening(door: Door, limits: Limits | None = None) -> AsyncIterator[int]:
    listener = Listener(door, limits)
    port = await listener.start("127.0.0.1", 0)
    try:
        yield port
    finally:
        await listener.stop()


async def echo(frame: Frame) -> bytes:
    await asyncio.sleep(0.02 if frame.content.startswith(b"slow") else 0)
    return b"\x0b" + frame.content + (frame.fault or "").encode() + b"\x1c\r"


async def test_answers_keep_the_order_of_their_frames() -> None:
    async with listening(echo) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x0bslow1\x1c\r\x0bfast2\x1c\r\x0bslow3\x1c\r")
        assert await reader.readexactly(24) == b"\x0bslow1\x1c\r\x0bfast2\x1c\r\x0bslow3\x1c\r"
        writer.close()


async def test_more_frames_than_may_be_unanswered_are_all_answered() -> None:
    async with listening(echo, Limits(unanswered=3)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        stream = b"".join(b"\x0bslow%03d\x1c\r" % n for n in range(200))
        writer.write(stream)
        assert await reader.readexactly(len(stream)) == stream
        writer.close()


async def test_an_unfinished_message_is_given_up_answered_and_the_connection_closed() -> None:
    async with listening(echo, Limits(silence_s=0.1)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x0bhalf")
        assert await reader.read() == b"\x0bhalfno-end-block\x1c\r"
        writer.close()


async def test_a_byte_at_a_time_is_one_message() -> None:
    async with listening(echo, Limits(silence_s=0.5)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for byte in b"\x0bMSH|x\x1c\r":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
        assert await reader.readexactly(8) == b"\x0bMSH|x\x1c\r"
        writer.close()


async def test_a_slow_sender_is_waited_for_and_the_others_are_answered_meanwhile() -> None:
    message = b"\x0bMSH|" + b"x" * 40 + b"\x1c\r"
    async with listening(echo, Limits(silence_s=0.2)) as port:
        slow_reader, slow_writer = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        loop = asyncio.get_running_loop()
        waits = []
        for byte in message:  # the whole takes much longer than the bound of silence between two bytes
            slow_writer.write(bytes([byte]))
            began = loop.time()
            writer.write(b"\x0bA\x1c\r")
            assert await reader.readexactly(4) == b"\x0bA\x1c\r"
            waits.append(loop.time() - began)
            await asyncio.sleep(0.02)
        assert await slow_reader.readexactly(len(message)) == message
        assert statistics.median(waits) < 0.1
        slow_writer.close()
        writer.close()


async def test_a_sender_that_never_ends_is_given_up_however_steadily_it_sends() -> None:
    async with listening(echo, Limits(silence_s=5, message_s=0.3)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answered = asyncio.ensure_future(reader.read())
        writer.write(b"\x0bMSH|")
        for _ in range(400):
            if answered.done():
                break
            writer.write(b"x")
            await asyncio.sleep(0.01)
        assert (await answered).endswith(b"no-end-block\x1c\r")
        writer.close()


async def test_a_start_inside_a_message_costs_only_the_message_that_it_cuts() -> None:
    async with listening(echo) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x0bfirst|cut\x0bsecond\x1c\r\x0b\x0bthird\x1c\r")
        expected = b"\x0bfirst|cutno-end-block\x1c\r\x0bsecond\x1c\r"
        assert await reader.readexactly(len(expected)) == expected
        assert (await reader.readuntil(b"third\x1c\r")).count(b"\x1c") <= 2
        writer.close()


async def test_without_a_commit_there_is_no_answer_and_the_connection_closes() -> None:
    async def unavailable(frame: Frame) -> bytes:
        raise Unavailable(f"no room for {len(frame.content)} bytes")

    async with listening(unavailable) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x0bA\x1c\r\x0bB\x1c\r")
        assert await reader.read() == b""
        writer.close()


async def test_connections_over_the_bound_are_closed_and_the_others_go_on() -> None:
    async with listening(echo, Limits(connections=2)) as port:
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()
        for reader, writer in pairs:
            writer.write(b"\x0bA\x1c\r")
            assert await reader.readexactly(4) == b"\x0bA\x1c\r"
            writer.close()


async def test_a_hundred_megabytes_are_refused_in_little_memory() -> None:
    async with listening(echo, Limits(message_bytes=1_000_000)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x0bMSH|")
        for _ in range(100):
            writer.write(b"x" * 1_000_000)
            await writer.drain()
        writer.write(b"\x1c\r\x0bnext\x1c\r")
        answer = await reader.readuntil(b"too-large\x1c\r")
        assert len(answer) < 5000
        assert await reader.readexactly(7) == b"\x0bnext\x1c\r"
        writer.close()
