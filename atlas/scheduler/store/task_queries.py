"""Reading tasks: by status, job, time and text, newest first, along the indexes."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, or_, select

from atlas.scheduler.errors import ArgumentsError
from atlas.scheduler.store.tables import attempts, tasks
from atlas.scheduler.store.task_rows import SELECT, instant, task_of
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection

    from atlas.scheduler.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks to read; what is not set does not narrow.

    Making one turns a status by name, in any case, into the status.

    Attributes:
        job: Of this job.
        status: In this status.
        since: Accepted at or after this instant.
        until: Accepted before this instant.
        text: With this text in id, name or error.
        before: Behind the task of this `cursor`, for the next page.
        limit: At most so many.

    Raises:
        ArgumentsError: There is no such status, or an instant is naive.
    """

    job: str | None = None
    status: TaskStatus | str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    before: str | None = None
    limit: int = 100

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.status is not None:
            try:
                object.__setattr__(self, "status", TaskStatus(self.status.upper()))
            except ValueError:
                msg = f"status {self.status!r} is not one of {', '.join(TaskStatus)}"
                raise ArgumentsError(msg) from None
        for name, at in (("since", self.since), ("until", self.until)):
            if at is not None and at.utcoffset() is None:
                msg = f"{name} {at.isoformat()} has no offset from UTC: give it a zone"
                raise ArgumentsError(msg)


def find_tasks(connection: Connection, wanted: TaskFilter) -> list[Task]:
    """The tasks ``wanted``, newest first."""
    statement = SELECT.order_by(tasks.c.created_at.desc(), tasks.c.id.desc()).limit(wanted.limit)
    if wanted.job is not None:
        statement = statement.where(tasks.c.job_id == wanted.job)
    if wanted.status is not None:
        statement = statement.where(tasks.c.status == str(wanted.status))
    if wanted.since is not None:
        statement = statement.where(tasks.c.created_at >= wanted.since.timestamp())
    if wanted.until is not None:
        statement = statement.where(tasks.c.created_at < wanted.until.timestamp())
    if wanted.before is not None:
        statement = statement.where(behind(wanted.before))
    if wanted.text is not None:
        columns = (tasks.c.id, tasks.c.name, tasks.c.error)
        statement = statement.where(or_(*(column.contains(wanted.text, autoescape=True) for column in columns)))
    return [task_of(row) for row in connection.execute(statement)]


def cursor(created_at_s: float, task_id: str) -> str:
    """The place of a task in the list, newest first; it holds when that task is removed."""
    return f"{created_at_s!r},{task_id}"


def behind(place: str) -> ColumnElement[bool]:
    """The tasks behind the one of this `cursor`.

    Raises:
        ArgumentsError: It is none.
    """
    at, _, task_id = place.partition(",")
    try:
        at_s = float(at)
    except ValueError:
        at_s = math.nan
    if not math.isfinite(at_s):
        msg = f"{place!r} is no place in the list: give what the page before named as next"
        raise ArgumentsError(msg)
    return or_(tasks.c.created_at < at_s, (tasks.c.created_at == at_s) & (tasks.c.id < task_id))


def containing(connection: Connection, wanted: str) -> ColumnElement[bool]:
    """The tasks with this text in id, name, job or error, in any case (SQLite: of ASCII letters)."""
    columns = (tasks.c.id, tasks.c.name, tasks.c.job_id, tasks.c.error)
    if connection.dialect.name == "sqlite":  # its LIKE folds case by itself, and lower() costs as much again
        return or_(*(column.contains(wanted, autoescape=True) for column in columns))
    return or_(*(column.icontains(wanted, autoescape=True) for column in columns))


def find_attempts(connection: Connection, task_id: str) -> list[dict[str, Any]]:
    """The attempts of a task that did not end it, oldest first."""
    rows = connection.execute(select(attempts).where(attempts.c.task_id == task_id).order_by(attempts.c.attempt))
    return [
        {
            "attempt": row.attempt,
            "outcome": row.outcome,
            "started_at": instant(row.started_at),
            "ended_at": instant(row.ended_at),
            "wait_s": row.wait_s,
            "error": row.error,
        }
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Durations:
    """How long a job's latest tasks ran, each by its last attempt.

    Attributes:
        tasks: How many were looked at; 0 if none has run yet, and then the others are None.
        median_s: Half of them took longer, seconds.
        p95_s: One in twenty took longer, seconds.
    """

    tasks: int = 0
    median_s: float | None = None
    p95_s: float | None = None


LATEST: Final = 100
"""Tasks of a job that tell how long it takes."""
_RAN: Final = tuple(status.value for status in (TaskStatus.SUCCESS, TaskStatus.FAILED, TaskStatus.TIMEOUT))
_DURATIONS: Final = (
    select(tasks.c.finished_at - tasks.c.started_at)
    .where(
        tasks.c.job_id == bindparam("job_id"),
        tasks.c.status.in_(_RAN),
        tasks.c.started_at.is_not(None),
        tasks.c.finished_at.is_not(None),
    )
    .order_by(tasks.c.created_at.desc())
    .limit(LATEST)
)


def durations_of(connection: Connection, job_ids: Iterable[str]) -> dict[str, Durations]:
    """How long each of these jobs takes, by its newest `LATEST` tasks that ran to an end; along the index."""
    found = {}
    for job_id in job_ids:
        rows = connection.execute(_DURATIONS, {"job_id": job_id}).scalars()
        lengths = sorted(max(0.0, length_s) for length_s in rows)
        found[job_id] = Durations()
        if lengths:
            rank = math.ceil(0.95 * len(lengths)) - 1
            found[job_id] = Durations(len(lengths), statistics.median(lengths), lengths[rank])
    return found
