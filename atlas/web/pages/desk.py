"""The desk: what pages keep of a running scheduler, so that a page reads only what is new.

What takes longer than a page may is found out aside; a page made meanwhile says so and is told when it is there.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from atlas.scheduler.errors import AtlasError, ConfigError
from atlas.scheduler.forecast.forecast import forecast
from atlas.scheduler.forecast.jobs import ForecastJob
from atlas.scheduler.zones import zone_named
from atlas.web.health import look
from atlas.web.pages.aside import WAITS_S, Aside
from atlas.web.pages.errors import Errors
from atlas.web.pages.failing import Failing
from atlas.web.pages.history import Histories
from atlas.web.pages.job_rows import by_urgency, standing
from atlas.web.pages.plan import BUCKET_S, Plans
from atlas.web.pages.ranges import LONGEST_S
from atlas.web.pages.recent import Recent
from atlas.web.pages.rollup import DAY_S, Rollup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from markupsafe import Markup

    from atlas.scheduler.events import Event
    from atlas.scheduler.forecast.result import Forecast
    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.reconcile.preview import Preview
    from atlas.web.site import Site

FORECAST_KEEPS_S: Final = 60.0
LONG_STEP_S: Final = 3600
LANES: Final = 40
"""Jobs on the first page."""
AT_ONCE: Final = 300
"""Jobs whose plan is reckoned while the page waits; that of more is reckoned aside."""
MOST_AT_ONCE: Final = 200_000
"""Characters of a draft whose plan is reckoned while the page waits."""
MOST_DRAWN: Final = 500
"""Lanes and strips that are kept as they are drawn."""
KEEPS_MANY_S: Final = 1800.0
REST_S: Final = 0.05
RESTS: Final = 3.0
"""Reading ahead rests so many times as long as a piece took, at most `REST_S`: pages come first."""
READS_S: Final = 0.01
"""CPU seconds that a page spends on reading the past itself, while that is not read to the end."""
HEALTH_KEEPS_S: Final = 60.0
"""Health writes to the store and looks at disks: it is asked so often at most."""


class Desk:
    """What pages keep of one started scheduler.

    Attributes:
        begun: Set once the first page finds what it shows first, and its statements compiled.
        is_read: True once the errors of the last 24 hours, too, were read for the first time.
    """

    def __init__(self, site: Site) -> None:
        """Begin to listen, and to read the last 24 hours."""
        atlas = self.atlas = site.atlas
        self.store = atlas.store
        self.zone = zone_named(atlas.timezone)
        self.recent, self.rollup, self.plans = Recent(self.store), Rollup(self.store), Plans()
        self.failing, self.errors = Failing(self.store), Errors(self.store)
        self.history = Histories(self.store)
        self._longer: Rollup | None = None
        self._site = site
        self._health: Aside[dict[str, Any]] = Aside("atlas-web-health", site.live.bump)
        self._many: Aside[Forecast] = Aside("atlas-web-plan", site.live.bump)
        self._draft: Aside[Preview | ConfigError] = Aside("atlas-web-draft", site.live.bump)
        self._few: tuple[float, object, Forecast] | None = None
        self._records: tuple[int, list[JobRecord]] = (-1, [])
        self._drawn: dict[tuple[str, ...], tuple[object, Markup]] = {}
        self.begun = threading.Event()
        self.is_read = False
        self._told = site.live.bump
        self._leave = self.store.events.subscribe(self._hear)
        self.store.on_foreign(self._forget)
        threading.Thread(target=self._read_ahead, name="atlas-web-desk", daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._leave()
        self.store.off_foreign(self._forget)

    def _hear(self, event: Event) -> None:
        self.recent.hear(event)
        self.failing.hear(event)
        self.errors.hear(event)

    def _forget(self) -> None:
        """Another process has written: what is known is old, and open tabs are told."""
        self.recent.forget()
        self.failing.forget()
        self.errors.forget()
        self._told()

    def _read_ahead(self) -> None:
        """Read the last 24 hours piece by piece on the thread of renders, with a rest after each."""
        call, clock = self._site.renders.call, self.store.clock
        try:
            urgent = call(lambda: by_urgency(self.records(), standing(self, clock.now()), most=LANES))
            call(lambda: self.recent.of([record.id for record in urgent], clock.now()))
            call(lambda: self.rollup.read_on(clock.now()))
            self.begun.set()
            for first in range(0, len(urgent), 10):
                call(lambda some=urgent[first : first + 10]: [self.plans.of(record, clock.now()) for record in some])  # type: ignore[misc]
            self._read_all(self.rollup)
            call(lambda: self.errors.groups(clock.now()))
            self.is_read = True
        except (AtlasError, RuntimeError, CancelledError) as error:  # the scheduler stops, or its store is silent
            logger.debug("the last 24 hours were not read to the end: {}", error)
            self.begun.set()
        self._told()

    def is_whole(self, now: datetime, span_s: int = DAY_S) -> bool:
        """True once all of the last 24 hours, or of more, is known; a small installation's is at the first look."""
        end_s, rollup = time.thread_time() + READS_S, self.rollup_of(span_s)
        while not rollup.is_whole(now, span_s) and time.thread_time() < end_s:
            rollup.read_on(now)
        return rollup.is_whole(now, span_s)

    def rollup_of(self, span_s: int) -> Rollup:
        """Figures of so long a past; those of more than a day are read when somebody asks for them first."""
        if span_s <= DAY_S:
            return self.rollup
        if self._longer is None:
            self._longer = Rollup(self.store, LONGEST_S, LONG_STEP_S)
            threading.Thread(target=self._read_longer, args=(self._longer,), name="atlas-web-past", daemon=True).start()
        return self._longer

    def _read_longer(self, longer: Rollup) -> None:
        try:
            self._read_all(longer)
        except (AtlasError, RuntimeError, CancelledError) as error:
            logger.debug("the last days were not read to the end: {}", error)
        self._told()

    def _read_all(self, rollup: Rollup) -> None:
        """Read the past of ``rollup`` piece by piece, with a rest after each."""
        call, clock = self._site.renders.call, self.store.clock
        start = time.monotonic()
        while call(lambda: rollup.read_on(clock.now())):
            time.sleep(min(REST_S, RESTS * (time.monotonic() - start)))
            start = time.monotonic()

    def drawn(self, what: tuple[str, ...], state: object, draw: Callable[[], Markup]) -> Markup:
        """What ``draw`` makes of ``state``, kept until the state is another one."""
        kept = self._drawn.pop(what, None)
        if kept is None or kept[0] != state:
            kept = state, draw()
        self._drawn[what] = kept
        if len(self._drawn) > MOST_DRAWN:
            del self._drawn[next(iter(self._drawn))]
        return kept[1]

    @property
    def slots(self) -> int:
        """Tasks that can run at once."""
        return self.atlas.settings.scheduler.max_workers

    def records(self) -> list[JobRecord]:
        """Every job that can be read, by id."""
        jobs = self.atlas.cron.sync.shown.jobs
        version = jobs.version
        if self._records[0] != version:
            self._records = version, jobs.records()
        return self._records[1]

    def record(self, job_id: str) -> JobRecord | None:
        """One job, None if there is none that can be read."""
        return self.atlas.cron.sync.shown.jobs.record(job_id)

    def title(self, job_id: str) -> str:
        """Display name of a job; its id where there is none that can be read."""
        record = self.record(job_id)
        return job_id if record is None else record.definition.title

    def health(self) -> dict[str, Any] | None:
        """What every check found, at most a minute ago; None while they look for the first time."""
        return self._health.get(lambda: look(self._site), keeps_s=HEALTH_KEEPS_S)

    def preview(self, text: str, digest: str) -> Preview | ConfigError | None:
        """What a text for the config file would do, or why it cannot be used; None while it is still reckoned."""
        version = digest, self.atlas.cron.sync.shown.jobs.version

        def find() -> Preview | ConfigError:
            try:
                return self.atlas.reconciler.preview(text)
            except ConfigError as error:
                return error

        if len(self.records()) <= AT_ONCE and len(text) <= MOST_AT_ONCE:
            return find()
        return self._draft.get(find, keeps_s=HEALTH_KEEPS_S, version=version)

    def forecast(self, now: datetime, waits_s: float = WAITS_S) -> Forecast | None:
        """The next 24 hours, at most a minute old; None while that of many jobs is reckoned for the first time.

        Whoever asks for it first waits ``waits_s`` for that. Single starts and jobs are left out: no page shows them.
        """
        shown = self.atlas.cron.sync.shown
        version = shown.jobs.version, shown.states.version
        if len(self.records()) > AT_ONCE:
            return self._many.get(self._reckon, keeps_s=KEEPS_MANY_S, version=version, waits_s=waits_s)
        kept = self._few
        if kept is None or kept[1] != version or now.timestamp() - kept[0] >= FORECAST_KEEPS_S:
            kept = self._few = now.timestamp(), version, self._reckon()
        return kept[2]

    def _reckon(self) -> Forecast:
        now, jobs = self.store.clock.now(), self._foreseen()
        return forecast(jobs, now=now, slots=self.slots, bucket_s=BUCKET_S, zone=self.zone, singly=False)

    def _foreseen(self) -> Iterator[ForecastJob]:
        """Every job that has a next start, as the forecast takes it."""
        records: Sequence[JobRecord] = self.records()
        now, shown = self.store.clock.now(), self.atlas.cron.sync.shown
        apart = shown.jobs.apart_words()
        few = len(records) <= AT_ONCE
        lately = self.recent.of([record.id for record in records], now) if few else {}
        for record in records:
            if record.next_run is None:
                continue
            if few:
                takes_s = lately[record.id].duration_s(0.5)
            else:  # the mean of a job's counters costs nothing to read
                ran, together_s = self.store.totals.ran(record.id)
                takes_s = together_s / ran if ran else None
            may_fire = record.id not in apart and shown.states.unbound(record.definition) is None
            pause = shown.states.pause_of(record.id)
            yield ForecastJob.under(pause, record.definition, takes_s, may_fire=may_fire)


_making: Final = threading.Lock()


def desk_of(site: Site) -> Desk:
    """The desk of the site's scheduler as it is started now; made at the first call after each start."""
    with _making:
        desk, store = site.desk, site.store
        if desk is None or desk.store is not store:
            if desk is not None:
                desk.close()
            desk = site.desk = Desk(site)
        return desk
