"""`CronManager`: jobs on APScheduler's clock, while this process leads and while it stands by."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakMethod

from loguru import logger

from atlas.scheduler.awaited import awaited, refuse_on_loop
from atlas.scheduler.client import SyncAtlasClient
from atlas.scheduler.code_jobs import CodeJob
from atlas.scheduler.errors import ArgumentsError, AtlasError, JobOwnershipError, QueueStoppedError, StoreHeldError
from atlas.scheduler.job_commands import JobCommands
from atlas.scheduler.job_view import Job, JobState
from atlas.scheduler.leaders_jobs import LeadersJobs, Shown
from atlas.scheduler.lease_facts import parked_figure, unbound_figure
from atlas.scheduler.message import parts_of
from atlas.scheduler.running_cron import RunningCron
from atlas.scheduler.standby import Standby
from atlas.scheduler.triggers import trigger_for
from atlas.scheduler.zones import zone_named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from typing import Unpack

    from atlas.scheduler.job_options import JobOptions
    from atlas.scheduler.loop_watch import Trouble
    from atlas.scheduler.queue import TaskQueue
    from atlas.scheduler.status import StatusManager


N = TypeVar("N", bound="Sequence[str] | None")


def _several(names: N) -> N:
    """``names``, which must be several: a text would be as many as it has letters.

    Raises:
        ArgumentsError: It is one name.
    """
    if isinstance(names, str):
        raise ArgumentsError(f"names {names!r:.80} is one name; write [{names!r:.80}]")
    return names


class SyncCronManager:
    """`CronManager` for code without an event loop; every method raises `RuntimeError` on a running loop."""

    def __init__(self, queue: TaskQueue, *, timezone: str) -> None:
        self.queue, self.timezone = queue, timezone
        self._running: RunningCron | None = None
        self._leaders_jobs: LeadersJobs | None = None
        self._unbound: tuple[tuple[int, ...], dict[str, str]] | None = None
        self.config_file: Path | None = None  # where jobs of the source "file" come from
        self.more_figures: Callable[[], dict[str, Any]] = dict  # what a lease tells beside the manager's own
        self._looking = threading.Lock()
        self._adding = threading.Lock()  # a job's row and its function are those of one call
        self._ticking = threading.RLock()  # the clock is started and stopped by one thread at a time
        self._wanted = False
        self._noted: set[str] = set()  # functions whose jobs are volatile, as the log says
        self._made: dict[str, CodeJob] = {}  # by add_job, for when this process takes the lead
        self.before_start: Callable[[], None] | None = None

    # --- start and stop -------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def open(self) -> None:
        """Read the jobs and pauses; nothing fires yet. The queue must be started. Opening twice does nothing.

        Raises:
            StoreHeldError: Another manager of this queue did: neither would hear of the other one's jobs.
        """
        refuse_on_loop()
        if self._running is not None:
            return
        serving = self.queue.serving
        if serving.has_cron:
            raise StoreHeldError(serving.store.url, "another cron manager of this queue")
        running = self._running = RunningCron(serving, self.queue.registry)
        serving.has_cron = True
        self._unbound = None
        figures = WeakMethod(self._figures)  # a manager that is dropped with its queue ends with it
        running.serving.extra_figures = lambda: told() if (told := figures()) else {}
        running.bring_back()

    def start(self) -> None:
        """Let APScheduler's clock run, now or, where the queue stands by, when it leads. Starting twice does nothing.

        Between reading the jobs and the first tick `before_start` is called, each time this process takes the lead.
        """
        refuse_on_loop()
        if not self._wanted:
            self._wanted = True
            self.queue.on_role(self)
        if not self.queue.stands_by:
            try:
                self._tick()
            except BaseException:
                self.stop()
                raise

    def _tick(self) -> None:
        with self._ticking:
            if self._running is not None and self._running.scheduler.running:
                return
            self.open()
            running = self.running
            for job in list(self._made.values()):
                job.put(running)
            if self.before_start is not None:
                self.before_start()
            running.start()
            running.serving.renew()
            self._end_shown()

    def lead(self) -> None:
        """`RoleListener`: this process leads from now on."""
        with self._ticking:
            if not self._wanted:
                return
            try:
                self._tick()
            except Exception as error:
                if self._running is None:
                    raise  # not even the rows could be read; who tells of the lead tells it again
                # What they say must fire, whatever else went wrong.
                logger.opt(exception=not isinstance(error, AtlasError)).error(
                    "the jobs of code or config file could not be applied; those on disk fire\n{}", error
                )
                if not self.running.scheduler.running:
                    self.running.start()

    def step_down(self) -> None:
        """`RoleListener`: another process leads from now on."""
        self._close()

    def stop(self) -> None:
        """Stop the clock; tasks that are made already go on in the queue. Stopping twice does nothing."""
        refuse_on_loop()
        self._wanted = False
        self.queue.off_role(self)
        self._end_shown()
        self._close()

    def _close(self) -> None:
        with self._ticking:
            running, self._running = self._running, None
            if running is not None:
                running.serving.extra_figures = dict
                running.serving.has_cron = False
                running.close()

    @property
    def _commands(self) -> JobCommands | SyncAtlasClient:
        """What takes commands on jobs: their rows and the leader behind them, while this process stands by.

        Raises:
            RuntimeError: There is a running event loop here, which every command would block.
        """
        refuse_on_loop()
        standby = self._standby
        if standby is None:
            return JobCommands(self.running, self.config_file)
        return SyncAtlasClient.over(standby.store, self.queue.defaults)

    @property
    def _standby(self) -> Standby | None:
        """What stands in for the queue while this process stands by; None while it leads, or is not started."""
        role = self.queue.role if self._wanted and self._running is None else None
        return role if isinstance(role, Standby) else None

    @property
    def shown(self) -> Shown:
        """The jobs as they stand, to look at, whichever process leads.

        Raises:
            QueueStoppedError: The manager is not started.
        """
        running = self._running
        if running is None and (standby := self._standby) is not None:
            with self._looking:
                leaders = self._leaders_jobs
                if leaders is None or leaders.store is not standby.store:
                    leaders = self._leaders_jobs = LeadersJobs(standby.store)
            return leaders.shown
        running = running or self.running
        return Shown(running.jobs, running.states, running.bridge.revision)

    def _forget_shown(self) -> None:
        leaders = self._leaders_jobs
        if leaders is not None:
            leaders.forget()

    def _end_shown(self) -> None:
        with self._looking:
            leaders, self._leaders_jobs = self._leaders_jobs, None
        if leaders is not None:
            leaders.close()

    @property
    def running(self) -> RunningCron:
        """The running parts.

        Raises:
            QueueStoppedError: The manager is not started.
        """
        if self._running is None:
            msg = "the cron manager is not started: 'await cron_manager.start()', after 'await task_queue.start()'"
            raise QueueStoppedError(msg)
        return self._running

    def last_tick_s(self) -> float | None:
        """Seconds since the clock last looked for due jobs, None before the first time. Over 60 means it stalled."""
        return None if self._running is None else self._running.last_tick_s()

    def troubles(self) -> list[Trouble]:
        """What befell the loop lately: restarts, steps of the wall clock, sleep; oldest first."""
        return [] if self._running is None else self._running.watch.troubles()

    def tell_unbound(self) -> None:
        """Let other processes know at once where jobs lost their functions, or got one."""
        running, told = self.running, {} if self._unbound is None else self._unbound[1]
        if running.states.unbound_among(record.known for record in running.jobs.records()).keys() != told.keys():
            running.serving.renew()

    def _figures(self) -> dict[str, Any]:
        """What other processes should know, for the lease."""
        running = self.running
        version = (running.jobs.version, running.states.version, self.queue.registry.version)
        if self._unbound is None or self._unbound[0] != version or self._unbound[1]:  # what is missing may have come
            known = (record.known for record in running.jobs.records())
            self._unbound = version, running.states.unbound_among(known)
        return {
            **self.more_figures(),
            "last_tick_s": self.last_tick_s(),
            "losses": [[loss.at.isoformat(), parts_of(loss.words)] for loss in running.serving.store.losses],
            "troubles": [[trouble.at.isoformat(), trouble.words, trouble.kind] for trouble in self.troubles()],
            "functions": self.queue.registry.names(),
            "allowed": self.queue.registry.allowed,
            **unbound_figure(self._unbound[1]),
            "parked_jobs": parked_figure(running.jobs.apart()),
        }

    # --- jobs -----------------------------------------------------------------------------------------------------

    def add_job(
        self,
        name: str,
        cron_expression: str | Sequence[str] | None = None,
        func: Callable[..., Any] | str | None = None,
        description: str = "",
        *,
        by: str = "",
        **options: Unpack[JobOptions],
    ) -> Job:
        """Add a job, or update the one of this name; a pause and the next fire time of an unchanged schedule stay.

        Args:
            name: The job's id.
            cron_expression: When: one expression or several; None with ``interval`` or ``dates`` in the options.
            func: What: a function, or the name of a registered one; by default the one registered under ``name``.
            description: What it is for.
            by: Who adds it, for the audit; by default the program itself.
            **options: See `JobOptions`.

        Raises:
            CronExpressionError: The expression cannot be used.
            ScheduleError: Another part of the schedule cannot be used.
            ArgumentsError: An option has no meaning, or the function does not accept the arguments.
            FunctionError: The function is unknown, or cannot run where it should.
            JobOwnershipError: The job belongs to the config file.
        """
        commands = self._commands
        job = CodeJob.of(
            name,
            cron_expression,
            func,
            description,
            options,
            queue=self.queue,
            timezone=self.timezone,
            by=by,
            noted=self._noted,
        )
        if isinstance(commands, SyncAtlasClient):  # the leader has its own; this one counts once this process leads
            self._made[name] = job
            found = next((job for job in commands.jobs() if job.name == name), None)
            return found or Job.of(job.definition, trigger_for(job.definition.schedule), None, None, None)
        with self._adding:
            job.put(self.running)
            self._made[name] = job
        if self._unbound is not None and name in self._unbound[1]:  # other processes know it without function
            self.running.serving.renew()
        return commands.job(name)

    def remove_job(self, name: str, *, by: str = "") -> None:
        """Remove a job made by code; its history stays, what runs of it goes on. The audit keeps who asked (``by``).

        Raises:
            UnknownJobError: No such job.
            JobOwnershipError: It belongs to the config file.
        """
        commands = self._commands
        if isinstance(commands, SyncAtlasClient):
            raise JobOwnershipError(name, "another process leads and fires it; remove it there")
        with self._adding:
            commands.remove_job(name, by=by)
            self._made.pop(name, None)

    def run_job_now(
        self, name: str, *, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, by: str = ""
    ) -> str:
        """Make a task of the job at once and return its id; works while paused, leaves the schedule untouched.

        ``args`` and ``kwargs``, JSON values, stand in place of all the job's arguments; None for both: the job's own.

        Raises:
            UnknownJobError: No such job.
            JobBusyError: Its overlap rule allows no further task now.
            JobUnboundError: Its function is missing.
            JobRefusedError: The database takes no task of it.
            ArgumentsError: The arguments are not JSON, or the function does not accept them.
        """
        return self._commands.run_job(name, args=args, kwargs=kwargs, by=by)

    def run_jobs_now(self, names: Sequence[str], *, by: str = "") -> dict[str, str | AtlasError]:
        """`run_job_now` for several jobs, each with its own arguments; all that may run are committed together.

        Returns:
            Job → the id of its task, or why there is none. One that is refused keeps no other from running.
        """
        return self._commands.run_jobs(_several(names), by=by)

    # --- pauses ---------------------------------------------------------------------------------------------------

    def pause_job(self, name: str, *, reason: str = "", by: str = "", until: datetime | None = None) -> None:
        """Let a job make no tasks, till ``until`` or a resume; its fire times are stored as skips.

        Raises:
            UnknownJobError: No such job.
            ArgumentsError: ``until`` is not in the future.
        """
        self.pause_jobs([name], reason=reason, by=by, until=until)

    def pause_jobs(
        self, names: Sequence[str] | None = None, *, reason: str = "", by: str = "", until: datetime | None = None
    ) -> list[str]:
        """`pause_job` for several jobs in one commit: all of them, or none. The audit has a line for each.

        ``names`` None: every job with a fire time ahead that is not paused yet.

        Returns:
            The jobs that are paused now.

        Raises:
            UnknownJobError: There is no job of one of these names; none is paused.
            ArgumentsError: ``until`` is not in the future.
        """
        paused = self._commands.pause_jobs(_several(names), reason=reason, by=by, until=until)
        self._forget_shown()
        return paused

    def resume_job(self, name: str, *, by: str = "") -> bool:
        """End the pause of a job, or have one that is set apart tried at once; False if it was neither.

        What was due until now and no scheduler has looked at is the pause's still: a skip.

        Raises:
            UnknownJobError: No such job.
            JobOwnershipError: It is not paused, but the config file says ``enabled: false``.
        """
        return bool(self.resume_jobs([name], by=by))

    def resume_jobs(self, names: Sequence[str] | None = None, *, by: str = "") -> list[str]:
        """`resume_job` for several jobs in one commit: all of them, or none. The audit has a line for each.

        ``names`` None: every job that is paused, or set apart and not disabled by the config file.

        Returns:
            The jobs that had a pause or were set apart.

        Raises:
            UnknownJobError: There is no job of one of these names; none is resumed.
            JobOwnershipError: One of them is not paused, but the config file says ``enabled: false``; none is resumed.
        """
        resumed = self._commands.resume_jobs(_several(names), by=by)
        self._forget_shown()
        return resumed

    # --- looking --------------------------------------------------------------------------------------------------

    def get_job(self, name: str) -> Job:
        """One job.

        Raises:
            UnknownJobError: No such job.
        """
        return self._commands.job(name)

    def get_all_jobs(self) -> list[Job]:
        """Every job, by name."""
        return self._commands.jobs()

    def get_job_status(self, name: str) -> dict[str, Any]:
        """Everything about one job: state, schedule, last task, figures, policies and where each value came from.

        Raises:
            UnknownJobError: No such job.
        """
        return self._commands.job_status(name)


class CronManager:
    """Jobs: functions with a schedule and policies, fired by APScheduler's clock into a `TaskQueue`.

    What is not described here is as in `SyncCronManager`, awaited. One that is dropped while it is started goes on as
    long as its queue.

    Args:
        task_queue: Runs the tasks. Start it first, stop it last.
        status_manager: Brings the store, if the queue has none of its own.
        timezone: Zone of schedules that name none; UTC by default.

    Raises:
        ScheduleError: There is no such zone.
        StoreMismatchError: The queue and the status manager have different stores.
    """

    def __init__(
        self, task_queue: TaskQueue, status_manager: StatusManager | None = None, *, timezone: str = "UTC"
    ) -> None:
        if not hasattr(task_queue, "bind"):  # a caller without type checks, and two arguments that are easily swapped
            msg = f"task_queue is a {type(task_queue).__name__}: it is CronManager(task_queue, status_manager)"
            raise ArgumentsError(msg)
        if status_manager is not None:
            task_queue.bind(status_manager.store)
        self._sync = SyncCronManager(task_queue, timezone=zone_named(timezone).key)

    @property
    def sync(self) -> SyncCronManager:
        """The same manager for code without an event loop."""
        return self._sync

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def disable_job(self, name: str, *, by: str = "code") -> None:
        """Pause a job without end; it survives restarts and `add_job`.

        One that the config file disables is paused as well, for the day it is enabled there.

        Raises:
            UnknownJobError: No such job.
        """
        await self.pause_job(name, reason="disabled", by=by)

    async def enable_job(self, name: str, *, by: str = "code") -> None:
        """Remove the pause of a job; does nothing when there is none.

        Raises:
            UnknownJobError: No such job.
            JobOwnershipError: The config file says ``enabled: false``; the message names it. The pause is removed.
        """
        if await self.resume_job(name, by=by) and (await self.get_job(name)).state is JobState.DISABLED:
            raise JobOwnershipError.switched_off(name, self._sync.config_file)

    start = awaited(SyncCronManager.start)
    stop = awaited(SyncCronManager.stop)
    add_job = awaited(SyncCronManager.add_job)
    remove_job = awaited(SyncCronManager.remove_job)
    run_job_now = awaited(SyncCronManager.run_job_now)
    run_jobs_now = awaited(SyncCronManager.run_jobs_now)
    pause_job = awaited(SyncCronManager.pause_job)
    pause_jobs = awaited(SyncCronManager.pause_jobs)
    resume_job = awaited(SyncCronManager.resume_job)
    resume_jobs = awaited(SyncCronManager.resume_jobs)
    get_job = awaited(SyncCronManager.get_job)
    get_all_jobs = awaited(SyncCronManager.get_all_jobs)
    get_job_status = awaited(SyncCronManager.get_job_status)
