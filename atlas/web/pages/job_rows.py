"""Jobs in rows: their states at a glance, and the slice of them that one page shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from atlas.scheduler.job_view import Job, JobState
from atlas.scheduler.store.tables import tasks
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.job_records import JobRecord
    from atlas.web.pages.desk import Desk
    from atlas.web.pages.plan import Starts
    from atlas.web.pages.recent import JobRecent

PER_PAGE: Final = 50
FAILING_AFTER: Final = 3
"""Tasks in a row that did not succeed before a job counts as failing."""
_FAR: Final = float("inf")
_MOST_NEWS: Final = 2_000


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job with what it did and will do."""

    job: Job
    definition: JobDefinition
    recent: JobRecent
    starts: Starts

    @property
    def mark(self) -> str:
        """What the job is marked with: a status, or a state that stops it."""
        if self.job.state is not JobState.ACTIVE:
            return self.job.state.value
        return self.recent.shown or "NEVER"


@dataclass(frozen=True, slots=True)
class Standing:
    """How all jobs stand, from memory and two bounded queries.

    Attributes:
        total: All of them, parked ones too.
        active: Those that fire.
        paused: Ids of paused ones.
        off: Ids of those that do not fire: disabled or ended.
        failing: Ids whose newest final task did not succeed, worst first → how many lately.
        running: Ids with a RUNNING task.
        retrying: Ids with a RETRYING task.
    """

    total: int
    active: int
    paused: frozenset[str]
    off: frozenset[str]
    failing: dict[str, int]
    running: frozenset[str]
    retrying: frozenset[str]
    soonest: datetime | None


def standing(desk: Desk, now: datetime) -> Standing:
    """How all jobs stand now."""
    running = desk.atlas.cron.sync.running
    records = running.jobs.records()
    known = {record.id for record in records}
    paused = frozenset(record.id for record in records if running.states.pause_of(record.id) is not None)
    off = frozenset(record.id for record in records if record.next_run is None)
    starts = [record.next_run for record in records if record.next_run is not None and record.id not in paused]
    busy = desk.store.read(lambda connection: {one: _jobs_in(connection, one) for one in ("RUNNING", "RETRYING")})
    return Standing(
        total=len(records) + len(running.jobs.parked()),
        active=len(records) - len(off | paused),
        paused=paused - off,
        off=off,
        failing={job_id: n for job_id, n in _failing(desk, now).items() if job_id in known},
        running=busy["RUNNING"] & known,
        retrying=busy["RETRYING"] & known,
        soonest=min(starts, default=None),
    )


def _jobs_in(connection: Connection, status: str) -> frozenset[str]:
    statement = select(tasks.c.job_id).where(tasks.c.status == status, tasks.c.job_id.is_not(None)).limit(_MOST_NEWS)
    return frozenset(connection.execute(statement).scalars())


def _failing(desk: Desk, now: datetime) -> dict[str, int]:
    """Jobs that failed in the last 24 hours and whose newest final task is such a failure, most failures first."""
    bad = [TaskStatus.FAILED.value, TaskStatus.TIMEOUT.value]
    newest = (
        select(tasks.c.job_id, tasks.c.created_at)
        .where(tasks.c.status.in_(bad), tasks.c.created_at >= now.timestamp() - 86_400, tasks.c.job_id.is_not(None))
        .order_by(tasks.c.created_at.desc())
        .limit(_MOST_NEWS)
        .subquery()
    )
    statement = (
        select(newest.c.job_id, func.count().label("n"))
        .group_by(newest.c.job_id)
        .order_by(func.count().desc())
        .limit(4 * PER_PAGE)
    )
    rows = desk.store.read(lambda connection: connection.execute(statement).all())
    lately = desk.recent.of([row.job_id for row in rows], now)
    found = {}
    for row in rows:
        last = lately[row.job_id].last_final
        if last is not None and last.status in bad:
            found[row.job_id] = row.n
    return found


def by_urgency(records: Iterable[JobRecord], stand: Standing) -> list[JobRecord]:
    """What needs a look first: failing, retrying, running, then by next start; paused and ended ones last."""
    rank = {job_id: place for place, job_id in enumerate(stand.failing)}

    def key(record: JobRecord) -> tuple[int, float, str]:
        if record.id in stand.paused or record.next_run is None:
            return (9, 0.0 if record.id in stand.paused else 1.0, record.id)
        if record.id in rank:
            return (0, float(rank[record.id]), record.id)
        urgent = 1 if record.id in stand.retrying else 2 if record.id in stand.running else 3
        return (urgent, record.next_run.timestamp(), record.id)

    return sorted(records, key=key)


def by_name(records: Iterable[JobRecord]) -> list[JobRecord]:
    """By id."""
    return sorted(records, key=lambda record: record.id)


def by_next_fire(records: Iterable[JobRecord]) -> list[JobRecord]:
    """By next start; those without one last."""
    return sorted(records, key=lambda record: (record.next_run.timestamp() if record.next_run else _FAR, record.id))


def matching(records: Iterable[JobRecord], text: str) -> list[JobRecord]:
    """Jobs with ``text`` in id, title, description, tags or schedule."""
    wanted = text.casefold()
    found = []
    for record in records:
        if wanted in record.id.casefold():
            found.append(record)
        elif wanted in record.text.casefold():
            raw = json.loads(record.text)  # a definition of each of ten thousand jobs would take a second
            fields = (raw["title"], raw["description"], *raw["tags"], *raw["schedule"].get("cron", ()))
            if any(wanted in str(field).casefold() for field in fields):
                found.append(record)
    return found


def rows_of(desk: Desk, records: Sequence[JobRecord], now: datetime) -> list[JobRow]:
    """The rows of these jobs, in their order."""
    states = desk.atlas.cron.sync.running.states
    lately = desk.recent.of([record.id for record in records], now)
    rows = []
    for record in records:
        definition = record.definition
        pause = states.pause_of(record.id)
        job = Job.of(definition, record.trigger, record.next_run, pause, states.unbound(definition))
        starts = desk.plans.of(record, now)
        rows.append(JobRow(job, definition, lately[record.id], starts))
    return rows
