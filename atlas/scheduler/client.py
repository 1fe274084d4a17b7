"""`AtlasClient`: the store from another process; the scheduler hears of what it does within 1 s."""

from __future__ import annotations

import asyncio
import threading
from math import inf
from typing import TYPE_CHECKING, Any, Self, TypeVar

from loguru import logger
from sqlalchemy import select

from atlas.scheduler.arguments import encode_arguments
from atlas.scheduler.awaited import awaited, end_dropped, refuse_on_loop
from atlas.scheduler.client_tasks import fired_by_hand, put, task_by_name, unfinished_of
from atlas.scheduler.errors import (
    ArgumentsError,
    AtlasError,
    FunctionRefusedError,
    JobOwnershipError,
    JobUnboundError,
    ResultNotReadyError,
    UnknownFunctionError,
    UnknownJobError,
)
from atlas.scheduler.job_state import Pause, pause_jobs, read_pauses, resume_jobs
from atlas.scheduler.job_store.records import JobRecord, Parked
from atlas.scheduler.job_store.rows import read_job, read_jobs
from atlas.scheduler.job_view import Job, last_task, status_of
from atlas.scheduler.leaders_jobs import Shown, read_row_jobs
from atlas.scheduler.lease_facts import config_facts, parked_words, unbound_jobs
from atlas.scheduler.metrics import Metrics, Totals
from atlas.scheduler.nearest import nearest
from atlas.scheduler.registry import is_within, not_allowed
from atlas.scheduler.store import recovery
from atlas.scheduler.store.audit import Action, Entry, read_audit
from atlas.scheduler.store.foreign_commits import ForeignCommits, LoopForeignCommits, listening
from atlas.scheduler.store.leases import Lease, last_lease, living_lease, scheduler_lease
from atlas.scheduler.store.store import ACCEPT_S, Store
from atlas.scheduler.store.tables import jobs
from atlas.scheduler.store.task_logs import LogLine, read_logs
from atlas.scheduler.store.task_queries import TaskFilter, find_attempts, find_tasks
from atlas.scheduler.store.task_rows import fetch_known
from atlas.scheduler.task import Origin, Task, TaskStatus
from atlas.scheduler.tasks.submission import QueueDefaults, SubmitOptions, again, refuse_lost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from typing import Unpack

    from sqlalchemy import Connection

    from atlas.scheduler.clock import Clock
    from atlas.scheduler.store.lock_holders import Holder


T = TypeVar("T")


def _refuse_unknown(function: str, figures: Mapping[str, Any]) -> None:
    """Raise for what the scheduler that told these figures would refuse; it alone can tell the rest."""
    known: list[str] = figures.get("functions", [])
    if function in known:
        return
    module, colon, _ = function.partition(":")
    if colon and "allowed" in figures and not is_within(module, figures["allowed"]):
        raise FunctionRefusedError(not_allowed(function))
    if known and not colon:
        raise UnknownFunctionError(function, nearest=nearest(function, known))


class _Wait:
    """One wait for a task's end."""

    def __init__(self, clock: Clock, timeout_s: float | None, on_change: Callable[[Task], None] | None) -> None:
        self._clock, self._timeout_s, self._on_change = clock, timeout_s, on_change
        self._end_s = inf if timeout_s is None else clock.monotonic() + timeout_s
        self._last: tuple[TaskStatus, int] | None = None

    def look(self, task: Task) -> float | None:
        """Tell how the task stands, if that is news; returns the seconds left, None if it is final.

        Raises:
            ResultNotReadyError: None are left.
        """
        if self._on_change is not None and (task.status, task.attempt) != self._last:
            self._last = (task.status, task.attempt)
            self._on_change(task)
        if task.status.is_final:
            return None
        left_s = self._end_s - self._clock.monotonic()
        if left_s <= 0:
            raise ResultNotReadyError(task.id, f"not final after {self._timeout_s:g} s")
        return left_s


class SyncAtlasClient:
    """`AtlasClient` for code without an event loop; a context manager.

    Every method raises `RuntimeError` when called on a running loop.

    Attributes:
        on_wait: See `Store`; counts for a store that is opened from then on.
    """

    def __init__(self, target: Path | str, *, defaults: QueueDefaults | None = None) -> None:
        """Describe the client; the database is opened by its first use.

        Raises:
            ArgumentsError: ``target`` names none.
        """
        self._target = target
        self._defaults = defaults or QueueDefaults()
        self._store: Store | None = None
        self._is_over = False  # the store is somebody else's
        if not target:  # a variable that is not set, mostly: the client of a database in memory would wait for ever
            raise ArgumentsError(f"target {target!r} names no database: give the path or URL of the scheduler's")
        self._opening = threading.Lock()  # calls that are awaited run on several threads
        self.on_wait: Callable[[Holder | None], None] | None = None

    @classmethod
    def over(cls, store: Store, defaults: QueueDefaults | None = None) -> Self:
        """A client on an open store, whose owner closes it; for a process that does not serve it itself."""
        client = cls(store.url, defaults=defaults)
        client._store, client._is_over = store, True
        return client

    def __del__(self) -> None:
        """A client that is dropped while its database is open closes it: nobody else could."""
        store = self._store
        if store is not None and not (self._is_over or store.was_left_behind or store.is_closed):
            what = f"an AtlasClient of {store.url} was dropped before it was closed: 'await client.close()', or 'with'"
            end_dropped(self, what, store.close)

    @property
    def store(self) -> Store:
        """The store, opened when first asked for.

        It is the client's own even where this process serves the same database: a scheduler looks for commits of
        others, and those of its own store are none.
        """
        with self._opening:
            if self._store is None:
                self._store = Store(self._target, follows=False)
                self._store.on_wait = self.on_wait
            return self._store

    def close(self) -> None:
        """Give the store up. Closing twice does nothing."""
        with self._opening:
            store, self._store = self._store, None
        if store is not None:
            store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, action: Callable[[Connection], T]) -> T:
        refuse_on_loop()
        return self.store.read(action)

    def _write(self, action: Callable[[Connection], T]) -> T:
        refuse_on_loop()
        return self.store.write(action, wait_s=ACCEPT_S)

    # --- looking ------------------------------------------------------------------------------------------------------

    def scheduler(self) -> Lease | None:
        """The lease of the scheduler that serves this store, with its live figures; None when none does."""
        return self._read(lambda connection: living_lease(connection, self.store.clock.now()))

    def jobs(self) -> list[Job]:
        """Every job, by name."""
        rows = self._read(lambda connection: read_row_jobs(connection, self.store.clock))
        return Shown(rows, rows).all_jobs()

    def job(self, name: str) -> Job:
        """One job.

        Raises:
            UnknownJobError: No such job.
        """
        job = next((job for job in self.jobs() if job.id == name), None)
        if job is None:
            raise self._unknown_job(name)
        return job

    def job_status(self, name: str) -> dict[str, Any]:
        """Everything about one job, as `CronManager.get_job_status` gives it.

        Raises:
            UnknownJobError: No such job.
        """
        job = self.job(name)
        record = self._read(lambda connection: read_job(connection, name))
        return status_of(
            job,
            record.definition if isinstance(record, JobRecord) else None,
            metrics=self.metrics(name),
            last=self._read(lambda connection: last_task(connection, name)),
            unfinished=self._read(lambda connection: unfinished_of(connection, name)),
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
        """Tasks by ``job``, ``status``, ``since``, ``until``, ``text``, newest first, at most ``limit`` (100)."""
        wanted = TaskFilter(job=job, status=status, since=since, until=until, text=text, limit=limit)
        return self._read(lambda connection: find_tasks(connection, wanted))

    def task(self, task_id: str) -> Task:
        """One task as it is on disk.

        Raises:
            UnknownTaskError: No such task.
        """
        return self._read(lambda connection: fetch_known(connection, task_id))

    def attempts(self, task_id: str) -> list[dict[str, Any]]:
        """The attempts that did not end the task, oldest first."""
        return self._read(lambda connection: find_attempts(connection, task_id))

    def logs(self, task_id: str, *, after_id: int = 0, limit: int = 1000) -> list[LogLine]:
        """What a task logged behind the line ``after_id``, oldest first, at most ``limit`` lines."""
        return self._read(lambda connection: read_logs(connection, task_id, after_id, limit))

    def metrics(self, job: str | None = None) -> Metrics:
        """Figures of all tasks, or of one job's."""
        totals = Totals()
        self._read(totals.load)
        return totals.metrics(job)

    def audit(self, /, **wanted: Any) -> list[Entry]:
        """Who changed what, newest first; see `atlas.scheduler.store.audit.read_audit` for what can be asked for."""
        return self._read(lambda connection: read_audit(connection, **wanted))

    # --- acting -------------------------------------------------------------------------------------------------------

    def submit(self, function: str, *args: Any, **options: Unpack[SubmitOptions]) -> str:
        """Put a task into the store for the scheduler to run; on disk when this returns its id.

        ``function`` is a name the scheduler knows, since code never travels; the arguments are JSON values.

        Raises:
            UnknownFunctionError: The scheduler that served here last does not know it. A queue without a cron manager
                tells no names: there the task is taken and fails.
            FunctionRefusedError: Its package is not on the allow-list of that scheduler.
            ArgumentsError: The arguments are not JSON, or an option has no meaning.
        """
        if not isinstance(function, str):  # a caller without type checks
            msg = f"a client submits functions by name, not {function!r}: another process runs them"  # type: ignore[unreachable]
            raise ArgumentsError(msg)
        encode_arguments(args, dict(options.get("kwargs") or {}))
        lease = self._read(last_lease)
        if lease is None:
            logger.warning("no scheduler has run on this database yet: is it the right one?", database=self.store.url)
        else:
            _refuse_unknown(function, lease.figures)
        task = task_by_name(function, args, options, defaults=self._defaults, now=self.store.clock.now())
        unique, by = "task_id" in options, options.get("by", "")
        return self._put(task, action=Action.SUBMIT, by=by, unique=unique)

    def run_job(
        self, name: str, *, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, by: str = ""
    ) -> str:
        """Put a task of the job into the store; works while it is paused. The audit keeps who asked (``by``).

        ``args`` and ``kwargs``, JSON values, stand in place of all the job's arguments; None for both: the job's own.

        Raises:
            UnknownJobError: No such job.
            JobBusyError: Its overlap rule allows no further task now.
            JobUnboundError: The scheduler that runs says that its function is missing.
            JobRefusedError: The database takes no task of it.
        """
        definition, why = self._known_job(name).definition, unbound_jobs(self.scheduler()).get(name)
        if why is not None:
            raise JobUnboundError.without_function(name, why, volatile=definition.volatile)
        task = fired_by_hand(definition, args, kwargs, now=self.store.clock.now())
        return self._put(task, action=Action.RUN, by=by)

    def run_jobs(self, names: Sequence[str], *, by: str = "") -> dict[str, str | AtlasError]:
        """`run_job` for several jobs, each with its own arguments: job → the id of its task, or why there is none."""
        made: dict[str, str | AtlasError] = {}
        for name in dict.fromkeys(names):
            try:
                made[name] = self.run_job(name, by=by)
            except AtlasError as error:
                made[name] = error
        return made

    def retry(self, task_id: str, *, by: str = "") -> str:
        """Put a new task with the function, arguments, policy and job of a final one into the store; returns its id.

        Raises:
            UnknownTaskError: No such task.
            TaskUnfinishedError: It is not final.
            FunctionRefusedError: It was recorded by hand, or its function lived in the process that submitted it.
            JobBusyError: The overlap rule of its job allows no further task now.
        """
        new = again(self.task(task_id), now=self.store.clock.now())
        if new.volatile and new.job_id is None:
            refuse_lost(new)
        return self._put(new, action=Action.RETRY, by=by, subject=task_id)

    def cancel(self, task_id: str, *, by: str = "") -> bool:
        """Ask for a task's end; False if it is final already. The scheduler acts within 1 s.

        Raises:
            UnknownTaskError: No such task.
        """
        task = self.task(task_id)
        if task.status.is_final or task.origin is Origin.MANUAL:
            return False
        now = self.store.clock.now()
        return self._write(lambda connection: recovery.request_cancel(connection, task_id, by=by, at=now))

    def pause_job(self, name: str, *, reason: str = "", by: str = "", until: datetime | None = None) -> None:
        """Let a job make no tasks, see `CronManager.pause_job`."""
        self.pause_jobs([name], reason=reason, by=by, until=until)

    def pause_jobs(
        self, names: Sequence[str] | None = None, *, reason: str = "", by: str = "", until: datetime | None = None
    ) -> list[str]:
        """Let several jobs make no tasks, in one commit, see `CronManager.pause_jobs`."""
        pause = Pause.from_now(self.store.clock.now(), until, by=by, reason=reason)
        if names is None:
            fire = (record.id for record in self._every_job() if record.next_run is not None)
            paused = self._paused()
            chosen = [job_id for job_id in fire if job_id not in paused]
        else:
            chosen = [self._known_job(name).id for name in dict.fromkeys(names)]
        self._write(lambda connection: pause_jobs(connection, chosen, pause))
        return chosen

    def resume_job(self, name: str, *, by: str = "") -> bool:
        """End a job's pause, or have one that is set apart tried within 1 s; False if it was neither."""
        return bool(self.resume_jobs([name], by=by))

    def resume_jobs(self, names: Sequence[str] | None = None, *, by: str = "") -> list[str]:
        """End the pauses of several jobs, in one commit, see `CronManager.resume_jobs`."""
        apart, held = parked_words(self.scheduler()), self._paused()
        if names is None:
            jobs = self._every_job()
            chosen = [one.id for one in jobs if one.id in held or (one.enabled and one.id in apart)]
        else:
            chosen = [self._resumable(name, held) for name in dict.fromkeys(names)]
        now = self.store.clock.now()
        return self._write(lambda connection: resume_jobs(connection, chosen, by=by, at=now, apart=apart))

    def _resumable(self, name: str, paused: set[str]) -> str:
        if not self._known_job(name).enabled and name not in paused:
            raise JobOwnershipError.switched_off(name, config_facts(self._read(scheduler_lease)).get("file"))
        return name

    def _every_job(self) -> Iterable[JobRecord]:
        return self._read(read_jobs).records.values()

    def _paused(self) -> set[str]:
        now = self.store.clock.now()
        return {job_id for job_id, pause in self._read(read_pauses).items() if pause.holds(now)}

    def wait(
        self, task_id: str, timeout: float | None = None, *, on_change: Callable[[Task], None] | None = None
    ) -> Task:
        """Wait until the task is final, looking twice a second.

        Raises:
            UnknownTaskError: No such task.
            ResultNotReadyError: ``timeout`` seconds passed first.
        """
        wait = _Wait(self.store.clock, timeout, on_change)
        with listening(ForeignCommits(self.store)) as foreign:
            while True:
                foreign.seen()
                task = self.task(task_id)
                left_s = wait.look(task)
                if left_s is None:
                    return task
                foreign.wait(left_s)

    def _put(self, task: Task, *, action: Action, by: str, unique: bool = False, subject: str | None = None) -> str:
        self._write(lambda connection: put(connection, task, action=action, by=by, unique=unique, subject=subject))
        return task.id

    def _known_job(self, name: str) -> JobRecord:
        found = self._read(lambda connection: read_job(connection, name))
        if found is None:
            raise self._unknown_job(name)
        if isinstance(found, Parked):
            raise JobUnboundError(name, f"its row cannot be read: {found.error}")
        return found

    def _unknown_job(self, name: str) -> UnknownJobError:
        known = self._read(lambda connection: list(connection.execute(select(jobs.c.id)).scalars()))
        return UnknownJobError(name, nearest=nearest(name, known))


class AtlasClient:
    """A store that a scheduler of another process serves; every method is that of `SyncAtlasClient`, awaited.

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
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the store up. Closing twice does nothing."""
        await asyncio.to_thread(self._sync.close)

    scheduler = awaited(SyncAtlasClient.scheduler)
    jobs = awaited(SyncAtlasClient.jobs)
    job = awaited(SyncAtlasClient.job)
    job_status = awaited(SyncAtlasClient.job_status)
    tasks = awaited(SyncAtlasClient.tasks)
    task = awaited(SyncAtlasClient.task)
    attempts = awaited(SyncAtlasClient.attempts)
    logs = awaited(SyncAtlasClient.logs)
    metrics = awaited(SyncAtlasClient.metrics)
    audit = awaited(SyncAtlasClient.audit)
    submit = awaited(SyncAtlasClient.submit)
    run_job = awaited(SyncAtlasClient.run_job)
    run_jobs = awaited(SyncAtlasClient.run_jobs)
    retry = awaited(SyncAtlasClient.retry)
    cancel = awaited(SyncAtlasClient.cancel)
    pause_job = awaited(SyncAtlasClient.pause_job)
    pause_jobs = awaited(SyncAtlasClient.pause_jobs)
    resume_job = awaited(SyncAtlasClient.resume_job)
    resume_jobs = awaited(SyncAtlasClient.resume_jobs)

    async def wait(
        self, task_id: str, timeout: float | None = None, *, on_change: Callable[[Task], None] | None = None
    ) -> Task:
        """`SyncAtlasClient.wait`; no thread waits: neither many such calls nor a cancelled one hold up others."""
        store = await asyncio.to_thread(lambda: self._sync.store)
        wait = _Wait(store.clock, timeout, on_change)
        with listening(LoopForeignCommits(store)) as foreign:
            while True:
                foreign.seen()
                task = await self.task(task_id)
                left_s = wait.look(task)
                if left_s is None:
                    return task
                await foreign.wait(left_s)
