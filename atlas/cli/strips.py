"""The last 24 hours of each job as a strip of 24 glyphs: taller is worse, and each status has its colour."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from atlas.cli.tables import LOOK, Cell
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from atlas.scheduler.task import Task

HOURS: Final = 24
NOTHING: Final = "·"
_GLYPHS: Final = {
    TaskStatus.FAILED: "█",
    TaskStatus.TIMEOUT: "█",
    TaskStatus.RETRYING: "▅",
    TaskStatus.CANCELLED: "▃",
    TaskStatus.RUNNING: "▂",
    TaskStatus.PENDING: "▁",
    TaskStatus.SUCCESS: "▂",
}
"""Worst first: an hour shows the worst that happened in it. A success that took retries counts as RETRYING."""
_RANK: Final = {status: rank for rank, status in enumerate(_GLYPHS)}


def strips(tasks: Iterable[Task], now: datetime) -> dict[str, Cell]:
    """A strip per job that had a task in the last 24 hours, oldest hour first."""
    worst: dict[str, list[TaskStatus | None]] = {}
    for task in tasks:
        if task.job_id is None:
            continue
        hour = HOURS - 1 - int((now - (task.fire_time or task.created_at)) / timedelta(hours=1))
        if not 0 <= hour < HOURS:
            continue
        hours = worst.setdefault(task.job_id, [None] * HOURS)
        seen, old = _seen(task), hours[hour]
        if old is None or _RANK[seen] < _RANK[old]:
            hours[hour] = seen
    return {job_id: _strip(hours) for job_id, hours in worst.items()}


def _seen(task: Task) -> TaskStatus:
    return TaskStatus.RETRYING if task.status is TaskStatus.SUCCESS and task.failures else task.status


def _strip(hours: list[TaskStatus | None]) -> Cell:
    text = "".join(NOTHING if status is None else _GLYPHS[status] for status in hours)
    return Cell(text, spans=tuple("dim" if status is None else LOOK[status.value][1] for status in hours))


EMPTY: Final = _strip([None] * HOURS)
