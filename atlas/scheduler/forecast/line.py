"""How the queue is expected to go: jobs that start at known times and take known times, on a known number of slots.

::

    start ─► overlap ─► waits by priority ─► runs for its duration ─► end
               │              └─ as long as all slots are taken: a shortage
               └─► skipped
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from atlas.scheduler.forecast.result import Crowd, Start
from atlas.scheduler.task import Overlap, TaskPriority

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from atlas.scheduler.forecast.jobs import ForecastJob

LATE_S: Final = 1.0
"""A start that is later than this has waited for a slot."""
MERGE_S: Final = 60.0
"""Shortages that are no further apart than this are told as one."""
MAX_BEHIND: Final = 100
"""Tasks of one job with ``overlap: queue`` that wait behind each other."""


@dataclass(slots=True, eq=False)
class _Run:
    """One task that is expected.

    Attributes:
        job: Whose.
        due_s: When it is due, seconds since 1970.
        began_s: When it gets a slot, None if it never does.
        skipped: True if overlap makes no task of it.
        gone: True if a newer one has replaced it.
    """

    job: ForecastJob
    due_s: float
    began_s: float | None = None
    skipped: bool = False
    gone: bool = False

    @property
    def late_s(self) -> float:
        """Seconds it waits for a slot."""
        return 0.0 if self.began_s is None else self.began_s - self.due_s


@dataclass(slots=True, eq=False)
class _Shortage:
    """A stretch in which tasks wait because all slots are taken; times in seconds since 1970."""

    at_s: float
    until_s: float
    needed: int
    late_s: dict[str, float] = field(default_factory=dict)


class ExpectedLine:
    """The line and its slots, driven by starts in the order of their time.

    Args:
        slots: Tasks that run at once.
        limits: Executor → fewer than that.
        on_demand: Told of (instant, tasks that run or wait) after every change.
    """

    def __init__(self, slots: int, limits: Mapping[str, int], on_demand: Callable[[float, int], None]) -> None:
        """An empty line."""
        self._slots, self._limits, self._on_demand = slots, limits, on_demand
        self._ends: list[tuple[float, int, _Run]] = []
        self._waiting: dict[str, list[tuple[TaskPriority, float, int, _Run]]] = {}
        self._running: dict[str, int] = {}
        self._taken = self._waits = self._number = 0
        self._shortage: _Shortage | None = None
        self._unfinished: defaultdict[str, list[_Run]] = defaultdict(list)
        self._behind: defaultdict[str, deque[_Run]] = defaultdict(deque)
        self._runs: list[_Run] = []
        self._shortages: list[_Shortage] = []

    def __len__(self) -> int:
        """How many starts there were."""
        return len(self._runs)

    def start(self, at_s: float, jobs: Sequence[ForecastJob]) -> None:
        """These jobs start, all at once; not before any start so far."""
        self.pass_until(at_s)
        for job in jobs:
            run = _Run(job, at_s)
            self._runs.append(run)
            self._arrive(run, at_s)
        self._serve(at_s)

    def finish(self) -> None:
        """Nothing starts any more: everything that waits gets its slot."""
        self.pass_until(float("inf"))

    def pass_until(self, at_s: float) -> None:
        """Time goes on to ``at_s``: tasks end, and the next ones get their slots."""
        while self._ends and self._ends[0][0] <= at_s:
            end_s, _, run = heapq.heappop(self._ends)
            if not run.gone:
                self._leave(run)
                self._serve(end_s)

    def starts(self) -> tuple[Start, ...]:
        """Every start, in the order of time."""
        return tuple(Start(_instant(run.due_s), run.job.id, run.late_s, run.skipped) for run in self._runs)

    def crowds(self) -> tuple[Crowd, ...]:
        """The stretches in which somebody waited for long."""
        return tuple(
            Crowd(
                at=_instant(one.at_s),
                until=_instant(one.until_s),
                needed=one.needed,
                late_s=dict(sorted(one.late_s.items(), key=lambda late: -late[1])),
            )
            for one in self._shortages
            if one.late_s
        )

    def _arrive(self, run: _Run, at_s: float) -> None:
        job = run.job
        if unfinished := self._unfinished[job.id]:
            match job.overlap:
                case Overlap.SKIP:
                    run.skipped = True
                case Overlap.ALLOW:
                    run.skipped = len(unfinished) >= job.max_instances
                case Overlap.QUEUE:
                    behind = self._behind[job.id]
                    run.skipped = len(behind) >= MAX_BEHIND
                    if not run.skipped:
                        behind.append(run)
                    return
                case Overlap.REPLACE:
                    self._replace(unfinished, at_s)
        if not run.skipped:
            self._wait(run)

    def _replace(self, unfinished: list[_Run], at_s: float) -> None:
        for old in list(unfinished):
            old.gone = True
            if old.began_s is None:
                self._waits -= 1
                unfinished.remove(old)
            else:
                self._leave(old)
        self._on_demand(at_s, self._taken + self._waits)

    def _wait(self, run: _Run) -> None:
        job = run.job
        self._unfinished[job.id].append(run)
        self._number += 1
        self._waits += 1
        entry = (job.priority, run.due_s, self._number, run)
        heapq.heappush(self._waiting.setdefault(job.executor, []), entry)

    def _leave(self, run: _Run) -> None:
        job = run.job
        self._unfinished[job.id].remove(run)
        self._taken -= 1
        self._running[job.executor] -= 1
        if behind := self._behind[job.id]:
            self._wait(behind.popleft())

    def _serve(self, at_s: float) -> None:
        while self._taken < self._slots and (run := self._first()) is not None:
            run.began_s = at_s
            self._waits -= 1
            self._taken += 1
            executor = run.job.executor
            self._running[executor] = self._running.get(executor, 0) + 1
            self._number += 1
            heapq.heappush(self._ends, (at_s + run.job.takes_s, self._number, run))
            if run.late_s >= LATE_S and self._shortage is not None:
                late_s = self._shortage.late_s
                late_s[run.job.id] = max(run.late_s, late_s.get(run.job.id, 0.0))
        self._note(at_s)

    def _first(self) -> _Run | None:
        """Whose turn it is: the most urgent and oldest of those whose executor has room."""
        best: list[tuple[TaskPriority, float, int, _Run]] | None = None
        for executor, line in self._waiting.items():
            while line and line[0][3].gone:
                heapq.heappop(line)
            room = self._running.get(executor, 0) < self._limits.get(executor, self._slots)
            if line and room and (best is None or line[0] < best[0]):
                best = line
        return None if best is None else heapq.heappop(best)[3]

    def _note(self, at_s: float) -> None:
        demand = self._taken + self._waits
        self._on_demand(at_s, demand)
        if self._waits and self._shortage is None:
            last = self._shortages[-1] if self._shortages else None
            if last is not None and at_s - last.until_s <= MERGE_S:
                self._shortage = last
            else:
                self._shortage = _Shortage(at_s, at_s, demand)
                self._shortages.append(self._shortage)
        if self._shortage is not None:
            self._shortage.until_s = at_s
            self._shortage.needed = max(self._shortage.needed, demand)
            if not self._waits:
                self._shortage = None


def _instant(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
