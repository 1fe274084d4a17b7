"""Tasks as rows and back: statements are built once, rows are plain values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, false, literal_column, or_, select

from atlas.scheduler.errors import StoreVersionError, UnknownTaskError
from atlas.scheduler.store.statements import Statement, update_rows
from atlas.scheduler.store.tables import attempts, tasks
from atlas.scheduler.task import Cause, Origin, Task, TaskPolicy, TaskPriority, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy
    from sqlalchemy import Connection

Row = tuple[Any, ...]
"""A row of ``tasks`` as it goes into a statement."""

_MOVING: Final = (
    "status",
    "attempt",
    "failures",
    "crashes",
    "due_at",
    "started_at",
    "finished_at",
    "result",
    "result_omitted",
    "error",
    "cause",
    "owner",
    "cancel_requested",
)

_ALL: Final = tuple(column.name for column in tasks.c)
_NEW: Final = (*(name for name in _ALL if name not in _MOVING), "owner")
_AT_FIRST: Final = {
    "status": literal_column(f"'{TaskStatus.PENDING}'"),
    "attempt": literal_column("0"),
    "failures": literal_column("0"),
    "crashes": literal_column("0"),
    "result_omitted": false(),
    "cancel_requested": false(),
}
"""What all new tasks have in common stands in the statement: to hand SQLite a number or a text takes 15 to 50 ns, but
None or a truth 180."""

# A generated id never meets another one; a lost COMMIT reply makes the writer send the same rows again.
INSERT: Final = Statement(lambda database: database.insert(tasks).on_conflict_do_nothing(), _ALL)
INSERT_NEW: Final = Statement(
    lambda database: (
        database.insert(tasks).values({name: bindparam(name) for name in _NEW} | _AT_FIRST).on_conflict_do_nothing()
    ),
    _NEW,
)
UPDATE: Final = Statement(
    update_rows(
        tasks,
        ("id", *_MOVING),
        lambda update, new: update.where(tasks.c.id == new["id"], tasks.c.attempt <= new["attempt"]).values(
            {name: new[name] for name in _MOVING}
            | {"cancel_requested": or_(tasks.c.cancel_requested, new["cancel_requested"])}
        ),
    ),
    ("id", *_MOVING),
    padded=True,  # no task has the id NULL
)
"""An attempt that was fenced off (its number is behind the row's) changes nothing; a cancel that another process asked
for meanwhile stays asked for."""

INSERT_ATTEMPT: Final = Statement(lambda database: database.insert(attempts).on_conflict_do_nothing())
SELECT: Final = select(tasks)
BY_ID: Final = SELECT.where(tasks.c.id == bindparam("id"))


def seconds(instant: datetime | None) -> float | None:
    """An instant as a row holds it."""
    return None if instant is None else instant.timestamp()


def instant(value: float | None) -> datetime | None:
    """An instant as a row held it, aware UTC."""
    return None if value is None else datetime.fromtimestamp(value, UTC)


def moving_row(task: Task) -> Row:
    """The columns that move, for `update_tasks`."""
    due_at, started_at, finished_at, cause = task.due_at, task.started_at, task.finished_at, task.cause
    return (
        task.id,
        str(task.status),
        task.attempt,
        task.failures,
        task.crashes,
        None if due_at is None else due_at.timestamp(),
        None if started_at is None else started_at.timestamp(),
        None if finished_at is None else finished_at.timestamp(),
        task.result,
        task.result_omitted,
        task.error,
        None if cause is None else str(cause),
        task.owner,
        task.cancel_requested,
    )


def full_row(task: Task) -> Row:
    """All columns, for `insert_tasks`."""
    return (*new_row(task)[:-1], *moving_row(task)[1:])


def new_row(task: Task) -> Row:
    """What a task that nobody has touched yet does not have in common with all others, for `insert_new_tasks`."""
    fire_time = task.fire_time
    return (
        task.id,
        task.name,
        task.function,
        task.arguments,
        task.job_id,
        None if fire_time is None else fire_time.timestamp(),
        str(task.origin),
        task.reason,
        int(task.priority),
        task.policy.to_json(),
        task.revision,
        task.volatile,
        task.created_at.timestamp(),
        task.owner,
    )


def task_of(row: sqlalchemy.Row[Any]) -> Task:
    """The task a row of `SELECT` holds.

    Raises:
        StoreVersionError: It holds a value that this program does not know.
    """
    values: dict[str, Any] = dict(zip(_ALL, row, strict=True))  # a tuple: as a mapping it takes twice as long
    for name in ("fire_time", "due_at", "started_at", "finished_at", "created_at"):
        values[name] = instant(values[name])
    try:
        values["origin"] = Origin(values["origin"])
        values["priority"] = TaskPriority(values["priority"])
        values["policy"] = TaskPolicy.from_json(values["policy"])
        values["status"] = TaskStatus(values["status"])
        values["cause"] = None if values["cause"] is None else Cause(values["cause"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreVersionError.of_value(f"task {values['id']}", error) from error
    return Task(**values)


def fetch(connection: Connection, task_id: str) -> Task | None:
    """The task with this id, or None."""
    if not str(task_id).isprintable():
        return None  # no id is: a driver would raise, as if the database were away
    row = connection.execute(BY_ID, {"id": task_id}).first()
    return None if row is None else task_of(row)


def fetch_known(connection: Connection, task_id: str) -> Task:
    """The task with this id.

    Raises:
        UnknownTaskError: No such task.
    """
    task = fetch(connection, task_id)
    if task is None:
        raise UnknownTaskError(task_id)
    return task


def insert_tasks(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert rows of `full_row`; ids that are there already are left alone."""
    INSERT.run(connection, rows)


def insert_new_tasks(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert rows of `new_row`; ids that are there already are left alone."""
    INSERT_NEW.run(connection, rows)


def update_tasks(connection: Connection, rows: Sequence[Row]) -> None:
    """Update rows of `moving_row`."""
    UPDATE.run(connection, rows)


def attempt_row(
    task: Task, *, outcome: str, ended_at: datetime, wait_s: float | None, error: str | None
) -> dict[str, Any]:
    """A row of ``attempts``: an attempt that did not end its task."""
    return {
        "task_id": task.id,
        "attempt": task.attempt,
        "outcome": outcome,
        "started_at": seconds(task.started_at),
        "ended_at": ended_at.timestamp(),
        "wait_s": wait_s,
        "error": error,
    }


def insert_attempts(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows of `attempt_row`."""
    INSERT_ATTEMPT.run(connection, rows)
