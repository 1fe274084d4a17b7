"""Draws what a seed decides: jobs of every kind, and what becomes of each attempt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import random

ZONES: Final = (
    "UTC",
    "Asia/Shanghai",
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/St_Johns",  # half past
    "America/Sao_Paulo",  # at midnight, until 2019
    "America/Havana",  # midnight twice
    "Australia/Lord_Howe",  # by half an hour
    "Antarctica/Troll",  # by two hours
    "Africa/Casablanca",  # around Ramadan
    "Africa/Cairo",
    "Asia/Tehran",
    "Pacific/Chatham",
    "Pacific/Apia",  # a day left out in 2011
    "America/Asuncion",
)
STARTS: Final = (
    (2011, 11),
    (2015, 9),
    (2017, 9),
    (2018, 1),
    (2019, 3),
    (2021, 2),
    (2023, 9),
    (2024, 2),
    (2025, 9),
    (2026, 2),
)
FUNCTIONS: Final = ("work", "other", "later")
"""Registered in every life; ``later`` is a coroutine."""
RARE: Final = "rare"
"""The function that some lives do not have."""
CALENDARS: Final = "days off"


def start_of(draw: random.Random) -> datetime:
    """When a run begins: half a second past, so that the driver never acts in the very instant of a fire time."""
    year, month = draw.choice(STARTS)
    day, hour, minute = draw.randint(1, 28), draw.randrange(24), draw.randrange(60)
    return datetime(year, month, day, hour, minute, 17, 500_000, tzinfo=UTC)


def draw_document(draw: random.Random, start: datetime, days: float) -> dict[str, Any]:
    """A jobs file of a few jobs."""
    first = start + timedelta(days=draw.uniform(0, days))
    off = f"{first.date()}/{(first + timedelta(days=draw.randint(1, 9))).date()}"
    return {
        "timezone": draw.choice(ZONES),
        "defaults": {"max_retries": draw.choice((0, 1, 3)), "timeout": draw.choice((120, 600, 3600))},
        "calendars": {CALENDARS: {"exclude": [off, (first + timedelta(days=20)).date().isoformat()]}},
        "cron_jobs": {f"job-{number}": draw_entry(draw, start, days) for number in range(draw.randint(3, 7))},
    }


def draw_entry(draw: random.Random, start: datetime, days: float) -> dict[str, Any]:
    """One job."""
    entry: dict[str, Any] = draw_times(draw, start, days)
    entry["function"] = draw.choice((*FUNCTIONS, *FUNCTIONS, *FUNCTIONS, RARE))
    if draw.random() < 0.5:
        entry["timezone"] = draw.choice(ZONES)
    if draw.random() < 0.2:
        entry["spread"] = draw.choice((30, 600))
    if draw.random() < 0.15:
        entry["calendar"] = CALENDARS
    if draw.random() < 0.06:
        entry["enabled"] = False
    for name, values in _POLICIES.items():
        if draw.random() < 0.45:
            entry[name] = draw.choice(values)
    if entry.get("overlap") == "allow":
        entry["max_instances"] = draw.randint(2, 4)
    return entry


_POLICIES: Final[dict[str, tuple[Any, ...]]] = {
    "overlap": ("skip", "queue", "replace", "allow"),
    "catchup": ("none", "latest", "all"),
    "catchup_window": (60, 3600, 43_200, 864_000),
    "catchup_limit": (1, 2, 5, 50),
    "on_crash": ("retry", "fail"),
    "priority": ("urgent", "high", "normal", "low"),
    "max_retries": (0, 1, 2, 4),
    "retry_delay": (2, 10, 120),
    "retry_backoff": (1, 2, 3),
    "retry_jitter": (0, 0.25, 1),
    "timeout": (30, 300, 5400),
}


def draw_times(draw: random.Random, start: datetime, days: float) -> dict[str, Any]:
    """When a job fires: ten kinds, those that fire often in a short window."""
    minute, hour = draw.randrange(60), draw.choice((0, 1, 2, 2, 3, draw.randrange(24)))
    begin = (start + timedelta(days=draw.uniform(0, days))).replace(microsecond=0)
    match draw.randrange(10):
        case 0:
            return {"cron_expression": f"{minute} {hour} * * *"}
        case 1:
            return {"cron_expression": f"{minute} {hour},{(hour + 5) % 24},23 * * 1-5"}
        case 2:
            return {"cron_expression": f"{minute} */{draw.choice((3, 4, 6, 12))} * * *"}
        case 3:
            return {"cron_expression": f"*/{draw.choice((20, 30))} 0-3 * * 0,6"}
        case 4:
            return {"cron_expression": [f"{minute} {hour} 1,15 * 5", f"@{draw.choice(('weekly', 'monthly', 'daily'))}"]}
        case 5:
            every = draw.choice((3600 * 5, 3600 * 11 + 13, 86_400, 3600 * 40))
            return {"triggers": [{"type": "interval", "every": every, "anchor": begin.isoformat()}]}
        case 6:
            dates = [(begin + timedelta(hours=draw.randrange(900))).isoformat() for _ in range(draw.randint(1, 5))]
            return {"triggers": [{"type": "date", "at": at} for at in sorted(set(dates))]}
        case 7:
            window = {"start_at": begin.isoformat(), "end_at": (begin + timedelta(minutes=5)).isoformat()}
            return {"cron_expression": f"*/{draw.choice((5, 10))} * * * * *", **window}
        case 8:
            window = {"start_at": begin.isoformat(), "end_at": (begin + timedelta(hours=3)).isoformat()}
            return {"cron_expression": "* * * * *", **window}
        case _:
            window = {"start_at": begin.isoformat(), "end_at": (begin + timedelta(days=9)).isoformat()}
            return {"cron_expression": "@hourly", **window}


@dataclass(frozen=True, slots=True)
class Fate:
    """What one attempt does.

    Attributes:
        takes_s: Seconds until it ends.
        fails: It raises.
        stubborn: It does not look whether it should end.
    """

    takes_s: float
    fails: bool
    stubborn: bool


def draw_fate(draw: random.Random, timeout_s: float | None) -> Fate:
    """Most attempts are quick and well; some fail, take hours, or hang."""
    kind = draw.random()
    takes_s = 0.0
    if kind < 0.12:
        takes_s = draw.uniform(0.1, 100)
    elif kind < 0.15:
        takes_s = draw.uniform(600, 9000)
    elif kind < 0.18:
        takes_s = (timeout_s or 60) + draw.uniform(1, 60)
    return Fate(takes_s, fails=draw.random() < 0.14, stubborn=draw.random() < 0.5)
