"""Non-interference (attacks, the rule above the table): what is hidden cannot be noticed by any request.

Seed and number: KANGLIAN_TEST_SEED, KANGLIAN_TEST_REQUESTS; KANGLIAN_TEST_ALL=1 compares twenty times as many.
"""

from pathlib import Path

import pytest

from tests.security.non_interference.trial import PRESETS, Trial, platforms, wanted

REQUESTS = 1_000

pytestmark = [pytest.mark.database, pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("preset", sorted(set(PRESETS)))
async def test_what_is_hidden_is_as_absent(postgres_url: str, tmp_path: Path, preset: str) -> None:
    first, number, only = wanted(REQUESTS)
    if only not in {None, preset}:
        pytest.skip(f"KANGLIAN_TEST_PRESET={only}")
    share = number * PRESETS.count(preset) // len(PRESETS)
    async with platforms(postgres_url, tmp_path, preset) as pair:
        trial, seed = Trial(pair, preset), first
        while trial.asked < share:
            await trial.region(seed, min(250, share - trial.asked))
            seed += 1
    assert trial.asked == share
