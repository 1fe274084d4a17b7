"""What a job did lately: its newest tasks, their durations, and the cells of its lane.

Everything is read per job along the index (job, time), only for the jobs a page shows, and kept until a task of the job
moves.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BindParameter, bindparam, case, func, select

from atlas.scheduler.events import JobEvent, TaskEvent
from atlas.scheduler.store.tables import fires, tasks
from atlas.scheduler.store.task_rows import instant
from atlas.web.pages.rollup import step_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from atlas.scheduler.events import Event
    from atlas.scheduler.store.store import Store

CELL_S: Final = 1800
DAY_S: Final = 86_400
NEWEST: Final = 60
"""Tasks of a job that count for its durations and its rate."""
_KEPT_JOBS: Final = 1_000
WORST: Final = ("FAILED", "TIMEOUT", "RETRYING", "CANCELLED", "RUNNING", "PENDING", "SUCCESS", "SKIPPED")
"""What a cell shows of what is in it; RETRYING stands for tried again, also when it succeeded then."""
_UNFINISHED: Final = frozenset({"PENDING", "RUNNING", "WAITING"})
_LIVE: Final = frozenset({"PENDING", "RUNNING", "RETRYING"})
_BAD: Final = frozenset({"FAILED", "TIMEOUT"})


@dataclass(frozen=True, slots=True)
class Brief:
    """A task in few words."""

    id: str
    status: str
    created_at: datetime
    fire_time: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    due_at: datetime | None
    attempt: int
    failures: int

    @property
    def duration_s(self) -> float | None:
        """Seconds of the latest attempt, None before its end."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())

    @property
    def shown(self) -> str:
        """The status to draw: a success that needed a retry is drawn as retried."""
        return "RETRYING" if self.status == "SUCCESS" and self.failures else self.status


@dataclass(slots=True)
class JobRecent:
    """One job's newest tasks (newest first) and cells.

    Attributes:
        cells: Number of a half hour since 1970 → what its tasks came to → how many.
        read_at: When it was read, seconds since 1970.
        version: Of which state of the job.
        success_rate: 0 to 100 over its newest final tasks, None when nothing counts.
        bad_in_a_row: How many of its newest final tasks did not succeed, up to the first that did.
    """

    cells: dict[int, dict[str, int]] = field(default_factory=dict)
    read_at: float = 0.0
    version: int = -1
    _rows: Sequence[Any] = ()
    _tasks: tuple[Brief, ...] | None = None
    _durations: list[float] = field(default_factory=list)
    success_rate: float | None = None
    bad_in_a_row: int = 0

    def take(self, rows: Sequence[Any]) -> None:
        """The newest tasks are these rows; most pages need little of them, so they become tasks when asked for."""
        self._rows, self._tasks = rows, None
        self._durations = sorted(
            max(0.0, row.finished_at - row.started_at)
            for row in rows
            if row.status == "SUCCESS" and row.finished_at is not None and row.started_at is not None
        )
        statuses = [row.status for row in rows]
        good, bad = statuses.count("SUCCESS"), sum(status in _BAD for status in statuses)
        self.success_rate = 100.0 * good / (good + bad) if good + bad else None
        newest = statuses[: statuses.index("SUCCESS")] if good else statuses
        self.bad_in_a_row = sum(status in _BAD for status in newest)

    @property
    def tasks(self) -> tuple[Brief, ...]:
        """The newest tasks."""
        if self._tasks is None:
            self._tasks = tuple(_brief(row) for row in self._rows)
        return self._tasks

    @property
    def last(self) -> Brief | None:
        """The newest task."""
        return _brief(self._rows[0]) if self._rows else None

    @property
    def last_final(self) -> Brief | None:
        """The newest task that ended."""
        return next((_brief(row) for row in self._rows if row.finished_at is not None), None)

    @property
    def unfinished(self) -> bool:
        """True if one of its newest tasks has not ended."""
        return any(row.status in _LIVE for row in self._rows)

    @property
    def shown(self) -> str | None:
        """The status the job is marked with: what it does now, else how it ended."""
        return self._rows[0].status if self._rows else None

    def duration_s(self, share: float) -> float | None:
        """The duration that ``share`` of its successes stay below; None when there is none."""
        found = self._durations
        return found[min(len(found) - 1, int(share * len(found)))] if found else None


def worst_of(cell: Mapping[str, int]) -> str:
    """What a cell shows."""
    for status in WORST:
        if cell.get(status) or (status == "RETRYING" and cell.get("WAITING")):
            return status
    return "SUCCESS"


class Recent:
    """Keeps what was read of the jobs that pages show."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, JobRecent] = OrderedDict()
        self._versions: dict[str, int] = {}
        self._all = 0

    def forget(self) -> None:
        """Read everything anew next time."""
        self._all += 1

    def hear(self, event: Event) -> None:
        """A task of the job moved, or the job itself: what is known of it is old."""
        if isinstance(event, TaskEvent | JobEvent) and event.job_id in self._versions:
            self._versions[event.job_id] += 1

    def of(self, job_ids: Sequence[str], now: datetime) -> dict[str, JobRecent]:
        """What each of the jobs did lately."""
        with self._lock:
            stale = []
            for job_id in job_ids:
                version = self._versions.setdefault(job_id, 0) + self._all * 1_000_000_007
                mine = self._jobs.setdefault(job_id, JobRecent())
                self._jobs.move_to_end(job_id)
                if mine.version != version or now.timestamp() - mine.read_at > CELL_S:
                    stale.append((job_id, mine, version))
            if stale:
                self._store.read(lambda connection: self._read(connection, stale, now.timestamp()))
            found = {job_id: self._jobs[job_id] for job_id in job_ids}
            while len(self._jobs) > max(_KEPT_JOBS, len(job_ids)):
                gone, _ = self._jobs.popitem(last=False)
                self._versions.pop(gone, None)
            return found

    @staticmethod
    def _read(connection: Connection, stale: Iterable[tuple[str, JobRecent, int]], now_s: float) -> None:
        oldest = int((now_s - DAY_S) // CELL_S)
        together: dict[int, dict[str, JobRecent]] = {}
        for job_id, mine, version in stale:
            mine.take(connection.execute(_NEWEST, {"job_id": job_id}).all())
            # Cells whose tasks have all ended stay as they are; a task is only ever made now.
            open_from = min(
                (key for key, cell in mine.cells.items() if not _UNFINISHED.isdisjoint(cell)),
                default=int(mine.read_at // CELL_S) - 1,
            )
            first = max(oldest, open_from) if mine.version >= 0 and mine.cells else oldest
            for key in [key for key in mine.cells if key >= first or key < oldest]:
                del mine.cells[key]
            together.setdefault(first, {})[job_id] = mine
            mine.version, mine.read_at = version, now_s
        cells, skips = _statements(connection.dialect.name)
        last = int(now_s // CELL_S)
        for first, jobs in together.items():
            values = {"job_ids": list(jobs), "since": first * CELL_S}
            for job_id, key, shown, count in connection.execute(cells, values):
                cell = jobs[job_id].cells.setdefault(key, {})
                cell[shown] = cell.get(shown, 0) + count
            for job_id, key, count in connection.execute(skips, values):
                cell = jobs[job_id].cells.setdefault(max(first, key), {})
                cell["SKIPPED"] = cell.get("SKIPPED", 0) + int(count)
            ranges = list(connection.execute(_RANGES, values))
            for job_id in jobs:  # a range that began before is the last thing that was decided before
                ranges += connection.execute(_BEFORE, {"job_id": job_id, "since": values["since"]})
            for row in ranges:
                for key, count in _by_cell(row, first, last):
                    cell = jobs[row.job_id].cells.setdefault(key, {})
                    cell["SKIPPED"] = cell.get("SKIPPED", 0) + count


def _by_cell(row: Any, first: int, last: int) -> Iterator[tuple[int, int]]:
    """A range of skips by the cells from ``first`` to ``last``: evenly; one in each where their number is not known."""
    begin_s, end_s, count = float(row.fire_time), float(row.last), int(row.times or 0)

    def before(at_s: float) -> int:
        return max(0, min(count, math.ceil((at_s - begin_s) / (end_s - begin_s) * (count - 1) - 1e-6)))

    for key in range(max(first, int(begin_s // CELL_S)), min(last, int(end_s // CELL_S)) + 1):
        here = 1 if not count else before((key + 1) * CELL_S) - before(key * CELL_S)
        if here:
            yield key, here


_COLUMNS: Final = tuple(tasks.c[name] for name in Brief.__slots__)
_NEWEST: Final = (
    select(*_COLUMNS)
    .where(tasks.c.job_id == bindparam("job_id"))
    .order_by(tasks.c.created_at.desc(), tasks.c.id.desc())
    .limit(NEWEST)
)
_SPAN: Final = select(fires.c.job_id, fires.c.fire_time, fires.c.last, fires.c.count.label("times"))
_IS_RANGE: Final = fires.c.skip_reason.is_not(None) & (fires.c.last > fires.c.fire_time)
_OF_JOBS: Final[BindParameter[str]] = bindparam("job_ids", expanding=True)
_RANGES: Final = _SPAN.where(fires.c.job_id.in_(_OF_JOBS), fires.c.fire_time >= bindparam("since"), _IS_RANGE)
_latest: Final = (
    select(fires)
    .where(fires.c.job_id == bindparam("job_id"), fires.c.fire_time < bindparam("since"))
    .order_by(fires.c.fire_time.desc())
    .limit(1)
    .subquery()
)
_BEFORE: Final = select(_latest.c.job_id, _latest.c.fire_time, _latest.c.last, _latest.c.count.label("times")).where(
    _latest.c.skip_reason.is_not(None), _latest.c.last >= bindparam("since")
)


@cache
def _statements(dialect: str) -> tuple[Any, Any]:
    """Cells of tasks, and of single skips, of several jobs at once."""
    cell = step_of(tasks.c.created_at, CELL_S, dialect).label("cell")
    shown = case(
        (tasks.c.status == "RETRYING", "WAITING"),
        ((tasks.c.status == "SUCCESS") & (tasks.c.failures > 0), "RETRYING"),
        else_=tasks.c.status,
    ).label("shown")
    since: BindParameter[float] = bindparam("since")
    of_skips = step_of(fires.c.fire_time, CELL_S, dialect).label("cell")
    return (
        select(tasks.c.job_id, cell, shown, func.count())
        .where(tasks.c.job_id.in_(_OF_JOBS), tasks.c.created_at >= since)
        .group_by(tasks.c.job_id, cell, shown),
        select(fires.c.job_id, of_skips, func.count())
        .where(
            fires.c.job_id.in_(_OF_JOBS),
            fires.c.fire_time >= since,
            fires.c.skip_reason.is_not(None),
            func.coalesce(fires.c.last, fires.c.fire_time) <= fires.c.fire_time,
        )
        .group_by(fires.c.job_id, of_skips),
    )


def _brief(row: Any) -> Brief:
    return Brief(
        id=row.id,
        status=row.status,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        fire_time=instant(row.fire_time),
        started_at=instant(row.started_at),
        finished_at=instant(row.finished_at),
        due_at=instant(row.due_at),
        attempt=row.attempt,
        failures=row.failures,
    )
