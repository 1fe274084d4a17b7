"""One line of log for each thing that happened; a constant message, facts as bound fields."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, assert_never

from loguru import logger

from atlas.scheduler.events import JobEvent, JobEventKind, SchedulerEvent, SchedulerEventKind, TaskEvent
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable

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
SCHEDULER_LEVELS: Final = MappingProxyType(
    {
        SchedulerEventKind.FAULT: "ERROR",
        SchedulerEventKind.CONFIG_REFUSED: "ERROR",
        SchedulerEventKind.CONFIG_CHANGED: "WARNING",
    },
)
TOLD_ALREADY: Final = frozenset(
    {
        SchedulerEventKind.RESTARTED,
        SchedulerEventKind.CLOCK_STEPPED,
        SchedulerEventKind.SUSPENDED,
        SchedulerEventKind.STORE_REBUILT,
    }
)
"""Logged where they are noticed, since an embedded scheduler may have no event log."""
LOUD_JOB_EVENTS: Final = frozenset({JobEventKind.SKIPPED, JobEventKind.UNBOUND, JobEventKind.PARKED})


def event_log(level: str = "DEBUG") -> Callable[[Event], None]:
    """A subscriber that logs events of ``level`` and above.

    Two of three events of a task are of level DEBUG: a line that nobody reads costs more than the move it tells of.
    """
    least = logger.level(level).no
    heard = frozenset(status for status, (name, _message) in TASK_LINES.items() if logger.level(name).no >= least)

    def log(event: Event) -> None:
        if not isinstance(event, TaskEvent) or event.status in heard:
            log_event(event)

    return log


def log_event(event: Event) -> None:
    """Log one event, whatever its level."""
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
            if event.kind in TOLD_ALREADY:
                return
            level = SCHEDULER_LEVELS.get(event.kind, "INFO")
            facts = dict(event.detail)
            words = facts.pop("words", "")  # what has several lines belongs into the message
            told = str(event.kind) if event.kind.startswith("config") else f"scheduler {event.kind}"
            logger.bind(**facts).log(level, "{}: {}" if words else "{}", told, words)
        case _:
            assert_never(event)
