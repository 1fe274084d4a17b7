"""The rows of jobs, read as they stand on disk; whoever keeps them in memory is `AtlasJobStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from atlas.scheduler.job_store import JobRecord, Parked, restore
from atlas.scheduler.store.tables import jobs

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row


class JobRows(NamedTuple):
    """Every job of a store.

    Attributes:
        records: Those that can be read, by id, ascending.
        parked: Those that cannot, by id, ascending.
    """

    records: dict[str, JobRecord]
    parked: dict[str, Parked]


def read_jobs(connection: Connection) -> JobRows:
    """All of them."""
    found = JobRows({}, {})
    for row in connection.execute(select(jobs).order_by(jobs.c.id)):
        one = _record(row)
        if isinstance(one, Parked):
            found.parked[one.id] = one
        else:
            found.records[one.id] = one
    return found


def read_job(connection: Connection, job_id: str) -> JobRecord | Parked | None:
    """One of them, None if there is no such job."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    return None if row is None else _record(row)


def _record(row: Row[Any]) -> JobRecord | Parked:
    try:
        return restore(row.id, bytes(row.job_state), row.next_run_time)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one row is that row's alone
        return Parked(row.id, f"{type(error).__name__}: {error}")
