"""What one commit holds, and the events that are told behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from atlas.scheduler.events import TaskEvent
from atlas.scheduler.metrics import Moves
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.task import Cause, Task


@dataclass(slots=True)
class Work:
    """Something to do in the next commit, in a savepoint of its own.

    Attributes:
        run: Does it; None only waits for the commit.
        ticket: Who waits.
        after: Called behind the commit with what ``run`` returned.
        failed: Called behind the commit with what ``run`` raised.
        tells: False if no other process waits for it.
        value: What it returned.
        error: What it raised.
    """

    run: Callable[[Connection], Any] | None
    ticket: Ticket
    after: Callable[[Any], None] | None = None
    failed: Callable[[BaseException], None] | None = None
    tells: bool = True
    value: Any = None
    error: BaseException | None = None


class Accept(NamedTuple):
    """New tasks that are committed together.

    Attributes:
        tasks: The tasks.
        rows: Their rows.
        ticket: Who waits.
    """

    tasks: Sequence[Task]
    rows: Sequence[Mapping[str, Any]]
    ticket: Ticket


class Move(NamedTuple):
    """A task went from one status to another; what counters and events need of that moment.

    Attributes:
        task: The task, which may have moved on since.
        was: Where it came from.
        status: Where it went.
        at: When.
        attempt: Number of its latest attempt.
        duration_s: Seconds the attempt ran that this move ended, None if it ended none.
        wait_s: Seconds until the next attempt, for RETRYING.
        error: Text of the error.
        cause: Why it is not SUCCESS.
    """

    task: Task
    was: TaskStatus
    status: TaskStatus
    at: datetime
    attempt: int
    duration_s: float | None
    wait_s: float | None
    error: str | None
    cause: Cause | None


def move_of(task: Task, was: TaskStatus, at: datetime, wait_s: float | None) -> Move:
    """The move that ``task`` has just made."""
    started_at = task.started_at if was is TaskStatus.RUNNING else None  # what waited for a retry did not run
    duration_s = None if started_at is None else max(0.0, (at - started_at).total_seconds())
    return Move(task, was, task.status, at, task.attempt, duration_s, wait_s, task.error, task.cause)


@dataclass(slots=True)
class Batch:
    """What one commit holds.

    Attributes:
        accepts: New tasks.
        changes: Task → the row of its newest state.
        attempts: Rows of ``attempts``.
        moves: Every move, in order.
        works: What else runs in it.
    """

    accepts: list[Accept] = field(default_factory=list)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)

    def __bool__(self) -> bool:
        """True if there is something to commit."""
        return bool(self.accepts or self.changes or self.works or self.attempts or self.moves)

    @property
    def accepted(self) -> list[Task]:
        """Every new task, in order."""
        return [task for accept in self.accepts for task in accept.tasks]

    def put_before(self, newer: Batch) -> None:
        """Take everything that came after this batch failed; the newest state of a task wins."""
        self.accepts += newer.accepts
        self.changes.update(newer.changes)
        self.attempts += newer.attempts
        self.moves += newer.moves
        self.works += newer.works

    def counted(self) -> Moves:
        """What it changes in the counters."""
        counts = Moves()
        for accept in self.accepts:
            for task in accept.tasks:
                counts.made(task.job_id)
        for move in self.moves:
            counts.moved(move.task.job_id, move.was, move.status, move.duration_s)
        return counts

    @property
    def tells(self) -> bool:
        """True if another process may wait for it."""
        return bool(self.accepts or self.changes) or any(work.tells for work in self.works)

    @property
    def tickets(self) -> list[Ticket]:
        """Everybody who waits for it."""
        return [accept.ticket for accept in self.accepts] + [work.ticket for work in self.works]

    def withdraw_expired(self, now_s: float) -> list[Ticket]:
        """Take out what was waited for too long; returns the tickets, which nobody has settled yet."""
        expired = [one for one in self.tickets if one.expires_s is not None and one.expires_s <= now_s]
        if expired:
            gone = set(map(id, expired))
            self.accepts = [accept for accept in self.accepts if id(accept.ticket) not in gone]
            self.works = [work for work in self.works if id(work.ticket) not in gone]
        return expired


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
    return moved_event(move_of(task, TaskStatus.PENDING, task.finished_at or task.created_at, None))


def moved_event(move: Move) -> TaskEvent:
    """A task moved."""
    task = move.task
    return TaskEvent(
        task_id=task.id,
        name=task.name,
        job_id=task.job_id,
        status=move.status,
        attempt=move.attempt,
        at=move.at,
        duration_s=move.duration_s,
        wait_s=move.wait_s,
        error=move.error,
        cause=move.cause,
    )


def events_of(accepted: Sequence[Task], moves: Sequence[Move]) -> list[TaskEvent]:
    """What subscribers are told of a commit, in order."""
    return [*map(accepted_event, accepted), *map(moved_event, moves)]
