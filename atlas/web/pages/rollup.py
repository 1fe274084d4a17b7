"""Figures of all tasks that ended, summed in steps of five minutes.

A step that is over never changes, so it is read once; a page adds up what is in memory and reads the last few minutes.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Integer, and_, case, cast, func, select

from atlas.scheduler.store.tables import tasks
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection

    from atlas.scheduler.store.store import Store

STEP_S: Final = 300
SETTLES_S: Final = 30
"""A final row is written within seconds of its end; so much later a step is closed."""
DAY_S: Final = 86_400
_LIMITS_S: Final = (
    *(0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 45, 60, 90),
    *(120, 180, 300, 600, 1200, 3600, 7200, 21_600, 86_400),
)
"""Upper ends of the classes a start delay is counted in."""


def step_of(column: ColumnElement[Any], size_s: int, dialect: str) -> ColumnElement[Any]:
    """The number of the step of ``size_s`` seconds an instant lies in, as SQL."""
    if dialect == "sqlite":
        return cast(column / size_s, Integer)  # it cuts
    return cast(func.floor(column / size_s), Integer)


@dataclass(slots=True)
class Step:
    """What ended in one step."""

    by_status: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    recovered: int = 0
    busy_s: float = 0.0
    delays: Counter[int] = field(default_factory=Counter)
    worst_s: float = 0.0
    worst_at: float | None = None

    def add(self, other: Step) -> None:
        """Take another step's figures in."""
        self.by_status.update(other.by_status)
        self.retried += other.retried
        self.recovered += other.recovered
        self.busy_s += other.busy_s
        self.delays.update(other.delays)
        if other.worst_s > self.worst_s:
            self.worst_s, self.worst_at = other.worst_s, other.worst_at

    @property
    def total(self) -> int:
        """Tasks that ended."""
        return sum(self.by_status.values())

    @property
    def bad(self) -> int:
        """Tasks that ended FAILED or TIMEOUT."""
        return self.by_status["FAILED"] + self.by_status["TIMEOUT"]

    @property
    def success_rate(self) -> float | None:
        """0 to 100, None when nothing counts."""
        good = self.by_status["SUCCESS"]
        return None if good + self.bad == 0 else 100.0 * good / (good + self.bad)

    def delay_s(self, share: float) -> float | None:
        """The start delay that ``share`` of the tasks stay below, None without tasks."""
        total = sum(self.delays.values())
        if not total:
            return None
        wanted, seen = share * total, 0.0
        for place, limit_s in enumerate(_LIMITS_S):
            here = self.delays[place]
            if here and seen + here >= wanted:
                low_s = _LIMITS_S[place - 1] if place else 0.0
                return min(low_s + (limit_s - low_s) * (wanted - seen) / here, self.worst_s)
            seen += here
        return self.worst_s


class Rollup:
    """The steps of the last two days."""

    def __init__(self, store: Store) -> None:
        """Read nothing yet."""
        self._store = store
        self._lock = threading.Lock()
        self._steps: dict[int, Step] = {}
        self._closed_to = 0

    def forget(self) -> None:
        """Read everything anew next time: tasks were removed or brought in."""
        with self._lock:
            self._steps.clear()
            self._closed_to = 0

    def steps(self, now: datetime, since_s: float, until_s: float | None = None) -> Iterable[tuple[int, Step]]:
        """(start in seconds since 1970, figures) of every step with a task that ended in the stretch."""
        with self._lock:
            self._read(now.timestamp())
            last = (now.timestamp() if until_s is None else until_s) / STEP_S
            return [(key * STEP_S, step) for key, step in self._steps.items() if since_s // STEP_S <= key < last]

    def total(self, now: datetime, since_s: float, until_s: float | None = None) -> Step:
        """Everything that ended in the stretch."""
        total = Step()
        for _start, step in self.steps(now, since_s, until_s):
            total.add(step)
        return total

    def _read(self, now_s: float) -> None:
        oldest = int((now_s - 2 * DAY_S) // STEP_S)
        first = max(oldest, self._closed_to)
        found = self._store.read(lambda connection: _read_steps(connection, first))
        for key in [key for key in self._steps if key >= first or key < oldest]:
            del self._steps[key]
        self._steps.update(found)
        self._closed_to = int((now_s - SETTLES_S) // STEP_S)


def _read_steps(connection: Connection, first: int) -> dict[int, Step]:
    end, begin = tasks.c.finished_at, tasks.c.started_at
    step = step_of(end, STEP_S, connection.dialect.name).label("step")
    delay = begin - func.coalesce(tasks.c.fire_time, tasks.c.created_at)
    counts = and_(tasks.c.attempt == 1, begin.is_not(None))
    classes = case(*((delay <= limit_s, place) for place, limit_s in enumerate(_LIMITS_S)), else_=len(_LIMITS_S))
    place = case((counts, classes), else_=-1).label("place")
    retried = case((tasks.c.failures > 0, 1), else_=0).label("retried")
    busy = func.sum(case((begin.is_not(None), end - begin), else_=0.0))
    worst = func.max(case((counts, delay), else_=0.0))
    statement = (
        select(step, tasks.c.status, retried, place, func.count(), busy, worst, func.min(begin))
        .where(end >= first * STEP_S, tasks.c.origin != "manual")
        .group_by(step, tasks.c.status, retried, place)
    )
    found: dict[int, Step] = {}
    for key, status, again, at, count, busy_s, worst_s, started_at in connection.execute(statement):
        mine = found.setdefault(key, Step())
        mine.by_status[status] += count
        if again:
            mine.retried += count
            mine.recovered += count if status == TaskStatus.SUCCESS else 0
        mine.busy_s += max(0.0, busy_s)
        if at >= 0:
            mine.delays[at] += count
        if worst_s > mine.worst_s:
            mine.worst_s, mine.worst_at = worst_s, started_at
    return found
