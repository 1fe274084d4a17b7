"""What one commit holds, and the events that are told behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from atlas.scheduler.events import TaskEvent
from atlas.scheduler.metrics import Moves
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.store.task_rows import Row
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
        tells: False if no other process waits for it.
        otherwise: Does it in another way, where ``run`` raised.
        value: What it returned.
        error: What it raised.
    """

    run: Callable[[Connection], Any] | None
    ticket: Ticket
    after: Callable[[Any], None] | None = None
    failed: Callable[[BaseException], None] | None = None
    tells: bool = True
    otherwise: Callable[[Connection], Any] | None = None
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
    rows: Sequence[Row]
    ticket: Ticket


Move = tuple["Task", TaskEvent]
"""A task, which may have moved on since, and what counters and subscribers need of the moment it moved."""


def move_of(task: Task, was: TaskStatus, at: datetime, wait_s: float | None) -> Move:
    """The move that ``task`` has just made."""
    started_at = task.started_at if was is TaskStatus.RUNNING else None  # what waited for a retry did not run
    duration_s = None if started_at is None else max(0.0, (at - started_at).total_seconds())
    status, attempt, error, cause = task.status, task.attempt, task.error, task.cause
    return task, TaskEvent(task.id, task.name, task.job_id, status, attempt, at, was, duration_s, wait_s, error, cause)


@dataclass(slots=True)
class Batch:
    """What one commit holds.

    Attributes:
        accepts: New tasks.
        changes: Task → the row of its newest state.
        attempts: Rows of ``attempts``.
        moves: Every move, in order.
        works: What else runs in it.
        is_awaited: Somebody waits for one of the changes.
    """

    accepts: list[Accept] = field(default_factory=list)
    changes: dict[str, Row] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    is_awaited: bool = False

    def __bool__(self) -> bool:
        """True if there is something to commit."""
        return bool(self.accepts or self.changes or self.works or self.attempts or self.moves)

    @property
    def accepted(self) -> list[Task]:
        """Every new task, in order."""
        return [task for accept in self.accepts for task in accept.tasks]

    @property
    def may_gather(self) -> bool:
        """True while nobody waits for it."""
        return not (self.accepts or self.works or self.is_awaited)

    def put_before(self, newer: Batch) -> None:
        """Take everything that came after this batch failed; the newest state of a task wins."""
        self.accepts += newer.accepts
        self.changes.update(newer.changes)
        self.attempts += newer.attempts
        self.moves += newer.moves
        self.works += newer.works
        self.is_awaited |= newer.is_awaited

    def counted(self) -> Moves:
        """What it changes in the counters."""
        counts = Moves()
        counts.made_all(self.accepted)
        counts.moved_all([event for _task, event in self.moves])
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
            self.withdraw(expired)
        return expired

    def withdraw(self, tickets: Sequence[Ticket]) -> None:
        """Take out what these tickets stand for."""
        gone = set(map(id, tickets))
        self.accepts = [accept for accept in self.accepts if id(accept.ticket) not in gone]
        self.works = [work for work in self.works if id(work.ticket) not in gone]


def accepted_event(task: Task) -> TaskEvent:
    """A task is on disk."""
    return TaskEvent(task.id, task.name, task.job_id, TaskStatus.PENDING, 0, task.created_at)


def refused_event(task: Task) -> TaskEvent:
    """A task of another process ended at once."""
    return move_of(task, TaskStatus.PENDING, task.finished_at or task.created_at, None)[1]


def events_of(accepted: Sequence[Task], moves: Sequence[Move]) -> list[TaskEvent]:
    """What subscribers are told of a commit, in order."""
    return [*map(accepted_event, accepted), *(event for _task, event in moves)]
