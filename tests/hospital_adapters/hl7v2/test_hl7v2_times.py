from zoneinfo import ZoneInfo

import pytest

from hospital_adapters.hl7v2 import times

ZONE = ZoneInfo("Asia/Shanghai")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("2024", "2024"),
        ("202406", "2024-06"),
        ("20240601", "2024-06-01"),
        ("2024060108", "2024-06-01T08:00:00+08:00"),
        ("202406010830", "2024-06-01T08:30:00+08:00"),
        ("20240601083015", "2024-06-01T08:30:15+08:00"),
        ("20240601083015.1234", "2024-06-01T08:30:15.1234+08:00"),
        ("20240601083015-0500", "2024-06-01T08:30:15-05:00"),
        ("20240601083015Z", "2024-06-01T08:30:15+00:00"),
        ("198607150000", "1986-07-15T00:00:00+09:00"),
        ("20240601083015-050", "2024-06-01"),
        ("20240601083015+9900", "2024-06-01"),
        ("2024-06-01T08:30:15+08:00", "2024-06-01T08:30:15+08:00"),
        ("20240600", "2024-06"),
        ("20240000", "2024"),
        ("20240230", None),
        ("00000000", None),
        ("2024060125", None),
        ("soon", None),
        ("", None),
    ],
)
def test_date_time(sent: str, expected: str | None) -> None:
    assert times.date_time(sent, ZONE) == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [("0830", "08:30:00"), ("083015", "08:30:15"), ("083015.5", "08:30:15.5"), ("2530", None), ("8", None)],
)
def test_time_of_day(sent: str, expected: str | None) -> None:
    assert times.time_of_day(sent) == expected


def test_ordering_compares_moments_of_different_zones() -> None:
    assert times.ordering_time("20240601083000+0800", ZONE) == times.ordering_time("20240601003000+0000", ZONE)
    assert times.ordering_time("20240601", ZONE) < times.ordering_time("20240601000001", ZONE)
    assert times.ordering_time("nothing", ZONE) == ""
