"""The jobs as the forecast takes them: their triggers, their rules, and how long their tasks take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from atlas.scheduler.job_store.rows import read_jobs
from atlas.scheduler.job_view import JobState
from atlas.scheduler.store.task_queries import medians_of
from atlas.scheduler.triggers import trigger_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.job_view import Job
    from atlas.scheduler.task import Overlap, TaskPriority
    from atlas.scheduler.triggers import AtlasTrigger


ASSUMED_S: Final = 1.0
"""What a task of a job that has not run yet is taken to last."""


@dataclass(frozen=True, slots=True)
class ForecastJob:
    """A job as the forecast takes it; of ten thousand there is one each, so it holds nothing that can be looked up.

    Attributes:
        definition: The job.
        duration_s: How long a task of it takes: the median so far; None if it has not run yet.
        may_fire: False for a job that makes no tasks: PAUSED, UNBOUND, ENDED.
    """

    definition: JobDefinition
    duration_s: float | None = None
    may_fire: bool = True

    @property
    def id(self) -> str:
        """The job's name."""
        return self.definition.id

    @property
    def title(self) -> str:
        """Display name."""
        return self.definition.title

    @property
    def trigger(self) -> AtlasTrigger:
        """When it starts."""
        return trigger_of(self.definition)

    @property
    def fires(self) -> bool:
        """False if it makes no tasks, by its definition or as it stands."""
        return self.may_fire and self.definition.enabled

    @property
    def takes_s(self) -> float:
        """How long a task of it is taken to last, seconds."""
        return ASSUMED_S if self.duration_s is None else max(0.0, self.duration_s)

    @property
    def executor(self) -> str:
        """Where it runs; "" if nobody said."""
        executor = self.definition.policies.executor
        return "" if executor is None else executor.value

    @property
    def priority(self) -> TaskPriority:
        """Order of service."""
        return self.definition.policies.priority

    @property
    def overlap(self) -> Overlap:
        """What happens when it starts while its last task is unfinished."""
        return self.definition.policies.overlap

    @property
    def max_instances(self) -> int:
        """With ``overlap: allow``, unfinished tasks at once."""
        return self.definition.policies.max_instances


def forecast_jobs(connection: Connection, known: Iterable[Job]) -> list[ForecastJob]:
    """Every job whose row can be read, by id.

    Args:
        connection: The store.
        known: The jobs as they stand; those that are not ACTIVE make no tasks.
    """
    states = {job.name: job.state for job in known}
    records = [one for one in read_jobs(connection).records.values() if one.id in states]
    medians = medians_of(connection, [one.id for one in records])
    return [ForecastJob(one.definition, medians[one.id], may_fire=states[one.id] is JobState.ACTIVE) for one in records]
