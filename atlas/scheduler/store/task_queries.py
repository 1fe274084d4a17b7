"""Reading tasks: by status, job, time and text, newest first, along the indexes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, func, not_, or_, select

from atlas.scheduler.errors import ArgumentsError
from atlas.scheduler.outcome import shorten
from atlas.scheduler.store.tables import attempts, tasks
from atlas.scheduler.store.task_rows import SELECT, instant, task_of
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Connection

    from atlas.scheduler.task import Task

MOST_TASKS: Final = 1_000_000_000
"""More are not read at once; a database's own limit of a limit is higher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks to read; what is not set does not narrow.

    Making one turns a status by name, in any case, into the status.

    Attributes:
        since: Accepted at or after this instant.
        until: Accepted before this instant.
        text: With this text in id, name, job or error, in any case (SQLite: of ASCII letters).
        before: Behind the task of this `cursor`, for the next page.

    Raises:
        ArgumentsError: There is no such status, an instant is naive or none, or the limit is negative.
    """

    job: str | None = None
    status: TaskStatus | str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    before: str | None = None
    limit: int = 100

    def __post_init__(self) -> None:
        if self.status is not None:
            try:
                object.__setattr__(self, "status", TaskStatus(str(self.status).upper()))
            except ValueError:
                raise ArgumentsError(f"status {self.status!r} is not one of {', '.join(TaskStatus)}") from None
        if type(self.limit) is not int or self.limit < 0:
            raise ArgumentsError(f"limit {self.limit!r} is not a whole number of at least 0")
        object.__setattr__(self, "limit", min(self.limit, MOST_TASKS))
        for name in ("job", "text", "before"):
            said = getattr(self, name)
            if not isinstance(said, str | None):
                raise ArgumentsError(f"{name} {said!r:.80} is no text")
            if said is not None:
                object.__setattr__(self, name, shorten(said))  # as rows have it: a driver refuses NUL and half a letter
        for name in ("since", "until"):
            at = getattr(self, name)
            if not isinstance(at, datetime | None):
                raise ArgumentsError(f"{name} {at!r:.80} is no instant: give a datetime with its zone")
            if at is not None and at.utcoffset() is None:
                raise ArgumentsError(f"{name} {at.isoformat()} has no offset from UTC: give it a zone")


SEARCHED: Final = 20_000
"""Tasks a text is looked for in at once, newest first; a list goes on behind them."""
_NEWEST_FIRST: Final = (tasks.c.created_at.desc(), tasks.c.id.desc())


def find_tasks(connection: Connection, wanted: TaskFilter) -> list[Task]:
    """The tasks ``wanted``, newest first; a text is looked for in all of them."""
    conditions = _narrowed(wanted)
    if wanted.text is not None:
        conditions.append(containing(connection, wanted.text))
    statement = SELECT.where(*conditions).order_by(*_NEWEST_FIRST).limit(wanted.limit)
    return [task_of(row) for row in connection.execute(statement)]


def page_of_tasks(
    connection: Connection, wanted: TaskFilter, *, searched: int = SEARCHED
) -> tuple[list[Task], str | None]:
    """A page of the tasks ``wanted``, and the ``before`` of the page behind it, None at the end.

    A text is looked for in ``searched`` tasks at most, those that the other conditions leave. So a page costs the same
    however many tasks there are, and one without a find may have another one behind it.
    """
    conditions, end = _narrowed(wanted), None
    if wanted.text is not None:
        # created_at and id of the last one that is looked at; the index has nearly all of it.
        places = select(tasks.c.created_at, tasks.c.id).where(*conditions).order_by(*_NEWEST_FIRST)
        end = connection.execute(places.offset(searched - 1).limit(1)).first()
        conditions.append(containing(connection, wanted.text))
        if end is not None:
            conditions += [tasks.c.created_at >= end.created_at, not_(behind(cursor(*end)))]
    statement = SELECT.where(*conditions).order_by(*_NEWEST_FIRST).limit(wanted.limit + 1)
    found = [task_of(row) for row in connection.execute(statement)]
    if len(found) > wanted.limit:
        last = found[wanted.limit - 1]
        return found[: wanted.limit], cursor(last.created_at.timestamp(), last.id)
    return found, None if end is None else cursor(*end)


def _narrowed(wanted: TaskFilter) -> list[ColumnElement[bool]]:
    """All its conditions but the text."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.job is not None:
        conditions.append(tasks.c.job_id == wanted.job)
    if wanted.status is not None:
        conditions.append(tasks.c.status == str(wanted.status))
    if wanted.since is not None:
        conditions.append(tasks.c.created_at >= wanted.since.timestamp())
    if wanted.until is not None:
        conditions.append(tasks.c.created_at < wanted.until.timestamp())
    if wanted.before is not None:
        conditions.append(behind(wanted.before))
    return conditions


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
        raise ArgumentsError(f"{place!r} is no place in the list: give what the page before named as next")
    # The first condition says nothing new, but along the index.
    return (tasks.c.created_at <= at_s) & or_(tasks.c.created_at < at_s, tasks.c.id < task_id)


def containing(connection: Connection, wanted: str) -> ColumnElement[bool]:
    """The tasks with this text in id, name, job or error, in any case (SQLite: of ASCII letters)."""
    columns = (tasks.c.id, tasks.c.name, tasks.c.job_id, tasks.c.error)
    if connection.dialect.name == "sqlite":  # its LIKE folds case by itself, and lower() costs as much again
        return or_(*(column.contains(wanted, autoescape=True) for column in columns))
    return or_(*(column.icontains(wanted, autoescape=True) for column in columns))


def find_attempts(connection: Connection, task_id: str) -> list[dict[str, Any]]:
    """The attempts of a task that did not end it, oldest first."""
    columns = [column for column in attempts.c if column is not attempts.c.task_id]
    rows = connection.execute(select(*columns).where(attempts.c.task_id == task_id).order_by(attempts.c.attempt))
    times = ("started_at", "ended_at")
    return [row._asdict() | {name: instant(getattr(row, name)) for name in times} for row in rows]


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
_FIRST = select(func.min(tasks.c.job_id).label("job_id")).cte("have_tasks", recursive=True)
_NEXT = select(func.min(tasks.c.job_id)).where(tasks.c.job_id > _FIRST.c.job_id).scalar_subquery()
_HAVE_TASKS: Final = select(_FIRST.union_all(select(_NEXT).where(_FIRST.c.job_id.is_not(None))).c.job_id)
"""The jobs that have tasks: from one to the next along the index, whatever number of tasks each has."""


def medians_of(connection: Connection, job_ids: Iterable[str]) -> dict[str, float | None]:
    """How long a task of each of these jobs takes, seconds; None if none has run yet.

    The median of the last attempts of its newest `LATEST` tasks that ran to an end; along the index.
    """
    found: dict[str, float | None] = dict.fromkeys(job_ids)
    for job_id in found.keys() & set(connection.execute(_HAVE_TASKS).scalars()):  # thousands of new jobs have none
        rows = connection.execute(_DURATIONS, {"job_id": job_id}).scalars()
        lengths = sorted(max(0.0, length_s) for length_s in rows)
        middle = len(lengths) // 2
        found[job_id] = (lengths[~middle] + lengths[middle]) / 2 if lengths else None
    return found
