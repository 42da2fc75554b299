"""A feed, the given messages, and conversion in one step."""

import os
from pathlib import Path
from typing import Any

import pytest

from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2.convert import Conversion, convert
from hospital_adapters.hl7v2.parse import Message, parse
from tests.hospital_adapters.hl7v2.hl7v2_messages import Convert, message_text

SHARED = Path(os.environ.get("KANGLIAN_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(scope="session")
def feed() -> Feed:
    return Feed("lab", "first-hospital", "hl7v2")


@pytest.fixture(scope="session")
def given() -> list[Path]:
    paths = sorted((SHARED / "hl7v2").rglob("*.hl7"))
    if not paths:
        pytest.skip("the given HL7 v2 messages are not here")
    return paths


@pytest.fixture
def converted(feed: Feed) -> Convert:
    def run(kind: str, *segments: str, feed: Feed = feed, **header: Any) -> Conversion:
        message = parse(message_text(kind, *segments, **header).encode())
        assert isinstance(message, Message), message
        conversion = convert(message, feed)
        assert isinstance(conversion, Conversion), conversion
        return conversion

    return run
