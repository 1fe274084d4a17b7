"""Jobs as people see them: what `CronManager.get_all_jobs` and the client return."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - the types of fields are read where a web handler returns a `Job`
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam

from atlas.scheduler.as_json import as_json, fields_as_json
from atlas.scheduler.definition import JobSource  # noqa: TC001
from atlas.scheduler.job_state import Pause  # noqa: TC001
from atlas.scheduler.message import Message
from atlas.scheduler.metrics import TRIED
from atlas.scheduler.store.tables import tasks
from atlas.scheduler.store.task_rows import SELECT, task_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.job_store.records import Parked
    from atlas.scheduler.metrics import Metrics
    from atlas.scheduler.task import Task
    from atlas.scheduler.triggers import AtlasTrigger


class JobState(enum.StrEnum):
    """Where a job stands."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    """A stored override: it makes no tasks."""
    DISABLED = "DISABLED"
    """``enabled: false`` in the file: it has no fire times."""
    UNBOUND = "UNBOUND"
    """Its function is missing."""
    ENDED = "ENDED"
    """Its last fire time has passed; the row stays."""
    PARKED = "PARKED"
    """Its row cannot be read, or it cannot be served: it is set apart, so that the others go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job at one moment.

    Attributes:
        name: Its id.
        detail: Why it stands there, in words; empty for ACTIVE.
        source: The config file or code, None when the row cannot be read.
        next_fire_time: The next nominal instant it is due, None without one, and while nobody can say its first.
        next_run_at: When it starts then: later by its spread.
    """

    name: str
    title: str
    description: str = ""
    state: JobState
    detail: str = ""
    source: JobSource | None = None
    schedule: str = ""
    timezone: str = ""
    next_fire_time: datetime | None = None
    next_run_at: datetime | None = None
    pause: Pause | None = None
    tags: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The job's id, which is its name."""
        return self.name

    @property
    def enabled(self) -> bool:
        """True if it fires: ACTIVE."""
        return self.state is JobState.ACTIVE

    @classmethod
    def of(
        cls,
        definition: JobDefinition,
        trigger: AtlasTrigger,
        next_run: datetime | None,
        pause: Pause | None,
        unbound: str | None,
        *,
        apart: str | None = None,
    ) -> Job:
        """The job of these parts.

        ``unbound`` says why it has no function, ``apart`` why it is set apart.
        """
        detail: str = ""
        if not definition.enabled:
            state, detail = JobState.DISABLED, Message("the config file says enabled: false")
        elif next_run is None:
            state, detail = JobState.ENDED, Message("its last fire time has passed")
        elif apart is not None:
            state, detail = JobState.PARKED, apart
        elif pause is not None:
            until = "" if pause.until is None else pause.until.isoformat(timespec="minutes")
            state = JobState.PAUSED
            detail = Message(
                "by {who}{until}: {why}",
                who=pause.by or Message("somebody"),
                until=until and Message(" until {when}", when=until),
                why=pause.reason or Message("no reason given"),
            )
        elif unbound is not None:
            state, detail = JobState.UNBOUND, unbound
        else:
            state = JobState.ACTIVE
        start = None if next_run is None or (apart is not None and not trigger.is_start(next_run)) else next_run
        return cls(
            name=definition.id,
            title=definition.title,
            description=definition.description,
            state=state,
            detail=detail,
            source=definition.source,
            schedule=schedule_text(definition),
            timezone=definition.schedule.timezone,
            next_fire_time=None if start is None else trigger.fire_time_of(start),
            next_run_at=start,
            pause=pause,
            tags=definition.tags,
        )

    @classmethod
    def of_parked(cls, parked: Parked) -> Job:
        """A job whose row cannot be read."""
        return cls(name=parked.id, title=parked.id, state=JobState.PARKED, detail=parked.error)

    def to_json(self) -> dict[str, Any]:
        """The job as JSON values."""
        return {"id": self.name, **fields_as_json(self)}


def schedule_text(definition: JobDefinition) -> str:
    """The schedule as it was written, for tables."""
    schedule = definition.schedule
    parts = list(schedule.cron)
    parts += [f"every {f'{interval.every_s:.6f}'.rstrip('0').rstrip('.')} s" for interval in schedule.intervals]
    parts += [instant.isoformat(timespec="minutes") for instant in schedule.dates]
    return ", ".join(parts)


def status_of(
    job: Job, definition: JobDefinition | None, *, metrics: Metrics, last: Task | None, unfinished: Sequence[str]
) -> dict[str, Any]:
    """Everything about one job, as `CronManager.get_job_status` returns it."""
    status: dict[str, Any] = {
        **job.to_json(),
        **metrics.to_json(),
        "success_rate": metrics.success_rate,
        "next_fire_time": job.next_fire_time,
        "next_run_at": job.next_run_at,
        "unfinished_tasks": list(unfinished),
        "last_task": None if last is None else task_json(last),
    }
    if definition is not None:
        status["words"] = {"en": definition.schedule.describe("en"), "zh": definition.schedule.describe("zh")}
        status["function"] = definition.function
        status["owner"], status["runbook"] = definition.owner, definition.runbook
        status["policy"] = {
            name: {"value": value, "from": definition.policies.source_of(name)}
            for name, value in definition.policies.values().items()
        }
    return status


def status_json(status: Mapping[str, Any]) -> dict[str, Any]:
    """What `status_of` made as JSON values: instants are text, a rate of nothing is null as in all JSON."""
    tried = any(status["by_status"][one.value] for one in TRIED)
    return {**as_json(status), **({} if tried else {"success_rate": None})}


_LATEST = (
    SELECT.where(tasks.c.job_id == bindparam("job_id")).order_by(tasks.c.created_at.desc(), tasks.c.id.desc()).limit(1)
)


def last_task(connection: Connection, job_id: str) -> Task | None:
    """The job's newest task, None before its first."""
    row = connection.execute(_LATEST, {"job_id": job_id}).first()
    return None if row is None else task_of(row)


def task_json(task: Task) -> dict[str, Any]:
    """A task as JSON values, for ``--json`` and pages."""
    return {
        "id": task.id,
        "name": task.name,
        "function": task.function,
        "job_id": task.job_id,
        "fire_time": _text(task.fire_time),
        "origin": task.origin.value,
        "reason": task.reason,
        "priority": task.priority.name,
        "status": task.status.value,
        "attempt": task.attempt,
        "failures": task.failures,
        "crashes": task.crashes,
        "created_at": _text(task.created_at),
        "due_at": _text(task.due_at),
        "started_at": _text(task.started_at),
        "finished_at": _text(task.finished_at),
        "duration_s": task.duration_s,
        "result": task.value,
        "result_omitted": task.result_omitted,
        "error": task.error,
        "cause": None if task.cause is None else task.cause.value,
        "revision": task.revision,
        "volatile": task.volatile,
        "cancel_requested": task.cancel_requested,
    }


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
