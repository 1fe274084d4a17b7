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
BY_ITSELF_S: Final = 660.0
"""A job that is well again is served so many seconds later at the latest, whoever asks for it."""
SAYS_WHEN: Final = ("cron_expression", "triggers", "timezone", "start_at", "end_at", "spread", "calendar")


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


@dataclass(slots=True, eq=False)
class Illness:
    """What keeps one job from being served, and no other.

    Attributes:
        kind: The table that takes no row of it, or its ``times``.
        key: It holds for this schedule alone; None for whichever the job has.
        ends_s: Seconds since the begin from which on everything must be as ever; None while it lasts.
    """

    kind: str
    key: str | None
    ends_s: float | None = None


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
        self.ill: dict[str, Illness] = {}
        self.highest = NEVER  # the wall clock never showed more to a scheduler that ran

    def in_force(self, entries: Mapping[str, tuple[Mapping[str, Any], str, Mapping[str, Any]]], now: datetime) -> None:
        """From ``now`` on these jobs are in force: id → (entry, zone of the file, calendars)."""
        wanted: dict[str, tuple[str, Times]] = {}
        for job_id, (entry, zone, calendars) in entries.items():
            if entry.get("enabled", True):
                key = json.dumps([job_id, zone, calendars, {name: entry.get(name) for name in SAYS_WHEN}])
                times = self._times.get(key)
                if times is None:
                    times = self._times[key] = Times(job_id, entry, zone, calendars, first=self._first, last=self._last)
                wanted[job_id] = key, times
        for job_id, stretch in list(self.open.items()):
            if job_id not in wanted or wanted[job_id][0] != stretch.key:
                stretch.last = max(now, self.highest)
                # What is due by an old schedule is served before the new one counts; a job that goes takes it along,
                # and of one whose fire times the database refuses not even a skip can be kept.
                keeps = job_id in wanted and not (self.is_ill(job_id) and self.ill[job_id].kind == "fires")
                stretch.must_to = now if keeps else min(stretch.must_to, now)
                del self.open[job_id]
        for job_id, (key, times) in wanted.items():
            if job_id not in self.open:
                self.open[job_id] = stretch = Stretch(times, key, now)
                self.all.setdefault(job_id, []).append(stretch)

    def served_to(self, now: datetime, true_s: float) -> None:
        """A pass has dealt with everything due at ``now``, but for jobs that are ill: what is due of them waits."""
        self.highest = max(self.highest, now)
        self.ill = {job_id: one for job_id, one in self.ill.items() if one.ends_s is None or true_s < one.ends_s}
        for job_id, stretch in self.open.items():
            if not self.is_ill(job_id):
                stretch.must_to = max(stretch.must_to, now)

    def falls_ill(self, job_id: str, kind: str) -> None:
        """From now on the job cannot be served; where it is its times, until it has others."""
        self.ill[job_id] = Illness(kind, self.open[job_id].key if kind == "times" else None)

    def is_well_again(self, job_id: str, ends_s: float) -> None:
        """What kept the job from being served is over; it is served at ``ends_s`` at the latest."""
        self.ill[job_id].ends_s = ends_s

    def is_ill(self, job_id: str) -> bool:
        """True while the job may be set apart."""
        one, stretch = self.ill.get(job_id), self.open.get(job_id)
        return one is not None and (one.key is None or (stretch is not None and stretch.key == one.key))

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
                again.must_to = stretch.first if certainly and not self.is_ill(job_id) else NEVER
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
