"""Short pauses: what lives as long as the process is no longer looked at by Python's garbage collection.

A full collection looks at every object there is and lets no thread run meanwhile: with 10,000 jobs for 0.1 to 0.5 s,
whenever pages have made enough objects of their own, and no task starts in that time.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Final

from atlas.scheduler.events import SchedulerEvent, SchedulerEventKind

if TYPE_CHECKING:
    from atlas.scheduler.events import Event
    from atlas.service import AtlasScheduler

YOUNG: Final = 10_000
"""Objects that are made before the young ones are looked at: a page's own are gone by then."""


def shorten_pauses(atlas: AtlasScheduler) -> None:
    """Set aside what a start has made, now and after each config that is applied; for a process that is ours alone."""
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    _set_aside()
    atlas.store.events.subscribe(_hear)


def _hear(event: Event) -> None:
    if isinstance(event, SchedulerEvent) and event.kind is SchedulerEventKind.CONFIG_APPLIED:
        _set_aside()


def _set_aside() -> None:
    gc.collect()
    gc.freeze()
