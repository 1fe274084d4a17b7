"""What a new owner does with unfinished tasks: crashes are counted, attempts fenced, the rest waits again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, text, update

from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.metrics import Moves
from atlas.scheduler.outcome import Verdict, crash
from atlas.scheduler.store.audit import Action, write_audit
from atlas.scheduler.store.statements import ONCE
from atlas.scheduler.store.tables import UNFINISHED_SQL, tasks
from atlas.scheduler.store.task_rows import SELECT, attempt_row, insert_attempts, moving_row, task_of, update_tasks
from atlas.scheduler.task import FINAL, Cause, Origin, Task, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Connection

LOST = "its owner died; the function or its arguments lived in that process only"
DIED = "the process died in the middle of the attempt"
_NEW = text(UNFINISHED_SQL), tasks.c.owner.is_(None), tasks.c.origin != Origin.MANUAL.value
"""What other processes have put into the store, and nobody has picked up."""


def recover(
    connection: Connection, owner: str, now: datetime
) -> tuple[list[Task], list[tuple[Task, TaskStatus]], Moves]:
    """Take over every unfinished task; returns (the tasks to serve, the moves made, what they change in the counters).

    Nothing is served at that moment: the caller holds the claim, so whoever owned them, this process under an earlier
    queue included, has ended.

    RUNNING ones count a crash and get a higher attempt number, so that a late result of the old owner is refused;
    they wait again or, by their policy or at the third crash, end FAILED. Hand-moved tasks are nobody's to touch.
    """
    rows = connection.execute(
        SELECT.where(text(UNFINISHED_SQL), tasks.c.origin != Origin.MANUAL.value).order_by(tasks.c.id),
        execution_options=ONCE,
    )
    moves: list[tuple[Task, TaskStatus]] = []
    to_serve: list[Task] = []
    changed, fenced = [], []
    counts = Moves()
    for task in map(task_of, rows):
        was = task.status
        verdict = _verdict(task)
        if verdict is not None:
            if verdict.crashed:
                fenced.append(attempt_row(task, outcome="crashed", ended_at=now, wait_s=None, error=verdict.error))
            apply_verdict(task, verdict, now)
            moves.append((task, was))
            counts.moved(task.job_id, was, task.status, None)
        if not task.status.is_final:
            task.owner = owner
            to_serve.append(task)
        changed.append(moving_row(task))
    update_tasks(connection, changed)
    insert_attempts(connection, fenced)
    counts.write(connection)
    reached(CrashPoint.RECOVERY_WRITTEN)
    return to_serve, moves, counts


def _verdict(task: Task) -> Verdict | None:
    if task.cancel_requested:
        return Verdict(status=TaskStatus.CANCELLED, cause=Cause.CANCELLED, crashed=task.status is TaskStatus.RUNNING)
    if task.volatile:
        return Verdict(
            status=TaskStatus.FAILED, cause=Cause.LOST, error=LOST, crashed=task.status is TaskStatus.RUNNING
        )
    if task.status is TaskStatus.RUNNING:
        return crash(task, DIED)
    return None


def apply_verdict(task: Task, verdict: Verdict, now: datetime) -> None:
    """Make ``task`` what ``verdict`` says."""
    status, task.cause, task.error, task.result, task.result_omitted, _wait_s, failed, crashed = verdict
    task.move(status)
    task.failures += failed
    task.crashes += crashed
    task.due_at = None
    if status in FINAL:
        task.finished_at = now
    elif crashed:
        task.attempt += 1  # the fence: a late result of the dead owner has a number that is behind now


def pick_up(
    connection: Connection, owner: str, now: datetime, accept: Callable[[Task], Verdict | None]
) -> tuple[list[Task], list[Task], Moves]:
    """Claim what other processes put into the store; returns (the tasks to serve, those refused, the counters' moves).

    ``accept`` looks at one task: a verdict ends it at once, None serves it.
    """
    rows = connection.execute(SELECT.where(*_NEW).order_by(tasks.c.id))
    to_serve: list[Task] = []
    refused: list[Task] = []
    counts = Moves()
    for task in map(task_of, rows):
        was = task.status
        verdict = Verdict(status=TaskStatus.CANCELLED, cause=Cause.CANCELLED) if task.cancel_requested else accept(task)
        if verdict is not None:
            apply_verdict(task, verdict, now)
            counts.moved(task.job_id, was, task.status, None)
        task.owner = owner
        (to_serve if verdict is None else refused).append(task)
    update_tasks(connection, [moving_row(task) for task in (*to_serve, *refused)])
    counts.write(connection)
    return to_serve, refused, counts


def requests(connection: Connection) -> tuple[bool, list[str]]:
    """What other processes ask of the owner: (new tasks wait, ids of unfinished tasks that should end)."""
    new = select(tasks.c.id).where(*_NEW)
    cancels = select(tasks.c.id).where(text(UNFINISHED_SQL), tasks.c.cancel_requested.is_(True))
    return connection.execute(new.limit(1)).first() is not None, list(connection.execute(cancels).scalars())


def request_cancel(connection: Connection, task_id: str, *, by: str, at: datetime) -> bool:
    """Ask for the end of an unfinished task; False when it is final or unknown. The audit keeps who asked."""
    found = connection.execute(
        update(tasks).where(tasks.c.id == task_id, text(UNFINISHED_SQL)).values(cancel_requested=True)
    ).rowcount
    if found:
        write_audit(connection, Action.CANCEL, task_id, by=by, at=at)
    return bool(found)
