"""Tasks as rows and back: statements are built once, rows are plain values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, or_, select, update

from atlas.scheduler.store.statements import Statement
from atlas.scheduler.store.tables import attempts, tasks
from atlas.scheduler.task import Cause, Origin, Task, TaskPolicy, TaskPriority, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Row

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

# A generated id never meets another one; a lost COMMIT reply makes the writer send the same rows again.
INSERT: Final = Statement(lambda database: database.insert(tasks).on_conflict_do_nothing())
UPDATE: Final = Statement(
    lambda _database: (
        update(tasks)
        .where(tasks.c.id == bindparam("b_id"), tasks.c.attempt <= bindparam("attempt"))
        .values(
            {name: bindparam(name) for name in _MOVING}
            | {"cancel_requested": or_(tasks.c.cancel_requested, bindparam("cancel_requested"))},
        )
    )
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


def moving_row(task: Task) -> dict[str, Any]:
    """The columns that move, for `UPDATE`."""
    return {
        "b_id": task.id,
        "status": task.status.value,
        "attempt": task.attempt,
        "failures": task.failures,
        "crashes": task.crashes,
        "due_at": seconds(task.due_at),
        "started_at": seconds(task.started_at),
        "finished_at": seconds(task.finished_at),
        "result": task.result,
        "result_omitted": task.result_omitted,
        "error": task.error,
        "cause": task.cause,
        "owner": task.owner,
        "cancel_requested": task.cancel_requested,
    }


def full_row(task: Task) -> dict[str, Any]:
    """All columns, for `INSERT`."""
    row = moving_row(task)
    del row["b_id"]
    row.update(
        id=task.id,
        name=task.name,
        function=task.function,
        arguments=task.arguments,
        job_id=task.job_id,
        fire_time=seconds(task.fire_time),
        origin=task.origin.value,
        reason=task.reason,
        priority=int(task.priority),
        policy=task.policy.to_json(),
        revision=task.revision,
        volatile=task.volatile,
        created_at=task.created_at.timestamp(),
    )
    return row


def task_of(row: Row[Any]) -> Task:
    """The task a row of `SELECT` holds."""
    values: dict[str, Any] = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name
    for name in ("fire_time", "due_at", "started_at", "finished_at", "created_at"):
        values[name] = instant(values[name])
    values["origin"] = Origin(values["origin"])
    values["priority"] = TaskPriority(values["priority"])
    values["policy"] = TaskPolicy.from_json(values["policy"])
    values["status"] = TaskStatus(values["status"])
    values["cause"] = None if values["cause"] is None else Cause(values["cause"])
    return Task(**values)


def fetch(connection: Connection, task_id: str) -> Task | None:
    """The task with this id, or None."""
    row = connection.execute(BY_ID, {"id": task_id}).first()
    return None if row is None else task_of(row)


def insert_tasks(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of `full_row`; ids that are there already are left alone."""
    INSERT.run(connection, rows)


def update_tasks(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
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
