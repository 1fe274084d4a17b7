"""When a job of a jobs file fires, by a way of its own: every date and wall time named, each brought to UTC.

Nothing of the engine's search is used here. The rules are those of crontab(5) and cron(8) on Debian::

    day of month or weekday begins with *     both must take a day, else one is enough
    minute or hour begins with *              follows the wall clock: silent in a gap, twice in a fold
    neither of them does                      each time once: at the end of the gap, in the first pass of the fold
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOWEST: Final = (0, 0, 0, 1, 1, 0)
_HIGHEST: Final = (59, 59, 23, 31, 12, 7)
_ALIASES: Final = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}


def _values(field: str, number: int) -> list[int]:
    """What the text of one field takes, ascending."""
    found: set[int] = set()
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        low = _LOWEST[number] if span == "*" else int(first)
        high = _HIGHEST[number] if span == "*" or (step and not last) else int(last or first)
        found.update(range(low, high + 1, int(step or 1)))
    return sorted({value % 7 for value in found} if number == 5 else found)


def _utc(wall: datetime, zone: ZoneInfo, fold: int) -> datetime:
    return wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _end_of_gap(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant at which the clock leaps over ``wall``."""
    early, late = sorted((_utc(wall, zone, 0), _utc(wall, zone, 1)))
    low, high = int(early.timestamp()) - 1, int(late.timestamp()) + 1
    before = datetime.fromtimestamp(low, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)


def cron_times(expression: str, timezone: str, first: datetime, last: datetime) -> set[datetime]:
    """Every fire time of a cron text in ``first`` <= t <= ``last``, UTC."""
    fields = _ALIASES.get(expression, expression).split()
    fields = fields if len(fields) == 6 else ["0", *fields]
    seconds, minutes, hours, days, months, weekdays = (_values(text, place) for place, text in enumerate(fields))
    both_days = fields[3][0] == "*" or fields[5][0] == "*"
    follows = fields[1][0] == "*" or fields[2][0] == "*"
    zone, found = ZoneInfo(timezone), set[datetime]()
    day, until = first.date() - timedelta(days=2), last.date() + timedelta(days=2)
    while day <= until:
        by_date, by_weekday = day.day in days, day.isoweekday() % 7 in weekdays
        if day.month in months and (by_date and by_weekday if both_days else by_date or by_weekday):
            # Of a window of minutes only the hours around it are looked at; no gap is longer than a day.
            near = timedelta(hours=8 if follows else 26)
            midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - a wall time
            starts = ((one, _utc(midnight.replace(hour=one), zone, 0)) for one in hours)
            some = [one for one, at in starts if first - near <= at <= last + near]
            for hour, minute, second in product(some, minutes, seconds):
                wall = datetime(day.year, day.month, day.day, hour, minute, second)  # noqa: DTZ001 - a wall time
                at = _utc(wall, zone, 0)
                if at.astimezone(zone).replace(tzinfo=None) != wall:
                    if not follows:
                        found.add(_end_of_gap(wall, zone))
                    continue
                found.add(at)
                if follows:
                    found.add(_utc(wall, zone, 1))
        day += timedelta(days=1)
    return {at for at in found if first <= at <= last}


@lru_cache(maxsize=512)
def _cron_times(expression: str, timezone: str, first: datetime, last: datetime) -> frozenset[datetime]:
    return frozenset(cron_times(expression, timezone, first, last))


class Times:
    """The fire times of one job entry of a jobs file, over a stretch of time.

    Args:
        job_id: The job, whose id decides on its offset.
        entry: The entry, with times written with their offsets and durations in seconds.
        timezone: Zone of entries without one.
        calendars: The file's calendars.
        first: Begin of the stretch, UTC.
        last: Its end.

    Attributes:
        all: Every fire time, ascending.
        offset: From a fire time to its start.
    """

    def __init__(
        self,
        job_id: str,
        entry: Mapping[str, Any],
        timezone: str,
        calendars: Mapping[str, Any],
        *,
        first: datetime,
        last: datetime,
    ) -> None:
        """Name them all."""
        self._zone = zone = entry.get("timezone", timezone)
        start, end = entry.get("start_at"), entry.get("end_at")
        low = max(first, datetime.fromisoformat(start)) if start else first
        high = min(last, datetime.fromisoformat(end)) if end else last
        found: set[datetime] = set()
        cron = entry.get("cron_expression", [])
        for text in [cron] if isinstance(cron, str) else cron:
            found |= _cron_times(text, zone, low.astimezone(UTC), high.astimezone(UTC))
        for trigger in entry.get("triggers", []):
            if trigger["type"] == "date":
                found.add(datetime.fromisoformat(trigger["at"]).astimezone(UTC))
            else:
                every = timedelta(seconds=trigger["every"])
                anchor = datetime.fromisoformat(trigger["anchor"]).astimezone(UTC)
                at = anchor + -((anchor - low) // every) * every
                while at <= high:
                    found.add(at)
                    at += every
        self.all = sorted(at for at in found if low <= at <= high)
        self.offset = timedelta(seconds=_offset_s(job_id, entry.get("spread", 0)))
        calendar = calendars.get(entry.get("calendar", ""), {})
        self._out, self._in = (_dates(calendar.get(name, [])) for name in ("exclude", "include"))

    def is_excluded(self, fire_time: datetime) -> bool:
        """True if the job's calendar leaves this fire time out."""
        day = fire_time.astimezone(ZoneInfo(self._zone)).date()
        return day in self._out and day not in self._in


def _offset_s(job_id: str, spread_s: int) -> int:
    """The documented stable offset: SHA-256 of the id, in whole seconds up to and with the spread."""
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:8]) % (spread_s + 1)


def _dates(spans: list[str]) -> set[date]:
    found: set[date] = set()
    for span in spans:
        first, _, last = span.partition("/")
        day = date.fromisoformat(first)
        while day <= date.fromisoformat(last or first):
            found.add(day)
            day += timedelta(days=1)
    return found
