"""Commands on jobs, and looks at them, in the process that leads; from another one `SyncAtlasClient` gives them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from atlas.scheduler.arguments import encode_arguments
from atlas.scheduler.definition import JobSource
from atlas.scheduler.errors import (
    ArgumentsError,
    AtlasError,
    JobOwnershipError,
    JobUnboundError,
    UnknownJobError,
)
from atlas.scheduler.events import JobEvent, JobEventKind
from atlas.scheduler.job_state import Pause, delete_pauses
from atlas.scheduler.job_view import last_task, status_of
from atlas.scheduler.leaders_jobs import Shown
from atlas.scheduler.nearest import nearest
from atlas.scheduler.store.audit import Action, write_audit
from atlas.scheduler.task import ExecutorKind
from atlas.scheduler.tasks.submission import make_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Connection

    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.job_view import Job
    from atlas.scheduler.registry import Function
    from atlas.scheduler.running_cron import RunningCron
    from atlas.scheduler.store.tickets import Ticket
    from atlas.scheduler.task import Task
    from atlas.scheduler.tasks.live import Live


class JobCommands:
    """The calls of `CronManager` on the jobs of ``running``; what they promise is said there."""

    def __init__(self, running: RunningCron, config_file: Path | None) -> None:
        self._config_file = config_file
        self._running, self._shown = running, Shown(running.jobs, running.states)

    def remove_job(self, name: str, *, by: str) -> None:
        """See `CronManager.remove_job`."""
        running = self._running
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

        running.jobs.apply(removed=[name], also=told)
        running.states.bind(name, None)
        running.states.forget_pauses([name])

    # --- run now --------------------------------------------------------------------------------------------------

    def run_job(
        self, name: str, *, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, by: str = ""
    ) -> str:
        """See `CronManager.run_job_now`."""
        task, ticket = self._begin(name, args=args, kwargs=kwargs, by=by)
        ticket.wait()
        return task.id

    def run_jobs(self, names: Sequence[str], *, by: str = "") -> dict[str, str | AtlasError]:
        """See `CronManager.run_jobs_now`."""
        begun = dict[str, "tuple[Task, Ticket]"]()
        made: dict[str, str | AtlasError] = {}
        for name in dict.fromkeys(names):
            try:
                begun[name] = self._begin(name, args=None, kwargs=None, by=by)
            except AtlasError as error:
                made[name] = error
        for name, (task, ticket) in begun.items():
            try:
                ticket.wait()
                made[name] = task.id
            except AtlasError as error:
                made[name] = error
        return {name: made[name] for name in dict.fromkeys(names)}

    def _begin(
        self, name: str, *, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, by: str
    ) -> tuple[Task, Ticket]:
        """Make the task and hand it to the writer; all that are begun before one is waited for share its commit."""
        definition, states = self._record(name).definition, self._running.states
        task = self._task_now(definition)
        live = states.live(task)
        if args is not None or kwargs is not None:
            _call_with(live, states.function_of(definition), list(args or ()), dict(kwargs or {}))

        def told(connection: Connection) -> None:
            after: dict[str, Any] = {"task": task.id}
            if args is not None or kwargs is not None:
                after["arguments"] = json.loads(task.arguments)
            write_audit(connection, Action.RUN, name, by=by, at=task.created_at, after=after)

        return task, self._running.serving.submit([live], unique=False, loop=None, also=told)

    def _task_now(self, definition: JobDefinition) -> Task:
        running = self._running
        executor = running.states.place_of(definition)
        if not isinstance(executor, ExecutorKind):
            raise JobUnboundError.without_function(definition.id, executor, volatile=definition.volatile)
        return make_task(
            definition,
            executor,
            now=running.serving.store.clock.now(),
            reason="run now",
            revision=running.bridge.revision,
        )

    # --- pauses ---------------------------------------------------------------------------------------------------

    def pause_jobs(
        self, names: Sequence[str] | None = None, *, reason: str = "", by: str = "", until: datetime | None = None
    ) -> list[str]:
        """See `CronManager.pause_jobs`."""
        running, states = self._running, self._running.states
        if names is None:
            fire = (record.id for record in running.jobs.records() if record.next_run is not None)
            chosen = [job_id for job_id in fire if states.pause_of(job_id) is None]
        else:
            chosen = [self._record(name).id for name in dict.fromkeys(names)]
        states.pause(chosen, Pause.from_now(running.serving.store.clock.now(), until, by=by, reason=reason))
        self._tell(chosen, JobEventKind.PAUSED, {"by": by, "reason": reason, "until": until})
        return chosen

    def resume_jobs(self, names: Sequence[str] | None = None, *, by: str = "") -> list[str]:
        """See `CronManager.resume_jobs`."""
        states, jobs = self._running.states, self._running.jobs
        apart = jobs.apart()
        if names is None:
            chosen = sorted(set(filter(jobs.record, states.paused())).union(filter(self._is_enabled, apart)))
        else:
            chosen = [self._resumable(name) for name in dict.fromkeys(names)]
        resumed = states.resume(chosen, by=by, apart=apart)
        for name in chosen:
            jobs.try_again(name)
        self._tell(resumed, JobEventKind.RESUMED, {"by": by})
        return resumed

    def _is_enabled(self, name: str) -> bool:
        record = self._running.jobs.record(name)
        return record is not None and record.enabled

    def _resumable(self, name: str) -> str:
        """The job's id; one that the file switches off may still have a pause to end, for the day it is enabled."""
        if not self._record(name).enabled and self._running.states.pause_of(name) is None:
            raise JobOwnershipError.switched_off(name, self._config_file)
        return name

    def _tell(self, names: Sequence[str], kind: JobEventKind, detail: dict[str, Any]) -> None:
        store = self._running.serving.store
        at = store.clock.now()
        store.events.publish(*(JobEvent(job_id=name, kind=kind, at=at, detail=detail) for name in names))

    # --- looking --------------------------------------------------------------------------------------------------

    def job(self, name: str) -> Job:
        """See `CronManager.get_job`."""
        parked = next((one for one in self._running.jobs.parked() if one.id == name), None)
        return next(self._shown.each_job([parked or self._record(name)]))

    def jobs(self) -> list[Job]:
        """See `CronManager.get_all_jobs`."""
        return self._shown.all_jobs()

    def job_status(self, name: str) -> dict[str, Any]:
        """See `CronManager.get_job_status`."""
        job, store = self.job(name), self._running.serving.store
        record = self._running.jobs.record(name)
        return status_of(
            job,
            None if record is None else record.definition,
            metrics=store.totals.metrics(name),
            last=store.read(lambda connection: last_task(connection, name)),
            unfinished=self._running.serving.view.unfinished_of(name),
        )

    def _record(self, name: str) -> JobRecord:
        record = self._running.jobs.record(name)
        if record is None:
            raise self._unknown(name)
        return record

    def _unknown(self, name: str) -> UnknownJobError:
        known = (record.id for record in self._running.jobs.records())
        return UnknownJobError(name, nearest=nearest(name, known))


def _call_with(live: Live, function: Function, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Let ``live`` call its function with these arguments instead of the job's."""
    live.task.arguments = encode_arguments(args, kwargs)
    if live.function is not None:
        live.args, live.kwargs = args, kwargs
    refusal = function.refusal(args, kwargs)
    if refusal is not None:
        raise ArgumentsError(refusal)
