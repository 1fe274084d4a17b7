"""Rows as they lie in the store of the built-in jobs' tests, and the clock they are dated by."""

from __future__ import annotations

import contextvars
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, insert, select

from atlas.builtin.collect import Collection
from atlas.scheduler.context import TaskContext, enter_task
from atlas.scheduler.retry import RetryPolicy
from atlas.scheduler.store.tables import (
    articles,
)
from atlas.scheduler.store.task_rows import full_row, insert_tasks
from atlas.scheduler.task import Task, TaskStatus
from atlas.settings import CollectSettings, Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from atlas.scheduler.job_view import Job
    from atlas.scheduler.loop_watch import Trouble
    from atlas.scheduler.store.store import Store
    from tests.feed_server import FeedServer

NOW = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY = timedelta(days=1)
QUICK = RetryPolicy(max_retries=2, delay_s=0.01, max_delay_s=0.05)


def count(store: Store, table: Any, *where: Any) -> int:
    return store.read(
        lambda connection: connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()
    )


def add_tasks(store: Store, *made: Task) -> None:
    store.write(lambda connection: insert_tasks(connection, [full_row(task) for task in made]))


def add_rows(store: Store, table: Any, *rows: dict[str, Any]) -> None:
    def add(connection: Connection) -> None:
        connection.execute(insert(table), list(rows))

    store.write(add)


def inside(task: TaskContext) -> contextvars.Context:
    """A context in which ``task`` is the current one."""
    context = contextvars.copy_context()
    context.run(enter_task, task)
    return context


def per_job(store: Store, table: Any) -> dict[str, int]:
    """Rows of each job."""
    counted = select(table.c.job_id, func.count()).group_by(table.c.job_id)
    return store.read(lambda connection: dict(connection.execute(counted).all()))


numbers = iter(range(10**9))


def task(
    status: TaskStatus = TaskStatus.SUCCESS,
    *,
    ended: datetime = NOW,
    job: str | None = "job",
    took_s: float = 1.0,
    waited_s: float = 0.5,
    failures: int = 0,
    error: str | None = None,
    **more: Any,
) -> Task:
    """A task as it lies in the store."""
    started = ended - timedelta(seconds=took_s)
    return Task(
        id=f"t{next(numbers):09d}",
        name=more.pop("name", job or "by hand"),
        function="f",
        job_id=job,
        status=status,
        attempt=failures + 1,
        failures=failures,
        created_at=started - timedelta(seconds=waited_s),
        started_at=started,
        finished_at=ended if status.is_final else None,
        error=error,
        **more,
    )


def collection(store: Store, server: FeedServer, *paths: str, **options: Any) -> Collection:
    """A collection of the sources behind ``paths``, each named like its path."""
    listed = [Source(name=path.strip("/"), url=server.base + path) for path in paths]
    given = {"sources": (*listed, *options.pop("more", ())), "allow_hosts": ("127.0.0.1",), "timeout": 2.0, **options}
    return Collection(
        store=store, settings=CollectSettings(**given), clock=store.clock, draw=random.random, retry=QUICK
    )  # fmt: skip


def add_articles(store: Store, *ages: float) -> None:
    rows = [
        {
            "source": "s",
            "identity": f"i{next(numbers)}",
            "title": f"{age} days old",
            "fetched_at": (NOW - age * DAY).timestamp(),
            "seen_at": (NOW - age * DAY).timestamp(),
            "content": "",
        }
        for age in ages
    ]
    add_rows(store, articles, *rows)


class Running:
    """A scheduler that says what a test wants."""

    def __init__(self) -> None:
        self.tick_s: float | None = 1.0
        self.config: str | None = None
        self.drift: str | None = None
        self.jobs: list[Job] = []
        self.befell: list[Trouble] = []
        self.figures: dict[str, Any] = {"state": "running", "queue_size": 0, "running_tasks": 0, "max_workers": 4}

    def get_queue_status(self) -> Mapping[str, Any]:
        return self.figures

    def last_tick_s(self) -> float | None:
        return self.tick_s

    def troubles(self) -> Sequence[Trouble]:
        return self.befell

    def config_error(self) -> str | None:
        return self.config

    def config_drift(self) -> str | None:
        return self.drift

    def each_job(self) -> Sequence[Job]:
        return self.jobs
