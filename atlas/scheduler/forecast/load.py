"""How many tasks want to run at once, stretch by stretch."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta, tzinfo

from atlas.scheduler.forecast.result import Bucket


class Load:
    """How many tasks want to run at once, stretch by stretch; demand holds until it changes."""

    def __init__(self, begin: datetime, bucket_s: float, zone: tzinfo) -> None:
        offset = begin.astimezone(zone).utcoffset() or timedelta()
        wall_s = begin.timestamp() + offset.total_seconds()
        self._first_s = wall_s // bucket_s * bucket_s - offset.total_seconds()
        self._bucket_s = bucket_s
        self._at_once: list[int] = [0]
        self._due: Counter[int] = Counter()
        self._late: Counter[int] = Counter()
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

    def due(self, at_s: float) -> None:
        """A task is due at ``at_s``."""
        self._due[self._place(at_s)] += 1

    def late(self, at_s: float) -> None:
        """A task that was due at ``at_s`` has waited for its slot."""
        self._late[self._place(at_s)] += 1

    def buckets(self, until: datetime) -> tuple[Bucket, ...]:
        """The stretches up to ``until``."""
        size = max(1, -int(-(until.timestamp() - self._first_s) // self._bucket_s))
        for counts in (self._due, self._late):
            counts[size - 1] += counts.pop(size, 0)  # what starts in the very last instant
        return tuple(
            Bucket(
                at=datetime.fromtimestamp(self._first_s + place * self._bucket_s, UTC),
                starts=self._due[place],
                at_once=self._at_once[place] if place < len(self._at_once) else 0,
                late=self._late[place],
            )
            for place in range(size)
        )
