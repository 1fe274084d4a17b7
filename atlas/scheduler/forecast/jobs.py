"""The jobs as the forecast takes them: their triggers, their rules, and how long their tasks take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from atlas.scheduler.job_store.rows import read_jobs
from atlas.scheduler.job_view import JobState
from atlas.scheduler.store.task_queries import medians_of
from atlas.scheduler.triggers import trigger_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.definition import JobDefinition, JobPolicies
    from atlas.scheduler.job_state import Pause
    from atlas.scheduler.job_view import Job
    from atlas.scheduler.triggers import AtlasTrigger


ASSUMED_S: Final = 1.0
"""What a task of a job that has not run yet is taken to last."""
MAY_FIRE: Final = frozenset({JobState.ACTIVE, JobState.PAUSED})
"""States in which a job makes tasks, now or once its pause has ended."""


@dataclass(frozen=True, slots=True)
class ForecastJob:
    """A job as the forecast takes it; of ten thousand there is one each, so it holds nothing that can be looked up.

    Attributes:
        duration_s: How long a task of it takes: the median so far; None if it has not run yet.
        may_fire: False for a job that makes no tasks: PAUSED without end, UNBOUND, ENDED.
        paused_until: No start before this instant makes a task: a pause ends then.
    """

    definition: JobDefinition
    duration_s: float | None = None
    may_fire: bool = True
    paused_until: datetime | None = None

    @classmethod
    def under(
        cls, pause: Pause | None, definition: JobDefinition, duration_s: float | None, *, may_fire: bool = True
    ) -> Self:
        """The job while ``pause`` holds, or without one."""
        if pause is None:
            return cls(definition, duration_s, may_fire)
        return cls(definition, duration_s, may_fire and pause.until is not None, pause.until)

    @property
    def id(self) -> str:
        """The job's name."""
        return self.definition.id

    @property
    def policies(self) -> JobPolicies:
        """How its tasks are run."""
        return self.definition.policies

    @property
    def trigger(self) -> AtlasTrigger:
        """When it starts."""
        return trigger_of(self.definition)

    @property
    def fires(self) -> bool:
        """False if it makes no tasks, by its definition or as it stands."""
        return self.may_fire and self.definition.enabled

    def starts_at(self, at: datetime) -> bool:
        """False if the pause lasts longer."""
        return self.paused_until is None or at >= self.paused_until

    @property
    def takes_s(self) -> float:
        """How long a task of it is taken to last, seconds."""
        return ASSUMED_S if self.duration_s is None else max(0.0, self.duration_s)

    @property
    def executor(self) -> str:
        """Where it runs; "" if nobody said."""
        executor = self.policies.executor
        return "" if executor is None else executor.value


def forecast_jobs(connection: Connection, known: Iterable[Job]) -> list[ForecastJob]:
    """Every job whose row can be read, by id.

    Those of ``known`` that are not ACTIVE make no tasks, or none before the end of their pause.
    """
    states = {job.name: (job.pause, job.state in MAY_FIRE) for job in known}
    records = [one for one in read_jobs(connection).records.values() if one.id in states]
    medians = medians_of(connection, [one.id for one in records])
    found = []
    for one in records:
        pause, may_fire = states[one.id]
        found.append(ForecastJob.under(pause, one.definition, medians[one.id], may_fire=may_fire))
    return found
