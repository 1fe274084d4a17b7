"""How the queue is expected to go: jobs that start at known times and take known times, on a known number of slots.

::

    start ─► overlap ─► waits by priority ─► runs for its duration ─► end
               │              └─ as long as all slots are taken: a shortage
               └─► skipped
"""

from __future__ import annotations

import heapq
from array import array
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from atlas.scheduler.forecast.result import Crowd, Start
from atlas.scheduler.task import Overlap, TaskPriority

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from atlas.scheduler.forecast.jobs import ForecastJob
    from atlas.scheduler.forecast.load import Load

LATE_S: Final = 1.0
"""A start that is later than this has waited for a slot."""
MERGE_S: Final = 60.0
"""Shortages that are no further apart than this are told as one."""
MAX_BEHIND: Final = 100
"""Tasks of one job with ``overlap: queue`` that wait behind each other."""
NAMED: Final = 20
"""Jobs that a shortage names where starts are not kept singly: those that wait longest."""
MOST_NOTED: Final = 10 * NAMED
"""Jobs of a shortage whose waits are kept meanwhile, where so few are named."""


class _Waiting(NamedTuple):
    """A start that waits for its slot, and those behind it that are in all but their number and job as it is."""

    priority: TaskPriority
    due_s: float
    number: int
    job: ForecastJob
    behind: Iterator[tuple[int, ForecastJob]] | None = None


@dataclass(slots=True, eq=False)
class _Shortage:
    """A stretch in which tasks wait because all slots are taken; times in seconds since 1970."""

    at_s: float
    until_s: float
    needed: int
    late_s: dict[str, float] = field(default_factory=dict)


class Simulation:
    """The line and its slots, driven by starts in the order of their time.

    A start is its number, its instant and its job. Ten thousand may wait at once: those that came together are one
    entry of the line, a number each. ``limits`` has executors that may run fewer than the slots; without ``singly``
    every start that is over is forgotten.
    """

    def __init__(self, slots: int, limits: Mapping[str, int], load: Load, *, singly: bool = True) -> None:
        self._slots, self._limits, self._load = slots, limits, load
        self._starts: list[Start] | None = [] if singly else None
        self._ends: list[tuple[float, int, ForecastJob]] = []
        self._waiting: dict[str, list[_Waiting]] = {}  # heaps
        self._running: dict[str, int] = {}
        self._taken = self._waits = self._number = 0
        self._shortage: _Shortage | None = None
        self._unfinished: dict[str, int] = {}  # of jobs that have any; an empty deque takes 0.7 kB
        self._behind: dict[str, deque[tuple[float, int]]] = {}
        self._newest: dict[str, int] = {}  # the unfinished one of a job whose next start replaces it
        self._served: set[int] = set()
        self._gone: set[int] = set()  # replaced, and not yet come across
        self._shortages: list[_Shortage] = []

    def __len__(self) -> int:
        """How many starts there were."""
        return self._number

    def start(self, at: datetime, jobs: Sequence[ForecastJob]) -> None:
        """These jobs start, all at once; not before any start so far."""
        at_s = at.timestamp()
        self.pass_until(at_s)
        first = self._number
        together: dict[tuple[str, TaskPriority], array[int]] = {}
        for place, job in enumerate(jobs):
            if self._starts is not None:
                self._starts.append(Start(at, job.id, 0.0, skipped=False))
            if self._arrive(job, at_s, self._number):
                together.setdefault((job.executor, job.policies.priority), array("L")).append(place)
            self._number += 1
        for (executor, priority), places in together.items():
            behind = ((first + place, jobs[place]) for place in places)
            self._line_up(executor, _Waiting(priority, at_s, *next(behind), behind if len(places) > 1 else None))
        self._serve(at_s)

    def finish(self) -> None:
        """Nothing starts any more: everything that waits gets its slot."""
        self.pass_until(float("inf"))

    def pass_until(self, at_s: float) -> None:
        """Time goes on to ``at_s``: tasks end, and the next ones get their slots."""
        while self._ends and self._ends[0][0] <= at_s:
            end_s, number, job = heapq.heappop(self._ends)
            if number in self._gone:
                self._gone.remove(number)
            else:
                self._leave(job, number)
                self._serve(end_s)

    def starts(self) -> tuple[Start, ...]:
        """Every start, in the order of time; none unless they are kept singly."""
        return tuple(self._starts or ())

    def crowds(self) -> tuple[Crowd, ...]:
        """The stretches in which somebody waited for long; unless starts are kept singly, with `NAMED` jobs each."""
        return tuple(
            Crowd(
                at=_instant(one.at_s),
                until=_instant(one.until_s),
                needed=one.needed,
                late_s=_longest(one.late_s, NAMED if self._starts is None else len(one.late_s)),
            )
            for one in self._shortages
            if one.late_s
        )

    def _arrive(self, job: ForecastJob, due_s: float, number: int) -> bool:
        """True if a task of this start waits for a slot from now on."""
        unfinished = self._unfinished.get(job.id, 0)
        if unfinished and self._is_skipped(job, unfinished):
            if self._starts is not None:
                self._starts[number] = self._starts[number]._replace(skipped=True)
            return False
        self._load.due(due_s)
        if unfinished and job.policies.overlap is Overlap.QUEUE:
            self._behind.setdefault(job.id, deque()).append((due_s, number))
            return False
        if unfinished and job.policies.overlap is Overlap.REPLACE:
            self._replace(job, due_s)
        self._wait(job, number)
        return True

    def _is_skipped(self, job: ForecastJob, unfinished: int) -> bool:
        """True if overlap makes no task of a start beside so many."""
        match job.policies.overlap:
            case Overlap.SKIP:
                return True
            case Overlap.ALLOW:
                return unfinished >= job.policies.max_instances
            case Overlap.QUEUE:
                return len(self._behind.get(job.id, ())) >= MAX_BEHIND
            case Overlap.REPLACE:
                return False

    def _replace(self, job: ForecastJob, at_s: float) -> None:
        old = self._newest[job.id]
        self._gone.add(old)
        if old in self._served:
            self._leave(job, old)
        else:
            self._waits -= 1
            del self._unfinished[job.id]
        self._load.demand(at_s, self._taken + self._waits)

    def _wait(self, job: ForecastJob, number: int) -> None:
        self._unfinished[job.id] = self._unfinished.get(job.id, 0) + 1
        if job.policies.overlap is Overlap.REPLACE:
            self._newest[job.id] = number
        self._waits += 1

    def _line_up(self, executor: str, waiting: _Waiting) -> None:
        heapq.heappush(self._waiting.setdefault(executor, []), waiting)

    def _leave(self, job: ForecastJob, number: int) -> None:
        self._served.remove(number)
        self._unfinished[job.id] -= 1
        if not self._unfinished[job.id]:
            del self._unfinished[job.id]
        self._taken -= 1
        self._running[job.executor] -= 1
        if behind := self._behind.get(job.id):
            due_s, number = behind.popleft()
            self._wait(job, number)
            self._line_up(job.executor, _Waiting(job.policies.priority, due_s, number, job))

    def _serve(self, at_s: float) -> None:
        while self._taken < self._slots and (first := self._first()) is not None:
            _, due_s, number, job, _ = first
            self._waits -= 1
            self._taken += 1
            self._served.add(number)
            self._running[job.executor] = self._running.get(job.executor, 0) + 1
            heapq.heappush(self._ends, (at_s + job.takes_s, number, job))
            late_s = at_s - due_s
            if late_s >= LATE_S:
                self._load.late(due_s)
            if late_s and self._starts is not None:
                self._starts[number] = self._starts[number]._replace(late_s=late_s)
            if late_s >= LATE_S and self._shortage is not None:
                known = self._shortage.late_s
                known[job.id] = max(late_s, known.get(job.id, 0.0))
                if self._starts is None and len(known) > MOST_NOTED:
                    self._shortage.late_s = _longest(known, NAMED)
        self._note(at_s)

    def _first(self) -> _Waiting | None:
        """Whose turn it is: the most urgent and oldest of those whose executor has room."""
        best: list[_Waiting] | None = None
        for executor, line in self._waiting.items():
            while line and line[0].number in self._gone:
                self._gone.remove(_taken_from(line).number)
            room = self._running.get(executor, 0) < self._limits.get(executor, self._slots)
            if line and room and (best is None or line[0] < best[0]):
                best = line
        return None if best is None else _taken_from(best)

    def _note(self, at_s: float) -> None:
        demand = self._taken + self._waits
        self._load.demand(at_s, demand)
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


def _taken_from(line: list[_Waiting]) -> _Waiting:
    """The first of the line; the next one of those that came with it takes its place."""
    first = line[0]
    follower = None if first.behind is None else next(first.behind, None)
    if follower is None:
        return heapq.heappop(line)
    return heapq.heapreplace(line, _Waiting(first.priority, first.due_s, *follower, first.behind))


def _longest(late_s: dict[str, float], most: int) -> dict[str, float]:
    return dict(heapq.nlargest(most, late_s.items(), key=itemgetter(1)))


def _instant(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
