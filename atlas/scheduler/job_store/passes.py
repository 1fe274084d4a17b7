"""A pass of the scheduler: what it decided about everything that is due, and how that becomes one commit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from loguru import logger
from sqlalchemy import and_, bindparam, delete, func, null, select, tuple_, update

from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.events import JobEvent, JobEventKind
from atlas.scheduler.store.statements import Statement, update_rows
from atlas.scheduler.store.tables import fires, jobs
from atlas.scheduler.store.task_rows import insert_new_tasks, new_row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Column, Connection, Row

    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.schedule import Schedule
    from atlas.scheduler.task import ExecutorKind, Task

    Places = dict[tuple[str, ExecutorKind | None], ExecutorKind | str]
    """Function and the executor asked for → where it runs, or why it cannot: many jobs name the same."""


_Key = tuple[str, float]
"""A job and a fire time."""
MAX_FREE: Final = 1000
"""As many fire times of a range that begins anew are counted."""


class Written(NamedTuple):
    """What of a pass is on disk."""

    tasks: list[Task]
    """Tasks whose fire time was free."""
    events: list[JobEvent]
    """What is told of the skips that were written."""


class Served(NamedTuple):
    """A new row of ``fires`` that names the task of a fire time, the other columns are NULL."""

    job_id: str
    fire_time: float
    task_id: str
    decided_at: float
    revision: int | None


class Skipped(NamedTuple):
    """One event for the rows of ``fires`` it tells of."""

    event: JobEvent
    rows: Sequence[dict[str, Any]]


@dataclass(slots=True, eq=False)
class Pass:
    """What one pass of the scheduler decided; written in one commit.

    Attributes:
        now: The instant APScheduler works with.
        next_run: Job → its next starting time.
        ended: Jobs that have no further one.
        served: Rows of ``fires`` that are new, each with its task.
        skipped: Rows of ``fires`` that are new and skips.
        longer: Rows of ``fires`` that go on: ranges of skips, with their new end and how many more they hold.
        tasks: Tasks to insert, each named by one of ``served``.
        skips: Message behind the commit, of the rows that were written.
        faults: Jobs on which it could not be decided, so that skips are stored → why.
        refused: Jobs of which an earlier pass could not be written, and that shall have skips → why.
        places: Where functions run, as far as it was asked for.
        schedules: Job with a range of skips → when it fires.
    """

    now: datetime
    next_run: dict[str, datetime] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    served: list[Served] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    longer: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    skips: list[Skipped] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    places: Places = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    _after: dict[tuple[int, datetime], datetime | None] = field(default_factory=dict)

    @property
    def job_ids(self) -> list[str]:
        """Every job it decides on, in order."""
        served = (row.job_id for row in self.served)
        skipped = (row["job_id"] for row in (*self.skipped, *self.longer))
        return list(dict.fromkeys((*self.next_run, *self.ended, *served, *skipped)))

    def only(self, job_ids: Collection[str]) -> Pass:
        """What it decides on these jobs."""
        ids = frozenset(job_ids)
        return replace(
            self,
            next_run={job_id: at for job_id, at in self.next_run.items() if job_id in ids},
            ended=self.ended & ids,
            served=[row for row in self.served if row.job_id in ids],
            skipped=[row for row in self.skipped if row["job_id"] in ids],
            longer=[row for row in self.longer if row["job_id"] in ids],
            tasks=[task for task in self.tasks if task.job_id in ids],
            skips=[one for one in self.skips if one.event.job_id in ids],
            faults={job_id: why for job_id, why in self.faults.items() if job_id in ids},
        )

    def take_out(self, job_id: str) -> list[Task]:
        """Forget what it decides on a job, but for its next start; returns the tasks that were made for it."""
        tasks = [task for task in self.tasks if task.job_id == job_id]
        self.served = [row for row in self.served if row.job_id != job_id]
        self.skipped = [row for row in self.skipped if row["job_id"] != job_id]
        self.longer = [row for row in self.longer if row["job_id"] != job_id]
        self.tasks = [task for task in self.tasks if task.job_id != job_id]
        self.skips = [one for one in self.skips if one.event.job_id != job_id]
        return tasks

    def first_after(self, schedule: Schedule, fire_time: datetime) -> datetime | None:
        """First fire time strictly after one; worked out once for all jobs of a schedule that are due together."""
        key = (id(schedule), fire_time)
        if key not in self._after:
            self._after[key] = schedule.next_after(fire_time)
        return self._after[key]

    def starts_later(self, record: JobRecord) -> bool:
        """True if a job that counted as due is not: nobody could say its first start, and now it lies ahead.

        Raises:
            Exception: What its schedule raises, which still cannot say it.
        """
        first = record.start()
        if first is None:
            self.ended.add(record.id)
            return True
        record.next_run = first  # its row says the same in other words, until the commit
        if first <= self.now:
            return False
        self.next_run[record.id] = first
        return True

    def following(self, record: JobRecord) -> datetime | None:
        """When a due job starts next, behind this pass; None when it has ENDED."""
        trigger = record.trigger
        if record.next_run is None:
            return None
        first = self.first_after(trigger.schedule, trigger.fire_time_of(record.next_run))
        present = trigger.fire_time_of(self.now)
        if first is not None and first <= present:
            first = self.first_after(trigger.schedule, present)
        return None if first is None else trigger.run_time_of(first)


def skip_event(decided: Pass, row: Mapping[str, Any], count: int | None) -> JobEvent:
    """What is told of a skip with this row, and of so many fire times."""
    facts = {"reason": row["skip_reason"], "fire_times": count, "detail": row["detail"]}
    return JobEvent(job_id=row["job_id"], kind=JobEventKind.SKIPPED, at=decided.now, detail=facts)


_MOVING: Final = ("id", "next_run_time")
_MOVE: Final = Statement(
    update_rows(
        jobs,
        _MOVING,
        lambda update, new: update.where(jobs.c.id == new["id"]).values(next_run_time=new["next_run_time"]),
    ),
    _MOVING,
)
_SERVED: Final = Statement(
    lambda database: (
        database.insert(fires).values({name: bindparam(name) for name in Served._fields}).on_conflict_do_nothing()
    ),
    Served._fields,
)
_SKIPPED: Final = Statement(lambda database: database.insert(fires).on_conflict_do_nothing())


def _longer(database: Any) -> Any:
    # Rows that went meanwhile (retention, a pass that was not written) are made again, and a row that is sent twice
    # counts once.
    statement = database.insert(fires)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["job_id", "fire_time"],
        set_={"last": new.last, "count": fires.c.count + new.count},
        where=and_(fires.c.skip_reason == new.skip_reason, fires.c.last < new.last),
    )


_LONGER: Final = Statement(_longer)


_OF_JOB: Final = and_(fires.c.job_id == bindparam("b_id"), fires.c.skip_reason.is_not(None))
_FORGET_LATER: Final = delete(fires).where(_OF_JOB, fires.c.fire_time > bindparam("b_now"))
_CUT: Final = (
    update(fires)
    .where(_OF_JOB, fires.c.fire_time <= bindparam("b_now"), fires.c.last > bindparam("b_now"))
    .values(last=bindparam("b_now"), count=null())
)


def write_earlier_starts(connection: Connection, starts: Mapping[str, datetime], now: datetime) -> None:
    """Move jobs to earlier starts, and end their stored skips at ``now``."""
    ids = [{"b_id": job_id, "b_now": now.timestamp()} for job_id in starts]
    connection.execute(_FORGET_LATER, ids)
    connection.execute(_CUT, ids)
    _MOVE.run(connection, [(job_id, at.timestamp()) for job_id, at in starts.items()])


def write_pass(connection: Connection, decided: Pass) -> Written:
    """Write a pass. A fire time that is served already is left as it is: its task is not made, its skip not told."""
    written = Written(decided.tasks, [one.event for one in decided.skips])
    new = _SERVED.run(connection, decided.served) + _SKIPPED.run(connection, decided.skipped)
    if new < len(decided.served) + len(decided.skipped):
        written = _without_served(connection, decided)
    reached(CrashPoint.PASS_FIRES_WRITTEN)
    insert_new_tasks(connection, [new_row(task) for task in written.tasks])
    written.events.extend(_write_longer(connection, decided))
    moves: list[tuple[str, float | None]] = [(job_id, at.timestamp()) for job_id, at in decided.next_run.items()]
    _MOVE.run(connection, moves + [(job_id, None) for job_id in decided.ended])
    reached(CrashPoint.PASS_WRITTEN)
    return written


def _without_served(connection: Connection, decided: Pass) -> Written:
    """What is left of a pass of which fire times were served already; the rows of the others are there."""
    tasks: dict[_Key, str] = {}
    skips: dict[_Key, dict[str, Any]] = {}
    for one in reversed(decided.served):  # of two for one fire time the first was written
        tasks[one.job_id, one.fire_time] = one.task_id
    for row in reversed(decided.skipped):
        skips[row["job_id"], row["fire_time"]] = row
    rows = _rows_of(connection, [*tasks.keys() | skips.keys()], fires.c.task_id, fires.c.decided_at)
    there = {key: (row.task_id, row.decided_at) for key, row in rows}
    # Also if the reply to a commit was lost and it is written again: what it finds there is its own.
    decided_at = decided.now.timestamp()
    kept = {task_id for key, task_id in tasks.items() if there[key] == (task_id, decided_at)}
    own = [row for key, row in skips.items() if there[key] == (None, decided_at)]
    twice = len(decided.served) + len(decided.skipped) - len(kept) - len(own)
    if twice:
        logger.warning("fire times were served already; they are not served twice", fires=twice)
    counts = {id(row): row["count"] for row in own}
    ranges = [row for row in skips.values() if id(row) not in counts and row["last"] > row["fire_time"]]
    rests = _write_rests(connection, decided, [(row, row["fire_time"]) for row in ranges])
    counts |= {id(row): count for row, count in rests}
    return Written([task for task in decided.tasks if task.id in kept], list(_told(decided.skips, counts)))


def _rows_of(connection: Connection, keys: Sequence[_Key], *columns: Column[Any]) -> Iterator[tuple[_Key, Row[Any]]]:
    """Those of these fire times that have a row, with what it holds in ``columns``."""
    for start in range(0, len(keys), 400):
        some = tuple_(fires.c.job_id, fires.c.fire_time).in_(keys[start : start + 400])
        for row in connection.execute(select(fires.c.job_id, fires.c.fire_time, *columns).where(some)):
            yield (row.job_id, row.fire_time), row


def _told(skips: Sequence[Skipped], counts: Mapping[int, int | None]) -> Iterable[JobEvent]:
    """The events of rows that were written; ``counts`` holds how many fire times each of these rows has."""
    for event, rows in skips:
        written = [counts[id(row)] for row in rows if id(row) in counts]
        if written:
            total = None if None in written else sum(count or 0 for count in written)
            yield replace(event, detail={**event.detail, "fire_times": total})


def _write_longer(connection: Connection, decided: Pass) -> list[JobEvent]:
    """Let ranges of skips go on; one whose row is another's, or is gone and was later, begins anew.

    Returns what is told of those that have a new row: whose beginning was never written, or was served.
    """
    if not decided.longer:
        return []
    keys = [(row["job_id"], row["fire_time"]) for row in decided.longer]
    there = {key: row.skip_reason for key, row in _rows_of(connection, keys, fires.c.skip_reason)}
    goes_on: list[dict[str, Any]] = []
    anew: list[dict[str, Any]] = []
    for key, row in zip(keys, decided.longer, strict=True):
        same = there[key] == row["skip_reason"] if key in there else row["fire_time"] <= row["since"]
        (goes_on if same else anew).append(row)
    _LONGER.run(connection, goes_on)
    new = [(row, row["count"]) for row in goes_on if (row["job_id"], row["fire_time"]) not in there]
    rests = _write_rests(connection, decided, [(row, row["since"]) for row in anew])
    return [skip_event(decided, row, count) for row, count in new + rests]


def _write_rests(
    connection: Connection, decided: Pass, ranges: Sequence[tuple[dict[str, Any], float]]
) -> list[tuple[dict[str, Any], int | None]]:
    """Write of each range (its row, its first fire time) what nobody has served: its beginning may have been.

    Returns the rows of which something was left, with how many fire times.

    A wall clock that was set back lets fire times become due that were served before, and the range goes beyond them.
    """
    rests: list[tuple[dict[str, Any], int | None]] = []
    for row, first in ranges:
        statement = select(fires.c.fire_time, func.coalesce(fires.c.last, fires.c.fire_time).label("last")).where(
            fires.c.job_id == row["job_id"],
            fires.c.fire_time <= row["last"],
            func.coalesce(fires.c.last, fires.c.fire_time) >= first,
        )
        served = [(one.fire_time, one.last) for one in connection.execute(statement)]
        free = _free(decided.schedules[row["job_id"]], first, row["last"], served)
        if free:
            count = row["count"] if row["count"] is None else len(free)
            _SKIPPED.run(connection, [{**row, "fire_time": free[0], "count": count}])
            rests.append((row, count))
    return rests


def _free(schedule: Schedule, first: float, last: float, served: Sequence[tuple[float, float]]) -> list[float]:
    """Fire times from ``first`` to ``last`` in none of the ranges ``served``; of very many the first ones."""
    found: list[float] = []
    at: datetime | None = datetime.fromtimestamp(first, UTC)
    while at is not None and at.timestamp() <= last and len(found) < MAX_FREE:
        ends = [end for begin, end in served if begin <= at.timestamp() <= end]
        if ends:
            at = schedule.next_after(datetime.fromtimestamp(max(ends), UTC))
        else:
            found.append(at.timestamp())
            at = schedule.next_after(at)
    return found
