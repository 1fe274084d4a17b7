"""The clock side of the engine on a time that tests set: real store, queue and APScheduler, no scheduler thread."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import apscheduler.schedulers.base as apscheduler_base
from apscheduler.schedulers.base import STATE_RUNNING, STATE_STOPPED
from sqlalchemy import select

from atlas.scheduler.clock import SystemClock
from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.queue import TaskQueue
from atlas.scheduler.registry import Registry
from atlas.scheduler.store.store import open_store
from atlas.scheduler.store.tables import fires, jobs, tasks
from atlas.scheduler.store.task_rows import task_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Row

    from atlas.scheduler.bridge import Bridge
    from atlas.scheduler.cron_manager import SyncCronManager
    from atlas.scheduler.job_store import JobStore
    from atlas.scheduler.job_view import Job
    from atlas.scheduler.store.store import Store
    from atlas.scheduler.task import Task

LIMIT_S = 10.0
"""Longest any test waits for something that should happen at once."""


def utc(text: str) -> datetime:
    """``2026-03-02 09:30`` as an aware instant."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


DAY = "2026-03-02"
START = utc(f"{DAY} 12:00:30")


class SetClock(SystemClock):
    """A clock whose wall time stands still until somebody sets it; waiting and durations are the machine's."""

    __slots__ = ("instant",)

    def __init__(self, instant: datetime = START) -> None:
        self.instant = instant

    def now(self) -> datetime:
        return self.instant


class Gate:
    """A function that a test holds shut: its tasks stay unfinished until `open`."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._open = threading.Event()
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        self.entered.release()
        assert self._open.wait(LIMIT_S)
        return "through"

    def open(self) -> None:
        self._open.set()

    def shut(self) -> None:
        self._open.clear()

    def wait_entered(self) -> None:
        assert self.entered.acquire(timeout=LIMIT_S), "nothing entered the gate"


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
        self.cron.open()
        running = self.cron.running
        running.scheduler._event = threading.Event()
        running.scheduler.state = STATE_RUNNING
        running.jobs.start(running.scheduler, "default")

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
        if self.cron._running is not None:
            self.cron.running.scheduler.state = STATE_STOPPED
        self.cron.stop()
        self.queue.sync.stop(timeout=LIMIT_S)
        self.store.close()

    # --- time ---------------------------------------------------------------------------------------------------------

    def tick(self, at: datetime | None = None) -> float | None:
        """Set the time to ``at`` and let APScheduler look once; returns the seconds it would sleep then."""
        if at is not None:
            self.clock.instant = at
        waited: float | None = self.cron.running.scheduler._process_jobs()
        return waited

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
        statement = select(fires).where(fires.c.job_id == job).order_by(fires.c.fire_time)
        return self.store.read(lambda connection: list(connection.execute(statement)))

    def decisions(self, job: str = "job") -> list[str]:
        """Each fire as ``12:01 task``, ``12:02 skip paused`` or ``12:03-12:05 skip paused x3``."""
        return [decision(row) for row in self.fires(job)]

    def tasks(self, job: str = "job") -> list[Task]:
        """The job's tasks, oldest fire time first."""
        statement = select(tasks).where(tasks.c.job_id == job).order_by(tasks.c.fire_time, tasks.c.id)
        return self.store.read(lambda connection: [task_of(row) for row in connection.execute(statement)])

    def rows(self) -> dict[str, Row[Any]]:
        """APScheduler's table."""
        return self.store.read(lambda connection: {row.id: row for row in connection.execute(select(jobs))})

    def job(self, name: str = "job") -> Job:
        return self.cron.get_job(name)

    def settle(self) -> None:
        """Wait until nothing waits or runs, and it is on disk and told."""
        assert self.queue.serving.lifecycle.wait_idle(LIMIT_S, waiting_too=True)
        self.store.write(lambda _connection: None)
        assert self.store.events.drain()


def decision(row: Row[Any]) -> str:
    """See `Clockwork.decisions`."""

    def clock(value: float) -> str:
        at = datetime.fromtimestamp(value, UTC)
        return at.strftime("%H:%M" if at.second == 0 else "%H:%M:%S")

    when = clock(row.fire_time)
    if row.task_id is not None:
        return f"{when} task"
    count = row._mapping["count"]  # a row has a method of this name
    if row.last == row.fire_time and count == 1:
        return f"{when} skip {row.skip_reason}"
    return f"{when}-{clock(row.last)} skip {row.skip_reason} x{count}"


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
