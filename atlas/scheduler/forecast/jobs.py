"""The jobs as the forecast takes them: their triggers, their rules, and how long their tasks take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from atlas.scheduler.job_store.rows import read_jobs
from atlas.scheduler.job_view import JobState
from atlas.scheduler.store.task_queries import durations_of
from atlas.scheduler.task import Overlap, TaskPriority
from atlas.scheduler.triggers import trigger_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.job_view import Job
    from atlas.scheduler.triggers import AtlasTrigger


ASSUMED_S: Final = 1.0
"""What a task of a job that has not run yet is taken to last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastJob:
    """A job as the forecast takes it.

    Attributes:
        id: The job.
        title: Display name.
        trigger: When it starts.
        duration_s: How long a task of it takes: the median so far; None if it has not run yet.
        executor: Where it runs; "" if nobody said.
        fires: False for a job that makes no tasks: PAUSED, DISABLED, UNBOUND, ENDED.
        priority: Order of service.
        overlap: What happens when it starts while its last task is unfinished.
        max_instances: With ``overlap: allow``, unfinished tasks at once.
    """

    id: str
    title: str
    trigger: AtlasTrigger
    duration_s: float | None = None
    executor: str = ""
    fires: bool = True
    priority: TaskPriority = TaskPriority.NORMAL
    overlap: Overlap = Overlap.SKIP
    max_instances: int = 1

    @property
    def takes_s(self) -> float:
        """How long a task of it is taken to last, seconds."""
        return ASSUMED_S if self.duration_s is None else max(0.0, self.duration_s)

    @classmethod
    def of(cls, definition: JobDefinition, *, duration_s: float | None = None, fires: bool = True) -> ForecastJob:
        """The job of ``definition``."""
        return cls(
            id=definition.id,
            title=definition.title,
            trigger=trigger_of(definition),
            duration_s=duration_s,
            executor="" if definition.executor is None else definition.executor.value,
            fires=fires and definition.enabled,
            priority=definition.priority,
            overlap=definition.overlap,
            max_instances=definition.max_instances,
        )


def forecast_jobs(connection: Connection, known: Iterable[Job]) -> list[ForecastJob]:
    """Every job whose row can be read, by id.

    Args:
        connection: The store.
        known: The jobs as they stand; those that are not ACTIVE make no tasks.
    """
    states = {job.name: job.state for job in known}
    records = [one for one in read_jobs(connection).records.values() if one.id in states]
    durations = durations_of(connection, [one.id for one in records])
    return [
        ForecastJob.of(
            one.definition,
            duration_s=durations[one.id].median_s,
            fires=states[one.id] is JobState.ACTIVE,
        )
        for one in records
    ]
