"""Why it ran, when it did: its cause, its wait, its attempts and its end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, assert_never

from sqlalchemy import func, select

from atlas.scheduler.durations import format_duration
from atlas.scheduler.store.audit import Action, read_audit
from atlas.scheduler.store.tables import tasks
from atlas.scheduler.store.task_queries import find_attempts
from atlas.scheduler.task import Cause, Task, TaskStatus

if TYPE_CHECKING:
    from atlas.scheduler.why.inquiry import Inquiry

LATE_S: Final = 2.0
"""A start later than this is told of."""
_OUTCOMES: Final = {
    "error": "failed",
    "timeout": "ran out of time",
    "crashed": "ended with the crash of its process",
    "released": "was released when the scheduler stopped",
}
_CAUSES: Final = {
    Cause.LOST: "its process died, and it may not run twice or lived in that process only",
    Cause.QUARANTINED: "it took its process down three times and is not tried again",
}


def tell_of_task(ask: Inquiry, task: Task) -> None:
    """Why and how this task of the job ran, or why it waits."""
    ask.verdict = "ran" if task.started_at is not None else "waits" if not task.status.is_final else "ended"
    ask.facts |= {"task": task.id, "status": task.status.value, "revision": task.revision, "reason": task.reason}
    fire_time = None if task.fire_time is None else task.fire_time.timestamp()
    if fire_time is None:
        ask.tell(f"It was started by hand at {ask.time(task.created_at)}{_by_whom(ask, task)}.")
        due = task.created_at
    else:
        due = task.fire_time or task.created_at
        if ask.record is not None:
            due = ask.record.trigger.run_time_of(due)
        offset_s = (due - (task.fire_time or due)).total_seconds()
        spread = f", and starts {format_duration(offset_s)} later by its spread" if offset_s else ""
        caught = f"; it was {task.reason}" if task.reason.startswith("caught up") else ""
        ask.facts["fire_time"] = datetime.fromtimestamp(fire_time, UTC).isoformat()
        ask.tell(f"It was due at {ask.time(fire_time)}{spread}{caught}{ask.under(task.revision)}.")
        if caught:
            ask.tell(ask.downtime(fire_time, task.created_at.timestamp()))
    _attempts(ask, task, due)
    _end(ask, task)


def _by_whom(ask: Inquiry, task: Task) -> str:
    for entry in read_audit(ask.connection, subject=ask.job_id, action=Action.RUN, limit=200):
        if isinstance(entry.after, dict) and entry.after.get("task") == task.id:
            ask.facts["by"] = entry.actor
            return f" by {entry.actor}"
    return ""


def _attempts(ask: Inquiry, task: Task, due: datetime) -> None:
    earlier = find_attempts(ask.connection, task.id)
    first = earlier[0]["started_at"] if earlier and earlier[0]["started_at"] else task.started_at
    if first is None:
        if not task.status.is_final:
            ask.tell(f"Its task {task.id} waits for a slot since {ask.time(task.created_at)}.")
        return
    late_s = (first - max(due, task.created_at)).total_seconds()
    if late_s >= LATE_S:
        busy = _running_at(ask, first)
        ask.facts["waited_s"] = round(late_s, 1)
        others = f" while {busy} other tasks ran" if busy else ""
        ask.tell(f"It waited {format_duration(late_s)} for its start{others}.")
    ask.facts["attempts"] = len(earlier) + (task.started_at is not None and task.status is not TaskStatus.RETRYING)
    for one in earlier:
        words = _OUTCOMES.get(one["outcome"], one["outcome"])
        told = f"Attempt {one['attempt']} {words} at {ask.time(one['ended_at'])}{_error(one['error'])}"
        if one["wait_s"] is not None:
            told += f"; it was tried again after {format_duration(one['wait_s'])}"
        ask.tell(f"{told}.")


def _running_at(ask: Inquiry, moment: datetime) -> int:
    at_s = moment.timestamp()
    statement = select(func.count()).where(
        tasks.c.started_at < at_s - 0.001,
        (tasks.c.finished_at.is_(None)) | (tasks.c.finished_at >= at_s - 0.5),
        tasks.c.created_at > at_s - 7 * 86_400,
    )
    return int(ask.connection.execute(statement).scalar() or 0)


def _end(ask: Inquiry, task: Task) -> None:
    match task.status:
        case TaskStatus.SUCCESS:
            words = f"It succeeded at {ask.time(task.finished_at)}"
        case TaskStatus.FAILED:
            cause = _CAUSES.get(task.cause) if task.cause else None
            words = f"It failed at {ask.time(task.finished_at)}{f' because {cause}' if cause else ''}"
        case TaskStatus.TIMEOUT:
            limit = task.policy.timeout_s
            words = f"It ran out of time at {ask.time(task.finished_at)}" + (
                "" if limit is None else f": an attempt may take {format_duration(limit)}"
            )
        case TaskStatus.CANCELLED:
            words = f"It was cancelled at {ask.time(task.finished_at)}{_cancelled(ask, task)}"
        case TaskStatus.RUNNING:
            words = f"It runs since {ask.time(task.started_at)}"
        case TaskStatus.RETRYING:
            words = f"It is tried again at {ask.time(task.due_at)}"
        case TaskStatus.PENDING:
            return
        case _:
            assert_never(task.status)
    took = task.duration_s
    if task.status.is_final and took is not None and task.started_at is not None:
        words += f", after {format_duration(took)}"
    error = _error(task.error) if task.status is not TaskStatus.SUCCESS else ""
    ask.tell(f"{words}{error}.")


def _cancelled(ask: Inquiry, task: Task) -> str:
    if task.cause is Cause.REPLACED:
        return ", because the job fired again and its overlap rule is replace"
    if task.cause is Cause.BUSY:
        return ", because another task of the job was unfinished"
    found = read_audit(ask.connection, subject=task.id, action=Action.CANCEL, limit=1)
    return f" by {found[0].actor}" if found else ""


def _error(error: str | None) -> str:
    lines = [line.strip() for line in (error or "").splitlines() if line.strip()]
    if not lines:
        return ""
    last = lines[-1].rstrip(".")
    return f" ({last if len(last) <= 200 else last[:199] + '…'})"
