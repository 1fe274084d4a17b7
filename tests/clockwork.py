"""The clock side of the engine on a time that tests set: real store, queue and APScheduler, no scheduler thread."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import apscheduler.schedulers.base as apscheduler_base
from sqlalchemy import select

from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.store.store import open_store
from atlas.scheduler.store.tables import jobs
from atlas.scheduler.testing.clocks import SetClock
from atlas.scheduler.testing.looking import decision, fires_of, tasks_of
from atlas.scheduler.testing.virtual_time import close_by_hand, open_by_hand, step
from tests.queue_bench import LIMIT_S, Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Row

    from atlas.scheduler.bridge import Bridge
    from atlas.scheduler.cron_manager import SyncCronManager
    from atlas.scheduler.job_store.job_store import JobStore
    from atlas.scheduler.job_view import Job
    from atlas.scheduler.store.store import Store
    from atlas.scheduler.task import Task


def utc(text: str) -> datetime:
    """``2026-03-02 09:30`` as an aware instant."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


DAY = "2026-03-02"
START = utc(f"{DAY} 12:00:30")


def nothing() -> None:
    """The plainest work there is."""


class Clockwork:
    """One process's scheduler on a set time; ``tick`` makes APScheduler look for due jobs once."""

    def __init__(self, database: Path | str, monkeypatch: Any, *, now: datetime = START, max_workers: int = 4) -> None:
        self.clock = SetClock(now)
        clock = self.clock

        class SetDatetime(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                return clock.instant if tz is None else clock.instant.astimezone(tz)

        monkeypatch.setattr(apscheduler_base, "datetime", SetDatetime)
        self.database, self.max_workers = database, max_workers
        self.open()

    def open(self) -> None:
        """Start as a process does: with functions of its own, and what the database holds."""
        self.gate = Gate()
        self.registry = Registry()
        self.registry.add("nothing", nothing)
        self.registry.add("gate", self.gate)
        self.store: Store = open_store(self.database, clock=self.clock)
        self.events: list[Any] = []
        self.store.events.subscribe(self.events.append)
        self.queue = TaskQueue(self.max_workers, store=self.store, registry=self.registry, stop_grace_s=0.2)
        self.queue.sync.start()
        self.manager = CronManager(self.queue)
        open_by_hand(self.cron, self.clock)

    def restart(self, now: datetime | None = None) -> None:
        """Stop cleanly and start again, at ``now``."""
        self.close()
        self.clock.instant = now or self.clock.instant
        self.open()

    @property
    def cron(self) -> SyncCronManager:
        return self.manager.sync

    @property
    def jobs(self) -> JobStore:
        return self.cron.running.jobs

    @property
    def bridge(self) -> Bridge:
        return self.cron.running.bridge

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_args: object) -> None:
        self.close()

    def close(self) -> None:
        self.gate.open()
        close_by_hand(self.cron)
        self.queue.sync.stop(timeout=LIMIT_S)
        self.store.close()

    # --- time ---------------------------------------------------------------------------------------------------------

    def tick(self, at: datetime | None = None) -> float | None:
        """Set the time to ``at`` and let APScheduler look once; returns the seconds it would sleep then."""
        if at is not None:
            self.clock.instant = at
        return step(self.cron)

    def at(self, *times: str) -> float | None:
        """`tick` at each of these times of the day; tasks may still run from one to the next."""
        waited = None
        for time in times:
            waited = self.tick(utc(f"{DAY} {time}"))
        return waited

    def each(self, *times: str) -> None:
        """`at`, waiting for the end of all tasks after each."""
        for time in times:
            self.at(time)
            self.settle()

    def pass_by(self, **time: float) -> float | None:
        """`tick` so much later."""
        return self.tick(self.clock.instant + timedelta(**time))

    # --- looking ------------------------------------------------------------------------------------------------------

    def fires(self, job: str = "job") -> list[Row[Any]]:
        """The job's fire times as they were decided, oldest first."""
        return fires_of(self.store, job)

    def decisions(self, job: str = "job") -> list[str]:
        """Each fire as ``12:01 task``, ``12:02 skip paused`` or ``12:03-12:05 skip paused x3``."""
        return [decision(row) for row in self.fires(job)]

    def tasks(self, job: str = "job") -> list[Task]:
        """The job's tasks, oldest fire time first."""
        return tasks_of(self.store, job)

    def rows(self) -> dict[str, Row[Any]]:
        """APScheduler's table."""
        return self.store.read(lambda connection: {row.id: row for row in connection.execute(select(jobs))})

    def job(self, name: str = "job") -> Job:
        return self.cron.get_job(name)

    def settle(self) -> None:
        """Wait until nothing waits or runs, and it is on disk and told."""
        assert self.queue.serving.shutdown.wait_idle(LIMIT_S, waiting_too=True)
        self.store.write(lambda _connection: None)
        assert self.store.events.drain()


def until(condition: Callable[[], bool], store: Store) -> None:
    """Wait until ``condition`` holds, looking again after every event of ``store``."""
    changed = threading.Event()
    unsubscribe = store.events.subscribe(lambda _event: changed.set())
    try:
        while not condition():
            assert changed.wait(LIMIT_S), "nothing happened any more"
            changed.clear()
    finally:
        unsubscribe()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the write lock of the database."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()
