"""A pass of the scheduler: what it decided about everything that is due, and how that becomes one commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from loguru import logger
from sqlalchemy import and_, bindparam, delete, func, insert, null, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.store.statements import Statement, update_rows
from atlas.scheduler.store.tables import fires, jobs
from atlas.scheduler.store.task_rows import full_row, insert_tasks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from atlas.scheduler.events import JobEvent
    from atlas.scheduler.job_records import JobRecord
    from atlas.scheduler.schedule import Schedule
    from atlas.scheduler.task import ExecutorKind, Task


MAX_FREE: Final = 1000
"""As many fire times of a range that begins anew are counted."""


@dataclass(slots=True, eq=False)
class Pass:
    """What one pass of the scheduler decided; written in one commit.

    Attributes:
        now: The instant APScheduler works with.
        next_run: Job → its next starting time.
        ended: Jobs that have no further one.
        fires: Rows of ``fires`` that are new.
        longer: Rows of ``fires`` that go on: ranges of skips, with their new end and how many more they hold.
        tasks: Tasks to insert, each named by one of ``fires``.
        replaces: New task → the tasks whose end it asks for.
        events: Told behind the commit.
        executors: Function and the executor asked for → where it runs, or why it cannot.
        schedules: Job with a range of skips → when it fires.
    """

    now: datetime
    next_run: dict[str, datetime] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    fires: list[dict[str, Any]] = field(default_factory=list)
    longer: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    replaces: dict[str, list[str]] = field(default_factory=dict)
    events: list[JobEvent] = field(default_factory=list)
    executors: dict[tuple[str, ExecutorKind | None], ExecutorKind | str] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    _after: dict[tuple[int, datetime], datetime | None] = field(default_factory=dict)

    def first_after(self, schedule: Schedule, fire_time: datetime) -> datetime | None:
        """First fire time strictly after one; worked out once for all jobs of a schedule that are due together."""
        key = (id(schedule), fire_time)
        if key not in self._after:
            self._after[key] = schedule.next_after(fire_time)
        return self._after[key]

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


_MOVING: Final = ("id", "next_run_time")
_MOVE: Final = Statement(
    update_rows(
        jobs,
        _MOVING,
        lambda update, new: update.where(jobs.c.id == new["id"]).values(next_run_time=new["next_run_time"]),
    ),
    _MOVING,
)
_FIRES: Final = Statement(lambda _database: insert(fires))


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


def write_pass(connection: Connection, decided: Pass) -> list[Task]:
    """Write a pass; returns the tasks whose fire time was free. A fire time that is served already is left as it is."""
    kept = decided.tasks
    if decided.fires:
        try:
            with connection.begin_nested():
                _FIRES.run(connection, decided.fires)
        except IntegrityError:
            kept = _write_free_fires(connection, decided)
    reached(CrashPoint.PASS_FIRES_WRITTEN)
    insert_tasks(connection, [full_row(task) for task in kept])
    _write_longer(connection, decided)
    moves: list[tuple[str, float | None]] = [(job_id, at.timestamp()) for job_id, at in decided.next_run.items()]
    _MOVE.run(connection, moves + [(job_id, None) for job_id in decided.ended])
    reached(CrashPoint.PASS_WRITTEN)
    return kept


def _write_free_fires(connection: Connection, decided: Pass) -> list[Task]:
    rows = [
        row
        for start in range(0, len(decided.fires), 400)
        for row in connection.execute(
            select(fires.c.job_id, fires.c.fire_time, fires.c.task_id, fires.c.decided_at).where(
                tuple_(fires.c.job_id, fires.c.fire_time).in_(
                    [(row["job_id"], row["fire_time"]) for row in decided.fires[start : start + 400]],
                ),
            ),
        )
    ]
    served = {(row.job_id, row.fire_time): (row.task_id, row.decided_at) for row in rows}
    once = {(row["job_id"], row["fire_time"]): row for row in reversed(decided.fires)}
    free = [row for key, row in once.items() if key not in served]
    # A commit whose reply was lost is written again: what it finds there is its own.
    mine = [row for key, row in once.items() if served.get(key) == (row["task_id"], row["decided_at"])]
    twice = len(decided.fires) - len(free) - len(mine)
    if twice:
        logger.warning("fire times were served already; they are not served twice", fires=twice)
    _FIRES.run(connection, free)
    taken = [row for key, row in once.items() if key in served and row not in mine]
    ranges = [row for row in taken if row["last"] is not None and row["last"] > row["fire_time"]]
    _write_rests(connection, decided, [(row, row["fire_time"]) for row in ranges])
    kept = {row["task_id"] for row in free + mine}
    return [task for task in decided.tasks if task.id in kept]


def _write_longer(connection: Connection, decided: Pass) -> None:
    """Let ranges of skips go on; one whose row is another's, or is gone and was later, begins anew."""
    if not decided.longer:
        return
    keys = [(row["job_id"], row["fire_time"]) for row in decided.longer]
    statement = select(fires.c.job_id, fires.c.fire_time, fires.c.skip_reason)
    there = {
        (row.job_id, row.fire_time): row.skip_reason
        for start in range(0, len(keys), 400)
        for row in connection.execute(
            statement.where(tuple_(fires.c.job_id, fires.c.fire_time).in_(keys[start : start + 400]))
        )
    }
    goes_on: list[dict[str, Any]] = []
    anew: list[dict[str, Any]] = []
    for key, row in zip(keys, decided.longer, strict=True):
        same = there[key] == row["skip_reason"] if key in there else row["fire_time"] <= row["since"]
        (goes_on if same else anew).append(row)
    _LONGER.run(connection, goes_on)
    _write_rests(connection, decided, [(row, row["since"]) for row in anew])


def _write_rests(connection: Connection, decided: Pass, ranges: Sequence[tuple[dict[str, Any], float]]) -> None:
    """Write of each range (its row, its first fire time) what nobody has served: its beginning may have been.

    A wall clock that was set back lets fire times become due that were served before, and the range goes beyond them.
    """
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
            _FIRES.run(connection, [{**row, "fire_time": free[0], "count": count}])


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
