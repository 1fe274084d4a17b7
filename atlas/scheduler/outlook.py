"""The jobs of a store as the forecast takes them: their rows, their states, and how long their tasks take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from atlas.scheduler.forecast import ForecastJob
from atlas.scheduler.job_store import restore
from atlas.scheduler.job_view import JobState
from atlas.scheduler.store.tables import jobs
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
    rows = connection.execute(select(jobs).order_by(jobs.c.id)).all()
    readable = [row for row in rows if states.get(row.id, JobState.PARKED) is not JobState.PARKED]
    durations = durations_of(connection, [row.id for row in readable])
    found = []
    for row in readable:
        record = restore(row.id, bytes(row.job_state), row.next_run_time)
        found.append(
            ForecastJob.of(
                record.definition,
                record.trigger,
                duration_s=durations[row.id].median_s,
                fires=states[row.id] is JobState.ACTIVE,
            )
        )
    return found
