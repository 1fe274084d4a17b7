"""APScheduler's events become Atlas events; a listener only enqueues, since a slow one would block the loop."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_SCHEDULER_PAUSED,
    EVENT_SCHEDULER_RESUMED,
    EVENT_SCHEDULER_SHUTDOWN,
    EVENT_SCHEDULER_STARTED,
)

from atlas.scheduler.events import EventStream, SchedulerEvent, SchedulerEventKind

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler

    from atlas.scheduler.clock import Clock

KINDS: Final = MappingProxyType(
    {
        EVENT_SCHEDULER_STARTED: SchedulerEventKind.STARTED,
        EVENT_SCHEDULER_SHUTDOWN: SchedulerEventKind.STOPPED,
        EVENT_SCHEDULER_PAUSED: SchedulerEventKind.PAUSED,
        EVENT_SCHEDULER_RESUMED: SchedulerEventKind.RESUMED,
        # The bridge lets none of these happen; one that does is a fault somebody should see.
        EVENT_JOB_ERROR: SchedulerEventKind.FAULT,
        EVENT_JOB_MISSED: SchedulerEventKind.FAULT,
        EVENT_JOB_MAX_INSTANCES: SchedulerEventKind.FAULT,
    }
)
"""Job changes and tasks do not come this way: APScheduler has no started event, and loses or reorders others."""


def listen(scheduler: BaseScheduler, events: EventStream, clock: Clock) -> None:
    """Send ``scheduler``'s events into ``events``."""

    def hear(event: Any) -> None:
        job_id = getattr(event, "job_id", None)
        detail = {} if job_id is None else {"job_id": job_id, "code": event.code}
        events.publish(SchedulerEvent(kind=KINDS[event.code], at=clock.now(), detail=detail))

    mask = 0
    for code in KINDS:
        mask |= code
    scheduler.add_listener(hear, mask)
