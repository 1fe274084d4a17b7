"""`AtlasClient`: the store from another process; the scheduler hears of what it does within 1 s."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import select, text

from atlas.scheduler.errors import (
    ArgumentsError,
    DuplicateTaskError,
    JobBusyError,
    JobOwnershipError,
    JobUnboundError,
    ResultNotReadyError,
    UnknownFunctionError,
    UnknownJobError,
    UnknownTaskError,
)
from atlas.scheduler.job_records import JobRecord, Parked
from atlas.scheduler.job_rows import read_job, read_jobs
from atlas.scheduler.job_state import Pause, pause_job, read_pauses, resume_job
from atlas.scheduler.job_view import Job, last_tasks, status_of
from atlas.scheduler.metrics import Metrics, Totals
from atlas.scheduler.nearest import nearest
from atlas.scheduler.queue import refuse_on_loop
from atlas.scheduler.registry import Registry, encode_arguments
from atlas.scheduler.store import recovery
from atlas.scheduler.store.audit import Action, Entry, read_audit, write_audit
from atlas.scheduler.store.leases import Lease, scheduler_lease
from atlas.scheduler.store.store import ACCEPT_S, Store
from atlas.scheduler.store.tables import UNFINISHED_SQL, jobs, tasks
from atlas.scheduler.store.task_logs import LogLine, read_logs
from atlas.scheduler.store.task_queries import TaskFilter, find_attempts, find_tasks
from atlas.scheduler.store.task_rows import fetch, full_row, insert_tasks
from atlas.scheduler.submission import IDS, QueueDefaults, Submission, SubmitOptions, again, refuse_lost
from atlas.scheduler.task import ExecutorKind, Origin, Overlap, Task, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType
    from typing import Unpack

    from sqlalchemy import Connection


LOOK_S: Final = 0.5
"""How often `wait` looks at a task."""
TOLD_LOOK_S: Final = 5.0
"""The same where the database tells of commits (PostgreSQL)."""


class SyncAtlasClient:
    """`AtlasClient` for code without an event loop; a context manager.

    Every method does what its namesake does, and raises `RuntimeError` when called on a running loop.
    """

    def __init__(self, target: Path | str, *, defaults: QueueDefaults | None = None) -> None:
        """Describe the client; the database is opened by its first use."""
        self._target = target
        self._defaults = defaults or QueueDefaults()
        self._store: Store | None = None

    @classmethod
    def over(cls, store: Store, defaults: QueueDefaults | None = None) -> Self:
        """A client on an open store, whose owner closes it; for a process that does not serve it itself."""
        client = cls(store.url, defaults=defaults)
        client._store = store
        return client

    @property
    def store(self) -> Store:
        """The store, opened when first asked for.

        It is the client's own even where this process serves the same database: a scheduler looks for commits of
        others, and those of its own store are none.
        """
        if self._store is None:
            self._store = Store(self._target, follows=False)
        return self._store

    def close(self) -> None:
        """Give the store up. Closing twice does nothing."""
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """`close`."""
        self.close()

    # --- looking ------------------------------------------------------------------------------------------------------

    def scheduler(self) -> Lease | None:
        """`AtlasClient.scheduler`."""
        refuse_on_loop()
        lease = self.store.read(scheduler_lease)
        return lease if lease is not None and lease.lives(self.store.clock.now()) else None

    def jobs(self) -> list[Job]:
        """`AtlasClient.jobs`."""
        refuse_on_loop()
        (records, parked), pauses, lease = self.store.read(
            lambda connection: (read_jobs(connection), read_pauses(connection), scheduler_lease(connection))
        )
        unbound = lease.figures.get("unbound_jobs", {}) if lease is not None else {}
        now = self.store.clock.now()
        in_force = {job_id: pause for job_id, pause in pauses.items() if pause.holds(now)}
        found = [
            Job.of(one.definition, one.trigger, one.next_run, in_force.get(one.id), unbound.get(one.id))
            for one in records.values()
        ]
        return sorted([*found, *map(Job.of_parked, parked.values())], key=lambda job: job.id)

    def job(self, name: str) -> Job:
        """`AtlasClient.job`."""
        job = next((job for job in self.jobs() if job.id == name), None)
        if job is None:
            raise self._unknown_job(name)
        return job

    def job_status(self, name: str) -> dict[str, Any]:
        """`AtlasClient.job_status`."""
        refuse_on_loop()
        job = self.job(name)
        record = self.store.read(lambda connection: read_job(connection, name))
        return status_of(
            job,
            record.definition if isinstance(record, JobRecord) else None,
            metrics=self.metrics(name),
            latest=self.store.read(lambda connection: last_tasks(connection, name, 1)),
            unfinished=self.store.read(lambda connection: _unfinished(connection, name)),
        )

    def tasks(
        self,
        *,
        job: str | None = None,
        status: TaskStatus | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        text: str | None = None,
        limit: int = 100,
    ) -> list[Task]:
        """`AtlasClient.tasks`."""
        refuse_on_loop()
        wanted = TaskFilter(job=job, status=status, since=since, until=until, text=text, limit=limit)
        return self.store.read(lambda connection: find_tasks(connection, wanted))

    def task(self, task_id: str) -> Task:
        """`AtlasClient.task`."""
        refuse_on_loop()
        task = self.store.read(lambda connection: fetch(connection, task_id))
        if task is None:
            raise UnknownTaskError(task_id)
        return task

    def attempts(self, task_id: str) -> list[dict[str, Any]]:
        """`AtlasClient.attempts`."""
        refuse_on_loop()
        return self.store.read(lambda connection: find_attempts(connection, task_id))

    def logs(self, task_id: str, *, after_id: int = 0, limit: int = 1000) -> list[LogLine]:
        """`AtlasClient.logs`."""
        refuse_on_loop()
        return self.store.read(lambda connection: read_logs(connection, task_id, after_id, limit))

    def metrics(self, job: str | None = None) -> Metrics:
        """`AtlasClient.metrics`."""
        refuse_on_loop()
        totals = Totals()
        self.store.read(totals.load)
        return totals.metrics(job)

    def audit(self, **wanted: Any) -> list[Entry]:
        """`AtlasClient.audit`."""
        refuse_on_loop()
        return self.store.read(lambda connection: read_audit(connection, **wanted))

    # --- acting -------------------------------------------------------------------------------------------------------

    def submit(self, function: str, *args: Any, **options: Unpack[SubmitOptions]) -> str:
        """`AtlasClient.submit`."""
        refuse_on_loop()
        if not isinstance(function, str):  # a caller without type checks
            msg = f"a client submits functions by name, not {function!r}: another process runs them"  # type: ignore[unreachable]
            raise ArgumentsError(msg)
        encode_arguments(args, dict(options.get("kwargs") or {}))
        lease = self.store.read(scheduler_lease)
        known: list[str] = lease.figures.get("functions", []) if lease is not None else []
        if known and ":" not in function and function not in known:
            raise UnknownFunctionError(function, nearest=nearest(function, known))
        registry = Registry()
        registry.add("placeholder", _placeholder)  # the scheduler finds the real one, and the executor that fits it
        asked = options.get("executor")
        plain: SubmitOptions = {**options, "executor": None}
        live = Submission(registry, self._defaults).prepare("placeholder", args, plain, now=self.store.clock.now())
        task = live.task
        task.function, task.name = function, options.get("name") or function.rpartition(":")[2]
        if asked is not None:
            task.policy = replace(task.policy, executor=_kind(asked))
        self._insert(task, unique="task_id" in options, action=Action.SUBMIT, by=options.get("by", ""))
        return task.id

    def run_job(
        self,
        name: str,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        by: str = "",
    ) -> str:
        """`AtlasClient.run_job`."""
        refuse_on_loop()
        definition, now = self._known_job(name).definition, self.store.clock.now()
        arguments = definition.arguments
        if args is not None or kwargs is not None:
            if definition.volatile:
                msg = f"job {name}: its function lives in the scheduler's process, and takes arguments there alone"
                raise ArgumentsError(msg)
            arguments = encode_arguments(list(args or ()), dict(kwargs or {}))
        task = Task(
            id=IDS.new(now),
            name=definition.title,
            function=definition.function,
            arguments=arguments,
            job_id=name,
            origin=Origin.FIRE,
            reason="run now",
            priority=definition.priority,
            policy=definition.policy(definition.executor or ExecutorKind.THREAD),
            volatile=definition.volatile,
            created_at=now,
        )
        self._insert(task, unique=False, action=Action.RUN, by=by)
        return task.id

    def retry(self, task_id: str, *, by: str = "") -> str:
        """`AtlasClient.retry`."""
        refuse_on_loop()
        new = again(self.task(task_id), now=self.store.clock.now())
        if new.volatile and new.job_id is None:
            refuse_lost(new)
        self._insert(new, unique=False, action=Action.RETRY, by=by, subject=task_id)
        return new.id

    def _insert(self, task: Task, *, unique: bool, action: Action, by: str, subject: str | None = None) -> None:
        def insert(connection: Connection) -> None:
            if unique and fetch(connection, task.id) is not None:
                raise DuplicateTaskError(task.id)
            if task.job_id is not None:
                unfinished = _unfinished(connection, task.job_id)
                limit = {Overlap.SKIP: 1, Overlap.ALLOW: task.policy.max_instances}.get(task.policy.overlap)
                if limit is not None and len(unfinished) >= limit:
                    raise JobBusyError(task.job_id, unfinished[0])
            insert_tasks(connection, [full_row(task)])
            after = {"function": task.function} if action is Action.SUBMIT else {"task": task.id}
            about = subject or task.job_id or task.id
            write_audit(connection, action, about, by=by, at=task.created_at, after=after)

        self.store.write(insert, wait_s=ACCEPT_S)

    def cancel(self, task_id: str, *, by: str = "") -> bool:
        """`AtlasClient.cancel`."""
        refuse_on_loop()
        task = self.task(task_id)
        if task.status.is_final or task.origin is Origin.MANUAL:
            return False
        now = self.store.clock.now()
        return self.store.write(lambda connection: recovery.request_cancel(connection, task_id, by=by, at=now))

    def pause_job(self, name: str, *, reason: str = "", by: str = "", until: datetime | None = None) -> None:
        """`AtlasClient.pause_job`."""
        refuse_on_loop()
        now = self.store.clock.now()
        if until is not None and (until.tzinfo is None or until <= now):
            msg = f"until {until} must be an instant in the future, with its zone"
            raise ArgumentsError(msg)
        self._known_job(name)
        self.store.write(lambda connection: pause_job(connection, name, Pause(now, until, by, reason)))

    def resume_job(self, name: str, *, by: str = "") -> bool:
        """`AtlasClient.resume_job`."""
        refuse_on_loop()
        record = self._known_job(name)
        if not record.enabled:
            raise JobOwnershipError(name, "the config file says enabled: false; change it there")
        now = self.store.clock.now()
        return self.store.write(lambda connection: resume_job(connection, name, by=by, at=now))

    def wait(
        self,
        task_id: str,
        timeout: float | None = None,
        *,
        on_change: Callable[[Task], None] | None = None,
    ) -> Task:
        """`AtlasClient.wait`."""
        refuse_on_loop()
        clock = self.store.clock
        end_s = None if timeout is None else clock.monotonic() + timeout
        last = None
        with self._news() as news:
            while True:
                news.seen()
                task = self.task(task_id)
                if on_change is not None and (task.status, task.attempt) != last:
                    last = (task.status, task.attempt)
                    on_change(task)
                if task.status.is_final:
                    return task
                left_s = float("inf") if end_s is None else end_s - clock.monotonic()
                if left_s <= 0:
                    raise ResultNotReadyError(task_id, f"not final after {timeout:g} s")
                news.wait(left_s)

    @contextmanager
    def _news(self) -> Iterator[_News]:
        news = _News(self.store)
        self.store.on_foreign(news.tell)
        try:
            yield news
        finally:
            self.store.off_foreign(news.tell)

    def _known_job(self, name: str) -> JobRecord:
        found = self.store.read(lambda connection: read_job(connection, name))
        if found is None:
            raise self._unknown_job(name)
        if isinstance(found, Parked):
            raise JobUnboundError(name, f"its row cannot be read: {found.error}")
        return found

    def _unknown_job(self, name: str) -> UnknownJobError:
        known = self.store.read(lambda connection: list(connection.execute(select(jobs.c.id)).scalars()))
        return UnknownJobError(name, nearest=nearest(name, known))


class _News:
    """Waits for a commit of another process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._told = False

    def tell(self) -> None:
        """Somebody committed."""
        with self._changed:
            self._told = True
            self._changed.notify()

    def seen(self) -> None:
        """What was told so far is about to be looked at."""
        with self._changed:
            self._told = False

    def wait(self, timeout_s: float) -> None:
        """Wait until somebody committed, or it is time to look all the same."""
        look_s = TOLD_LOOK_S if self._store.hears else LOOK_S
        with self._changed:
            if not self._told:
                self._store.clock.wait(self._changed, min(look_s, timeout_s))


def _placeholder(*_args: object, **_kwargs: object) -> None:
    """Stands for a function of the scheduler's process."""


def _kind(asked: ExecutorKind | str) -> ExecutorKind:
    try:
        return ExecutorKind(asked)
    except ValueError:
        msg = f"executor {asked!r} is not one of thread, process, async"
        raise ArgumentsError(msg) from None


def _unfinished(connection: Connection, name: str) -> list[str]:
    statement = select(tasks.c.id).where(text(UNFINISHED_SQL), tasks.c.job_id == name).order_by(tasks.c.id)
    return list(connection.execute(statement).scalars())


class AtlasClient:
    """A store that a scheduler of another process serves.

    Args:
        target: The database: a file's path or an SQLAlchemy URL.
        defaults: Policies of submitted tasks that do not bring their own.
    """

    def __init__(self, target: Path | str, *, defaults: QueueDefaults | None = None) -> None:
        """Describe the client; the database is opened by its first use."""
        self._sync = SyncAtlasClient(target, defaults=defaults)

    @property
    def sync(self) -> SyncAtlasClient:
        """The same client for code without an event loop."""
        return self._sync

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the store up."""
        await asyncio.to_thread(self._sync.close)

    async def scheduler(self) -> Lease | None:
        """The lease of the scheduler that serves this store, with its live figures; None when none does."""
        return await asyncio.to_thread(self._sync.scheduler)

    async def jobs(self) -> list[Job]:
        """Every job, by name."""
        return await asyncio.to_thread(self._sync.jobs)

    async def job(self, name: str) -> Job:
        """One job.

        Raises:
            UnknownJobError: No such job.
        """
        return await asyncio.to_thread(self._sync.job, name)

    async def job_status(self, name: str) -> dict[str, Any]:
        """Everything about one job, as `CronManager.get_job_status` gives it.

        Raises:
            UnknownJobError: No such job.
        """
        return await asyncio.to_thread(self._sync.job_status, name)

    async def tasks(self, **wanted: Any) -> list[Task]:
        """Tasks by ``job``, ``status``, ``since``, ``until``, ``text``, newest first, at most ``limit`` (100)."""
        return await asyncio.to_thread(lambda: self._sync.tasks(**wanted))

    async def task(self, task_id: str) -> Task:
        """One task as it is on disk.

        Raises:
            UnknownTaskError: No such task.
        """
        return await asyncio.to_thread(self._sync.task, task_id)

    async def attempts(self, task_id: str) -> list[dict[str, Any]]:
        """The attempts that did not end the task, oldest first."""
        return await asyncio.to_thread(self._sync.attempts, task_id)

    async def logs(self, task_id: str, *, after_id: int = 0, limit: int = 1000) -> list[LogLine]:
        """What a task logged behind the line ``after_id``, oldest first, at most ``limit`` lines."""
        return await asyncio.to_thread(lambda: self._sync.logs(task_id, after_id=after_id, limit=limit))

    async def metrics(self, job: str | None = None) -> Metrics:
        """Figures of all tasks, or of one job's."""
        return await asyncio.to_thread(self._sync.metrics, job)

    async def audit(self, **wanted: Any) -> list[Entry]:
        """Who changed what, newest first; see `atlas.scheduler.store.audit.read_audit` for what can be asked for."""
        return await asyncio.to_thread(lambda: self._sync.audit(**wanted))

    async def submit(self, function: str, *args: Any, **options: Unpack[SubmitOptions]) -> str:
        """Put a task into the store for the scheduler to run; on disk when this returns its id.

        Args:
            function: Name of a function the scheduler knows; code never travels.
            *args: Its positional arguments, JSON values.
            **options: See `SubmitOptions`.

        Raises:
            UnknownFunctionError: The scheduler that served here last does not know it.
            ArgumentsError: The arguments are not JSON, or an option has no meaning.
        """
        return await asyncio.to_thread(lambda: self._sync.submit(function, *args, **options))

    async def run_job(
        self,
        name: str,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        by: str = "",
    ) -> str:
        """Put a task of the job into the store; works while it is paused. The audit keeps who asked (``by``).

        Args:
            name: The job.
            args: Positional arguments, JSON values, in place of all the job's arguments.
            kwargs: Keyword arguments, likewise. None for both: the job's own.
            by: Who asks.

        Raises:
            UnknownJobError: No such job.
            JobBusyError: Its overlap rule allows no further task now.
        """
        return await asyncio.to_thread(lambda: self._sync.run_job(name, args=args, kwargs=kwargs, by=by))

    async def retry(self, task_id: str, *, by: str = "") -> str:
        """Put a new task with the function, arguments, policy and job of a final one into the store; returns its id.

        Raises:
            UnknownTaskError: No such task.
            TaskUnfinishedError: It is not final.
            FunctionRefusedError: It was recorded by hand, or its function lived in the process that submitted it.
            JobBusyError: The overlap rule of its job allows no further task now.
        """
        return await asyncio.to_thread(lambda: self._sync.retry(task_id, by=by))

    async def cancel(self, task_id: str, *, by: str = "") -> bool:
        """Ask for a task's end; False if it is final already. The scheduler acts within 1 s.

        Raises:
            UnknownTaskError: No such task.
        """
        return await asyncio.to_thread(lambda: self._sync.cancel(task_id, by=by))

    async def pause_job(self, name: str, *, reason: str = "", by: str = "", until: datetime | None = None) -> None:
        """Let a job make no tasks, see `CronManager.pause_job`."""
        await asyncio.to_thread(lambda: self._sync.pause_job(name, reason=reason, by=by, until=until))

    async def resume_job(self, name: str, *, by: str = "") -> bool:
        """Remove a job's pause; False if there was none."""
        return await asyncio.to_thread(lambda: self._sync.resume_job(name, by=by))

    async def wait(self, task_id: str, timeout: float | None = None) -> Task:
        """Wait until the task is final, looking twice a second.

        Raises:
            UnknownTaskError: No such task.
            ResultNotReadyError: ``timeout`` seconds passed first.
        """
        return await asyncio.to_thread(self._sync.wait, task_id, timeout)
