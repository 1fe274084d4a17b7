"""Counters: totals of tasks overall and per job, kept in memory and moved with the rows they count."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import case, func, select, text

from atlas.scheduler.as_json import fields_as_json
from atlas.scheduler.errors import StoreVersionError
from atlas.scheduler.store.statements import ONCE, Statement
from atlas.scheduler.store.tables import UNFINISHED_SQL, counters, tasks
from atlas.scheduler.task import FINAL, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from atlas.scheduler.events import TaskEvent
    from atlas.scheduler.task import Task

NO_JOB: Final = ""
"""The key of tasks that belong to no job."""
_JOB: Final = attrgetter("job_id")
_KIND: Final = attrgetter("job_id", "was", "status")

TRIED: Final = FINAL - {TaskStatus.CANCELLED}
"""What a success rate is of."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures of a set of tasks.

    Attributes:
        total_tasks: Every task ever accepted, unfinished ones included.
        by_status: Tasks per status, all seven present.
        success_rate: SUCCESS ÷ (SUCCESS + FAILED + TIMEOUT), 0 to 100; 0.0 when there is none.
        average_duration_s: Mean seconds of the last attempt of final tasks that ran; None when there is none.
        min_duration_s: Shortest of them.
    """

    total_tasks: int
    by_status: dict[TaskStatus, int]
    success_rate: float
    average_duration_s: float | None
    min_duration_s: float | None
    max_duration_s: float | None

    @property
    def successful_tasks(self) -> int:
        """Tasks that ended SUCCESS."""
        return self.by_status[TaskStatus.SUCCESS]

    @property
    def failed_tasks(self) -> int:
        """Tasks that ended FAILED."""
        return self.by_status[TaskStatus.FAILED]

    @property
    def timeout_tasks(self) -> int:
        """Tasks that ended TIMEOUT."""
        return self.by_status[TaskStatus.TIMEOUT]

    @property
    def cancelled_tasks(self) -> int:
        """Tasks that ended CANCELLED."""
        return self.by_status[TaskStatus.CANCELLED]

    @property
    def running_tasks(self) -> int:
        """Tasks that are RUNNING."""
        return self.by_status[TaskStatus.RUNNING]

    @property
    def pending_tasks(self) -> int:
        """Tasks that wait: PENDING and RETRYING."""
        return self.by_status[TaskStatus.PENDING] + self.by_status[TaskStatus.RETRYING]

    @property
    def tried_tasks(self) -> int:
        """Tasks that the success rate is of: SUCCESS, FAILED and TIMEOUT."""
        return sum(self.by_status[status] for status in TRIED)

    def to_json(self) -> dict[str, Any]:
        """The figures as a JSON object; a rate of nothing is null."""
        return {**fields_as_json(self), **({} if self.tried_tasks else {"success_rate": None})}


@dataclass(slots=True)
class _Sums:
    tasks: int = 0
    timed: int = 0
    duration_s: float = 0.0
    min_s: float | None = None
    max_s: float | None = None

    def count(self, duration_s: float | None) -> None:
        """Count a task, which may never have run."""
        self.tasks += 1
        if duration_s is not None:
            self.timed += 1
            self.duration_s += duration_s
            if self.min_s is None or duration_s < self.min_s:
                self.min_s = duration_s
            if self.max_s is None or duration_s > self.max_s:
                self.max_s = duration_s

    def add(self, other: _Sums) -> None:
        self.tasks += other.tasks
        if other.timed:
            assert other.min_s is not None
            assert other.max_s is not None
            self.timed += other.timed
            self.duration_s += other.duration_s
            self.min_s = other.min_s if self.min_s is None or other.min_s < self.min_s else self.min_s
            self.max_s = other.max_s if self.max_s is None or other.max_s > self.max_s else self.max_s


@dataclass(slots=True)
class Moves:
    """What one commit changes in the counters; made beside the rows, added to the totals once they are on disk."""

    unfinished: dict[tuple[str, TaskStatus], int] = field(default_factory=dict)
    """(job, status) → change of the number of unfinished tasks."""
    final: dict[tuple[str, TaskStatus], _Sums] = field(default_factory=dict)
    """(job, status) → sums of the tasks that became final."""

    def made(self, job_id: str | None, tasks: int = 1) -> None:
        """Tasks were accepted."""
        key = job_id or NO_JOB, TaskStatus.PENDING
        self.unfinished[key] = self.unfinished.get(key, 0) + tasks

    def made_all(self, tasks: Iterable[Task]) -> None:
        """`made` for each of them."""
        for job_id, number in Counter(map(_JOB, tasks)).items():
            self.made(job_id, number)

    def moved(self, job_id: str | None, was: TaskStatus, now: TaskStatus, duration_s: float | None) -> None:
        """A task went from ``was`` to ``now``."""
        self._moved(job_id or NO_JOB, was, now, 1)
        if now in FINAL:
            self._sums(job_id or NO_JOB, now).count(duration_s)

    def moved_all(self, moves: Sequence[TaskEvent]) -> None:
        """`moved` for each of them, with one look-up for those that are alike."""
        for (job_id, was, now), number in Counter(map(_KIND, moves)).items():
            self._moved(job_id or NO_JOB, was, now, number)
        for move in moves:
            if move.status in FINAL:
                self._sums(move.job_id or NO_JOB, move.status).count(move.duration_s)

    def _moved(self, job: str, was: TaskStatus, now: TaskStatus, tasks: int) -> None:
        unfinished = self.unfinished
        left, come = (job, was), (job, now)
        unfinished[left] = unfinished.get(left, 0) - tasks
        if now not in FINAL:
            unfinished[come] = unfinished.get(come, 0) + tasks

    def _sums(self, job: str, status: TaskStatus) -> _Sums:
        key = job, status
        sums = self.final.get(key)
        if sums is None:
            sums = self.final[key] = _Sums()
        return sums

    def write(self, connection: Connection) -> None:
        """Move the lifetime totals on disk."""
        if self.final:
            _UPSERT.run(
                connection,
                [
                    (job, str(status), sums.tasks, sums.timed, sums.duration_s, sums.min_s, sums.max_s)
                    for (job, status), sums in self.final.items()
                ],
            )


def _totals(database: Any) -> Any:
    statement = database.insert(counters)
    new = statement.excluded

    def extreme(name: str, *, smallest: bool) -> Any:
        old, fresh = counters.c[name], new[name]
        better = fresh < old if smallest else fresh > old
        return case((old.is_(None), fresh), (better, fresh), else_=old)

    return statement.on_conflict_do_update(
        index_elements=["job_id", "status"],
        set_={
            "tasks": counters.c.tasks + new.tasks,
            "timed": counters.c.timed + new.timed,
            "duration_s": counters.c.duration_s + new.duration_s,
            "min_s": extreme("min_s", smallest=True),
            "max_s": extreme("max_s", smallest=False),
        },
    )


_UPSERT: Final = Statement(_totals, ("job_id", "status", "tasks", "timed", "duration_s", "min_s", "max_s"))
_UNFINISHED: Final = (
    select(tasks.c.job_id, tasks.c.status, func.count())
    .where(text(UNFINISHED_SQL))
    .group_by(tasks.c.job_id, tasks.c.status)
)
_SUMS: Final = select(counters.c.status, func.sum(counters.c.tasks), func.sum(counters.c.timed)).group_by(
    counters.c.status
)


def _status(text: str) -> TaskStatus:
    try:
        return TaskStatus(text)
    except ValueError as error:
        raise StoreVersionError.of_value("a total", error) from error


def _unfinished(connection: Connection) -> Counter[tuple[str, TaskStatus]]:
    found: Counter[tuple[str, TaskStatus]] = Counter()
    for job_id, status, count in connection.execute(_UNFINISHED, execution_options=ONCE):
        found[job_id or NO_JOB, _status(status)] += count
    return found


class Totals:
    """The figures of everything on disk, overall and per job, answered without asking the disk."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unfinished: dict[tuple[str, TaskStatus], int] = {}
        self._all_unfinished: Counter[TaskStatus] = Counter()
        self._final: dict[tuple[str, TaskStatus], _Sums] = {}
        self._all_final: dict[TaskStatus, _Sums] = {}

    def load(self, connection: Connection) -> None:
        """Take everything from disk anew."""
        moves = Moves()
        moves.unfinished = _unfinished(connection)
        for row in connection.execute(select(counters), execution_options=ONCE):
            sums = _Sums(row.tasks, row.timed, row.duration_s, row.min_s, row.max_s)
            moves.final[row.job_id, _status(row.status)] = sums
        with self._lock:
            self._unfinished, self._all_unfinished = {}, Counter()
            self._final, self._all_final = {}, {}
            self._add(moves)

    def refresh(self, connection: Connection) -> None:
        """Take anew what another process wrote.

        Lifetime totals only grow: where their sums are those of memory, they are not read one by one, which takes half
        a second for 10,000 jobs, and no task starts meanwhile.
        """
        sums = connection.execute(_SUMS, execution_options=ONCE)
        found = {_status(status): (int(tasks), int(timed)) for status, tasks, timed in sums}
        with self._lock:
            known = {status: (sums.tasks, sums.timed) for status, sums in self._all_final.items()}
        if found != known:
            self.load(connection)
            return
        moves = Moves()
        moves.unfinished = _unfinished(connection)
        with self._lock:
            self._unfinished, self._all_unfinished = {}, Counter()
            self._add(moves)

    def restore(self, connection: Connection) -> None:
        """Write the lifetime totals into a database that has none."""
        with self._lock:
            moves = Moves(final={key: replace(sums) for key, sums in self._final.items()})
        moves.write(connection)

    def add(self, moves: Moves) -> None:
        """Count what a commit has put on disk."""
        with self._lock:
            self._add(moves)

    def _add(self, moves: Moves) -> None:
        unfinished, all_unfinished = self._unfinished, self._all_unfinished
        for key, change in moves.unfinished.items():
            if change:
                left = unfinished.get(key, 0) + change
                if left:
                    unfinished[key] = left
                else:  # of ten thousand jobs few have a task at any one time
                    del unfinished[key]
                all_unfinished[key[1]] += change
        for key, sums in moves.final.items():
            all_final = self._all_final.get(key[1])
            if all_final is None:
                all_final = self._all_final[key[1]] = _Sums()
            all_final.add(sums)
            mine = self._final.get(key)
            if mine is None:
                mine = self._final[key] = _Sums()
            mine.add(sums)

    def metrics(self, job_id: str | None = None) -> Metrics:
        """The figures of all tasks, or of one job's; the cost does not depend on how many there are."""
        with self._lock:
            if job_id is None:
                sums = self._all_final
                unfinished = {status: self._all_unfinished[status] for status in TaskStatus}
            else:
                sums = {status: self._final[job_id, status] for status in FINAL if (job_id, status) in self._final}
                unfinished = {status: self._unfinished.get((job_id, status), 0) for status in TaskStatus}
            return _metrics(sums.items(), unfinished)

    def ran(self, job_id: str | None = None) -> tuple[int, float]:
        """Final tasks that ran, and the seconds of their last attempts together; of all jobs, or of one."""
        with self._lock:
            if job_id is None:
                sums = list(self._all_final.values())
            else:
                sums = [self._final[job_id, status] for status in FINAL if (job_id, status) in self._final]
            return sum(one.timed for one in sums), sum(one.duration_s for one in sums)


def _metrics(finals: Iterable[tuple[TaskStatus, _Sums]], unfinished: dict[TaskStatus, int]) -> Metrics:
    by_status, together = dict(unfinished), _Sums()
    for status, sums in finals:
        by_status[status] = sums.tasks
        together.add(sums)
    tried = sum(by_status[status] for status in TRIED)
    return Metrics(
        total_tasks=sum(by_status.values()),
        by_status=by_status,
        success_rate=100.0 * by_status[TaskStatus.SUCCESS] / tried if tried else 0.0,
        average_duration_s=together.duration_s / together.timed if together.timed else None,
        min_duration_s=together.min_s,
        max_duration_s=together.max_s,
    )
