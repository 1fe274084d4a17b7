"""Which jobs cannot run, are late or keep failing, and which sources do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from atlas.builtin.health.check import Check
from atlas.scheduler.job_view import JobState
from atlas.scheduler.message import Message, joined
from atlas.scheduler.store.tables import sources, tasks
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Connection

    from atlas.builtin.health.check import HealthSource
    from atlas.scheduler.clock import Clock
    from atlas.scheduler.job_view import Job
    from atlas.scheduler.store.store import Store
FAILING_AFTER: Final = 3
"""Tasks in a row that did not succeed before a job counts as failing."""
LATE_JOB_S: Final = 300.0
LOOK_BACK_S: Final = 86_400.0
_REMEDY: Final = Message(
    "'atlas tasks JOB' shows the errors; a missing function must be registered or its module allow-listed"
)
_APART: Final = Message(
    "edit a job that cannot be served, or resume it ('atlas resume JOB'): it is tried at once,"
    " and by itself every ten minutes at least"
)


def jobs_check(store: Store, source: HealthSource, clock: Clock) -> Check:
    """Jobs that cannot run, are late or keep failing; pauses are told and are no fault."""
    now = clock.now()
    since_s = now.timestamp() - LOOK_BACK_S
    failing = set(store.read(lambda connection: failing_jobs(connection, since_s)))
    stuck, late, bad, paused = list[str](), list[str](), list[str](), list[str]()
    total = active = 0
    apart = False
    for job in source.each_job():
        total += 1
        active += job.enabled
        apart = apart or (job.state is JobState.PARKED and job.source is not None)
        if (what := _broken(job)) is not None:
            stuck.append(Message("{job} ({what}: {why})", job=job.name, what=what, why=job.detail))
        if (
            job.enabled
            and job.next_run_at is not None
            and (late_s := (now - job.next_run_at).total_seconds()) > LATE_JOB_S
        ):
            late.append(Message("{job} (due {s} s ago)", job=job.name, s=f"{late_s:.0f}"))
        if job.name in failing:
            bad.append(Message("{job} (its last {n} tasks did not succeed)", job=job.name, n=FAILING_AFTER))
        if job.state is JobState.PAUSED:
            paused.append(Message("{job} ({why})", job=job.name, why=job.detail))
    words: list[str] = [
        Message(pattern, n=len(found), which=_some(found))
        for pattern, found in (
            ("{n} cannot run: {which}", stuck),
            ("{n} late: {which}", late),
            ("{n} failing: {which}", bad),
        )
        if found
    ]
    if paused:
        words.append(Message("{n} paused: {which}", n=len(paused), which=_some(paused)))
    if not (stuck or late or bad):  # a pause is somebody's wish
        counts = Message("{n} jobs, {active} active", n=total, active=active)
        return Check(detail=joined("; ", [counts, *words]))
    return Check(
        status="failing" if late else "degraded",
        detail=joined("; ", words),
        remedy=joined("; ", [_APART, _REMEDY] if apart else [_REMEDY]),
    )


def _broken(job: Job) -> str | None:
    """What keeps a job from being served, in short."""
    match job.state:
        case JobState.UNBOUND:
            return Message("function missing")
        case JobState.PARKED:
            return Message("row cannot be read" if job.source is None else "cannot be served")
        case _:
            return None


def _some(found: Sequence[str]) -> str:
    """The first five."""
    return joined(", ", [*found[:5], "…"] if len(found) > 5 else found)


def failing_jobs(connection: Connection, since_s: float) -> list[str]:
    """Jobs with a failure since ``since_s`` whose newest `FAILING_AFTER` ended tasks all failed or timed out."""
    bad = (TaskStatus.FAILED.value, TaskStatus.TIMEOUT.value)
    suspects = (
        select(tasks.c.job_id)
        .where(tasks.c.status.in_(bad), tasks.c.created_at >= since_s, tasks.c.job_id.is_not(None))
        .distinct()
        .subquery()
    )
    newest = (
        select(tasks.c.status)
        .where(tasks.c.job_id == suspects.c.job_id, tasks.c.status.in_((TaskStatus.SUCCESS.value, *bad)))
        .order_by(tasks.c.created_at.desc())
        .limit(FAILING_AFTER)
        .correlate(suspects)
        .subquery()
    )
    # One statement: with a thousand suspects a thousand of them took two seconds.
    failures = select(func.count()).select_from(newest).where(newest.c.status.in_(bad)).scalar_subquery()
    statement = select(suspects.c.job_id).where(failures == FAILING_AFTER).order_by(suspects.c.job_id)
    return list(connection.execute(statement).scalars())


def sources_check(store: Store, collected: Collection[str]) -> Check:
    """Sources in ``collected`` that keep failing."""
    statement = (
        select(sources.c.name, sources.c.failures, sources.c.last_error)
        .where(sources.c.failures >= FAILING_AFTER, sources.c.name.in_(list(collected)))
        .order_by(sources.c.failures.desc(), sources.c.name)
    )
    rows = store.read(lambda connection: connection.execute(statement).all())
    if not rows:
        return Check(detail=Message("no source keeps failing"))
    told = [
        Message("{source} ({n} times: {why})", source=row.name, n=row.failures, why=row.last_error or "")
        for row in rows
    ]
    return Check(
        status="degraded",
        detail=Message("{n} keep failing: {which}", n=len(rows), which=_some(told)),
        remedy=Message("correct their addresses under collect.sources, or set enabled: false"),
    )
