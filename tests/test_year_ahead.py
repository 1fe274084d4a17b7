"""How often a schedule fires in a year, and what the next clock change of its zone does to it, in both languages."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from atlas.scheduler.schedule import Interval, Schedule
from atlas.scheduler.year_ahead import next_clock_change, times_a_year

NOW = datetime(2026, 11, 25, 16, 0, tzinfo=UTC)
SUMMER = datetime(2026, 7, 1, tzinfo=UTC)

CHANGES = [
    (
        "30 2 * * *",
        "Europe/Berlin",
        NOW,
        "02:30 does not come that day, it fires right after, at 03:00",
        "当天没有 02:30",
    ),
    ("*/30 2 * * *", "Europe/Berlin", NOW, "02:00, 02:30 does not come that day and is left out", "不执行"),
    ("0 9 * * *", "Europe/Berlin", NOW, "nothing is due in between, nothing changes", "不受影响"),
    ("30 2 * * *", "Europe/Berlin", SUMMER, "02:30 comes twice, it fires the first time only", "只在第一次执行"),
    ("*/30 * * * *", "Europe/Berlin", SUMMER, "02:00, 02:30 comes twice and fires both times", "两次都执行"),
    ("45 1 * * *", "Australia/Lord_Howe", NOW, "01:45 comes twice, it fires the first time only", "只在第一次执行"),
]


@pytest.mark.parametrize(
    ("cron", "zone", "now", "english", "chinese"), CHANGES, ids=[f"{row[1]} {row[3]}" for row in CHANGES]
)
def test_what_the_next_clock_change_does_is_said_and_done(
    cron: str, zone: str, now: datetime, english: str, chinese: str
) -> None:
    found = next_clock_change(Schedule(cron=(cron,), timezone=zone), now)
    assert found is not None
    assert found.describe("en").endswith(english)
    assert chinese in found.describe("zh")


def test_the_sentence_names_day_zone_and_both_times() -> None:
    found = next_clock_change(Schedule(cron=("0 9 * * *",), timezone="Europe/Berlin"), NOW)
    assert found is not None
    assert found.describe().startswith("Sun 28 Mar 2027 02:00 the clock of Europe/Berlin goes forward to 03:00: ")
    assert found.describe("zh").startswith("2027-03-28 02:00 Europe/Berlin 的时钟拨快到 03:00：")
    assert found.at == datetime(2027, 3, 28, 1, tzinfo=UTC)


def test_a_zone_without_changes_has_none() -> None:
    assert next_clock_change(Schedule(cron=("0 9 * * *",), timezone="Asia/Shanghai"), NOW) is None


@pytest.mark.parametrize(
    ("cron", "times", "exact"),
    [
        ("0 9 * * mon-fri", 261, True),
        ("@hourly", 8760, True),
        ("* 9-17 * * mon-fri", 140_940, False),
        ("* * * * * *", 31_536_000, False),
    ],
    ids=["weekdays", "hourly", "minutes of working hours", "seconds"],
)
def test_times_a_year_are_counted_or_worked_out(cron: str, times: int, exact: bool) -> None:
    found, is_exact = times_a_year(Schedule(cron=(cron,)), NOW)
    assert is_exact is exact
    assert abs(found - times) <= times / 200


def test_intervals_count_too() -> None:
    assert times_a_year(Schedule(intervals=(Interval(60.0, NOW),)), NOW) == (525_600, False)
