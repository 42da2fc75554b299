"""`kanglian adapter`: send and convert messages, take files in, look at what was rejected or left out, replay."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ehr.errors import Invalid, NotFound, Unavailable
from kanglian.commands.database import opened_inbox
from kanglian.settings import Settings

if TYPE_CHECKING:
    from ehr.store.inbox import Inbox
    from hospital_adapters.feeds import Feed

NAME = "adapter"
HELP = "hospital feeds: send, run, check, convert, replay, loss"
_BATCH = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    send = actions.add_parser("send", help="send the HL7 v2 messages of a file over MLLP and print the answers")
    send.add_argument("file", type=Path)
    send.add_argument("--host", default="127.0.0.1")
    send.add_argument("--port", type=int, help="default: KANGLIAN_MLLP_PORT")
    taking = actions.add_parser("run", help="take files of a feed in, and wait until they are converted")
    taking.add_argument("feed")
    taking.add_argument("files", nargs="+", type=Path, metavar="FILE")
    taking.add_argument("--no-wait", action="store_true", help="return once the files are durable")
    for name, words in (
        ("check", "list what waits, and what is in quarantine with its cause"),
        ("loss", "list values of messages that have no place in the record"),
        ("replay", "convert what is in quarantine again, after a change of the feed"),
    ):
        action = actions.add_parser(name, help=words)
        action.add_argument("feed", nargs="?", help="one feed (default: all)")
        action.add_argument(
            "--most", type=int, default=100 if name != "replay" else 100_000, help="default: %(default)s"
        )
        if name == "replay":
            action.add_argument(
                "--converted",
                action="store_true",
                help="messages whose records are written too: what a changed map says of them updates the same records",
            )
    convert = actions.add_parser("convert", help="print the Bundle that a message becomes; writes nothing")
    convert.add_argument("file", type=Path)
    convert.add_argument("--feed", help="whose feed (default: the only hl7v2 feed, else a neutral one)")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do one action; 1 where a message was refused or quarantined."""
    if arguments.action == "send":
        return _send(arguments.file, arguments.host, arguments.port or settings.mllp_port)
    if arguments.action == "convert":
        return _convert(arguments.file, arguments.feed, settings)
    actions: dict[str, Callable[[argparse.Namespace, Settings], Awaitable[int]]] = {
        "run": _run,
        "check": _check,
        "loss": _loss,
        "replay": _replay,
    }
    return asyncio.run(_awaited(actions[arguments.action](arguments, settings)))


async def _awaited(work: Awaitable[int]) -> int:
    return await work


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error


def _send(path: Path, host: str, port: int) -> int:

    from hospital_adapters.hl7v2.parse import messages_in
    from hospital_adapters.mllp.client import answers_of

    refused = 0
    try:
        for answer in answers_of(host, port, messages_in(_contents(path))):
            print(answer.decode("utf-8", "replace").replace("\r", "\n").strip())
            refused += not any(f"MSA|{code}" in answer.decode("utf-8", "replace") for code in ("AA", "CA"))
    except (TimeoutError, OSError) as error:
        raise Unavailable(
            f"no answer from {host}:{port} ({error}): is the platform running (make run)? The message was not taken."
        ) from error
    return 1 if refused else 0


def _feeds(settings: Settings) -> "dict[str, Feed]":
    from hospital_adapters.feeds import read_feeds

    return read_feeds(settings.feeds_folder)


def _feed(name: str, settings: Settings) -> "Feed":
    feeds = _feeds(settings)
    if name not in feeds:
        raise NotFound(
            f"there is no feed '{name}' in {settings.feeds_folder}; there are: {', '.join(sorted(feeds)) or '-'}"
        )
    return feeds[name]


def _convert(path: Path, name: str | None, settings: Settings) -> int:
    from hospital_adapters.feeds import Feed
    from hospital_adapters.worker import bundle_of

    candidates = [feed for feed in _feeds(settings).values() if feed.kind == "hl7v2"]
    if name is not None:
        feed = _feed(name, settings)
    else:
        feed = candidates[0] if len(candidates) == 1 else Feed("feed", "hospital", "hl7v2")
    bundle = bundle_of(feed, _contents(path))
    sys.stdout.buffer.write(bundle + b"\n")
    return 0


def _batches(items: Iterable[object]) -> Iterator[list[object]]:
    batch: list[object] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    from hospital_adapters.intake import messages_of_file

    feed = _feed(arguments.feed, settings)
    async with opened_inbox(settings) as inbox:
        before = (await inbox.counts(feed=feed.name)).get((feed.name, "quarantined"), 0)
        for path in arguments.files:
            taken = duplicates = 0
            for batch in _batches(messages_of_file(feed, path)):
                accepted = await inbox.accept(batch)  # type: ignore[arg-type]  # batches of what went in
                taken += len(accepted)
                duplicates += sum(each.duplicate for each in accepted)
                print(f"\r{path}: {taken} taken, {duplicates} of them known", end="", file=sys.stderr, flush=True)
            print(file=sys.stderr)
        if arguments.no_wait:
            return 0
        await _until_converted(inbox, feed.name)
        after = await inbox.counts(feed=feed.name)
        quarantined = after.get((feed.name, "quarantined"), 0)
        print(f"\n{after.get((feed.name, 'done'), 0)} done, {quarantined} in quarantine", file=sys.stderr)
        if quarantined > before:
            print(f"`kanglian adapter check {feed.name}` lists the causes", file=sys.stderr)
        return 1 if quarantined > before else 0


async def _until_converted(inbox: "Inbox", feed: str | None) -> None:
    while True:
        counts = await inbox.counts(feed=feed)
        waiting = sum(number for (_, state), number in counts.items() if state == "waiting")
        if not waiting:
            return
        print(f"\r{waiting} wait to be converted   ", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(0.3)


async def _require_feed(inbox: "Inbox", name: str | None, settings: Settings) -> None:
    """Refuse a name that neither the feeds folder nor the inbox knows."""
    if name is not None and not await inbox.counts(feed=name):
        _feed(name, settings)


async def _check(arguments: argparse.Namespace, settings: Settings) -> int:
    async with opened_inbox(settings) as inbox:
        await _require_feed(inbox, arguments.feed, settings)
        for (feed, state), number in sorted((await inbox.counts(feed=arguments.feed)).items()):
            print(f"{feed}: {number} {state}")
        rows = await inbox.quarantined(arguments.most, feed=arguments.feed)
        for row in rows:
            print(f"{row.inbox}\t{row.trace}\t{row.message_type}\t{row.place or '-'}\t{row.cause}")
        return 1 if rows else 0


async def _loss(arguments: argparse.Namespace, settings: Settings) -> int:
    async with opened_inbox(settings) as inbox:
        await _require_feed(inbox, arguments.feed, settings)
        losses = await inbox.losses(arguments.most, feed=arguments.feed)
    lines = [f"{trace}\t{msgspec.json.encode(value).decode()}" for trace, loss in losses for value in loss]
    for line in lines:
        print(line)
    if not lines:
        print("no message had a value without a place", file=sys.stderr)
    return 0


async def _replay(arguments: argparse.Namespace, settings: Settings) -> int:
    async with opened_inbox(settings) as inbox:
        await _require_feed(inbox, arguments.feed, settings)
        numbers = [row.inbox for row in await inbox.quarantined(arguments.most, feed=arguments.feed)]
        if arguments.converted:
            numbers = sorted(numbers + await inbox.converted(arguments.most, feed=arguments.feed))[: arguments.most]
        if not numbers:
            print("there is no such message" if arguments.converted else "nothing is in quarantine")
            return 0
        number = await inbox.release_for_replay(numbers)
        print(f"{number} messages wait to be converted again")
        await _until_converted(inbox, arguments.feed)
        left = await inbox.quarantined(arguments.most, feed=arguments.feed)
        print(f"{number - len(left)} done, {len(left)} in quarantine")
        return 1 if left else 0
