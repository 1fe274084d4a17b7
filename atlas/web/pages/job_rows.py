"""Jobs in rows: their states at a glance, and the slice of them that one page shows."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from atlas.scheduler.job_view import Job, JobState
from atlas.scheduler.store.tables import tasks
from atlas.web.pages.plan import Starts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.job_store.records import JobRecord
    from atlas.web.pages.desk import Desk
    from atlas.web.pages.recent import JobRecent

PER_PAGE: Final = 50
_FAR: Final = float("inf")
_MOST_NEWS: Final = 2_000


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job with what it did and will do."""

    job: Job
    definition: JobDefinition
    recent: JobRecent
    digest: str
    find_starts: Callable[[], Starts]

    @property
    def starts(self) -> Starts:
        """When it starts in the next 24 hours; never while its state stops it."""
        return self.find_starts() if self.job.state is JobState.ACTIVE else Starts([])

    def state(self, now_s: float) -> tuple[object, ...]:
        """What its lane and its strip at ``now_s`` are drawn from, in short."""
        recent = self.recent
        return now_s, recent.version, recent.read_at, self.digest, self.job.next_run_at, self.job.state

    @property
    def about(self) -> str:
        """What stands under its title: what it is for, else its id or its function, unless the title is the same."""
        job = self.job
        said = (job.description, job.id, self.definition.function)
        return next((text for text in said if text and text != job.title), "")

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
        active: Those that fire.
        unable: Ids of those that cannot run: set apart, or without a function.
        off: Ids of those that do not fire: disabled or ended.
        failing: Ids whose newest final task did not succeed, worst first → how many lately.
    """

    total: int
    active: int
    unable: frozenset[str]
    paused: frozenset[str]
    off: frozenset[str]
    failing: dict[str, int]
    running: frozenset[str]
    retrying: frozenset[str]
    soonest: datetime | None


def standing(desk: Desk, now: datetime) -> Standing:
    """How all jobs stand now."""
    shown = desk.atlas.cron.sync.shown
    records = desk.records()
    paused = frozenset(job_id for job_id in shown.states.paused() if desk.record(job_id) is not None)
    off = frozenset(record.id for record in records if record.next_run is None)
    unbound = shown.states.unbound_among(record.known for record in records)
    unable = (frozenset(shown.jobs.apart_words()) | unbound.keys() - paused) - off
    stopped = paused | unable
    starts = (record.next_run for record in records if record.next_run is not None and record.id not in stopped)
    busy = desk.store.read(lambda connection: {one: _jobs_in(connection, one) for one in ("RUNNING", "RETRYING")})
    return Standing(
        total=len(records) + len(shown.jobs.parked()),
        active=len(records) - len(off | stopped),
        unable=unable,
        paused=paused - off,
        off=off,
        failing={job_id: n for job_id, n in desk.failing.of(now).items() if desk.record(job_id) is not None},
        running=frozenset(job_id for job_id in busy["RUNNING"] if desk.record(job_id) is not None),
        retrying=frozenset(job_id for job_id in busy["RETRYING"] if desk.record(job_id) is not None),
        soonest=min(starts, default=None),
    )


def _jobs_in(connection: Connection, status: str) -> frozenset[str]:
    statement = select(tasks.c.job_id).where(tasks.c.status == status, tasks.c.job_id.is_not(None)).limit(_MOST_NEWS)
    return frozenset(connection.execute(statement).scalars())


def by_urgency(records: Sequence[JobRecord], stand: Standing, most: int) -> list[JobRecord]:
    """The first ``most``: unable, failing, retrying, running, then by next start; paused and ended ones last."""
    rank = {job_id: place for place, job_id in enumerate(stand.failing)}
    last = stand.paused | stand.off
    urgent = rank.keys() | stand.retrying | stand.running | stand.unable

    def key(record: JobRecord) -> tuple[int, float, str]:
        job_id = record.id
        if job_id in stand.unable:
            return (-1, 0.0, job_id)
        if job_id in last or record.next_run is None:
            return (9, 0.0 if job_id in stand.paused else 1.0, job_id)
        if job_id not in urgent:
            return (3, record.next_run.timestamp(), job_id)
        if job_id in rank:
            return (0, float(rank[job_id]), job_id)
        return (1 if job_id in stand.retrying else 2, record.next_run.timestamp(), job_id)

    return heapq.nsmallest(most, records, key=key)


def by_name(records: Sequence[JobRecord], most: int) -> list[JobRecord]:
    """The first ``most`` by id, in which order they come."""
    return list(records[:most])


def by_next_fire(records: Sequence[JobRecord], most: int) -> list[JobRecord]:
    """The first ``most`` by next start; those without one last."""

    def key(record: JobRecord) -> tuple[float, str]:
        return (record.next_run.timestamp() if record.next_run else _FAR, record.id)

    return heapq.nsmallest(most, records, key=key)


def matching(records: Iterable[JobRecord], text: str) -> list[JobRecord]:
    """Jobs with ``text`` in id, title, description, tags or schedule, in any case."""
    wanted = text.casefold()
    return [record for record in records if wanted in _words(record.definition).casefold()]


def _words(definition: JobDefinition) -> str:
    words = "\n".join((*definition.tags, *definition.schedule.cron))
    return f"{definition.id}\n{definition.title}\n{definition.description}\n{words}"


def rows_of(desk: Desk, records: Sequence[JobRecord], now: datetime) -> list[JobRow]:
    """The rows of these jobs, in their order."""
    shown = desk.atlas.cron.sync.shown
    states, apart = shown.states, shown.jobs.apart_words()
    lately = desk.recent.of([record.id for record in records], now)
    rows = []
    for record in records:
        definition = record.definition
        pause = states.pause_of(record.id)
        unbound = states.unbound(definition)
        job = Job.of(definition, record.trigger, record.next_run, pause, unbound, apart=apart.get(record.id))
        rows.append(JobRow(job, definition, lately[record.id], record.digest, partial(desk.plans.of, record, now)))
    return rows
