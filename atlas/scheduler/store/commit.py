"""What one commit holds, and the events that are told behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.exc import DBAPIError

from atlas.scheduler.events import TaskEvent
from atlas.scheduler.metrics import Moves
from atlas.scheduler.store.refusals import is_about_values
from atlas.scheduler.store.statements import run_plain
from atlas.scheduler.task import TaskPriority, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.store.task_rows import Row
    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.task import Task


class SpoiltError(Exception):
    """A work raised that was not done apart: what it had written would be committed with everything else."""


@dataclass(slots=True)
class Work:
    """Something to do in the next commit. Where one of a commit raises, all are done again, each in its savepoint.

    Attributes:
        run: Does it; None only waits for the commit.
        after: Called behind the commit with what ``run`` returned.
        failed: Called behind the commit with what ``run`` raised.
        tells: False if no other process waits for it.
        otherwise: Does it in another way, where ``run`` raised.
        is_urgent: It makes a task that is URGENT.
    """

    run: Callable[[Connection], Any] | None
    ticket: Ticket
    after: Callable[[Any], None] | None = None
    failed: Callable[[BaseException], None] | None = None
    tells: bool = True
    otherwise: Callable[[Connection], Any] | None = None
    is_urgent: bool = False
    value: Any = None
    error: BaseException | None = None

    def do(self, connection: Connection) -> None:
        """Do it, within a transaction; `value` says how it went.

        Most never raise, and a savepoint keeps a copy of each page that is changed behind it: a tenth of a herd's time.

        Raises:
            DBAPIError: The database is unwell, so that the whole transaction fails.
            SpoiltError: It raised; the transaction must be begun anew, and this be done apart.
        """
        self.value = self.error = None
        if self.run is not None:
            try:
                self.value = self.run(connection)
            except Exception as error:
                if isinstance(error, DBAPIError) and not is_about_values(error):
                    raise
                raise SpoiltError from error

    def do_apart(self, connection: Connection) -> None:
        """Do it in a savepoint of its own, so that its error undoes nothing else; `value` or `error` say how it went.

        Raises:
            DBAPIError: The database is unwell, so that the whole transaction fails.
        """
        self.value = self.error = None
        for run in (self.run, self.otherwise):
            if run is None:
                return
            run_plain(connection, "SAVEPOINT work")
            try:
                self.value, self.error = run(connection), None
                run_plain(connection, "RELEASE SAVEPOINT work")
            except Exception as error:  # the work's own error belongs to its ticket, the database's to the whole commit
                if isinstance(error, DBAPIError) and not is_about_values(error):
                    raise
                run_plain(connection, "ROLLBACK TO SAVEPOINT work")
                self.value, self.error = None, error
            else:
                return


class Accept(NamedTuple):
    """New tasks that are committed together."""

    tasks: Sequence[Task]
    rows: Sequence[Row]
    ticket: Ticket

    @property
    def is_urgent(self) -> bool:
        """True if they are URGENT; those of one call are alike."""
        return bool(self.tasks) and self.tasks[0].priority is TaskPriority.URGENT


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
        changes: Task → the row of its newest state.
        works: What else runs in it.
        is_awaited: Somebody waits for one of the changes.
        is_urgent: One of the new tasks is URGENT.
        fence: Raises where the lead under which it was put together is another process's by now.
    """

    accepts: list[Accept] = field(default_factory=list)
    changes: dict[str, Row] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    is_awaited: bool = False
    is_urgent: bool = False
    fence: Callable[[Connection], None] | None = None

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
        self.is_urgent |= newer.is_urgent
        self.fence = self.fence or newer.fence

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
        self.is_urgent = any(one.is_urgent for one in self.accepts) or any(one.is_urgent for one in self.works)


def accepted_event(task: Task) -> TaskEvent:
    """A task is on disk."""
    return TaskEvent(task.id, task.name, task.job_id, TaskStatus.PENDING, 0, task.created_at)


def refused_event(task: Task) -> TaskEvent:
    """A task of another process ended at once."""
    return move_of(task, TaskStatus.PENDING, task.finished_at or task.created_at, None)[1]


def events_of(accepted: Sequence[Task], moves: Sequence[Move]) -> list[TaskEvent]:
    """What subscribers are told of a commit, in order."""
    return [*map(accepted_event, accepted), *(event for _task, event in moves)]
