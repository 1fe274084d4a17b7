"""`forecast`: what starts when, how many tasks run at once, who waits for a slot, which jobs are a herd.

Pure. Starts come from the jobs' own triggers; how long each takes is its median so far.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final

from atlas.scheduler.forecast.herds import Herds
from atlas.scheduler.forecast.line import Expected, ExpectedLine
from atlas.scheduler.forecast.load import Load
from atlas.scheduler.forecast.result import Crowd, Forecast, JobOutlook, Start
from atlas.scheduler.forecast.starts import merged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from atlas.scheduler.forecast.jobs import ForecastJob
    from atlas.scheduler.triggers import AtlasTrigger

MAX_STARTS: Final = 100_000
"""Starts that are looked at; a forecast with more of them ends earlier, and says so."""
ASSUMED_S: Final = 1.0
"""What a task of a job that has not run yet is taken to last."""


def forecast(
    jobs: Iterable[ForecastJob],
    *,
    now: datetime,
    hours: float = 24.0,
    slots: int,
    limits: Mapping[str, int] | None = None,
    bucket_s: float = 3600.0,
    zone: tzinfo = UTC,
) -> Forecast:
    """What starts from ``now`` on, and how it gets on with the slots.

    What runs already at ``now`` is not known here: the first minutes may be a little fuller.

    Args:
        jobs: All of them.
        now: Begin, aware.
        hours: How far to look.
        slots: Tasks that run at once.
        limits: Executor → fewer than that.
        bucket_s: Length of the stretches, seconds.
        zone: Where stretches begin with a whole hour or day of the wall clock.
    """
    jobs, begin = list(jobs), now.astimezone(UTC)
    until = begin + timedelta(hours=hours)
    expected = [
        Expected(
            job.id,
            ASSUMED_S if job.duration_s is None else max(0.0, job.duration_s),
            job.priority,
            job.overlap,
            job.max_instances,
            job.executor,
        )
        for job in jobs
    ]
    groups: dict[AtlasTrigger, list[Expected]] = {}
    for job, one in zip(jobs, expected, strict=True):
        if job.fires:
            groups.setdefault(job.trigger, []).append(one)
    load = Load(begin, bucket_s, zone)
    line = ExpectedLine(max(1, slots), limits or {}, load.demand)
    herds = Herds(max(1, slots))
    is_cut = False
    for at, triggers in merged(groups, begin, until):
        together = [one for trigger in triggers for one in groups[trigger]]
        if line.runs and len(line.runs) + len(together) > MAX_STARTS:
            is_cut, until = True, at
            break
        herds.note(at, triggers, together)
        line.start(at.timestamp(), together)
    line.pass_until(until.timestamp())
    load.fill(until.timestamp())
    line.finish()
    starts = tuple(
        Start(datetime.fromtimestamp(run.due_s, UTC), run.job.id, run.late_s, run.skipped) for run in line.runs
    )
    return Forecast(
        begin=begin,
        until=until,
        is_cut=is_cut,
        slots=slots,
        starts=starts,
        jobs=_outlooks(jobs, expected, starts),
        buckets=load.buckets(starts, until),
        peak=load.peak,
        peak_at=None if load.peak_s is None else datetime.fromtimestamp(load.peak_s, UTC),
        crowds=tuple(
            Crowd(
                at=datetime.fromtimestamp(shortage.at_s, UTC),
                until=datetime.fromtimestamp(shortage.until_s, UTC),
                needed=shortage.needed,
                late_s=dict(sorted(shortage.late_s.items(), key=lambda late: -late[1])),
            )
            for shortage in line.shortages
            if shortage.late_s
        ),
        herds=herds.found(),
    )


def _outlooks(jobs: list[ForecastJob], expected: list[Expected], starts: Iterable[Start]) -> tuple[JobOutlook, ...]:
    made: dict[str, list[Start]] = {}
    for start in starts:
        made.setdefault(start.job_id, []).append(start)
    found = []
    for job, one in zip(jobs, expected, strict=True):
        mine = made.get(job.id, [])
        skipped = sum(start.skipped for start in mine)
        found.append(
            JobOutlook(
                id=job.id,
                title=job.title,
                starts=len(mine) - skipped,
                skipped=skipped,
                next_at=mine[0].at if mine else None,
                duration_s=one.duration_s,
                measured=job.duration_s is not None,
                late_s=max((start.late_s for start in mine), default=0.0),
            )
        )
    return tuple(found)
