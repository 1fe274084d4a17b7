"""Stock APScheduler 3.11: as many jobs as wanted on a memory or SQLite job store, and the function they call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

SLOTS = 4

started: list[float] = []
"""When each call of `nothing` began."""


def nothing() -> None:
    """Note the time; a stored job names this function by its path."""
    started.append(time.time())


def scheduler(file: Path | None, **defaults: Any) -> BackgroundScheduler:
    """A scheduler that is started, but paused."""
    store = MemoryJobStore() if file is None else SQLAlchemyJobStore(url=f"sqlite:///{file}")
    made = BackgroundScheduler(
        jobstores={"default": store},
        executors={"default": ThreadPoolExecutor(SLOTS)},
        job_defaults=defaults,
        timezone="UTC",
    )
    made.start(paused=True)
    return made


def add(to: BackgroundScheduler, count: int, *, at: datetime | None = None) -> None:
    """Add daily jobs, or put those in place that are there; their next fire time is ``at`` or what the trigger says."""
    given: dict[str, Any] = {} if at is None else {"next_run_time": at}
    for number in range(count):
        to.add_job(nothing, "cron", hour=3, minute=15, second=20, id=f"job_{number}", replace_existing=True, **given)
