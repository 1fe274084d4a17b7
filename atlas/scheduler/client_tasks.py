"""Tasks that are made where no scheduler runs: by the names of their functions, straight into the store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select, text

from atlas.scheduler.arguments import encode_arguments
from atlas.scheduler.errors import ArgumentsError, DuplicateTaskError, JobBusyError, QueueFullError
from atlas.scheduler.registry import Registry
from atlas.scheduler.store.audit import Action, write_audit
from atlas.scheduler.store.leases import last_lease, scheduler_lease
from atlas.scheduler.store.refusals import naming_the_job
from atlas.scheduler.store.tables import UNFINISHED_SQL, tasks
from atlas.scheduler.store.task_rows import fetch
from atlas.scheduler.task import WAITING, ExecutorKind, Overlap, Task, member_of
from atlas.scheduler.tasks.submission import (
    QueueDefaults,
    Submission,
    SubmitOptions,
    insert_as_new,
    make_task,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.definition import JobDefinition

_WAITING: Final = select(func.count()).where(
    tasks.c.status.in_([str(status) for status in WAITING]), ~tasks.c.cancel_requested
)


def task_by_name(
    function: str, args: Sequence[Any], options: SubmitOptions, *, defaults: QueueDefaults, now: datetime
) -> Task:
    """A task of a function that another process knows, and with it the executor that fits.

    Raises:
        ArgumentsError: The arguments are not JSON, or an option has no meaning.
    """
    registry = Registry()
    registry.add("placeholder", _placeholder)
    asked = options.get("executor")
    plain: SubmitOptions = {**options, "executor": None}
    (live,) = Submission(registry, defaults).prepare("placeholder", [args], plain, now=now)
    task = live.task
    task.function, task.name = function, options.get("name") or function.rpartition(":")[2]
    if asked is not None:
        task.policy = replace(task.policy, executor=member_of(ExecutorKind, "executor", asked))
    return task


def fired_by_hand(
    job: JobDefinition, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, *, now: datetime
) -> Task:
    """A task of a job, with its own arguments where none are given.

    Raises:
        ArgumentsError: They are not JSON, or its function lives in the scheduler's process.
    """
    task = make_task(job, job.policies.executor or ExecutorKind.THREAD, now=now, reason="run now")
    if args is not None or kwargs is not None:
        if job.volatile:
            msg = f"job {job.id}: its function lives in the scheduler's process, and takes arguments there alone"
            raise ArgumentsError(msg)
        task.arguments = encode_arguments(list(args or ()), dict(kwargs or {}))
    return task


def put(
    connection: Connection, task: Task, *, action: Action, by: str, unique: bool = False, subject: str | None = None
) -> None:
    """Write a task, and to the audit who asked for it.

    With ``unique`` its id was given, and may be taken; the audit names ``subject``, by default the job or the task.

    Raises:
        DuplicateTaskError: A task with this id exists already.
        JobBusyError: The overlap rule of its job allows no further task now.
        JobRefusedError: The database takes no task of its job.
        QueueFullError: See `refuse_full`.
    """

    def told(connection: Connection) -> None:
        after = {"function": task.function} if action is Action.SUBMIT else {"task": task.id}
        write_audit(connection, action, subject or task.job_id or task.id, by=by, at=task.created_at, after=after)

    put_all(connection, [task], unique=unique, also=told)


def put_all(
    connection: Connection, made: Sequence[Task], *, unique: bool, also: Callable[[Connection], None] | None
) -> None:
    """Write the tasks of one call, of which the first may be of a job, and ``also``; see `put`."""
    task = made[0]
    found = fetch(connection, task.id)
    if found is not None and found.created_at == task.created_at:
        return  # the reply to COMMIT was lost
    if unique and found is not None:
        raise DuplicateTaskError(task.id)
    refuse_full(connection, task.created_at)
    if task.job_id is not None:
        unfinished = unfinished_of(connection, task.job_id)
        limit = {Overlap.SKIP: 1, Overlap.ALLOW: task.policy.max_instances}.get(task.policy.overlap)
        if limit is not None and len(unfinished) >= limit:
            raise JobBusyError(task.job_id, unfinished[0])
    with naming_the_job(task.job_id):
        insert_as_new(connection, made)
    if also is not None:
        also(connection)


def refuse_full(connection: Connection, now: datetime) -> None:
    """Raise where as many tasks wait as may: a living leader has told it some seconds ago, else they are counted.

    Raises:
        QueueFullError: As many tasks wait as may.
    """
    lease = last_lease(connection)
    limit = None if lease is None else lease.figures.get("max_waiting")
    if lease is None or limit is None:
        return
    waiting = lease.figures.get("queue_size", 0)
    if waiting >= limit:
        lease = scheduler_lease(connection) or lease  # a look at its process costs more: the figure may be its last
    if not lease.lives(now):
        waiting = connection.execute(_WAITING).scalar_one()
    if waiting >= limit:
        raise QueueFullError(limit)


def unfinished_of(connection: Connection, job_id: str) -> list[str]:
    """The job's tasks that wait or run, by id."""
    statement = select(tasks.c.id).where(text(UNFINISHED_SQL), tasks.c.job_id == job_id).order_by(tasks.c.id)
    return list(connection.execute(statement).scalars())


def _placeholder(*_args: object, **_kwargs: object) -> None:
    """Stands for a function of the scheduler's process."""
