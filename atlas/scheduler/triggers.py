"""`AtlasTrigger`: a `Schedule` as APScheduler asks for it; the only place that makes triggers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NoReturn

from apscheduler.triggers.base import BaseTrigger

from atlas.scheduler.schedule import stable_offset

if TYPE_CHECKING:
    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.schedule import Schedule

_MICROSECOND: Final = timedelta(microseconds=1)


class AtlasTrigger(BaseTrigger):
    """Says when a job is to start: each fire time of its schedule, plus the job's own stable offset.

    APScheduler sees only starting times (``next_run_time``); `fire_time_of` leads back to the nominal fire time. It is
    asked with the last starting time and answers with the first one after *now*, so that a pass never walks through
    what was missed while nobody ran (`newest_fire_times` does, with a limit).

    Args:
        offset_s: What `stable_offset` gives for the job, seconds.

    Raises:
        CronExpressionError: The schedule cannot be used.
        ScheduleError: The schedule cannot be used.
    """

    __slots__ = ("_offset", "schedule")

    def __init__(self, schedule: Schedule, offset_s: float = 0.0) -> None:
        self.schedule = schedule.validated()
        self._offset = timedelta(seconds=offset_s)

    @property
    def offset_s(self) -> float:
        """Seconds from a fire time to the start."""
        return self._offset.total_seconds()

    def run_time_of(self, fire_time: datetime) -> datetime:
        """When the job starts that is nominally due at ``fire_time``; aware UTC."""
        return fire_time.astimezone(UTC) + self._offset

    def fire_time_of(self, run_time: datetime) -> datetime:
        """The nominal fire time behind a starting time; aware UTC."""
        return run_time.astimezone(UTC) - self._offset

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The next starting time, aware UTC, never before ``now``; None when the job has ENDED.

        It lies after ``previous_fire_time`` and after ``now``; for a new job, where that is None, ``now`` itself
        counts.
        """
        present = self.fire_time_of(now)
        if previous_fire_time is None:
            after = present - _MICROSECOND
        else:
            after = max(self.fire_time_of(previous_fire_time), present)
        found = self.schedule.next_after(after)
        return None if found is None else self.run_time_of(found)

    def count_from(self, now: datetime) -> datetime:
        """An instant that stands for the first start from ``now`` on while the schedule cannot say it.

        `get_next_fire_time` with it and no start before it gives that start; `is_start` tells it from one. So a row
        needs no more columns.
        """
        present = self.fire_time_of(now)
        return self.run_time_of(present if present.microsecond else present - _MICROSECOND)

    def is_start(self, run_time: datetime) -> bool:
        """False if ``run_time`` may be one of `count_from`, as only fire times of odd anchors and dates may be too."""
        return self.fire_time_of(run_time).microsecond == 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AtlasTrigger):
            return NotImplemented
        return self.schedule == other.schedule and self._offset == other._offset

    def __hash__(self) -> int:
        return hash((self.schedule, self._offset))

    def __str__(self) -> str:
        return self.schedule.describe()

    def __repr__(self) -> str:
        return f"AtlasTrigger({self.schedule!r}, offset_s={self.offset_s:g})"

    def __getstate__(self) -> NoReturn:
        """Refuse: a pickle would make the path of this class part of every stored row."""
        raise TypeError("a trigger is never pickled; store its schedule with Schedule.to_json()")


@lru_cache(maxsize=32_768)
def trigger_for(schedule: Schedule, offset_s: float = 0.0) -> AtlasTrigger:
    """The one shared trigger of this schedule and offset; raises what `AtlasTrigger` raises."""
    return AtlasTrigger(schedule, offset_s)


def trigger_of(definition: JobDefinition) -> AtlasTrigger:
    """The trigger of this job, its own stable offset included; raises what `AtlasTrigger` raises."""
    schedule = definition.schedule
    return trigger_for(schedule, stable_offset(definition.id, schedule.spread_s))
