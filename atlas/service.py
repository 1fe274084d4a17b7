"""The composition root: builds the scheduler from settings, starts and stops it."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from loguru import logger

from atlas.builtin.binding import bind_builtins
from atlas.scheduler.awaited import refuse_on_loop
from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.errors import AtlasError, QueueStoppedError
from atlas.scheduler.events import SchedulerEvent, SchedulerEventKind
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.lease_facts import config_said, troubles_of
from atlas.scheduler.message import Message, message_of
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.reconcile.reconciler import Reconciler
from atlas.scheduler.reconcile.watch import ConfigWatch
from atlas.scheduler.registry import REGISTRY, Registry
from atlas.scheduler.status import StatusManager
from atlas.scheduler.store.leases import Lease, living_lease, scheduler_lease, standbys
from atlas.scheduler.store.store import Store, open_store
from atlas.scheduler.task import ExecutorKind
from atlas.scheduler.tasks.capture import LogRules
from atlas.scheduler.tasks.submission import QueueDefaults
from atlas.scheduler.zones import local_zone_name
from atlas.settings import Settings, load_settings, prepare_folders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atlas.scheduler.events import Event
    from atlas.scheduler.job_view import Job
    from atlas.scheduler.loop_watch import Trouble

START_LIMIT_S: Final = 60.0


class AtlasScheduler:
    """Store, queue, cron and status as one: ``async with AtlasScheduler.from_settings() as atlas: …``.

    Attributes:
        registry: Functions by name: the built-in ones, then those of `register`.
        reconciler: Keeps the jobs equal to the config file.
        is_first_start: True if the database was empty at the start.
        waits_for: In words, what `serve` waits for before it can start; None while it waits for nothing.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = Registry(allow=settings.functions.allow, parent=REGISTRY)
        self.timezone = settings.scheduler.timezone or local_zone_name()
        self.is_first_start = False
        self.waits_for: str | None = None
        self._store: Store | None = None
        self._status: StatusManager | None = None
        self._watch: ConfigWatch | None = None
        scheduler = settings.scheduler
        self.queue = TaskQueue(
            scheduler.max_workers,
            registry=self.registry,
            defaults=QueueDefaults(
                timeout_s=scheduler.task_timeout, max_retries=scheduler.max_retries, source="config.yaml"
            ),
            max_waiting=scheduler.max_waiting,
            stop_grace_s=scheduler.stop_grace,
            executor_limits={ExecutorKind(kind): limit for kind, limit in scheduler.executor_limits.items()},
            log_rules=LogRules(
                level=settings.logging.level,
                max_bytes=settings.logging.log_max_bytes,
                prints=settings.logging.prints,
                redact=settings.logging.redact,
            ),
            log_level=settings.logging.level,
        )
        self.cron = CronManager(self.queue, timezone=self.timezone)
        self.reconciler = Reconciler(self.cron.sync, settings.persistence.cron_config, self.policy_defaults())

    @classmethod
    def from_settings(cls, settings: Settings | Path | str | None = None) -> Self:
        """A scheduler by ``settings``, by the settings file at a path, or by ``config/config.yaml`` and ``ATLAS_*``.

        Raises:
            ConfigError: A setting cannot be used.
        """
        if not isinstance(settings, Settings):
            settings = load_settings(None if settings is None else Path(settings))
        return cls(settings)

    def policy_defaults(self) -> PolicyDefaults:
        """What the settings say where neither a job nor the jobs file does."""
        scheduler, persistence = self.settings.scheduler, self.settings.persistence
        given = {"task_timeout": "timeout", "max_retries": "max_retries", "timezone": "timezone"}
        named = {given[name] for name in scheduler.model_fields_set if name in given}
        named |= {"keep_days"} & persistence.model_fields_set
        named |= {"log_max_bytes"} & self.settings.logging.model_fields_set
        return PolicyDefaults(
            timeout_s=scheduler.task_timeout,
            max_retries=scheduler.max_retries,
            keep_days=persistence.keep_days,
            log_max_bytes=self.settings.logging.log_max_bytes,
            timezone=self.timezone,
            set_in_settings=frozenset(named),
        )

    # --- parts --------------------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The database; open between start and stop, and otherwise a `QueueStoppedError`."""
        if self._store is None:
            raise self._not_started()
        return self._store

    @property
    def status(self) -> StatusManager:
        """The record; open between start and stop, and otherwise a `QueueStoppedError`."""
        if self._status is None:
            raise self._not_started()
        return self._status

    def _not_started(self) -> QueueStoppedError:
        if self.waits_for is not None:
            return QueueStoppedError(Message("the scheduler starts: {what}", what=self.waits_for))
        return QueueStoppedError(Message("the scheduler is not started"))

    # --- start and stop -----------------------------------------------------------------------------------------------

    async def start(self, *, clock: bool = True) -> None:
        """Open the store, recover, read the config file and let the clock run. Starting twice does nothing.

        Where another process schedules on this database, this one stands by (`stands_by`): it submits, cancels, asks
        and runs jobs through the same methods, and takes over when that one stops, dies or is silent for 20 s.

        With a config file that is refused, the last good revision runs on; `config_error` tells the reason. With
        ``clock`` False the queue alone starts: no job fires, and the config file is not read.

        Raises:
            StoreHeldError: Another scheduler of this process uses this database, or another process and ``clock`` is
                False.
            StoreUnavailableError: The database does not answer. It is not waited for, as `atlas serve` does: an app
                knows whether it goes on without; ``may_pass`` says whether it may be started again later.
            StoreError: The database cannot be opened.
            ConfigError: The config file is refused and there is no earlier revision.
        """
        if self._store is not None:
            return
        opening = asyncio.ensure_future(asyncio.to_thread(self._open))
        try:
            await asyncio.shield(opening)
            self.queue.standby = clock
            await self.queue.start()
            if clock:
                self.cron.sync.before_start = self._load_jobs
                await self.cron.start()
        except BaseException:
            await asyncio.wait([opening])  # of a start that was cancelled the thread goes on, and opens the store
            await self.stop()
            raise

    def _open(self) -> None:
        settings = self.settings
        prepare_folders(settings)
        persistence = settings.persistence
        store = self._store = open_store(persistence.database, durability=persistence.durability)
        self._status = StatusManager(
            persistence.status_file, store=store, keep_days=persistence.keep_days, keep_tasks=persistence.keep_tasks
        )
        self.queue.bind(store)
        bind_builtins(self.registry, store=store, settings=settings, health_source=self, clock=store.clock)

    def _load_jobs(self) -> None:
        self.is_first_start = self.reconciler.latest_revision() is None
        self.reconciler.start()
        if self._watch is None:
            self.store.events.subscribe(self._keep_revision)
        else:  # it led before
            self._watch.stop()
        self._watch = ConfigWatch(self.reconciler, self.store)
        self._watch.start()

    def _keep_revision(self, event: Event) -> None:
        """A database that was made anew gets the config file as its first revision."""
        if isinstance(event, SchedulerEvent) and event.kind is SchedulerEventKind.STORE_REBUILT:
            try:
                self.reload(author="rebuild")
            except AtlasError as error:
                logger.error("the config file was not stored in the new database: {}", error)

    def reload(self, *, author: str = "file") -> str:
        """Read the config file now and apply it; returns what changed, in short. Blocks.

        An edit applies by itself (``reload: auto``); this is for whoever does not want to wait, or said ``manual``.

        Raises:
            ConfigError: It is refused; what runs goes on.
            RevisionRefusedError: This process stands by, and the one that leads refused it.
            StoreUnavailableError: The database, or the process that leads, does not answer.
        """
        return self.reconciler.reload(author=author).summary

    async def stop(self, *, drain: bool = True) -> None:
        """Take nothing more, drain, release the rest, close the store. Stopping twice does nothing."""
        await asyncio.to_thread(self._stop, drain=drain)

    def _stop(self, *, drain: bool) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()
        self.cron.sync.stop()
        self.queue.sync.stop(drain=drain, timeout=self.settings.scheduler.drain_timeout)
        status, self._status = self._status, None
        store, self._store = self._store, None
        if status is not None:
            status.close()
        if store is not None:
            store.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """`stop`; an error in the block stops running tasks at once."""
        await self.stop(drain=kind is None)

    def in_thread(self) -> ThreadedScheduler:
        """The scheduler on a thread of its own, for applications without an event loop; a context manager."""
        return ThreadedScheduler(self)

    # --- leader and standby -------------------------------------------------------------------------------------------

    @property
    def stands_by(self) -> bool:
        """True while another process schedules here and this one waits for its turn."""
        return self.queue.stands_by

    def leader(self) -> Lease | None:
        """The process that schedules on this database now, this one included; None when none does."""
        return self.store.read(lambda connection: living_lease(connection, self.store.clock.now()))

    def standbys(self) -> list[Lease]:
        """The processes that wait for their turn, oldest first."""
        now = self.store.clock.now()
        return [lease for lease in self.store.read(standbys) if lease.lives(now)]

    # --- what `health` asks -------------------------------------------------------------------------------------------

    def get_queue_status(self) -> dict[str, Any]:
        """See `TaskQueue.get_queue_status`."""
        return self.queue.get_queue_status()

    def last_tick_s(self) -> float | None:
        """Seconds since the clock last looked for due jobs."""
        return self.cron.sync.last_tick_s()

    def troubles(self) -> list[Trouble]:
        """What befell the leader's clock lately: restarts of its loop, steps of the wall clock, sleep; oldest first."""
        return troubles_of(self._leader_lease()) if self.stands_by else self.cron.sync.troubles()

    def get_jobs(self) -> list[Job]:
        """Every job as it stands."""
        return self.cron.sync.get_all_jobs()

    def each_job(self) -> Iterator[Job]:
        """Every job as it stands, one by one, the parked ones last."""
        return self.cron.sync.shown.each_job()

    def config_error(self) -> str | None:
        """Why the config file is refused now; None while it is in force."""
        if self.stands_by:
            return config_said(self._leader_lease(), "error")
        error = self.reconciler.standing.error
        return None if error is None else message_of(error)

    def config_drift(self) -> str | None:
        """With ``reload: manual``, in words that the file differs from what is in force; None while it does not."""
        if self.stands_by:
            return config_said(self._leader_lease(), "drift")
        return self.reconciler.standing.drift

    def _leader_lease(self) -> Lease | None:
        return self.store.read(scheduler_lease)


class ThreadedScheduler:
    """An `AtlasScheduler` whose loop runs on a thread of its own.

    ::

        with AtlasScheduler.from_settings().in_thread() as atlas:
            task_id = atlas.queue.sync.submit("collect")

    Where there is no block to leave, as in a WSGI worker, the end of the interpreter stops it. A process that forks
    (``gunicorn --preload``) starts it in each fork, not before.
    """

    def __init__(self, atlas: AtlasScheduler) -> None:
        self.atlas = atlas
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread()
        self._process_id = os.getpid()

    def start(self) -> AtlasScheduler:
        """Start the thread and the scheduler, once; raises what `AtlasScheduler.start` raises."""
        refuse_on_loop()
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="atlas-service", daemon=True)
            self._thread.start()
            try:
                asyncio.run_coroutine_threadsafe(self.atlas.start(), self._loop).result(START_LIMIT_S)
            except BaseException:
                self._end_loop(self._loop)
                raise
            self._process_id = os.getpid()
            atexit.register(self.stop)
        return self.atlas

    def stop(self, *, drain: bool = True) -> None:
        """Stop the scheduler, then the thread. Nothing happens the second time, and in a fork of the process."""
        refuse_on_loop()
        if self._loop is not None and self._process_id == os.getpid():
            atexit.unregister(self.stop)
            self.atlas._stop(drain=drain)  # noqa: SLF001 - here, since no executor takes work once the interpreter ends
            self._end_loop(self._loop)

    def _end_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()
        self._loop = None

    def __enter__(self) -> AtlasScheduler:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """`stop`; an error in the block stops running tasks at once."""
        self.stop(drain=kind is None)
