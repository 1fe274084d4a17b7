"""One line of log for each thing that happened; a constant message, facts as bound fields."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, assert_never

from loguru import logger

from atlas.scheduler.events import JobEvent, JobEventKind, SchedulerEvent, SchedulerEventKind, TaskEvent
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from atlas.scheduler.events import Event

TASK_LINES: Final = MappingProxyType(
    {
        TaskStatus.PENDING: ("DEBUG", "task accepted"),
        TaskStatus.RUNNING: ("DEBUG", "task started"),
        TaskStatus.SUCCESS: ("INFO", "task succeeded"),
        TaskStatus.FAILED: ("ERROR", "task failed"),
        TaskStatus.TIMEOUT: ("ERROR", "task timed out"),
        TaskStatus.CANCELLED: ("INFO", "task cancelled"),
        TaskStatus.RETRYING: ("WARNING", "task will be retried"),
    },
)
LOUD_JOB_EVENTS: Final = frozenset({JobEventKind.SKIPPED, JobEventKind.UNBOUND, JobEventKind.PARKED})


def log_event(event: Event) -> None:
    """Log one event; a subscriber for `EventStream.subscribe`."""
    match event:
        case TaskEvent():
            level, message = TASK_LINES[event.status]
            facts: dict[str, Any] = {"task_id": event.task_id, "name": event.name, "attempt": event.attempt}
            if event.job_id is not None:
                facts["job_id"] = event.job_id
            if event.duration_s is not None:
                facts["duration_s"] = round(event.duration_s, 3)
            if event.wait_s is not None:
                facts["wait_s"] = round(event.wait_s, 1)
            if event.cause is not None:
                facts["cause"] = str(event.cause)
            if event.error:
                facts["error"] = event.error.strip().rsplit("\n", 1)[-1]
            logger.bind(**facts).log(level, message)
        case JobEvent():
            level = "WARNING" if event.kind in LOUD_JOB_EVENTS else "INFO"
            facts = {name: value for name, value in event.detail.items() if value is not None}
            logger.bind(job_id=event.job_id, **facts).log(level, f"job {event.kind}")
        case SchedulerEvent():
            level = "ERROR" if event.kind is SchedulerEventKind.FAULT else "INFO"
            logger.bind(**event.detail).log(level, f"scheduler {event.kind}")
        case _:
            assert_never(event)
