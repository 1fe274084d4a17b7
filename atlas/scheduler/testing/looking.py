"""What tests read of a store: the tasks of a job, and what became of its fire times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from atlas.scheduler.store.tables import fires, tasks
from atlas.scheduler.store.task_rows import task_of

if TYPE_CHECKING:
    from sqlalchemy import Row

    from atlas.scheduler.store.store import Store
    from atlas.scheduler.task import Task


def tasks_of(store: Store, job: str) -> list[Task]:
    """The job's tasks, oldest fire time first."""
    statement = select(tasks).where(tasks.c.job_id == job).order_by(tasks.c.fire_time, tasks.c.id)
    return store.read(lambda connection: [task_of(row) for row in connection.execute(statement)])


def fires_of(store: Store, job: str) -> list[Row[Any]]:
    """The job's fire times as they were decided, oldest first: rows of the table ``fires``."""
    statement = select(fires).where(fires.c.job_id == job).order_by(fires.c.fire_time)
    return store.read(lambda connection: list(connection.execute(statement)))


def decision(row: Row[Any]) -> str:
    """A fire in short, in UTC: ``12:01 task``, ``12:02 skip paused`` or ``12:03-12:05 skip paused x3``."""

    def clock(value: float) -> str:
        at = datetime.fromtimestamp(value, UTC)
        return at.strftime("%H:%M" if at.second == 0 else "%H:%M:%S")

    when = clock(row.fire_time)
    if row.task_id is not None:
        return f"{when} task"
    count = row._mapping["count"]  # noqa: SLF001 - documented; a row has a method of this name
    if row.last == row.fire_time and count == 1:
        return f"{when} skip {row.skip_reason}"
    return f"{when}-{clock(row.last)} skip {row.skip_reason} x{count}"
