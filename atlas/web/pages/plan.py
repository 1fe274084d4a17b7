"""When a job starts in the next 24 hours, kept from page to page."""

from __future__ import annotations

import threading
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from atlas.scheduler.job_records import JobRecord

AHEAD_S: Final = 86_400
MOST_STARTS: Final = 300
"""Starts of one job that are drawn and counted one by one; a denser job is a band."""
BUCKET_S: Final = 900


@dataclass(slots=True)
class Starts:
    """Starts of one job, seconds since 1970, ascending.

    Attributes:
        at: The first of them, at most `MOST_STARTS`.
        more_every_s: Their mean distance when there are more of them than that, else None.
    """

    at: list[float]
    more_every_s: float | None = None
    digest: str = ""
    until_s: float = 0.0

    def count(self, until_s: float) -> int:
        """How many there are up to ``until_s``, reckoned for a dense job."""
        if self.more_every_s is None or not self.at:
            return bisect_right(self.at, until_s)
        return max(len(self.at), int((until_s - self.at[0]) / self.more_every_s) + 1)


class Plans:
    """Keeps the starts of jobs, so that a page only looks at what time has used up."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._lock = threading.Lock()
        self._known: dict[str, Starts] = {}

    def of(self, record: JobRecord, now: datetime) -> Starts:
        """Starts of the job from now to 24 hours ahead; none for one without fire times."""
        next_run = record.next_run
        if next_run is None:
            return Starts([])
        now_s = now.timestamp()
        with self._lock:
            known = self._known.get(record.id)
            first = next_run.timestamp()
            if known is None or known.digest != record.digest or known.until_s < now_s + AHEAD_S:
                known = _walk(record, next_run, now_s + AHEAD_S + BUCKET_S)
                if len(self._known) > 20_000:
                    self._known.clear()
                self._known[record.id] = known
            place = bisect_right(known.at, max(first, now_s) - 0.001)
            if place == len(known.at) and known.more_every_s is not None:
                known = self._known[record.id] = _walk(record, next_run, now_s + AHEAD_S + BUCKET_S)
                place = 0
            return Starts(known.at[place:], known.more_every_s)


def _walk(record: JobRecord, at: datetime, until_s: float) -> Starts:
    found: list[float] = []
    following: datetime | None = at
    while following is not None and following.timestamp() <= until_s and len(found) < MOST_STARTS:
        found.append(following.timestamp())
        following = record.trigger.get_next_fire_time(following, following)
    dense = len(found) == MOST_STARTS and following is not None and following.timestamp() <= until_s
    every_s = (found[-1] - found[0]) / (len(found) - 1) if dense else None
    return Starts(found, every_s, record.digest, until_s)
