"""`forecast`: what starts when, how many tasks run at once, who waits for a slot, which jobs are a herd.

Pure. Starts come from the jobs' own triggers; how long each takes is its median so far.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final

from atlas.scheduler.forecast.herds import Herds
from atlas.scheduler.forecast.load import Load
from atlas.scheduler.forecast.result import Forecast, JobOutlook
from atlas.scheduler.forecast.simulation import Simulation
from atlas.scheduler.forecast.starts import merged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from atlas.scheduler.forecast.jobs import ForecastJob
    from atlas.scheduler.forecast.result import Start
    from atlas.scheduler.triggers import AtlasTrigger

LONGEST_BY_HOURS: Final = 48
"""Hours beyond which a stretch of the forecast is a day."""
MAX_STARTS: Final = 100_000
"""Starts that are looked at; a forecast with more of them ends earlier, and says so."""


def forecast(
    jobs: Iterable[ForecastJob],
    *,
    now: datetime,
    hours: float = 24.0,
    slots: int,
    limits: Mapping[str, int] | None = None,
    bucket_s: float | None = None,
    zone: tzinfo = UTC,
    singly: bool = True,
) -> Forecast:
    """What starts from ``now`` on, and how it gets on with the slots.

    What runs already at ``now`` is not known here: the first minutes may be a little fuller.

    ``limits`` bounds the tasks of an executor below ``slots``. Stretches of ``bucket_s`` (None: an hour, or a day where
    it looks far, `LONGEST_BY_HOURS`) begin on the wall clock of ``zone``. ``singly`` False leaves out the single starts
    and jobs, and all but `NAMED` jobs of a crowd: of ten thousand jobs they are megabytes.
    """
    slots, begin = max(1, slots), now.astimezone(UTC)
    if singly:
        jobs = list(jobs)
    until = begin + timedelta(hours=hours)
    groups: dict[AtlasTrigger, list[ForecastJob]] = {}
    for job in jobs:
        if job.fires:
            groups.setdefault(job.trigger, []).append(job)
    if bucket_s is None:
        bucket_s = 3600.0 if hours <= LONGEST_BY_HOURS else 86_400.0
    load = Load(begin, bucket_s, zone)
    simulation = Simulation(slots, limits or {}, load, singly=singly)
    herds = Herds(slots)
    is_cut = False
    for at, triggers in merged(groups, begin, until):
        together = [one for trigger in triggers for one in groups[trigger] if one.starts_at(at)]
        if len(simulation) and len(simulation) + len(together) > MAX_STARTS:
            is_cut, until = True, at
            break
        herds.note(at, triggers, together)
        simulation.start(at, together)
    simulation.pass_until(until.timestamp())
    load.fill(until.timestamp())
    simulation.finish()
    starts = simulation.starts()
    return Forecast(
        begin=begin,
        until=until,
        is_cut=is_cut,
        slots=slots,
        starts=starts,
        jobs=_outlooks(jobs, starts) if singly else (),
        buckets=load.buckets(until),
        peak=load.peak,
        peak_at=None if load.peak_s is None else datetime.fromtimestamp(load.peak_s, UTC),
        crowds=simulation.crowds(),
        herds=herds.found(),
    )


def _outlooks(jobs: Iterable[ForecastJob], starts: Iterable[Start]) -> tuple[JobOutlook, ...]:
    made: dict[str, list[Start]] = {}
    for start in starts:
        made.setdefault(start.job_id, []).append(start)
    found = []
    for job in jobs:
        mine = made.get(job.id, [])
        skipped = sum(start.skipped for start in mine)
        found.append(
            JobOutlook(
                id=job.id,
                title=job.definition.title,
                starts=len(mine) - skipped,
                skipped=skipped,
                next_at=mine[0].at if mine else None,
                duration_s=job.takes_s,
                measured=job.duration_s is not None,
                late_s=max((start.late_s for start in mine), default=0.0),
            )
        )
    return tuple(found)
