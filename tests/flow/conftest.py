"""One running platform for all flow tests."""

from collections.abc import Iterator

import pytest

from tests.flow.running import Running, running_platform


@pytest.fixture(scope="session")
def platform() -> Iterator[Running]:
    with running_platform() as running:
        yield running
