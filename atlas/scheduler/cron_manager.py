"""`CronManager`: jobs on APScheduler's clock, their pauses, and running one now."""

from __future__ import annotations

import difflib
import json
import threading
from typing import TYPE_CHECKING, Any, Final, Self

from loguru import logger

from atlas.scheduler.arguments import encode_arguments
from atlas.scheduler.awaited import awaited
from atlas.scheduler.bridge import make_task
from atlas.scheduler.client import SyncAtlasClient
from atlas.scheduler.definition import JobDefinition, JobSource
from atlas.scheduler.errors import (
    ArgumentsError,
    AtlasError,
    FunctionError,
    JobOwnershipError,
    JobUnboundError,
    QueueStoppedError,
    UnknownJobError,
)
from atlas.scheduler.events import JobEvent, JobEventKind
from atlas.scheduler.job_options import JobOptions, define
from atlas.scheduler.job_state import Binding, Pause, delete_pauses
from atlas.scheduler.job_store.records import JobChange, JobRecord, make_record
from atlas.scheduler.job_view import Job, JobState, last_tasks, status_of
from atlas.scheduler.leaders_jobs import LeadersJobs, Shown
from atlas.scheduler.lease_facts import parked_figure
from atlas.scheduler.registry import describe, function_from
from atlas.scheduler.running_clock import RunningClock
from atlas.scheduler.standby import Standby
from atlas.scheduler.store.audit import Action, write_audit
from atlas.scheduler.sync_queue import refuse_on_loop
from atlas.scheduler.tasks.submission import executor_for
from atlas.scheduler.told import Told
from atlas.scheduler.triggers import trigger_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Unpack

    from sqlalchemy import Connection

    from atlas.scheduler.loop_watch import Trouble
    from atlas.scheduler.queue import TaskQueue
    from atlas.scheduler.serving import Serving
    from atlas.scheduler.status import StatusManager
    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.task import Task
    from atlas.scheduler.tasks.live import Live

MAX_JOB_ID: Final = 191


class SyncCronManager:
    """`CronManager` for code without an event loop; every method raises `RuntimeError` on a running loop."""

    def __init__(self, queue: TaskQueue, *, timezone: str) -> None:
        """Describe the manager; `open` and `start` set it going."""
        self.queue, self.timezone = queue, timezone
        self._running: RunningClock | None = None
        self._leaders_jobs: LeadersJobs | None = None
        self._unbound: tuple[tuple[int, ...], dict[str, str]] | None = None
        self.more_figures: Callable[[], dict[str, Any]] = dict  # what a lease tells beside the manager's own
        self._looking = threading.Lock()
        self._adding = threading.Lock()  # a job's row and its function are those of one call
        self._ticking = threading.RLock()  # the clock is started and stopped by one thread at a time
        self._wanted = False
        self._made: dict[str, tuple[JobDefinition, Binding | None, str]] = {}  # by add_job, for whoever takes the lead
        self.before_clock: Callable[[], None] | None = None

    # --- start and stop -------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Read the jobs and pauses; nothing fires yet. The queue must be started. Opening twice does nothing."""
        refuse_on_loop()
        if self._running is not None:
            return
        running = self._running = RunningClock(self.queue.serving, self.queue.registry)
        self._unbound = None
        running.serving.extra_figures = self._figures
        running.bring_back()

    def start(self) -> None:
        """Let APScheduler's clock run, now or, where the queue stands by, when it leads. Starting twice does nothing.

        Between reading the jobs and the first tick `before_clock` is called, each time this process takes the lead.
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
            for definition, binding, by in list(self._made.values()):
                self._add(running, definition, binding, by)
            if self.before_clock is not None:
                self.before_clock()
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
            except AtlasError as error:  # what the rows say must fire, whatever else cannot be read
                logger.error("the jobs of code or config file could not be applied; those on disk fire\n{}", error)
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
                running.close()

    @property
    def _away(self) -> SyncAtlasClient | None:
        """The leader's jobs as rows show them, while this process stands by."""
        desk = self.queue.desk if self._wanted and self._running is None else None
        return SyncAtlasClient.over(desk.store, self.queue.defaults) if isinstance(desk, Standby) else None

    @property
    def shown(self) -> Shown:
        """The jobs as they stand, to look at, whichever process leads.

        Raises:
            QueueStoppedError: The manager is not started.
        """
        running = self._running
        if running is not None:
            return Shown(running.jobs, running.states, running.bridge.revision)
        desk = self.queue.desk if self._wanted else None
        if not isinstance(desk, Standby):
            running = self.running
            return Shown(running.jobs, running.states, running.bridge.revision)
        with self._looking:
            leaders = self._leaders_jobs
            if leaders is None or leaders.store is not desk.store:
                leaders = self._leaders_jobs = LeadersJobs(desk.store)
        return leaders.shown

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
    def running(self) -> RunningClock:
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

    def _figures(self) -> dict[str, Any]:
        """What other processes should know, for the lease."""
        running = self.running
        version = (running.jobs.version, running.states.version, self.queue.registry.version)
        if self._unbound is None or self._unbound[0] != version or self._unbound[1]:  # what is missing may have come
            definitions = (record.definition for record in running.jobs.records())
            self._unbound = version, running.states.unbound_among(definitions)
        return {
            **self.more_figures(),
            "last_tick_s": self.last_tick_s(),
            "losses": [[loss.at.isoformat(), loss.words] for loss in running.serving.store.losses],
            "troubles": [[trouble.at.isoformat(), trouble.words] for trouble in self.troubles()],
            "functions": self.queue.registry.names(),
            "unbound_jobs": self._unbound[1],
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
        refuse_on_loop()
        client = self._away
        if not (name.isprintable() and name.strip() and len(name) <= MAX_JOB_ID):
            msg = f"job name {name!r} is not 1 to {MAX_JOB_ID} printable characters"
            raise ArgumentsError(msg)
        definition, binding = self._define(name, cron_expression, func, description, options)
        if client is not None:  # the leader has its own add_job; this one counts once this process leads
            self._made[name] = definition, binding, by
            found = next((job for job in client.jobs() if job.name == name), None)
            return found or Job.of(definition, trigger_for(definition.schedule), None, None, None)
        with self._adding:
            self._add(self.running, definition, binding, by)
            self._made[name] = definition, binding, by
        return self.get_job(name)

    @staticmethod
    def _add(running: RunningClock, definition: JobDefinition, binding: Binding | None, by: str) -> None:
        name, old = definition.id, running.jobs.record(definition.id)
        if old is not None and old.source is JobSource.FILE:
            raise JobOwnershipError(name, "it belongs to the config file; change it there")
        now = running.serving.store.clock.now()
        record = make_record(definition, now=now)
        before = running.states.bind(name, binding)
        if old is None or old.digest != definition.digest():
            change = JobChange(record, JobEventKind.CHANGED if old else JobEventKind.ADDED)
            action, previous = (Action.ADD, None) if old is None else (Action.CHANGE, json.loads(old.text))

            def told(connection: Connection) -> None:
                after = json.loads(record.text)
                write_audit(connection, action, name, by=by, at=now, before=previous, after=after)

            try:
                running.jobs.apply([change], serve=running.bridge.submit_job, also=told)
            except BaseException:
                running.states.bind(name, before)
                raise

    def _define(
        self,
        name: str,
        cron: str | Sequence[str] | None,
        func: Callable[..., Any] | str | None,
        description: str,
        options: JobOptions,
    ) -> tuple[JobDefinition, Binding | None]:
        registry = self.queue.registry
        func = name if func is None else func
        args, kwargs = list(options.get("args", ())), dict(options.get("kwargs", {}))
        known = func if isinstance(func, str) else registry.name_of(func)
        arguments: str | None = None
        problem = None if known else "its function is neither registered nor on the allow-list"
        try:
            arguments = encode_arguments(args, kwargs)
        except ArgumentsError as error:
            if isinstance(func, str):
                raise
            problem = problem or str(error)
        function = registry.find(known) if known else function_from(describe(func), func)  # type: ignore[arg-type]
        refusal = function.refusal(args, kwargs)
        if refusal is not None:
            msg = f"job {name}: {refusal}"
            raise ArgumentsError(msg)
        executor_for(options.get("executor"), function, volatile_arguments=arguments is None)
        if problem is not None:
            logger.bind(job_id=name, function=function.name).info("the job is volatile: {}", problem)
        definition = define(
            name,
            cron,
            function.name,
            description,
            options,
            defaults=self.queue.defaults,
            timezone=self.timezone,
            arguments=None if problem else arguments,
        )
        return definition, Binding(function, args, kwargs) if problem else None

    def remove_job(self, name: str, *, by: str = "") -> None:
        """Remove a job made by code; its history stays, what runs of it goes on. The audit keeps who asked (``by``).

        Raises:
            UnknownJobError: No such job.
            JobOwnershipError: It belongs to the config file.
        """
        refuse_on_loop()
        if self._away is not None:
            raise JobOwnershipError(name, "another process leads and fires it; remove it there")
        running = self.running
        record = running.jobs.record(name)
        if record is None and name not in {parked.id for parked in running.jobs.parked()}:
            raise self._unknown(name)
        if record is not None and record.source is JobSource.FILE:
            raise JobOwnershipError(name, "it belongs to the config file; remove it there")
        now = running.serving.store.clock.now()

        def told(connection: Connection) -> None:
            delete_pauses(connection, [name])
            previous = None if record is None else json.loads(record.text)
            write_audit(connection, Action.REMOVE, name, by=by, at=now, before=previous)

        with self._adding:
            running.jobs.apply(removed=[name], also=told)
            running.states.bind(name, None)
            running.states.forget_pauses([name])
            self._made.pop(name, None)

    def run_job_now(
        self,
        name: str,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        by: str = "",
    ) -> str:
        """Make a task of the job at once and return its id; works while paused, leaves the schedule untouched.

        Args:
            name: The job.
            args: Positional arguments, JSON values, in place of all the job's arguments.
            kwargs: Keyword arguments, likewise. None for both: the job's own.
            by: Who asks, for the audit.

        Raises:
            UnknownJobError: No such job.
            JobBusyError: Its overlap rule allows no further task now.
            JobUnboundError: Its function is missing.
            ArgumentsError: The arguments are not JSON, or the function does not accept them.
        """
        refuse_on_loop()
        if (client := self._away) is not None:
            return client.run_job(name, args=args, kwargs=kwargs, by=by)
        return self._begun(*self._begin_now(name, args=args, kwargs=kwargs, by=by))

    def run_jobs_now(self, names: Sequence[str], *, by: str = "") -> dict[str, str | AtlasError]:
        """`run_job_now` for several jobs, each with its own arguments; all that may run are committed together.

        Args:
            names: The jobs.
            by: Who asks, for the audit.

        Returns:
            Job → the id of its task, or why there is none. One that is refused keeps no other from running.
        """
        refuse_on_loop()
        client, begun = self._away, dict[str, "tuple[Task, Ticket]"]()
        made: dict[str, str | AtlasError] = {}
        for name in dict.fromkeys(names):
            try:
                if client is not None:
                    made[name] = client.run_job(name, by=by)
                else:
                    begun[name] = self._begin_now(name, args=None, kwargs=None, by=by)
            except AtlasError as error:
                made[name] = error
        for name, (task, ticket) in begun.items():
            try:
                made[name] = self._begun(task, ticket)
            except AtlasError as error:
                made[name] = error
        return {name: made[name] for name in dict.fromkeys(names)}

    def _begin_now(
        self, name: str, *, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, by: str
    ) -> tuple[Task, Ticket]:
        serving, task = self._now(name)
        live = self.running.states.live(task)
        if args is not None or kwargs is not None:
            self._with_arguments(live, list(args or ()), dict(kwargs or {}))
        lives = [live]

        def told(connection: Connection) -> None:
            after: dict[str, Any] = {"task": task.id}
            if args is not None or kwargs is not None:
                after["arguments"] = json.loads(task.arguments)
            write_audit(connection, Action.RUN, name, by=by, at=task.created_at, after=after)

        return task, serving.submit(lives, unique=False, loop=None, also=told)

    def _begun(self, task: Task, ticket: Ticket) -> str:
        """Wait for the commit; what the task takes the place of ends."""
        ticket.wait()
        serving = self.running.serving
        serving.stop_replaced(serving.lifecycle.replaced_by(task))
        return task.id

    def _with_arguments(self, live: Live, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Call the function of ``live`` with these arguments instead of the job's."""
        live.task.arguments = encode_arguments(args, kwargs)
        function = live.function or self.queue.registry.find(live.task.function)
        if live.function is not None:
            live.args, live.kwargs = args, kwargs
        refusal = function.refusal(args, kwargs)
        if refusal is not None:
            raise ArgumentsError(refusal)

    def _now(self, name: str) -> tuple[Serving, Task]:
        running = self.running
        definition = self._record(name).definition
        reason = running.states.unbound(definition)
        if reason is not None:
            raise JobUnboundError(name, reason)
        store = running.serving.store
        try:
            task = make_task(
                definition,
                running.states.executor_of(definition),
                now=store.clock.now(),
                reason="run now",
                revision=running.bridge.revision,
            )
        except FunctionError as error:
            raise JobUnboundError(name, str(error)) from error
        return running.serving, task

    # --- pauses ---------------------------------------------------------------------------------------------------

    def pause_job(self, name: str, *, reason: str = "", by: str = "", until: datetime | None = None) -> None:
        """Let a job make no tasks; its fire times are stored as skips.

        Args:
            name: The job.
            reason: Why, for whoever looks later.
            by: Who.
            until: When the pause ends by itself; None for never.

        Raises:
            UnknownJobError: No such job.
            ArgumentsError: ``until`` is not in the future.
        """
        self.pause_jobs([name], reason=reason, by=by, until=until)

    def pause_jobs(
        self, names: Sequence[str] | None = None, *, reason: str = "", by: str = "", until: datetime | None = None
    ) -> list[str]:
        """`pause_job` for several jobs in one commit: all of them, or none. The audit has a line for each.

        Args:
            names: The jobs. None: every job with a fire time ahead that is not paused yet.
            reason: Why, for whoever looks later.
            by: Who.
            until: When the pauses end by themselves; None for never.

        Returns:
            The jobs that are paused now.

        Raises:
            UnknownJobError: There is no job of one of these names; none is paused.
            ArgumentsError: ``until`` is not in the future.
        """
        refuse_on_loop()
        if (client := self._away) is not None:
            paused = client.pause_jobs(names, reason=reason, by=by, until=until)
            self._forget_shown()
            return paused
        running, states = self.running, self.running.states
        if names is None:
            fire = (record.id for record in running.jobs.records() if record.next_run is not None)
            chosen = [job_id for job_id in fire if states.pause_of(job_id) is None]
        else:
            chosen = [self._record(name).id for name in dict.fromkeys(names)]
        now = running.serving.store.clock.now()
        if until is not None and (until.tzinfo is None or until <= now):
            msg = Told("until {at} must be an instant in the future, with its zone", at=until)
            raise ArgumentsError(msg)
        states.pause(chosen, Pause(now, until, by, reason))
        self._tell(chosen, JobEventKind.PAUSED, {"by": by, "reason": reason, "until": until})
        return chosen

    def resume_job(self, name: str, *, by: str = "") -> bool:
        """Remove the pause of a job, or have one that is set apart tried at once; False if it was neither.

        Raises:
            UnknownJobError: No such job.
            JobOwnershipError: The config file says ``enabled: false``.
        """
        return bool(self.resume_jobs([name], by=by))

    def resume_jobs(self, names: Sequence[str] | None = None, *, by: str = "") -> list[str]:
        """`resume_job` for several jobs in one commit: all of them, or none. The audit has a line for each.

        Args:
            names: The jobs. None: every one that is paused or set apart, but for those that the config file disables.
            by: Who.

        Returns:
            The jobs that had a pause or were set apart.

        Raises:
            UnknownJobError: There is no job of one of these names; none is resumed.
            JobOwnershipError: The config file says ``enabled: false`` of one of them; none is resumed.
        """
        refuse_on_loop()
        if (client := self._away) is not None:
            resumed = client.resume_jobs(names, by=by)
            self._forget_shown()
            return resumed
        states, jobs = self.running.states, self.running.jobs
        apart = jobs.apart()
        if names is None:
            known = map(jobs.record, sorted({*states.paused(), *apart}))
            chosen = [record.id for record in known if record is not None and record.enabled]
        else:
            chosen = [self._enabled(name) for name in dict.fromkeys(names)]
        resumed = states.resume(chosen, by=by, apart=apart)
        for name in chosen:
            jobs.try_again(name)
        self._tell(resumed, JobEventKind.RESUMED, {"by": by})
        return resumed

    def _enabled(self, name: str) -> str:
        if not self._record(name).enabled:
            raise JobOwnershipError(name, "the config file says enabled: false; change it there")
        return name

    def _tell(self, names: Sequence[str], kind: JobEventKind, detail: dict[str, Any]) -> None:
        store = self.running.serving.store
        at = store.clock.now()
        store.events.publish(*(JobEvent(job_id=name, kind=kind, at=at, detail=detail) for name in names))

    # --- looking --------------------------------------------------------------------------------------------------

    def get_job(self, name: str) -> Job:
        """One job.

        Raises:
            UnknownJobError: No such job.
        """
        if (client := self._away) is not None:
            return client.job(name)
        running = self.running
        for parked in running.jobs.parked():
            if parked.id == name:
                return Job.of_parked(parked)
        return self._job(self._record(name))

    def get_all_jobs(self) -> list[Job]:
        """Every job, by name."""
        refuse_on_loop()
        if (client := self._away) is not None:
            return client.jobs()
        running = self.running
        found = [self._job(record) for record in running.jobs.records()]
        found += [Job.of_parked(parked) for parked in running.jobs.parked()]
        return sorted(found, key=lambda job: job.id)

    def get_job_status(self, name: str) -> dict[str, Any]:
        """Everything about one job: state, schedule, last task, figures, policies and where each value came from.

        Raises:
            UnknownJobError: No such job.
        """
        refuse_on_loop()
        if (client := self._away) is not None:
            return client.job_status(name)
        running = self.running
        job = self.get_job(name)
        store = running.serving.store
        record = running.jobs.record(name)
        return status_of(
            job,
            None if record is None else record.definition,
            metrics=store.totals.metrics(name),
            latest=store.read(lambda connection: last_tasks(connection, name, 1)),
            unfinished=running.serving.lifecycle.unfinished_of(name),
        )

    def _job(self, record: JobRecord) -> Job:
        states = self.running.states
        definition = record.definition
        apart = self.running.jobs.apart().get(record.id)
        return Job.of(
            definition,
            record.trigger,
            record.next_run,
            states.pause_of(record.id),
            states.unbound(definition),
            apart=None if apart is None else apart.words,
        )

    def _record(self, name: str) -> JobRecord:
        record = self.running.jobs.record(name)
        if record is None:
            raise self._unknown(name)
        return record

    def _unknown(self, name: str) -> UnknownJobError:
        nearest = difflib.get_close_matches(name, [record.id for record in self.running.jobs.records()], n=1)
        return UnknownJobError(name, nearest=nearest[0] if nearest else None)


class CronManager:
    """Jobs: functions with a schedule and policies, fired by APScheduler's clock into a `TaskQueue`.

    What is not described here is as in `SyncCronManager`, awaited.

    Args:
        task_queue: Runs the tasks. Start it first, stop it last.
        status_manager: Brings the store, if the queue has none of its own.
        timezone: Zone of schedules that name none; UTC by default.

    Raises:
        StoreMismatchError: The queue and the status manager have different stores.
    """

    def __init__(
        self, task_queue: TaskQueue, status_manager: StatusManager | None = None, *, timezone: str = "UTC"
    ) -> None:
        """Connect the parts; `start` sets the clock going."""
        if status_manager is not None:
            task_queue.bind(status_manager.store)
        self._sync = SyncCronManager(task_queue, timezone=timezone)

    @property
    def sync(self) -> SyncCronManager:
        """The same manager for code without an event loop."""
        return self._sync

    async def __aenter__(self) -> Self:
        """`start`."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """`stop`."""
        await self.stop()

    async def disable_job(self, name: str, *, by: str = "code") -> None:
        """Pause a job without end; it survives restarts and `add_job`.

        Raises:
            UnknownJobError: No such job.
        """
        await self.pause_job(name, reason="disabled", by=by)

    async def enable_job(self, name: str, *, by: str = "code") -> None:
        """Remove the pause of a job; does nothing when there is none.

        Raises:
            UnknownJobError: No such job.
            JobOwnershipError: The config file says ``enabled: false``; the message names it.
        """
        await self.resume_job(name, by=by)

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


__all__ = ["CronManager", "Job", "JobState", "SyncCronManager"]
