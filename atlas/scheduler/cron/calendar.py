"""The wall times a cron text names, on a calendar and a clock that never change."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from atlas.scheduler.cron.fields import CronFields

_NONE: Final = 255


@lru_cache(maxsize=1024)
def _tables(values: tuple[int, ...], size: int) -> tuple[bytes, bytes]:
    """Two tables for indexes n from 0 to ``size``: smallest value of at least n, largest value below n; or `_NONE`."""
    return (
        bytes(next((value for value in values if value >= index), _NONE) for index in range(size + 1)),
        bytes(next((value for value in reversed(values) if value < index), _NONE) for index in range(size + 1)),
    )


@lru_cache(maxsize=4096)
def _month(year: int, month: int) -> tuple[int, int]:
    """Weekday of its first day (0 Sunday), and a mask with bit n set for each day n it has."""
    first = datetime(year, month, 1)  # noqa: DTZ001 - a calendar page has no zone
    length = 31 if month == 12 else (datetime(year, month + 1, 1) - first).days  # noqa: DTZ001
    return first.isoweekday() % 7, (2 << length) - 2


class CronCalendar:
    """Search for wall times by tables instead of steps: a next time costs a handful of look-ups.

    Its results carry the zone and fold 0, whether or not the zone's clock ever shows them.
    """

    __slots__ = ("_days", "_hours", "_minutes", "_months", "_seconds", "_zone")

    def __init__(self, fields: CronFields, zone: ZoneInfo) -> None:
        self._zone = zone
        # By the weekday on which a month begins: a bit for each day that counts.
        self._days = fields.days_by_first_weekday()
        self._months = _tables(fields.months, 13)
        self._hours = _tables(fields.hours, 24)
        self._minutes = _tables(fields.minutes, 60)
        self._seconds = _tables(fields.seconds, 60)

    def from_wall(self, wall: datetime, last_year: int, *, strictly: bool = False) -> datetime | None:
        """First matching wall time at or after ``wall``, a whole second; with ``strictly`` after it."""
        year, month, day, hour, minute = wall.year, wall.month, wall.day, wall.hour, wall.minute
        second = wall.second + strictly
        months, hours, minutes, seconds = self._months[0], self._hours[0], self._minutes[0], self._seconds[0]
        if year > last_year:
            return None
        days = 0
        if months[month] == month:
            weekday, length = _month(year, month)
            days = self._days[weekday] & length
        if days >> day & 1:
            found_hour = hours[hour]
            if found_hour == hour:
                found = minutes[minute]
                if found == minute:
                    if seconds[second] != _NONE:
                        return datetime(year, month, day, hour, minute, seconds[second], tzinfo=self._zone)
                    found = minutes[minute + 1]
                if found != _NONE:
                    return datetime(year, month, day, hour, found, seconds[0], tzinfo=self._zone)
                found_hour = hours[hour + 1]
            if found_hour != _NONE:
                return datetime(year, month, day, found_hour, minutes[0], seconds[0], tzinfo=self._zone)
        later = days >> (day + 1) << (day + 1)
        while not later:
            month = months[month + 1]
            if month == _NONE:
                year, month = year + 1, months[0]
                if year > last_year:
                    return None
            weekday, length = _month(year, month)
            later = self._days[weekday] & length
        day = (later & -later).bit_length() - 1
        return datetime(year, month, day, hours[0], minutes[0], seconds[0], tzinfo=self._zone)

    def before_wall(self, wall: datetime, first_year: int) -> datetime | None:
        """Last matching wall time before ``wall``."""
        year, month, day, hour, minute = wall.year, wall.month, wall.day, wall.hour, wall.minute
        months, hours, minutes, seconds = self._months[1], self._hours[1], self._minutes[1], self._seconds[1]
        if year < first_year:
            return None
        days = 0
        if months[month + 1] == month:
            weekday, length = _month(year, month)
            days = self._days[weekday] & length
        if days >> day & 1:
            found_hour = hours[hour + 1]
            if found_hour == hour:
                found = minutes[minute + 1]
                if found == minute:
                    found_second = seconds[wall.second + (wall.microsecond > 0)]
                    if found_second != _NONE:
                        return datetime(year, month, day, hour, minute, found_second, tzinfo=self._zone)
                    found = minutes[minute]
                if found != _NONE:
                    return datetime(year, month, day, hour, found, seconds[60], tzinfo=self._zone)
                found_hour = hours[hour]
            if found_hour != _NONE:
                return datetime(year, month, day, found_hour, minutes[60], seconds[60], tzinfo=self._zone)
        earlier = days & ((1 << day) - 1)
        while not earlier:
            month = months[month]
            if month == _NONE:
                year, month = year - 1, months[13]
                if year < first_year:
                    return None
            weekday, length = _month(year, month)
            earlier = self._days[weekday] & length
        day = earlier.bit_length() - 1
        return datetime(year, month, day, hours[24], minutes[60], seconds[60], tzinfo=self._zone)
