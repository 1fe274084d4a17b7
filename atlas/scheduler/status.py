"""`StatusManager`: the record of tasks: hand-moved ones, queries, metrics, cleanup."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from loguru import logger
from sqlalchemy import delete

from atlas.scheduler.errors import ArgumentsError, AtlasError, DuplicateTaskError
from atlas.scheduler.metrics import Metrics, Moves
from atlas.scheduler.outcome import returned, shorten
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.snapshot import Snapshot, read_snapshot
from atlas.scheduler.store.commit import accepted_event, move_of
from atlas.scheduler.store.leases import owner_lives
from atlas.scheduler.store.retention import datetime_before, delete_final_tasks
from atlas.scheduler.store.store import Store, open_store
from atlas.scheduler.store.tables import attempts, task_logs
from atlas.scheduler.store.tables import tasks as tasks_table
from atlas.scheduler.store.task_queries import TaskFilter, find_attempts, find_tasks
from atlas.scheduler.store.task_rows import (
    INSERT,
    attempt_row,
    fetch,
    fetch_known,
    full_row,
    insert_attempts,
    insert_tasks,
    moving_row,
    update_tasks,
)
from atlas.scheduler.task import Cause, Origin, Task, TaskPolicy, TaskPriority, TaskStatus, checked_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.events import TaskEvent
    from atlas.scheduler.store.commit import Move

UNFINISHED: Final = "it is unfinished and its process lives, as far as is known here"
CLEAN_EVERY_S: Final = 3600.0
CLEAN_FIRST_S: Final = 60.0


class StatusManager:
    """The record of every task in one store; standalone, or beside a `TaskQueue` and a `CronManager`.

    The synchronous methods wait for one commit, at most 5 s, and then raise `StoreUnavailableError`. One that is not
    closed, dropped or not, lives until the interpreter ends, which writes its status file: queues may use its store.

    Args:
        status_file: ``x.json`` opens the database ``x.db`` beside it and keeps ``x.json`` as a readable copy of the
            newest 1,000 tasks. An ``x.json`` without ``x.db`` is imported once. None writes no copy.
        store: A store that is open already, instead of ``x.db``.
        keep_days: Age at which automatic cleanup removes final tasks; None keeps them.
        keep_tasks: How many final tasks automatic cleanup leaves; None leaves all.

    Raises:
        ArgumentsError: ``status_file`` is the database, or a limit is negative.
        ConfigError: ``status_file`` exists and is no status file.
        StoreError: The database cannot be opened.
    """

    def __init__(
        self,
        status_file: Path | str | None = "task_status.json",
        *,
        store: Store | None = None,
        keep_days: float | None = 30.0,
        keep_tasks: int | None = 100_000,
    ) -> None:
        path = None if status_file is None else Path(status_file)
        self._owns_store = store is None
        to_import: list[Task] = []
        if store is not None:
            database = store.path
        elif path is not None:
            database = path.with_suffix(".db")
        else:
            raise ArgumentsError("a StatusManager needs a status_file or a store")
        if path is not None and database is not None and path.resolve() == database.resolve():
            msg = f"status_file {path} is the database itself; name another file, such as {path.with_suffix('.json')}"
            raise ArgumentsError(msg)
        _check_limits(keep_days, keep_tasks)
        if store is None:
            if path is not None and path.exists() and database is not None and not database.exists():
                to_import = read_snapshot(path)
            store = open_store(database)
        self.store: Store = store
        self.keep_days, self.keep_tasks = keep_days, keep_tasks
        self._snapshot = None if path is None else Snapshot(store, path)
        self._closed = threading.Event()
        self._cleaner = threading.Thread(target=self._clean_now_and_then, name="atlas-cleaner", daemon=True)
        if to_import:
            self._import(to_import)
        self._cleaner.start()

    def close(self) -> None:
        """Write the status file and give the store up. Closing twice does nothing."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._cleaner.join(5.0)
        if self._snapshot is not None:
            self._snapshot.close()
        if self._owns_store:
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- tasks moved by hand ------------------------------------------------------------------------------------------

    def create_task(
        self,
        task_id: str,
        task_name: str,
        priority: TaskPriority | str | int = TaskPriority.NORMAL,
        max_retries: int = 3,
        *,
        job_id: str | None = None,
    ) -> Task:
        """Record a task, PENDING; it is moved by the calls below and touched by neither queue nor recovery.

        A final record of the same id is replaced (its outcome still counts in the metrics); an unfinished one of a
        process that died first becomes FAILED (lost).

        Raises:
            ArgumentsError: An id is not 1 to 191 printable characters, the name no text, or the priority none.
            DuplicateTaskError: An unfinished task of this id belongs to a living process, or the queue owns the id.
        """
        checked_id("task_id", task_id)
        if job_id is not None:
            checked_id("job_id", job_id)
        if not isinstance(task_name, str):  # a caller without type checks
            raise ArgumentsError(f"task_name {task_name!r:.80} is no text")
        now = self.store.clock.now()
        task = Task(
            id=task_id,
            name=shorten(task_name),
            function="manual",
            job_id=job_id,
            origin=Origin.MANUAL,
            reason="created by hand",
            priority=TaskPriority.parse(priority),
            policy=TaskPolicy(retry=RetryPolicy(max_retries=max_retries), timeout_s=None),
            created_at=now,
            owner=self.store.owner,
        )

        def create(connection: Connection) -> list[TaskEvent]:
            old = fetch(connection, task_id)
            ended = [] if old is None else self._make_room(connection, old, now)
            if not INSERT.run(connection, [full_row(task)]):  # looked for in vain: PostgreSQL, another process since
                raise DuplicateTaskError(task.id, UNFINISHED)
            return [*ended, accepted_event(task)]

        self.store.write(create, after=self._announce)
        return task

    def _make_room(self, connection: Connection, old: Task, now: datetime) -> list[TaskEvent]:
        ended: list[TaskEvent] = []
        if old.origin is not Origin.MANUAL:
            raise DuplicateTaskError(old.id, "a task of the queue has this id")
        if not old.status.is_final:
            if self._lives(old.owner):
                raise DuplicateTaskError(old.id, f"{UNFINISHED}; cancel_task({old.id!r}) ends it")
            was = old.status
            old.move(TaskStatus.FAILED)
            old.cause, old.finished_at, old.error = Cause.LOST, now, "its process died"
            ended.append(_moved(old, was, now))
            _count(ended).write(connection)
        connection.execute(delete(tasks_table).where(tasks_table.c.id == old.id))
        connection.execute(delete(attempts).where(attempts.c.task_id == old.id))
        connection.execute(delete(task_logs).where(task_logs.c.task_id == old.id))
        return ended

    def _lives(self, owner: str | None) -> bool:
        """True if the process that owns a hand-moved task may still run."""
        if owner is None or owner == self.store.owner:
            return owner is not None
        is_mine = owner.startswith(self.store.owner.rpartition(":")[0] + ":")
        return not is_mine and owner_lives(owner)  # an earlier store of this process is closed

    def start_task(self, task_id: str) -> Task:
        """PENDING or RETRYING → RUNNING: the next attempt begins.

        Raises:
            UnknownTaskError: No such task.
            TransitionError: It may not go there.
        """

        def start(task: Task, now: datetime) -> None:
            task.move(TaskStatus.RUNNING)
            task.attempt += 1
            task.started_at, task.due_at, task.cause, task.error = now, None, None, None

        return self._move(task_id, start)

    def complete_task(self, task_id: str, result: Any = None) -> Task:
        """RUNNING → SUCCESS with ``result``; one that is not JSON or over 64 kB is omitted and marked."""

        def complete(task: Task, now: datetime) -> None:
            task.move(TaskStatus.SUCCESS)
            task.finished_at, task.result = now, returned(result).text
            task.result_omitted = task.result is None

        return self._move(task_id, complete)

    def fail_task(self, task_id: str, error: str | BaseException = "", *, retry: bool = True) -> Task:
        """RUNNING → RETRYING while ``retry`` and ``max_retries`` allow it, else FAILED; 8 kB of the error are kept."""
        return self._end_attempt(task_id, TaskStatus.FAILED, Cause.ERROR, str(error), retry=retry)

    def timeout_task(self, task_id: str, error: str = "ran out of time", *, retry: bool = True) -> Task:
        """RUNNING → RETRYING while ``max_retries`` allows another attempt, else TIMEOUT."""
        return self._end_attempt(task_id, TaskStatus.TIMEOUT, Cause.TIMEOUT, error, retry=retry)

    def _end_attempt(self, task_id: str, final: TaskStatus, cause: Cause, error: str, *, retry: bool) -> Task:
        def end(task: Task, now: datetime) -> None:
            again = retry and task.policy.retry.allows(task.failures + 1)
            task.move(TaskStatus.RETRYING if again else final)
            task.failures += 1
            task.cause, task.error = cause, shorten(error)
            if not again:
                task.finished_at = now

        return self._move(task_id, end)

    def cancel_task(self, task_id: str) -> Task:
        """Any unfinished status → CANCELLED."""

        def cancel(task: Task, now: datetime) -> None:
            task.move(TaskStatus.CANCELLED)
            task.finished_at, task.cause = now, Cause.CANCELLED

        return self._move(task_id, cancel)

    def _move(self, task_id: str, change: Callable[[Task, datetime], None]) -> Task:
        now = self.store.clock.now()

        def move(connection: Connection) -> Move:
            task = fetch_known(connection, task_id)
            if task.origin is not Origin.MANUAL:
                raise DuplicateTaskError(task_id, "the queue moves this task; cancel it there")
            was = task.status
            change(task, now)
            task.owner = self.store.owner
            update_tasks(connection, [moving_row(task)])
            if was is TaskStatus.RUNNING and not task.status.is_final:
                insert_attempts(
                    connection,
                    [attempt_row(task, outcome=str(task.cause), ended_at=now, wait_s=None, error=task.error)],
                )
            moved = move_of(task, was, now, None)
            _count([moved[1]]).write(connection)
            return moved

        task, _event = self.store.write(move, after=lambda moved: self._announce([moved[1]]))
        return task

    def _announce(self, events: list[TaskEvent]) -> None:
        self.store.totals.add(_count(events))
        self.store.events.publish(*events)

    def _import(self, found: list[Task]) -> None:
        by_id = {task.id: task for task in found}  # somebody may have put one in twice

        def insert(connection: Connection) -> list[TaskEvent]:
            insert_tasks(connection, [full_row(task) for task in by_id.values()])
            events = [event for task in by_id.values() for event in (accepted_event(task), _imported(task))]
            _count(events).write(connection)
            return events

        self.store.write(insert, after=self._announce, wait_s=30.0)
        logger.info("imported the status file", tasks=len(by_id))

    # --- looking ------------------------------------------------------------------------------------------------------

    def get_task(self, task_id: str) -> Task:
        """The task as it is on disk.

        Raises:
            UnknownTaskError: No such task.
        """
        return self.store.read(lambda connection: fetch_known(connection, task_id))

    def get_tasks(
        self,
        *,
        status: TaskStatus | str | None = None,
        job: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        text: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[Task]:
        """Tasks by status, job, time of acceptance and text, newest first.

        ``before`` is the `cursor` of the last task of the page before.

        Raises:
            ArgumentsError: There is no such status, an instant is naive, or ``before`` is no cursor.
        """
        wanted = TaskFilter(job=job, status=status, since=since, until=until, text=text, before=before, limit=limit)
        return self.store.read(lambda connection: find_tasks(connection, wanted))

    def get_attempts(self, task_id: str) -> list[dict[str, Any]]:
        """The attempts that did not end the task, oldest first, with their waits and errors."""
        return self.store.read(lambda connection: find_attempts(connection, task_id))

    def get_metrics(self, job_id: str | None = None) -> Metrics:
        """Figures of all tasks, or of one job's; the cost does not depend on how many there are."""
        return self.store.totals.metrics(job_id)

    # --- cleanup ------------------------------------------------------------------------------------------------------

    def cleanup(self, *, keep_days: float | None = None, keep_tasks: int | None = None) -> int:
        """Remove final tasks that are too old or too many, in small batches; metrics stay. Returns how many.

        What is not given here is as the manager has it.
        """
        _check_limits(keep_days, keep_tasks)
        days = self.keep_days if keep_days is None else keep_days
        before = None if days is None else datetime_before(self.store.clock.now(), days)
        return delete_final_tasks(self.store, before=before, keep=self.keep_tasks if keep_tasks is None else keep_tasks)

    def _clean_now_and_then(self) -> None:
        wait_s = CLEAN_FIRST_S
        while not self._closed.wait(wait_s):
            wait_s = CLEAN_EVERY_S
            try:
                removed = self.cleanup()
            except AtlasError as error:
                logger.warning("automatic cleanup failed; it is tried again in an hour", error=str(error))
            else:
                if removed:
                    logger.info("automatic cleanup", tasks=removed)


def _check_limits(keep_days: float | None, keep_tasks: int | None) -> None:
    for name, limit in (("keep_days", keep_days), ("keep_tasks", keep_tasks)):
        if limit is not None and not limit >= 0:
            raise ArgumentsError(f"{name} {limit} is negative: it would remove everything")


def _count(events: list[TaskEvent]) -> Moves:
    counts = Moves()
    for event in events:
        if event.status is TaskStatus.PENDING:
            counts.made(event.job_id)
        else:
            counts.moved(event.job_id, event.was, event.status, event.duration_s)
    return counts


def _moved(task: Task, was: TaskStatus, at: datetime) -> TaskEvent:
    return move_of(task, was, at, None)[1]


def _imported(task: Task) -> TaskEvent:
    """The end of a task that ran elsewhere."""
    return _moved(task, TaskStatus.PENDING, task.finished_at or task.created_at)._replace(duration_s=task.duration_s)
