"""When a job starts in the next 24 hours, kept from page to page."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from atlas.scheduler.forecast.starts import starts_after

if TYPE_CHECKING:
    from datetime import datetime

    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.triggers import AtlasTrigger

AHEAD_S: Final = 86_400
MOST_STARTS: Final = 300
"""Starts of one job that are drawn and counted one by one; a denser job is a band."""
BUCKET_S: Final = 900
MOST_KNOWN: Final = 1_000
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(slots=True)
class Starts:
    """Starts of one job, seconds since 1970, ascending."""

    at: list[float]
    """The first of them, at most `MOST_STARTS`."""
    more_every_s: float | None = None
    """Their mean distance when there are more of them than that, else None."""

    def count(self, until_s: float) -> int:
        """How many there are up to ``until_s``, reckoned for a dense job."""
        if self.more_every_s is None or not self.at:
            return bisect_right(self.at, until_s)
        return max(len(self.at), int((until_s - self.at[0]) / self.more_every_s) + 1)


class Plans:
    """Keeps starts, so that a page only looks at what time has used up; jobs that start together share them."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, float], tuple[AtlasTrigger, float, Starts]] = OrderedDict()

    def of(self, record: JobRecord, now: datetime) -> Starts:
        """Starts of the job from now to 24 hours ahead, but for days its calendar excludes; none without fire times."""
        if record.next_run is None:
            return Starts([])
        now_s, first = now.timestamp(), record.next_run.timestamp()
        key = id(record.trigger), first
        known = self._known.pop(key, None)
        if known is None or known[0] is not record.trigger or known[1] < now_s + AHEAD_S:
            until_s = now_s + AHEAD_S + BUCKET_S
            known = record.trigger, until_s, _walk(record, record.next_run, until_s)
        self._known[key] = known
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        starts = known[2]
        return Starts(starts.at[bisect_right(starts.at, max(first, now_s) - 0.001) :], starts.more_every_s)


def _walk(record: JobRecord, at: datetime, until_s: float) -> Starts:
    """Its starts from ``at`` on; they end where its schedule raises, for which the job is set apart."""
    found: list[float] = []
    more = False
    for start in starts_after(record.trigger, at - _MICROSECOND):
        start_s = start.timestamp()
        if start_s > until_s:
            break
        if more := len(found) == MOST_STARTS:
            break
        found.append(start_s)
    every_s = (found[-1] - found[0]) / (len(found) - 1) if more else None
    return Starts(found, every_s)
