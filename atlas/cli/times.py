"""Instants as a command shows and reads them: in the zone of the settings, with the zone said once."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from atlas.scheduler.durations import format_duration, parse_duration
from atlas.scheduler.errors import ArgumentsError
from atlas.scheduler.message import with_instants

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from atlas.scheduler.job_view import Job

_HINT: Final = (
    'write "2h" (that long from now), "18:30", "2026-11-24", "2026-11-24T09:00", today, yesterday or tomorrow'
)
_DAYS: Final = {"yesterday": -1, "today": 0, "tomorrow": 1}


@dataclass(frozen=True, slots=True)
class LocalTimes:
    """Instants in one zone, seen from one moment."""

    zone: ZoneInfo
    now: datetime

    def at(self, instant: datetime | None) -> str:
        """``16:30:00`` of today, ``11-22 16:30`` of this year, else ``2025-11-22 16:30``; empty for None."""
        if instant is None:
            return ""
        local, today = instant.astimezone(self.zone), self.now.astimezone(self.zone)
        if local.date() == today.date():
            return local.strftime("%H:%M:%S")
        return local.strftime("%m-%d %H:%M" if local.year == today.year else "%Y-%m-%d %H:%M")

    def exactly(self, instant: datetime | None) -> str | None:
        """``2026-11-23 16:30:00``; None for None."""
        return None if instant is None else instant.astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S")

    def day(self, instant: datetime) -> str:
        """``Tue 24 Nov 02:00``, with the year when it is another one and seconds when there are some."""
        local = instant.astimezone(self.zone)
        year = "" if local.year == self.now.astimezone(self.zone).year else " %Y"
        return local.strftime(f"%a %d %b{year} %H:%M" + (":%S" if local.second else ""))

    def within(self, text: str) -> str:
        """``text`` with the instants in it as `at` shows them."""
        return with_instants(text, self.at)

    def ahead(self, instant: datetime) -> str:
        """How long until then: ``4m 33s``; ``now`` once it has come."""
        left_s = (instant - self.now).total_seconds()
        return format_duration(round(left_s)) if left_s >= 0.5 else "now"

    def age(self, instant: datetime) -> str:
        """How long ago that was: ``4m 33s``."""
        return format_duration(max(0.0, round((self.now - instant).total_seconds())))

    def schedule(self, job: Job) -> str:
        """A job's schedule, with its zone where that is not the reader's: ``30 2 * * * (Europe/Berlin)``."""
        return job.schedule if job.timezone == self.zone.key else f"{job.schedule} ({job.timezone})"

    @property
    def words(self) -> str:
        """``times in Asia/Shanghai (UTC+08:00)``."""
        offset = self.now.astimezone(self.zone).strftime("%z")
        return f"times in {self.zone.key} (UTC{offset[:3]}:{offset[3:5]})"

    def read(self, text: str, *, ahead: bool) -> datetime:
        """The instant meant by ``text``, aware UTC.

        Args:
            text: A duration from now, a time of day, a date, both, or ``today`` and its neighbours; without an offset
                in this zone.
            ahead: Whether a duration leads forward, and a time of day that has passed means tomorrow's.

        Raises:
            ArgumentsError: It is none of these.
        """
        words, here = text.strip().lower(), self.now.astimezone(self.zone)
        if words in _DAYS:
            day = here.date() + timedelta(days=_DAYS[words])
            return datetime(day.year, day.month, day.day, tzinfo=self.zone).astimezone(UTC)
        try:
            length = timedelta(seconds=parse_duration(words))
        except ArgumentsError:
            return self._clock(words, text, ahead=ahead)
        return self.now + length if ahead else self.now - length

    def _clock(self, words: str, text: str, *, ahead: bool) -> datetime:
        here = self.now.astimezone(self.zone)
        with suppress(ValueError, OverflowError):
            if "-" not in words and ":" in words:
                time = datetime.strptime(words, "%H:%M" if words.count(":") == 1 else "%H:%M:%S")  # noqa: DTZ007
                moment = here.replace(hour=time.hour, minute=time.minute, second=time.second, microsecond=0, fold=0)
                if ahead and moment <= here:
                    moment += timedelta(days=1)
            else:
                moment = datetime.fromisoformat(words.upper())
                moment = moment if moment.tzinfo else moment.replace(tzinfo=self.zone)
            if 1970 < moment.year < 9000:  # what is behind cannot be shown in every zone
                return moment.astimezone(UTC)
        raise ArgumentsError(f"{text!r} is no instant; {_HINT}")
