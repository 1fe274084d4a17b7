"""Why it ran, when it did: its cause, its wait, its attempts and its end."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, assert_never

from sqlalchemy import func, select

from atlas.scheduler.durations import format_duration
from atlas.scheduler.error_text import error_line
from atlas.scheduler.message import Message
from atlas.scheduler.store.audit import Action, read_audit
from atlas.scheduler.store.tables import tasks
from atlas.scheduler.store.task_queries import find_attempts
from atlas.scheduler.task import Cause, Origin, Task, TaskStatus

if TYPE_CHECKING:
    from atlas.scheduler.why.inquiry import Inquiry

MOST_OF_ERROR: Final = 160
"""Characters of an error; its task has all of it."""
_PATH_OF_CLASS: Final = re.compile(r"^(?:\w+\.)+(?=\w+:)")
LATE_S: Final = 2.0
"""A start later than this is told of."""
_BESIDE_S: Final = 3600.0
"""Others that ran at a start are those that run still, or ended so soon after it: all would be a long search."""
_RETRY_OF: Final = "retry of "
_CAUGHT_UP: Final = re.compile(r"caught up (\d+) s after its fire time")
_OUTCOMES: Final = {
    "error": Message("failed"),
    "timeout": Message("ran out of time"),
    "crashed": Message("ended with the crash of its process"),
    "released": Message("was released when the scheduler stopped"),
}
_CAUSES: Final = {
    Cause.LOST: Message("its process died, and it may not run twice or lived in that process only"),
    Cause.QUARANTINED: Message("it took its process down three times and is not tried again"),
}


def tell_of_task(ask: Inquiry, task: Task) -> None:
    """Why and how this task ran, or why it waits."""
    ask.verdict = "ran" if task.started_at is not None else "waits" if not task.status.is_final else "ended"
    ask.facts |= {"task": task.id, "status": task.status.value, "revision": task.revision, "reason": task.reason}
    due = task.created_at
    if task.fire_time is not None:
        due = _due(ask, task, task.fire_time)
    else:
        _tell_of_origin(ask, task, ask.time(task.created_at))
    _attempts(ask, task, due)
    _end(ask, task)


def _due(ask: Inquiry, task: Task, fire_time: datetime) -> datetime:
    """Tell of the fire time of the task; returns when it was to start, its spread included."""
    due = fire_time if ask.record is None else ask.record.trigger.run_time_of(fire_time)
    offset_s = (due - fire_time).total_seconds()
    is_caught = task.reason.startswith("caught up")
    ask.facts["fire_time"] = fire_time.astimezone(UTC).isoformat()
    ask.tell(
        Message(
            "It was due at {at}{spread}{caught}{under}.",
            at=ask.time(fire_time),
            spread=Message(", and starts {s} later by its spread", s=format_duration(offset_s)) if offset_s else "",
            caught=Message("; it was {reason}", reason=_caught_up(task.reason)) if is_caught else "",
            under=ask.under(task.revision),
        )
    )
    if is_caught:
        started = ask.started(fire_time.timestamp(), task.created_at.timestamp())
        ask.tell(
            Message("The scheduler was not able to look at it in time.")
            if started is None
            else Message("No scheduler ran then; one was started at {at}.", at=started)
        )
    return due


def _tell_of_origin(ask: Inquiry, task: Task, at: str) -> None:
    """Where a task comes from that no schedule made."""
    if task.reason.startswith(_RETRY_OF):
        ask.tell(
            Message("It was accepted at {at} as a retry of {task}.", at=at, task=task.reason.removeprefix(_RETRY_OF))
        )
    elif task.origin is Origin.MANUAL:
        ask.tell(Message("It was recorded by hand at {at}.", at=at))
    elif task.job_id is None:
        ask.tell(Message("It was submitted at {at}.", at=at))
    else:
        ask.tell(Message("It was started by hand at {at}{by}.", at=at, by=_by_whom(ask, task)))


def _caught_up(reason: str) -> str:
    found = _CAUGHT_UP.fullmatch(reason)
    return reason if found is None else Message("caught up {s} s after its fire time", s=found[1])


def _by_whom(ask: Inquiry, task: Task) -> str:
    for entry in read_audit(ask.connection, subject=ask.job_id, action=Action.RUN, limit=200):
        if isinstance(entry.after, dict) and entry.after.get("task") == task.id:
            ask.facts["by"] = entry.actor
            return Message(" by {who}", who=entry.actor)
    return ""


def _attempts(ask: Inquiry, task: Task, due: datetime) -> None:
    earlier = find_attempts(ask.connection, task.id)
    first = earlier[0]["started_at"] if earlier and earlier[0]["started_at"] else task.started_at
    if first is None:
        if not task.status.is_final:
            at = ask.time(task.created_at)
            ask.tell(
                Message(
                    "Its task {task} waits for a slot since {at}{others}.", task=task.id, at=at, others=ask.running()
                )
            )
        return
    late_s = (first - max(due, task.created_at)).total_seconds()
    if late_s >= LATE_S:
        busy = _running_at(ask, first)
        ask.facts["waited_s"] = round(late_s, 1)
        others = Message(" while {n} other tasks ran", n=busy) if busy else ""
        ask.tell(Message("It waited {s} for its start{others}.", s=format_duration(late_s), others=others))
    ask.facts["attempts"] = len(earlier) + (task.started_at is not None and task.status is not TaskStatus.RETRYING)
    for one in earlier:
        again = one["wait_s"]
        ask.tell(
            Message(
                "Attempt {n} {what} at {at}{error}{again}.",
                n=one["attempt"],
                what=_OUTCOMES.get(one["outcome"], one["outcome"]),
                at=ask.time(one["ended_at"]),
                error=_error(ask, one["error"]),
                again="" if again is None else Message("; it was tried again after {s}", s=format_duration(again)),
            )
        )


def _running_at(ask: Inquiry, moment: datetime) -> int:
    at_s = moment.timestamp()
    before = select(func.count()).where(tasks.c.started_at < at_s - 0.001)
    ended = before.where(tasks.c.finished_at >= at_s - 0.5, tasks.c.finished_at < at_s + _BESIDE_S)
    runs = before.where(tasks.c.status == TaskStatus.RUNNING)
    return sum(int(ask.connection.execute(one).scalar() or 0) for one in (ended, runs))


def _end(ask: Inquiry, task: Task) -> None:
    took = task.duration_s if task.status.is_final and task.started_at is not None else None
    values = {
        "at": ask.time(task.finished_at),
        "after": "" if took is None else Message(", after {s}", s=format_duration(took)),
        "error": _error(ask, task.error),
    }
    match task.status:
        case TaskStatus.SUCCESS:
            ask.tell(Message("It succeeded at {at}{after}.", **values))
        case TaskStatus.FAILED:
            cause = _CAUSES.get(task.cause) if task.cause else None
            because = Message(" because {why}", why=cause) if cause else ""
            ask.tell(Message("It failed at {at}{cause}{after}{error}.", cause=because, **values))
        case TaskStatus.TIMEOUT:
            limit_s = task.policy.timeout_s
            limit = "" if limit_s is None else Message(": an attempt may take {s}", s=format_duration(limit_s))
            ask.tell(Message("It ran out of time at {at}{limit}{after}{error}.", limit=limit, **values))
        case TaskStatus.CANCELLED:
            ask.tell(Message("It was cancelled at {at}{how}{after}{error}.", how=_cancelled(ask, task), **values))
        case TaskStatus.RUNNING:
            ask.tell(Message("It runs since {at}{error}.", at=ask.time(task.started_at), error=values["error"]))
        case TaskStatus.RETRYING:
            at, error = ask.time(task.due_at), values["error"]
            if task.due_at is None or task.due_at > ask.now:
                ask.tell(Message("It is tried again at {at}{error}.", at=at, error=error))
            else:
                ask.tell(Message("Its next attempt waits for a slot since {at}{others}.", at=at, others=ask.running()))
        case TaskStatus.PENDING:
            return
        case _:
            assert_never(task.status)


def _cancelled(ask: Inquiry, task: Task) -> str:
    if task.cause is Cause.REPLACED:
        return Message(", because the job fired again and its overlap rule is replace")
    if task.cause is Cause.BUSY:
        return Message(", because another task of the job was unfinished")
    found = read_audit(ask.connection, subject=task.id, action=Action.CANCEL, limit=1)
    return Message(" by {who}", who=found[0].actor) if found else ""


def _error(ask: Inquiry, error: str | None) -> str:
    """What an attempt failed of, in short; an error that was told before is not told again."""
    line = error_line(error)
    if not line:
        return ""
    named = _PATH_OF_CLASS.sub("", line.rstrip("."))
    if named in ask.told_errors:
        return Message(" (the same error)")
    ask.told_errors.add(named)
    return Message(" ({reason})", reason=named if len(named) <= MOST_OF_ERROR else named[: MOST_OF_ERROR - 1] + "…")
