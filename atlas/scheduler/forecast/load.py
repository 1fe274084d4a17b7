"""How many tasks want to run at once, stretch by stretch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from atlas.scheduler.forecast.line import LATE_S
from atlas.scheduler.forecast.result import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterable

    from atlas.scheduler.forecast.result import Start


class Load:
    """How many tasks want to run at once, stretch by stretch; demand holds until it changes."""

    def __init__(self, begin: datetime, bucket_s: float, zone: tzinfo) -> None:
        offset = begin.astimezone(zone).utcoffset() or timedelta()
        wall_s = begin.timestamp() + offset.total_seconds()
        self._first_s = wall_s // bucket_s * bucket_s - offset.total_seconds()
        self._bucket_s = bucket_s
        self._at_once: list[int] = [0]
        self._now = 0
        self.peak = 0
        self.peak_s: float | None = None

    def _place(self, at_s: float) -> int:
        return max(0, int((at_s - self._first_s) // self._bucket_s))

    def fill(self, at_s: float) -> None:
        """The demand goes on until ``at_s``."""
        missing = self._place(at_s) + 1 - len(self._at_once)
        self._at_once += [self._now] * missing

    def demand(self, at_s: float, wanted: int) -> None:
        """So many tasks run or wait from ``at_s`` on."""
        self.fill(at_s)
        place = self._place(at_s)
        self._at_once[place] = max(self._at_once[place], wanted)
        self._now = wanted
        if wanted > self.peak:
            self.peak, self.peak_s = wanted, at_s

    def buckets(self, starts: Iterable[Start], until: datetime) -> tuple[Bucket, ...]:
        """The stretches up to ``until``."""
        size = max(1, -int(-(until.timestamp() - self._first_s) // self._bucket_s))
        due, late = [0] * (size + 1), [0] * (size + 1)
        for start in starts:
            if not start.skipped:
                place = min(self._place(start.at.timestamp()), size)
                due[place] += 1
                late[place] += start.late_s >= LATE_S
        due[size - 1] += due[size]  # what starts in the very last instant
        late[size - 1] += late[size]
        return tuple(
            Bucket(
                at=datetime.fromtimestamp(self._first_s + place * self._bucket_s, UTC),
                starts=due[place],
                at_once=self._at_once[place] if place < len(self._at_once) else 0,
                late=late[place],
            )
            for place in range(size)
        )
