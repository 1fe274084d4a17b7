"""Short pauses: what lives as long as the process is no longer looked at by Python's garbage collector.

A full collection looks at every object there is and lets no thread run meanwhile: with 10,000 jobs for 0.1 to 0.5 s,
whenever pages have made enough objects of their own, and no task starts in that time. What a scheduler itself makes and
drops has few cycles, and looking for them takes a tenth of the CPU of a start or a herd. For a process that is the
scheduler's own; embedded, it is the application's to decide.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Final

from atlas.scheduler.events import SchedulerEvent, SchedulerEventKind

if TYPE_CHECKING:
    from atlas.scheduler.events import Event
    from atlas.service import AtlasScheduler

RARELY: Final = (20_000, 20, 100)
"""Objects made until the youngest are looked at (a page's own are gone by then), looks until the older ones are."""


def collect_rarely() -> None:
    """Look for cycles less often from now on."""
    gc.set_threshold(*RARELY)


def shorten_pauses(atlas: AtlasScheduler) -> None:
    """Set aside what a start has made, now and after each config that is applied; the start itself leaves no cycles."""
    gc.freeze()
    atlas.store.events.subscribe(_hear)


def _hear(event: Event) -> None:
    if isinstance(event, SchedulerEvent) and event.kind is SchedulerEventKind.CONFIG_APPLIED:
        gc.collect()  # what is set aside stays, garbage too
        gc.freeze()
