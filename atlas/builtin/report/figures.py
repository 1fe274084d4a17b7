"""What a day's rows add up to."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from atlas.scheduler.error_text import error_line
from atlas.scheduler.store.tables import articles, fires, sources, tasks
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import tzinfo

    from sqlalchemy import ColumnElement, Connection

ERROR_TAIL: Final = 500
"""Characters of an error's end that are read: its last line says what happened."""
BAD: Final = (TaskStatus.FAILED, TaskStatus.TIMEOUT)


@dataclass(slots=True)
class JobFigures:
    """One job's day; tasks of no job count under their own name."""

    name: str
    """The job's id, or the tasks' name."""
    by_status: Counter[TaskStatus] = field(default_factory=Counter)
    durations_s: list[float] = field(default_factory=list)
    """Seconds the last attempts ran, ascending once the day is read."""

    @property
    def bad(self) -> int:
        """Tasks that failed or timed out."""
        return sum(self.by_status[status] for status in BAD)


@dataclass(slots=True)
class ErrorGroup:
    """Failures of one job that differ in numbers only.

    Attributes:
        job: The job's id, or the tasks' name.
        error: Last line of the first one.
        is_job: True if ``job`` is a job, False if it is the name of tasks without one.
    """

    job: str
    error: str
    count: int
    first_at: float
    last_at: float
    is_job: bool


@dataclass(slots=True)
class DayFigures:
    """What ended on one day.

    Attributes:
        by_hour: For each hour of the local clock (0 to 23), tasks per status; those saved by a retry under RETRYING.
        errors: Groups of failures, the largest first.
        retried: Tasks that failed at least once.
        saved: Those of them that succeeded.
        delays_s: Seconds from being accepted to the start, of tasks with one attempt, ascending.
        articles: New articles per source.
    """

    by_status: Counter[TaskStatus] = field(default_factory=Counter)
    by_hour: dict[int, Counter[TaskStatus]] = field(default_factory=lambda: defaultdict(Counter))
    jobs: dict[str, JobFigures] = field(default_factory=dict)
    errors: list[ErrorGroup] = field(default_factory=list)
    retried: int = 0
    saved: int = 0
    delays_s: list[float] = field(default_factory=list)
    articles: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All tasks that ended."""
        return self.by_status.total()

    @property
    def bad(self) -> int:
        """Tasks that failed or timed out."""
        return sum(self.by_status[status] for status in BAD)

    @property
    def success_rate(self) -> float | None:
        """SUCCESS ÷ (SUCCESS + FAILED + TIMEOUT), 0 to 100; None when there is none."""
        return success_rate(self.by_status)


def success_rate(by_status: Counter[TaskStatus]) -> float | None:
    """SUCCESS ÷ (SUCCESS + FAILED + TIMEOUT), 0 to 100; None when there is none."""
    counted = by_status[TaskStatus.SUCCESS] + sum(by_status[status] for status in BAD)
    return 100.0 * by_status[TaskStatus.SUCCESS] / counted if counted else None


def share(values: Sequence[float], part: float) -> float | None:
    """The value below or at which ``part`` (0 to 1) of the ascending ``values`` lie; None without values."""
    return values[max(0, math.ceil(part * len(values)) - 1)] if values else None


def read_day(connection: Connection, start: datetime, end: datetime, zone: tzinfo) -> DayFigures:
    """The figures of what ended from ``start`` up to, not including, ``end``."""
    day = DayFigures()
    groups: dict[tuple[str, str], ErrorGroup] = {}
    for row in connection.execute(_tasks(connection, start, end)):
        _add(day, groups, row, zone)
    for job in day.jobs.values():
        job.durations_s.sort()
    day.delays_s.sort()
    day.errors = sorted(groups.values(), key=lambda group: (-group.count, group.job))
    counted = (
        select(articles.c.source, func.count())
        .where(articles.c.fetched_at >= start.timestamp(), articles.c.fetched_at < end.timestamp())
        .group_by(articles.c.source)
    )
    day.articles = Counter(dict(connection.execute(counted).all()))
    return day


def read_totals(connection: Connection, start: datetime, end: datetime) -> Counter[TaskStatus]:
    """Tasks per final status of what ended from ``start`` up to ``end``: the day before, to compare with."""
    counted = select(tasks.c.status, func.count()).where(*_ended(start, end)).group_by(tasks.c.status)
    return Counter({TaskStatus(status): count for status, count in connection.execute(counted)})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWeek:
    """One job's seven days before the day of the report."""

    by_status: Counter[TaskStatus]
    median_s: float | None
    """Median seconds of the last attempts; None if none ran."""


def read_week(connection: Connection, start: datetime, end: datetime) -> dict[str, JobWeek]:
    """What ended from ``start`` up to ``end``, by the names `DayFigures.jobs` has: the week to compare with."""
    columns = (tasks.c.job_id, tasks.c.name, tasks.c.status, tasks.c.started_at, tasks.c.finished_at)
    by_status: dict[str, Counter[TaskStatus]] = defaultdict(Counter)
    durations_s: dict[str, list[float]] = defaultdict(list)
    for row in connection.execute(select(*columns).where(*_ended(start, end))):
        name = row.job_id or row.name
        by_status[name][TaskStatus(row.status)] += 1
        if row.started_at is not None:
            durations_s[name].append(max(0.0, row.finished_at - row.started_at))
    return {
        name: JobWeek(by_status=counts, median_s=share(sorted(durations_s[name]), 0.5))
        for name, counts in by_status.items()
    }


def read_skips(connection: Connection, start: datetime, end: datetime) -> list[tuple[str, str, int]]:
    """(job, reason, how many) of the fire times from ``start`` up to ``end`` that made no task, the most first.

    What is stored as a range is taken to lie evenly in it: each day of a long stop has its share.
    """
    at, last = fires.c.fire_time, fires.c.last
    skipped = fires.c.skip_reason.is_not(None)
    counted = (
        select(fires.c.job_id, fires.c.skip_reason, func.count().label("skipped"))
        .where(at >= start.timestamp(), at < end.timestamp(), skipped, last.is_(None))
        .group_by(fires.c.job_id, fires.c.skip_reason)
    )
    found = Counter({(row.job_id, row.skip_reason): row.skipped for row in connection.execute(counted)})
    columns = (fires.c.job_id, fires.c.skip_reason, at, last, func.coalesce(fires.c.count, 1).label("skipped"))
    ranges = select(*columns).where(at < end.timestamp(), last >= start.timestamp(), skipped)
    for row in connection.execute(ranges):
        found[row.job_id, row.skip_reason] += _evenly(row.fire_time, row.last, row.skipped, start, end)
    told = [(job, reason, count) for (job, reason), count in found.items() if count]
    return sorted(told, key=lambda one: (-one[2], one[0], one[1]))


def _evenly(first_s: float, last_s: float, count: int, start: datetime, end: datetime) -> int:
    """How many of ``count`` instants that lie evenly from ``first_s`` to ``last_s`` are in ``start`` up to ``end``."""
    step_s = (last_s - first_s) / max(1, count - 1) or 1.0
    before = (math.ceil((limit.timestamp() - first_s) / step_s) for limit in (end, start))
    until, since = (min(max(0, number), count) for number in before)
    return until - since


def read_failing_sources(connection: Connection, least: int, collected: Collection[str]) -> list[tuple[str, int, str]]:
    """(source, failures in a row, the last reason) of those in ``collected`` that failed so often, or more."""
    bad = select(sources).where(sources.c.failures >= least, sources.c.name.in_(list(collected)))
    bad = bad.order_by(sources.c.failures.desc(), sources.c.name)
    return [(row.name, row.failures, last_line(row.last_error)) for row in connection.execute(bad)]


def _tasks(connection: Connection, start: datetime, end: datetime) -> Any:  # a Select of these columns
    tail = func.right(tasks.c.error, ERROR_TAIL)
    if connection.dialect.name == "sqlite":
        tail = func.substr(tasks.c.error, -ERROR_TAIL)
    plain = ("job_id", "name", "status", "attempt", "failures", "created_at", "started_at", "finished_at")
    columns = [tasks.c[name] for name in plain]
    return select(*columns, tail.label("error")).where(*_ended(start, end)).order_by(tasks.c.finished_at)


def _ended(start: datetime, end: datetime) -> tuple[ColumnElement[bool], ...]:
    at = tasks.c.finished_at
    return at.is_not(None), at >= start.timestamp(), at < end.timestamp()


def _add(day: DayFigures, groups: dict[tuple[str, str], ErrorGroup], row: Any, zone: tzinfo) -> None:
    status, name = TaskStatus(row.status), row.job_id or row.name
    saved = status is TaskStatus.SUCCESS and row.failures > 0
    day.by_status[status] += 1
    day.by_hour[datetime.fromtimestamp(row.finished_at, zone).hour][TaskStatus.RETRYING if saved else status] += 1
    job = day.jobs.setdefault(name, JobFigures(name))
    job.by_status[status] += 1
    if row.started_at is not None:
        job.durations_s.append(max(0.0, row.finished_at - row.started_at))
        if row.attempt == 1:
            day.delays_s.append(max(0.0, row.started_at - row.created_at))
    # A success with failures was saved; any other end with failures used a retry if it had more than one.
    day.saved += saved
    day.retried += saved or (row.failures > 1 and status in BAD)
    if status in BAD:
        error = last_line(row.error) or status.value
        key = (name, re.sub(r"0x[0-9a-fA-F]+|\d+", "#", error))
        group = groups.setdefault(
            key, ErrorGroup(name, error, 0, row.finished_at, row.finished_at, row.job_id is not None)
        )
        group.count += 1
        group.last_at = row.finished_at


def last_line(error: str | None) -> str:
    """The line of an error text that names it, else the last one; at most 160 characters."""
    line = "".join(character if character.isprintable() else " " for character in error_line(error))
    return line if len(line) <= 160 else line[:159] + "…"
