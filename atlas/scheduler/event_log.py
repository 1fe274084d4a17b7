"""One line of log for each thing that happened; a constant message, facts as bound fields."""

from __future__ import annotations

from functools import partial
from itertools import groupby, islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, assert_never, cast

from loguru import logger

from atlas.scheduler.error_text import named_error
from atlas.scheduler.events import JobEvent, JobEventKind, SchedulerEvent, SchedulerEventKind, TaskEvent
from atlas.scheduler.log_lines import TOGETHER, Together, with_fields
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loguru import Record

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


MANY: Final = 10
"""So many lines in a row that differ only in their fields are logged as one record."""
AT_ONCE: Final = 1000
"""Most lines of one record."""


class EventLog:
    """A subscriber that logs events of ``level`` and above.

    Two of three events of a task are of level DEBUG: a line that nobody reads costs more than the move it tells of.
    """

    def __init__(self, level: str) -> None:
        """Log what is at least as important as ``level``."""
        least = logger.level(level).no
        self._heard = frozenset(
            status for status, (name, _message) in TASK_LINES.items() if logger.level(name).no >= least
        )

    def tell(self, events: Sequence[Event]) -> None:
        """Log the events of a commit, in order."""
        heard = self._heard
        wanted = [event for event in events if not isinstance(event, TaskEvent) or event.status in heard]
        for line, alike in groupby(wanted, _line_of):
            if line is None:
                for event in alike:
                    _log_scheduler_event(cast("SchedulerEvent", event))
            else:
                _log_lines(*line, (facts_of(cast("TaskEvent | JobEvent", event)) for event in alike))


def _line_of(event: Event) -> tuple[str, str] | None:
    """Level and message; None for what has words of its own."""
    match event:
        case TaskEvent():
            return TASK_LINES[event.status]
        case JobEvent():
            return "WARNING" if event.kind in LOUD_JOB_EVENTS else "INFO", f"job {event.kind}"
        case SchedulerEvent():
            return None
        case _:
            assert_never(event)


def _log_lines(level: str, message: str, lines: Iterator[dict[str, Any]]) -> None:
    """Log lines that differ only in their bound fields."""
    while some := list(islice(lines, AT_ONCE)):
        if len(some) < MANY:
            for fields in some:
                logger.bind(**fields).log(level, message)
        else:
            text = "\n".join([with_fields(message, fields) for fields in some])
            logger.patch(partial(_put, Together(message, some))).log(level, text)


def _put(together: Together, record: Record) -> None:
    cast("dict[str, Any]", record)[TOGETHER] = together


def facts_of(event: TaskEvent | JobEvent) -> dict[str, Any]:
    """The bound fields of its line."""
    if isinstance(event, JobEvent):
        return {"job_id": event.job_id} | {name: value for name, value in event.detail.items() if value is not None}
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
        facts["error"] = named_error(event.error) or event.error.strip().rsplit("\n", 1)[-1]
    return facts


def _log_scheduler_event(event: SchedulerEvent) -> None:
    if event.kind in TOLD_ALREADY:
        return
    level = SCHEDULER_LEVELS.get(event.kind, "INFO")
    facts = dict(event.detail)
    words = "; ".join(facts.pop("words", "").splitlines())  # a log file shows a new line as two characters
    told = str(event.kind) if event.kind.startswith("config") else f"scheduler {event.kind}"
    logger.bind(**facts).log(level, "{}: {}" if words else "{}", told, words)
