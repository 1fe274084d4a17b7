"""What one job did in the last days: how many tasks, how they ended and how long they took, by hours or days.

Read along the index (job, time) and kept for a minute.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Integer, bindparam, cast, func, select

from atlas.scheduler.store.tables import tasks

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Subquery

    from atlas.scheduler.store.store import Store

MOST_TASKS: Final = 50_000
"""Newest tasks that are counted: a month of one a minute."""
MOST_DURATIONS: Final = 5_000
"""Newest tasks whose durations are put in order."""
KEEPS_S: Final = 60.0
_KEPT: Final = 100


@dataclass(slots=True)
class Bucket:
    """What was made in some hours, or on a day.

    Attributes:
        start_s: Its begin, seconds since 1970.
        by_status: Ended tasks by how they are shown: RETRYING stands for a success that needed a retry.
        sum_s: Their durations together.
    """

    start_s: float
    by_status: Counter[str] = field(default_factory=Counter)
    sum_s: float = 0.0
    longest_s: float = 0.0

    @property
    def mean_s(self) -> float:
        """The mean duration."""
        return self.sum_s / max(1, sum(self.by_status.values()))


@dataclass(slots=True)
class History:
    """What a job did in the last days.

    Attributes:
        buckets: Those with a task, oldest first.
        size_s: How long one of them is, seconds.
        begin_s: When the first one would begin, with a task or without.
        durations: Of its newest successes, ascending.
        tried_again: Ended tasks with a failure before their end.
    """

    buckets: list[Bucket]
    size_s: int
    begin_s: float
    durations: list[float]
    tried_again: int

    @property
    def by_status(self) -> Counter[str]:
        """All ended tasks."""
        total: Counter[str] = Counter()
        for bucket in self.buckets:
            total.update(bucket.by_status)
        return total

    @property
    def success_rate(self) -> float | None:
        """0 to 100, None when nothing counts."""
        total = self.by_status
        good, bad = total["SUCCESS"] + total["RETRYING"], total["FAILED"] + total["TIMEOUT"]
        return 100.0 * good / (good + bad) if good + bad else None

    def duration_s(self, share: float) -> float | None:
        """The duration that ``share`` of its successes stay below; None when there is none."""
        found = self.durations
        return found[min(len(found) - 1, int(share * len(found)))] if found else None


class Histories:
    """Keeps what was read of jobs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, int], tuple[float, History]] = OrderedDict()

    def of(self, job_id: str, span_s: int, size_s: int, local: datetime) -> History:
        """What the job did in the last ``span_s`` seconds.

        A day holds a whole number of ``size_s``; ``local`` is the present, in the zone whose days are meant.
        """
        key, now_s = (job_id, span_s), local.timestamp()
        kept = self._known.pop(key, None)
        if kept is None or not 0 <= now_s - kept[0] < KEEPS_S:
            midnight_s = local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
            begin_s = midnight_s - ((midnight_s - (now_s - span_s)) // size_s) * size_s
            kept = now_s, self._store.read(lambda connection: _read(connection, job_id, begin_s, size_s))
        self._known[key] = kept
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return kept[1]


@cache
def _statements(dialect: str) -> tuple[Any, Any]:
    """Figures by bucket, status and whether it was tried again; and durations of successes."""
    mine, newest = _mine(MOST_TASKS), _mine(MOST_DURATIONS)
    ratio = (mine.c.created_at - bindparam("since")) / bindparam("size")
    place = cast(ratio if dialect == "sqlite" else func.floor(ratio), Integer)
    counted = (
        select(place, mine.c.status, mine.c.again, func.count(), func.sum(mine.c.took), func.max(mine.c.took))
        .where(mine.c.status.in_(("SUCCESS", "FAILED", "TIMEOUT", "CANCELLED")))
        .group_by(place, mine.c.status, mine.c.again)
    )
    return counted, select(newest.c.took).where(newest.c.status == "SUCCESS", newest.c.took.is_not(None))


def _mine(most: int) -> Subquery:
    """The newest tasks of the job: what is asked of them must lead the database to no other index."""
    took = (tasks.c.finished_at - tasks.c.started_at).label("took")
    return (
        select(tasks.c.created_at, tasks.c.status, (tasks.c.failures > 0).label("again"), took)
        .where(tasks.c.job_id == bindparam("job_id"), tasks.c.created_at >= bindparam("since"))
        .order_by(tasks.c.created_at.desc())
        .limit(most)
        .subquery()
    )


def _read(connection: Connection, job_id: str, begin_s: float, size_s: int) -> History:
    counted, durations = _statements(connection.dialect.name)
    values = {"job_id": job_id, "since": begin_s}
    buckets: dict[int, Bucket] = {}
    tried_again = 0
    for place, status, again, count, sum_s, longest_s in connection.execute(counted, {**values, "size": float(size_s)}):
        bucket = buckets.setdefault(place, Bucket(begin_s + place * size_s))
        bucket.by_status["RETRYING" if again and status == "SUCCESS" else status] += count
        bucket.sum_s += max(0.0, sum_s or 0.0)
        bucket.longest_s = max(bucket.longest_s, longest_s or 0.0)
        tried_again += count if again else 0
    found = sorted(max(0.0, one) for one in connection.execute(durations, values).scalars())
    return History([buckets[place] for place in sorted(buckets)], size_s, begin_s, found, tried_again)
