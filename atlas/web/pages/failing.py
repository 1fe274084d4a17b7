"""Jobs that fail: those whose newest final task did not succeed, kept until a task says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, func, select

from atlas.scheduler.events import TaskEvent
from atlas.scheduler.store.tables import tasks

if TYPE_CHECKING:
    from datetime import datetime

    from atlas.scheduler.events import Event
    from atlas.scheduler.store.store import Store

DAY_S: Final = 86_400
MOST: Final = 200
MOST_FAILURES: Final = 2_000
"""Newest failures that are looked at."""
KEEPS_S: Final = 60.0
_BAD: Final = ("FAILED", "TIMEOUT")
_newest: Final = (
    select(tasks.c.job_id)
    .where(tasks.c.status.in_(_BAD), tasks.c.created_at >= bindparam("since"), tasks.c.job_id.is_not(None))
    .order_by(tasks.c.created_at.desc())
    .limit(MOST_FAILURES)
    .subquery()
)
_counted: Final = select(_newest.c.job_id, func.count().label("n")).group_by(_newest.c.job_id).subquery()
_last: Final = (
    select(tasks.c.status)
    .where(tasks.c.job_id == _counted.c.job_id, tasks.c.finished_at.is_not(None))
    .order_by(tasks.c.created_at.desc())
    .limit(1)
    .correlate(_counted)
    .scalar_subquery()
)
_STATEMENT: Final = (
    select(_counted.c.job_id, _counted.c.n)
    .where(_last.in_(_BAD))
    .order_by(_counted.c.n.desc(), _counted.c.job_id)
    .limit(MOST)
)


class Failing:
    """Keeps which jobs fail, and how often they did in the last 24 hours."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: dict[str, int] = {}
        self._until_s = 0.0

    def hear(self, event: Event) -> None:
        """A failure, or the end of a task of a job that fails: look again."""
        if isinstance(event, TaskEvent) and (
            event.status in _BAD or (event.job_id in self._found and event.status.is_final)
        ):
            self._until_s = 0.0

    def forget(self) -> None:
        """Look again next time."""
        self._until_s = 0.0

    def of(self, now: datetime) -> dict[str, int]:
        """Job → its failures of the last 24 hours, most of them first."""
        now_s = now.timestamp()
        if now_s >= self._until_s:
            self._until_s = now_s + KEEPS_S
            rows = self._store.read(lambda connection: connection.execute(_STATEMENT, {"since": now_s - DAY_S}).all())
            self._found = {row.job_id: row.n for row in rows}
        return self._found
