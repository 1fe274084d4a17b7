"""Figures of all tasks that ended, summed in steps of five minutes, or of an hour for a longer past.

What has ended never changes, so it is read once; a page adds up what is in memory and reads the last seconds. The past
is read piece by piece (see `Desk`), so that no page waits for a day of a busy scheduler.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Integer, and_, bindparam, case, cast, func, select

from atlas.scheduler.store.tables import tasks
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Select

    from atlas.scheduler.store.store import Store

STEP_S: Final = 300
SETTLES_S: Final = 30
"""A final row is written within seconds of its end; what ended so long ago is summed for good."""
LOOKS_S: Final = 1.0
"""New tasks are looked for so often at most."""
PIECE_S: Final = 1800.0
"""How much of the past is read at a time, seconds, at first; a quiet past is read in larger pieces."""
SHORT_S: Final = 0.01
"""CPU seconds that one piece may take."""
DAY_S: Final = 86_400
_NEVER_S: Final = 1e12
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
    """The steps of the last 24 hours, or of more: read once, piece by piece and newest first, then kept up to date."""

    def __init__(self, store: Store, span_s: int = DAY_S, step_s: int = STEP_S) -> None:
        self._store, self._span_s, self._step_s = store, span_s, step_s
        self._closed: dict[int, Step] = {}
        self._open: dict[int, Step] = {}
        self._closed_to_s = 0.0
        self._from_s = 0.0
        self._looked_s = 0.0
        self._piece_s = PIECE_S
        self._before: tuple[int, float | None] | None = None

    def forget(self) -> None:
        """Read everything anew next time: tasks were removed or brought in."""
        self._closed, self._open = {}, {}
        self._closed_to_s = self._from_s = self._looked_s = 0.0

    def is_whole(self, now: datetime, span_s: int | None = None) -> bool:
        """True if nothing of the past, or of its last ``span_s`` seconds, is left to be read."""
        return 0.0 < self._from_s <= now.timestamp() - (span_s or self._span_s)

    def read_on(self, now: datetime) -> bool:
        """Read what is new, and one piece of what is older; True if there is more of that."""
        self._read_new(now.timestamp())
        oldest_s = float((now.timestamp() - self._span_s) // self._step_s * self._step_s)
        if self._from_s > oldest_s:
            begin_s, start = max(oldest_s, self._from_s - self._piece_s), time.thread_time()
            for key, step in self._steps_between(begin_s, self._from_s).items():
                self._closed.setdefault(key, Step()).add(step)
            self._from_s = begin_s
            took_s = time.thread_time() - start
            self._piece_s *= 4 if took_s < SHORT_S / 4 else 0.5 if took_s > SHORT_S else 1
        return self._from_s > oldest_s

    def steps(self, now: datetime, span_s: int | None = None) -> list[tuple[int, Step]]:
        """(start in seconds since 1970, figures) of every step of the past with a task that ended in it.

        ``span_s`` narrows it to the last so many seconds.
        """
        since = int((now.timestamp() - (span_s or self._span_s)) // self._step_s)
        self._read_new(now.timestamp())
        found = {key: step for key, step in self._closed.items() if key >= since}
        for key, step in self._open.items():
            found[key] = total_of([(key, one) for one in (self._closed.get(key), step) if one is not None])
        return [(key * self._step_s, step) for key, step in found.items()]

    def day_before(self, now: datetime) -> float | None:
        """The success rate of the 24 hours before the last ones, counted once in a quarter of an hour."""
        step = int(now.timestamp() // STEP_S) // 3 * 3
        if self._before is None or self._before[0] != step:
            until_s = step * STEP_S - DAY_S
            statement = (
                select(tasks.c.status, func.count())
                .where(
                    tasks.c.status.in_(("SUCCESS", "FAILED", "TIMEOUT")),
                    tasks.c.created_at >= until_s - DAY_S,
                    tasks.c.created_at < until_s,
                    tasks.c.origin != "manual",
                )
                .group_by(tasks.c.status)
            )
            rows = self._store.read(lambda connection: connection.execute(statement).all())
            self._before = step, Step(Counter({status: count for status, count in rows})).success_rate  # noqa: C416
        return self._before[1]

    def _read_new(self, now_s: float) -> None:
        """What ended since the last look. A step that is over is summed for good; what may still come is read again."""
        if 0 <= now_s - self._looked_s < LOOKS_S:
            return
        if now_s < self._closed_to_s:  # the clock was set back: what ends now lies before what is summed for good
            self.forget()
        if not self._from_s:
            self._from_s = self._closed_to_s = float(now_s // self._step_s * self._step_s)
        until_s = max(self._closed_to_s, now_s - SETTLES_S)
        for key, step in self._steps_between(self._closed_to_s, until_s).items():
            self._closed.setdefault(key, Step()).add(step)
        self._open = self._steps_between(until_s, None)
        self._closed_to_s, self._looked_s = until_s, now_s
        oldest = int((now_s - self._span_s) // self._step_s)
        for key in [key for key in self._closed if key < oldest]:
            del self._closed[key]

    def _steps_between(self, since_s: float, until_s: float | None) -> dict[int, Step]:
        return self._store.read(lambda connection: _read_steps(connection, since_s, until_s, self._step_s))


def total_of(steps: Iterable[tuple[int, Step]]) -> Step:
    """All of them together."""
    total = Step()
    for _start, step in steps:
        total.add(step)
    return total


@cache
def _statement(dialect: str, step_s: int) -> Select[Any]:
    """What ended from ``since`` to ``until``, by step; built once: to build it costs more than to run it."""
    end, begin = tasks.c.finished_at, tasks.c.started_at
    step = step_of(end, step_s, dialect).label("step")
    delay = begin - func.coalesce(tasks.c.fire_time, tasks.c.created_at)
    counts = and_(tasks.c.attempt == 1, begin.is_not(None))
    classes = case(*((delay <= limit_s, place) for place, limit_s in enumerate(_LIMITS_S)), else_=len(_LIMITS_S))
    place = case((counts, classes), else_=-1).label("place")
    last = case((tasks.c.status.in_(("FAILED", "TIMEOUT")), 1), else_=0)  # no attempt followed on that failure
    retried = case((tasks.c.failures > last, 1), else_=0).label("retried")
    busy = func.sum(case((begin.is_not(None), end - begin), else_=0.0))
    worst = func.max(case((counts, delay), else_=0.0))
    return (
        select(step, tasks.c.status, retried, place, func.count(), busy, worst, func.min(begin))
        .where(end >= bindparam("since"), end < bindparam("until"), tasks.c.origin != "manual")
        .group_by(step, tasks.c.status, retried, place)
    )


def _read_steps(connection: Connection, since_s: float, until_s: float | None, step_s: int) -> dict[int, Step]:
    times = {"since": since_s, "until": _NEVER_S if until_s is None else until_s}
    found: dict[int, Step] = {}
    rows = connection.execute(_statement(connection.dialect.name, step_s), times)
    for key, status, again, at, count, busy_s, worst_s, started_at in rows:
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
