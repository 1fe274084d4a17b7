"""The jobs of a store as the forecast takes them: their rows, their states, and how long their tasks take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas.scheduler.forecast import ForecastJob
from atlas.scheduler.job_rows import read_jobs
from atlas.scheduler.job_view import JobState
from atlas.scheduler.store.task_queries import durations_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from atlas.scheduler.job_view import Job


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
            one.trigger,
            duration_s=durations[one.id].median_s,
            fires=states[one.id] is JobState.ACTIVE,
        )
        for one in records
    ]
