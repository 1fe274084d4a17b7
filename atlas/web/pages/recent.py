"""What a job did lately: its newest tasks, their durations, and the cells of its lane.

Everything is read per job along the index (job, time), only for the jobs a page shows, and kept until a task of the job
moves.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, case, func, select

from atlas.scheduler.events import JobEvent, TaskEvent
from atlas.scheduler.store.tables import fires, tasks
from atlas.scheduler.store.task_rows import instant
from atlas.web.pages.rollup import step_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    """One job's newest tasks (newest first) and cells."""

    tasks: tuple[Brief, ...] = ()
    cells: dict[int, Counter[str]] = field(default_factory=dict)
    read_at: float = 0.0
    version: int = -1

    @property
    def last(self) -> Brief | None:
        """The newest task."""
        return self.tasks[0] if self.tasks else None

    @property
    def last_final(self) -> Brief | None:
        """The newest task that ended."""
        return next((task for task in self.tasks if task.finished_at is not None), None)

    @property
    def shown(self) -> str | None:
        """The status the job is marked with: what it does now, else how it ended."""
        last = self.last
        return None if last is None else last.status

    def durations(self) -> list[float]:
        """Seconds of its newest successes, sorted."""
        return sorted(
            task.duration_s for task in self.tasks if task.status == "SUCCESS" and task.duration_s is not None
        )

    def duration_s(self, share: float) -> float | None:
        """The duration that ``share`` of its successes stay below; None when there is none."""
        found = self.durations()
        return found[min(len(found) - 1, int(share * len(found)))] if found else None

    @property
    def success_rate(self) -> float | None:
        """0 to 100 over its newest final tasks, None when nothing counts."""
        ended = Counter(task.status for task in self.tasks)
        good, bad = ended["SUCCESS"], ended["FAILED"] + ended["TIMEOUT"]
        return None if good + bad == 0 else 100.0 * good / (good + bad)

    @property
    def bad_in_a_row(self) -> int:
        """How many of its newest final tasks did not succeed, up to the first that did."""
        count = 0
        for task in self.tasks:
            if task.status in {"FAILED", "TIMEOUT"}:
                count += 1
            elif task.status == "SUCCESS":
                break
        return count


def worst_of(cell: Counter[str]) -> str:
    """What a cell shows."""
    for status in WORST:
        if cell[status] or (status == "RETRYING" and cell["WAITING"]):
            return status
    return "SUCCESS"


class Recent:
    """Keeps what was read of the jobs that pages show."""

    def __init__(self, store: Store) -> None:
        """Hear what moves from now on."""
        self._store = store
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, JobRecent] = OrderedDict()
        self._versions: dict[str, int] = {}
        self._all = 0
        self._leave = store.events.subscribe(self._hear)
        store.on_foreign(self.forget)

    def close(self) -> None:
        """Hear nothing more."""
        self._leave()
        self._store.off_foreign(self.forget)

    def forget(self) -> None:
        """Read everything anew next time."""
        self._all += 1

    def _hear(self, event: Event) -> None:
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
        grouped = _cells_statement(connection.dialect.name)
        for job_id, mine, version in stale:
            rows = connection.execute(_NEWEST, {"job_id": job_id}).all()
            mine.tasks = tuple(_brief(row) for row in rows)
            # Cells whose tasks have all ended stay as they are; a task is only ever made now.
            open_from = min(
                (key for key, cell in mine.cells.items() if any(cell[status] for status in _UNFINISHED)),
                default=int(mine.read_at // CELL_S) - 1,
            )
            first = max(oldest, open_from) if mine.version >= 0 and mine.cells else oldest
            for key in [key for key in mine.cells if key >= first or key < oldest]:
                del mine.cells[key]
            values = {"job_id": job_id, "since": first * CELL_S}
            for key, shown, count in connection.execute(grouped, values):
                mine.cells.setdefault(key, Counter())[shown] += count
            for row in connection.execute(_SKIPS, values):
                key = max(first, int(row.fire_time // CELL_S))
                mine.cells.setdefault(key, Counter())["SKIPPED"] += row.times or 1
            mine.version, mine.read_at = version, now_s


_COLUMNS: Final = tuple(tasks.c[name] for name in Brief.__slots__)
_NEWEST: Final = (
    select(*_COLUMNS)
    .where(tasks.c.job_id == bindparam("job_id"))
    .order_by(tasks.c.created_at.desc(), tasks.c.id.desc())
    .limit(NEWEST)
)
_SKIPS: Final = (
    select(fires.c.fire_time, fires.c.count.label("times"))
    .where(
        fires.c.job_id == bindparam("job_id"),
        fires.c.fire_time >= bindparam("since"),
        fires.c.skip_reason.is_not(None),
    )
    .limit(200)
)
_grouped: dict[str, Any] = {}


def _cells_statement(dialect: str) -> Any:
    if dialect not in _grouped:
        key = step_of(tasks.c.created_at, CELL_S, dialect).label("cell")
        shown = case(
            (tasks.c.status == "RETRYING", "WAITING"),
            ((tasks.c.status == "SUCCESS") & (tasks.c.failures > 0), "RETRYING"),
            else_=tasks.c.status,
        ).label("shown")
        _grouped[dialect] = (
            select(key, shown, func.count())
            .where(tasks.c.job_id == bindparam("job_id"), tasks.c.created_at >= bindparam("since"))
            .group_by(key, shown)
        )
    return _grouped[dialect]


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
