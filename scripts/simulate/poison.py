"""What makes a job poisonous from outside: a database that refuses its rows, a next time that cannot be computed."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final
from unittest import mock

from atlas.scheduler.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

TIMES: Final = "times"
KINDS: Final = ("tasks", "fires", TIMES)
"""The table that takes no row of the job, or its fire times."""


class Poison:
    """The jobs that are poisoned now; it outlives schedulers, as a disk and a zone file do.

    Args:
        database: A SQLite file; a trigger in it refuses rows.
    """

    def __init__(self, database: Path) -> None:
        """Poison nobody yet."""
        self._database = database
        self.kinds: dict[str, str] = {}
        self._schedules: dict[str, Schedule] = {}

    def give(self, job_id: str, kind: str, schedule: Schedule) -> None:
        """Poison a job; in its times, only as long as it has this schedule."""
        self.kinds[job_id] = kind
        if kind == TIMES:
            self._schedules[job_id] = schedule
        else:
            self._execute(
                f"CREATE TRIGGER \"poison {job_id}\" BEFORE INSERT ON {kind} WHEN NEW.job_id = '{job_id}'"
                " BEGIN SELECT RAISE(ABORT, 'poison'); END"
            )

    def take_away(self, job_id: str) -> None:
        """Nothing is wrong with the job any more."""
        if self.kinds.pop(job_id) == TIMES:
            del self._schedules[job_id]
        else:
            self._execute(f'DROP TRIGGER "poison {job_id}"')

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let schedules that are poisoned raise when they are asked what comes next."""
        whole = Schedule.next_after

        def next_after(schedule: Schedule, instant: datetime) -> datetime | None:
            if schedule in self._schedules.values():
                raise OSError("the zone file is gone")
            return whole(schedule, instant)

        with mock.patch.object(Schedule, "next_after", next_after):
            yield

    def _execute(self, statement: str) -> None:
        with closing(sqlite3.connect(self._database)) as connection, connection:
            connection.execute(statement)
