"""The sides that are stock APScheduler 3.11: jobs on a job store of its own, and the function they call."""

from __future__ import annotations

import pickle
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from apscheduler.events import EVENT_JOB_MISSED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.util import datetime_to_utc_timestamp
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from scripts.bench.contenders import POSTGRES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

SLOTS: Final = 4
DAILY: Final = {"hour": 3, "minute": 15, "second": 20}

started: list[float] = []
"""When each call of `nothing` began."""


def nothing() -> None:
    """Note the time; a stored job names this function by its path."""
    started.append(time.time())


class Stock:
    """A scheduler that is started, but paused.

    Args:
        url: The database of its job store; None keeps jobs in memory.
        **defaults: Of its jobs.

    Attributes:
        missed: Fire times it has dropped.
    """

    def __init__(self, url: str | None, **defaults: Any) -> None:
        """Start it."""
        self.missed = 0
        self._store = MemoryJobStore() if url is None else SQLAlchemyJobStore(url=url)
        self._defaults = defaults
        self.scheduler = BackgroundScheduler(
            jobstores={"default": self._store},
            executors={"default": ThreadPoolExecutor(SLOTS)},
            job_defaults=defaults,
            timezone="UTC",
        )
        self.scheduler.add_listener(self._miss, EVENT_JOB_MISSED)
        self.scheduler.start(paused=True)

    def add_daily(self, count: int) -> None:
        """Add daily jobs, or put those in place that are there, as programs do at their start."""
        for number in range(count):
            self.scheduler.add_job(nothing, "cron", **DAILY, id=f"job_{number}", replace_existing=True)

    def add_due(self, count: int, due: datetime) -> None:
        """Have daily jobs that are due at ``due``, put into the table at once: adding is not what is measured then."""
        if isinstance(self._store, MemoryJobStore):
            for number in range(count):
                self.scheduler.add_job(nothing, "cron", **DAILY, id=f"job_{number}", next_run_time=due)
            return
        grace = self._defaults.get("misfire_grace_time", 1)
        rows = []
        for number in range(count):
            job = Job(
                self.scheduler,
                id=f"job_{number}",
                func=nothing,
                args=(),
                kwargs={},
                trigger=CronTrigger(**DAILY, timezone="UTC"),
                executor="default",
                misfire_grace_time=grace,
                coalesce=True,
                max_instances=1,
                next_run_time=due,
                name="nothing",
            )
            state = pickle.dumps(job.__getstate__(), self._store.pickle_protocol)
            rows.append({"id": job.id, "next_run_time": datetime_to_utc_timestamp(due), "job_state": state})
        with self._store.engine.begin() as connection:
            connection.execute(self._store.jobs_t.insert(), rows)

    def _miss(self, _event: object) -> None:
        self.missed += 1


@contextmanager
def postgres_database(name: str) -> Iterator[str]:
    """The address of a new database on the server that ``BENCH_POSTGRES`` names; left, it is gone."""
    server = make_url(POSTGRES)
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
        try:
            yield server.set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    engine.dispose()
