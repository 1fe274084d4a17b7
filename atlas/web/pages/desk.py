"""The desk: what pages keep of a running scheduler, so that a page reads only what is new."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from atlas.scheduler.forecast.jobs import ForecastJob
from atlas.scheduler.forecast.making import forecast
from atlas.scheduler.zones import zone_named
from atlas.web.pages.plan import BUCKET_S, Plans
from atlas.web.pages.recent import Recent
from atlas.web.pages.rollup import Rollup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from atlas.scheduler.forecast.result import Forecast
    from atlas.scheduler.job_records import JobRecord
    from atlas.scheduler.store.store import Store
    from atlas.service import AtlasScheduler

FORECAST_KEEPS_S: Final = 60.0
AT_ONCE: Final = 300
"""Jobs whose plan is reckoned while the page waits; that of more is reckoned aside."""
KEEPS_MANY_S: Final = 1800.0


class Desk:
    """What pages keep of one started scheduler.

    Args:
        atlas: The scheduler, started.
    """

    def __init__(self, atlas: AtlasScheduler) -> None:
        """Begin to listen."""
        self.atlas, self.store = atlas, atlas.store
        self.zone = zone_named(atlas.timezone)
        self.recent, self.rollup, self.plans = Recent(self.store), Rollup(self.store), Plans()
        self._lock = threading.Lock()
        self._forecast: tuple[float, int, Forecast] | None = None
        self._reckoning: threading.Thread | None = None
        self._health: tuple[float, dict[str, Any]] | None = None

    def close(self) -> None:
        """Listen no more."""
        self.recent.close()

    @property
    def slots(self) -> int:
        """Tasks that can run at once."""
        return self.atlas.settings.scheduler.max_workers

    def records(self) -> list[JobRecord]:
        """Every job that can be read."""
        return self.atlas.cron.sync.running.jobs.records()

    def record(self, job_id: str) -> JobRecord | None:
        """One job, None if there is none that can be read."""
        return self.atlas.cron.sync.running.jobs.record(job_id)

    def health(self, now: datetime, keeps_s: float, look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``look`` found, at most ``keeps_s`` seconds ago."""
        if self._health is None or now.timestamp() - self._health[0] > keeps_s:
            self._health = (now.timestamp(), look())
        return self._health[1]

    def forecast(self, now: datetime) -> Forecast | None:
        """The next 24 hours, at most a minute old; None while that of many jobs is reckoned for the first time."""
        running = self.atlas.cron.sync.running
        version = hash((running.jobs.version, running.states.version))
        with self._lock:
            kept = self._forecast
            records = running.jobs.records()
            keeps_s = FORECAST_KEEPS_S if len(records) <= AT_ONCE else KEEPS_MANY_S
            if kept is not None and kept[1] == version and now.timestamp() - kept[0] < keeps_s:
                return kept[2]
            if len(records) <= AT_ONCE:
                return self._reckon(records, now, version)
            if self._reckoning is None or not self._reckoning.is_alive():
                self._reckoning = threading.Thread(
                    target=self._reckon, args=(records, now, version), name="atlas-plan", daemon=True
                )
                self._reckoning.start()
            return None if kept is None else kept[2]

    def _reckon(self, records: Sequence[JobRecord], now: datetime, version: int) -> Forecast:
        states = self.atlas.cron.sync.running.states
        few = len(records) <= AT_ONCE
        lately = self.recent.of([record.id for record in records], now) if few else {}
        jobs = []
        for record in records:
            if record.next_run is None:
                continue
            if few:
                takes_s = lately[record.id].duration_s(0.5)
            else:  # the mean of a job's counters costs nothing to read
                takes_s = self.store.totals.metrics(record.id).average_duration_s
            fires = states.pause_of(record.id) is None
            jobs.append(ForecastJob.of(record.definition, duration_s=takes_s, fires=fires))
        found = forecast(jobs, now=now, slots=self.slots, bucket_s=BUCKET_S, zone=self.zone)
        self._forecast = (now.timestamp(), version, found)
        return found


_desks: WeakKeyDictionary[Store, Desk] = WeakKeyDictionary()
_desks_lock = threading.Lock()


def desk_of(atlas: AtlasScheduler) -> Desk:
    """The desk of this scheduler's open store; made at the first call."""
    with _desks_lock:
        desk = _desks.get(atlas.store)
        if desk is None:
            desk = _desks[atlas.store] = Desk(atlas)
        return desk
