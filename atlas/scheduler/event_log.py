"""One line of log for each thing that happened; a constant message, facts as bound fields and as text behind it.

An app has its own loguru handlers, and most formats show the message alone.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby, islice
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, assert_never, cast

from loguru import logger

from atlas.scheduler.error_text import error_line
from atlas.scheduler.errors import ArgumentsError
from atlas.scheduler.events import JobEvent, JobEventKind, SchedulerEvent, SchedulerEventKind, TaskEvent
from atlas.scheduler.log_lines import TOGETHER, Together, with_fields
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from loguru import Logger, Record

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
    }
)
SCHEDULER_LEVELS: Final = MappingProxyType(
    {
        SchedulerEventKind.FAULT: "ERROR",
        SchedulerEventKind.CONFIG_REFUSED: "ERROR",
        SchedulerEventKind.CONFIG_CHANGED: "WARNING",
    }
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
LOUD_JOB_EVENTS: Final = frozenset({JobEventKind.SKIPPED, JobEventKind.PARKED})


MANY: Final = 10
"""So many lines in a row that differ only in their fields are logged as one record."""
AT_ONCE: Final = 1000
"""Most lines of one record."""
MOST_JOBS: Final = 2000
"""Jobs that are named where one order is about several: of more one line says how many, revision and audit which."""
COUNTED: Final = frozenset(
    ("INFO", f"job {kind}")
    for kind in (
        JobEventKind.ADDED,
        JobEventKind.CHANGED,
        JobEventKind.REMOVED,
        JobEventKind.PAUSED,
        JobEventKind.RESUMED,
    )
)


class EventLog:
    """A subscriber that logs events of ``level`` and above.

    Two of three events of a task are of level DEBUG: a line that nobody reads costs more than the move it tells of.

    Raises:
        ArgumentsError: loguru knows no such level.
    """

    def __init__(self, level: str) -> None:
        try:
            self._least = logger.level(level).no
        except (TypeError, ValueError):
            raise ArgumentsError(f"{level!r} is no level of the log, such as DEBUG, INFO, WARNING, ERROR") from None
        self._order: tuple[tuple[str, str], datetime] | None = None
        self._told = 0
        self._heard = frozenset(status for status, (name, _message) in TASK_LINES.items() if self._is_heard(name))

    def tell(self, events: Sequence[Event]) -> None:
        """Log the events of a commit, in order."""
        heard = self._heard
        wanted = [event for event in events if not isinstance(event, TaskEvent) or event.status in heard]
        for line, alike in groupby(wanted, _line_of):
            if line is not None and self._is_heard(line[0]):
                if line in COUNTED:
                    for at, some in groupby(cast("Iterator[JobEvent]", alike), attrgetter("at")):
                        _log_lines(*line, map(facts_of, self._first_of((line, at), list(some))))
                else:
                    self._count_rest()
                    _log_lines(*line, map(facts_of, alike))

    def _first_of(self, order: tuple[tuple[str, str], datetime], some: list[JobEvent]) -> list[JobEvent]:
        """Those of ``some`` that are named; the stream tells of one order piece by piece, and its rest is counted."""
        if order != self._order:
            self._count_rest()
            self._order, self._told = order, 0
        named = some[: max(0, MOST_JOBS - self._told)]
        self._told += len(some)
        return named

    def _count_rest(self) -> None:
        """One line for the jobs of the last order that were not named."""
        if self._order is not None and self._told > MOST_JOBS:
            (level, message), _at = self._order
            logger.log(level, f"{self._told - MOST_JOBS:,} more: {message}")
        self._order = None

    def _is_heard(self, level: str) -> bool:
        return logger.level(level).no >= self._least


def _line_of(event: Event) -> tuple[str, str] | None:
    """Level and message; None for what is logged elsewhere."""
    match event:
        case TaskEvent():
            return TASK_LINES[event.status]
        case JobEvent():
            return "WARNING" if event.kind in LOUD_JOB_EVENTS else "INFO", f"job {event.kind}"
        case SchedulerEvent():
            if event.kind in TOLD_ALREADY:
                return None
            words = "; ".join(event.detail.get("words", "").splitlines())  # a new line would be shown as two characters
            told = str(event.kind) if event.kind.startswith("config") else f"scheduler {event.kind}"
            return SCHEDULER_LEVELS.get(event.kind, "INFO"), f"{told}: {words}" if words else told
        case _:
            assert_never(event)


def _log_lines(level: str, message: str, lines: Iterator[dict[str, Any]]) -> None:
    """Log lines that differ only in their fields."""
    while some := list(islice(lines, AT_ONCE)):
        if len(some) < MANY:
            for fields in some:
                _log(logger.bind(**fields), level, Together(message, [fields]))
        else:
            _log(logger, level, Together(message, some))


def _log(to: Logger, level: str, together: Together) -> None:
    text = "\n".join([with_fields(together.message, fields) for fields in together.fields])
    to.patch(partial(_put, together)).log(level, text)


def _put(together: Together, record: Record) -> None:
    cast("dict[str, Any]", record)[TOGETHER] = together


def facts_of(event: Event) -> dict[str, Any]:
    """The fields of its line."""
    if isinstance(event, SchedulerEvent):
        return {name: value for name, value in event.detail.items() if name != "words"}
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
        facts["error"] = error_line(event.error)
    return facts
