"""What one commit holds, and the events that are told behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from atlas.scheduler.events import TaskEvent
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.task import Task


@dataclass(slots=True)
class Work:
    """Something to do in the next commit, in a savepoint of its own.

    Attributes:
        run: Does it; None only waits for the commit.
        ticket: Who waits.
        after: Called behind the commit with what ``run`` returned.
        failed: Called behind the commit with what ``run`` raised.
        value: What it returned.
        error: What it raised.
    """

    run: Callable[[Connection], Any] | None
    ticket: Ticket
    after: Callable[[Any], None] | None = None
    failed: Callable[[BaseException], None] | None = None
    value: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class Batch:
    """What one commit holds.

    Attributes:
        accepts: New tasks with their rows; the last one of a group carries the ticket of all.
        changes: Task → its newest state.
        attempts: Rows of ``attempts``.
        moves: Every move, as events and counters need it: task, status before, row, instant, wait for a retry.
        works: What else runs in it.
    """

    accepts: list[tuple[Task, dict[str, Any], Ticket | None]] = field(default_factory=list)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    moves: list[tuple[Task, TaskStatus, dict[str, Any], datetime, float | None]] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.accepts or self.changes or self.works or self.attempts or self.moves)

    def put_before(self, newer: Batch) -> None:
        """Take everything that came after this batch failed; the newest state of a task wins."""
        self.accepts += newer.accepts
        self.changes.update(newer.changes)
        self.attempts += newer.attempts
        self.moves += newer.moves
        self.works += newer.works

    def withdraw_expired(self, now_s: float) -> list[Ticket]:
        """Take out what was waited for too long; returns the tickets, which nobody has settled yet."""
        expired = [
            ticket
            for ticket in [
                *(ticket for _task, _row, ticket in self.accepts if ticket),
                *(work.ticket for work in self.works),
            ]
            if ticket.expires_s is not None and ticket.expires_s <= now_s
        ]
        if expired:
            gone = set(map(id, expired))
            kept, group = [], []
            for entry in self.accepts:  # a group of tasks ends with the entry that carries its ticket
                group.append(entry)
                if entry[2] is not None:
                    kept += [] if id(entry[2]) in gone else group
                    group = []
            self.accepts = kept
            self.works = [work for work in self.works if id(work.ticket) not in gone]
        return expired


def duration_s_of(was: TaskStatus, row: dict[str, Any]) -> float | None:
    """Seconds the attempt ran that this move ended, None if it ended none."""
    started, finished = row["started_at"], row["finished_at"]
    if was is not TaskStatus.RUNNING or started is None or finished is None:
        return None  # what ended while it waited for a retry did not run all that time
    duration_s: float = max(0.0, finished - started)
    return duration_s


def accepted_event(task: Task) -> TaskEvent:
    """A task is on disk."""
    return TaskEvent(
        task_id=task.id,
        name=task.name,
        job_id=task.job_id,
        status=TaskStatus.PENDING,
        attempt=0,
        at=task.created_at,
    )


def refused_event(task: Task) -> TaskEvent:
    """A task of another process ended at once."""
    return TaskEvent(
        task_id=task.id,
        name=task.name,
        job_id=task.job_id,
        status=task.status,
        attempt=task.attempt,
        at=task.finished_at or task.created_at,
        error=task.error,
        cause=task.cause,
    )


def events_of(batch: Batch) -> list[TaskEvent]:
    """What subscribers are told of a commit, in order."""
    events = [accepted_event(task) for task, _row, _ticket in batch.accepts]
    for task, was, row, at, wait_s in batch.moves:
        started = row["started_at"] if was is TaskStatus.RUNNING else None
        events.append(
            TaskEvent(
                task_id=task.id,
                name=task.name,
                job_id=task.job_id,
                status=TaskStatus(row["status"]),
                attempt=row["attempt"],
                at=at,
                duration_s=None if started is None else max(0.0, at.timestamp() - started),
                wait_s=wait_s,
                error=row["error"],
                cause=row["cause"],
            ),
        )
    return events
