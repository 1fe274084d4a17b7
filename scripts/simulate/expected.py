"""Which fire times must have been served, from what the driver did: who was in force when, by the wall clock."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from scripts.simulate.calendar import Times

if TYPE_CHECKING:
    from collections.abc import Mapping

BEFORE: Final = timedelta(days=2)
"""Fire times before the begin of a run may be served in it: spread moves their starts, and clocks are set back."""
NEVER: Final = datetime.min.replace(tzinfo=UTC)
TICK: Final = timedelta(microseconds=1)
_SAYS_WHEN: Final = ("cron_expression", "triggers", "timezone", "start_at", "end_at", "spread", "calendar")


@dataclass(slots=True, eq=False)
class Stretch:
    """A version of a job's schedule while it was in force; instants are starts, spread included, by the wall clock.

    Attributes:
        times: Its fire times.
        key: The text of what says when.
        first: From here on, inclusive.
        last: Up to here; None while it is in force.
        must_to: Up to here a pass has served everything; what comes after may have been lost with its job.
    """

    times: Times
    key: str
    first: datetime
    last: datetime | None = None
    must_to: datetime = NEVER


class Expected:
    """The fire times that are to be served.

    Args:
        first: No scheduler ran before.
        last: None that is asked for lies after.
    """

    def __init__(self, first: datetime, last: datetime) -> None:
        """Expect nothing yet."""
        self._first, self._last = first - BEFORE, last
        self._times: dict[str, Times] = {}
        self.open: dict[str, Stretch] = {}
        self.all: dict[str, list[Stretch]] = {}
        self.highest = NEVER  # the wall clock never showed more to a scheduler that ran

    def in_force(self, entries: Mapping[str, tuple[Mapping[str, Any], str, Mapping[str, Any]]], now: datetime) -> None:
        """From ``now`` on these jobs are in force: id → (entry, zone of the file, calendars)."""
        wanted: dict[str, tuple[str, Times]] = {}
        for job_id, (entry, zone, calendars) in entries.items():
            if entry.get("enabled", True):
                key = json.dumps([job_id, zone, calendars, {name: entry.get(name) for name in _SAYS_WHEN}])
                times = self._times.get(key)
                if times is None:
                    times = self._times[key] = Times(job_id, entry, zone, calendars, first=self._first, last=self._last)
                wanted[job_id] = key, times
        for job_id, stretch in list(self.open.items()):
            if job_id not in wanted or wanted[job_id][0] != stretch.key:
                stretch.last = max(now, self.highest)
                # What is due by an old schedule is served before the new one counts; a job that goes takes it along.
                stretch.must_to = now if job_id in wanted else min(stretch.must_to, now)
                del self.open[job_id]
        for job_id, (key, times) in wanted.items():
            if job_id not in self.open:
                self.open[job_id] = stretch = Stretch(times, key, now)
                self.all.setdefault(job_id, []).append(stretch)

    def served_to(self, now: datetime) -> None:
        """A pass has dealt with everything due at ``now``."""
        self.highest = max(self.highest, now)
        for stretch in self.open.values():
            stretch.must_to = max(stretch.must_to, now)

    def died(self, now: datetime) -> None:
        """A scheduler that died at ``now`` may have served everything due by then, and nobody was told."""
        self.highest = max(self.highest, now)

    def came_back(self, now: datetime, *, certainly: bool) -> None:
        """The wall clock shows an earlier ``now`` again: jobs that are newer than it fire before they were made.

        Skips stored for what is to come again are gone; who is in force when it does serves it.
        """
        for stretches in self.all.values():
            for one in stretches:
                one.must_to = min(one.must_to, now)
        for job_id, stretch in self.open.items():
            if now < stretch.first:
                again = Stretch(stretch.times, stretch.key, now + TICK, stretch.first - TICK)
                again.must_to = stretch.first if certainly else NEVER
                self.all[job_id].append(again)

    def lags(self, now: datetime) -> bool:
        """True while the wall clock is behind what it has shown before."""
        return now < self.highest

    def next_start(self, job_id: str, now: datetime) -> datetime | None:
        """When the job in force starts next, None if that is not known here."""
        times = self.open[job_id].times
        place = bisect_right(times.all, now - times.offset)
        return times.all[place] + times.offset if place < len(times.all) else None

    def of(self, job_id: str) -> dict[datetime, bool]:
        """Every fire time the job may have served, ascending, and whether it must have."""
        found: dict[datetime, bool] = {}
        for stretch in self.all.get(job_id, []):
            offset = stretch.times.offset
            for at in stretch.times.all:
                start = at + offset
                if start >= stretch.first and (stretch.last is None or start <= stretch.last):
                    found[at] = found.get(at, False) or start <= stretch.must_to
        return dict(sorted(found.items()))

    def excluded(self, job_id: str, fire_time: datetime) -> bool:
        """True if some version of the job's calendar leaves this fire time out."""
        return any(stretch.times.is_excluded(fire_time) for stretch in self.all.get(job_id, []))
