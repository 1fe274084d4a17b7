"""The forecast that programs ask for: reckoned aside in slices, and kept for a minute, so that its pages agree."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from atlas.scheduler.forecast.forecast import forecast
from atlas.scheduler.forecast.jobs import MAY_FIRE, ForecastJob
from atlas.scheduler.store.task_queries import medians_of
from atlas.scheduler.zones import zone_named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atlas.scheduler.forecast.result import Forecast
    from atlas.service import AtlasScheduler

KEEPS_S: Final = 60.0
KEPT: Final = 4
"""Lengths whose forecast is kept."""
SLICE: Final = 100
"""Jobs whose durations are read at a time; afterwards others have their turn for as long."""


class Outlooks:
    """Keeps the newest forecasts; used by one thread at a time."""

    def __init__(self) -> None:
        self._kept: dict[float, tuple[float, object, Forecast]] = {}

    def of(self, atlas: AtlasScheduler, hours: float) -> Forecast:
        """The next ``hours``, at most a minute old and of the jobs as they are; it may take seconds for many jobs."""
        shown = atlas.cron.sync.shown
        version = atlas.store, shown.jobs.version, shown.states.version
        kept = self._kept.pop(hours, None)
        if kept is None or kept[1] != version or time.monotonic() - kept[0] >= KEEPS_S:
            kept = time.monotonic(), version, self._reckon(atlas, hours)
        self._kept[hours] = kept
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return kept[2]

    @staticmethod
    def _reckon(atlas: AtlasScheduler, hours: float) -> Forecast:
        scheduler = atlas.settings.scheduler
        return forecast(
            list(_jobs(atlas)),
            now=atlas.store.clock.now(),
            hours=hours,
            slots=scheduler.max_workers,
            limits=scheduler.limits,
            zone=zone_named(atlas.timezone),
        )


def _jobs(atlas: AtlasScheduler) -> Iterator[ForecastJob]:
    """Every job that can be read, by id, with the median of its durations."""
    states = {job.name: (job.pause, job.state in MAY_FIRE) for job in atlas.each_job()}
    records = [one for one in atlas.cron.sync.shown.jobs.records() if one.id in states]
    for first in range(0, len(records), SLICE):
        start = time.thread_time()
        some = records[first : first + SLICE]
        medians = atlas.store.read(partial(medians_of, job_ids=[one.id for one in some]))
        for one in some:
            pause, may_fire = states[one.id]
            yield ForecastJob.under(pause, one.definition, medians[one.id], may_fire=may_fire)
        if first + SLICE < len(records):
            time.sleep(time.thread_time() - start)
