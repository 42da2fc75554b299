"""Instants as rows keep them: microseconds since 1970 UTC."""

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_us() -> int:
    """The time now."""
    return time.time_ns() // 1_000


def as_datetime(instant_us: int) -> datetime:
    """The instant as a UTC datetime."""
    return _EPOCH + timedelta(microseconds=instant_us)


@lru_cache(maxsize=256)
def as_fhir_instant(instant_us: int) -> str:
    """The instant as FHIR writes it in meta.lastUpdated, with all six digits: sorting and searching agree with it."""
    return as_datetime(instant_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
