"""A whole scheduler on a time that a test moves: `VirtualTime`."""

# ruff: noqa: SLF001 - APScheduler's loop is stepped by hand, which it has no public way for

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final, Self

from apscheduler.schedulers.base import STATE_RUNNING, STATE_STOPPED

from atlas.scheduler.awaited import refuse_on_loop
from atlas.scheduler.cron_manager import CronManager
from atlas.scheduler.errors import StoreUnavailableError
from atlas.scheduler.job_store.job_store import MAX_SLEEP_S
from atlas.scheduler.jobs_file.building import PolicyDefaults
from atlas.scheduler.loop_watch import LoopWatch
from atlas.scheduler.reconcile.reconciler import Reconciler
from atlas.scheduler.testing.by_hand import HandStore
from atlas.scheduler.testing.inline import InlineQueue
from atlas.scheduler.testing.looking import decision, fires_of, tasks_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from atlas.scheduler.clock import Clock
    from atlas.scheduler.cron_manager import SyncCronManager
    from atlas.scheduler.reconcile.plan import Plan
    from atlas.scheduler.registry import Registry
    from atlas.scheduler.store.store import Store
    from atlas.scheduler.task import Task
    from atlas.scheduler.tasks.submission import QueueDefaults

MICROSECOND_S: Final = 1e-6
_NAMED: Final = 5
"""Jobs that an error names."""


class _ZoneOf(tzinfo):
    """UTC as a clock has it: APScheduler's loop asks ``datetime.now(timezone)``, and Python leaves that to the zone.

    Attributes:
        asks_now: True before the loop asks for the time, with which it begins; what follows are other instants.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.asks_now = True

    def fromutc(self, instant: datetime) -> datetime:
        asks_now, self.asks_now = self.asks_now, False
        return self._clock.now() if asks_now else instant

    def utcoffset(self, _instant: datetime | None) -> timedelta:
        return timedelta()

    def dst(self, _instant: datetime | None) -> timedelta:
        return timedelta()

    def tzname(self, _instant: datetime | None) -> str:
        return "UTC"


def open_by_hand(cron: SyncCronManager, clock: Clock) -> None:
    """Open ``cron`` with APScheduler's loop on ``clock`` and without a thread; `step` makes it look."""
    cron.open()
    running = cron.running
    scheduler = running.scheduler
    scheduler.timezone = _ZoneOf(clock)
    scheduler._event = threading.Event()
    scheduler.state = STATE_RUNNING
    running.jobs.start(scheduler, "default")


def step(cron: SyncCronManager) -> float | None:
    """Let APScheduler's loop look for due jobs once; the seconds it would sleep then."""
    scheduler = cron.running.scheduler
    if isinstance(scheduler.timezone, _ZoneOf):
        scheduler.timezone.asks_now = True
    waited: float | None = scheduler._process_jobs()
    return waited


def close_by_hand(cron: SyncCronManager) -> None:
    """Close what `open_by_hand` opened."""
    if cron._running is not None:
        cron.running.scheduler.state = STATE_STOPPED
    cron.stop()


class VirtualTime:
    """Queue, jobs and store, real all of them, on a clock that only `advance` moves.

    Time stands still while functions run, one after another, in the thread that advances; a function that is to take
    time calls `advance` itself, and jobs, timeouts and overlap rules meet it as they would in production. A retry
    waits until time reaches it. `advance` does in order whatever becomes due: fire times through APScheduler's loop,
    the job store and the bridge, retries, timeouts.

    Args:
        start: Where the clock stands at first, aware; by default now.
        store: A database's path or URL; None keeps all in memory. A second `VirtualTime` on the same file is the same
            scheduler after a restart.
        timezone: Zone of cron expressions that do not bring their own.
        max_workers: Tasks that may be inside one another.

    Attributes:
        queue: The queue; ``submit`` runs what can run now before it returns.

    >>> from datetime import UTC, datetime
    >>> with VirtualTime(datetime(2026, 3, 2, tzinfo=UTC)) as time:
    ...     job = time.cron.sync.add_job("digest", "0 9 * * mon-fri", lambda: "sent")
    ...     time.advance(days=7)
    ...     len(time.tasks("digest"))
    5
    """

    def __init__(
        self,
        start: datetime | None = None,
        *,
        store: Path | str | None = None,
        registry: Registry | None = None,
        defaults: QueueDefaults | None = None,
        timezone: str = "UTC",
        max_workers: int = 10,
    ) -> None:
        self.queue = InlineQueue(
            store=store, registry=registry, defaults=defaults, start=start, max_workers=max_workers, jumps=False
        )
        self.cron = CronManager(self.queue, timezone=timezone)
        self._timezone = timezone
        self._killed = False

    def __enter__(self) -> Self:
        self.queue.sync.start()
        try:
            open_by_hand(self.cron.sync, self.queue.clock)
            running = self.cron.sync.running
            running.watch = LoopWatch(
                running, self.queue.clock, running.serving.store.events, boot=self.queue.clock.boot
            )
        except BaseException:
            self.queue.sync.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; what waits stays in the store. After `kill` there is nothing to stop."""
        if not self._killed:
            close_by_hand(self.cron.sync)
            self.queue.sync.stop()

    @property
    def now(self) -> datetime:
        """Where the clock stands, aware UTC."""
        return self.queue.clock.now()

    def load(self, path: Path) -> Plan:
        """Make the jobs equal to a jobs file, as a start does; the plan tells what changed.

        Raises:
            ConfigError: The file cannot be used.
        """
        defaults = self.queue.defaults
        policy = PolicyDefaults(timeout_s=defaults.timeout_s, max_retries=defaults.max_retries, timezone=self._timezone)
        return Reconciler(self.cron.sync, path, policy).reload()

    # --- time ---------------------------------------------------------------------------------------------------------

    def advance(self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0) -> None:
        """Let time pass, and do on the way, in order, whatever becomes due.

        Raises:
            ValueError: It would go back.
            RuntimeError: There is a running event loop here: await `advance_async`.
        """
        self.advance_to(self.now + timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days))

    async def advance_async(
        self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0
    ) -> None:
        """`advance` for code on an event loop; functions run in a thread, coroutines on a loop of that thread."""
        await asyncio.to_thread(self.advance, seconds, minutes=minutes, hours=hours, days=days)

    def advance_to(self, instant: datetime) -> None:
        """`advance` up to and with ``instant``, aware.

        Raises:
            ValueError: It has no zone, or is over.
            RuntimeError: There is a running event loop here: await `advance_async`.
        """
        refuse_on_loop("await 'advance_async' there, or 'asyncio.to_thread'")
        if instant.tzinfo is None or instant < self.now:
            msg = f"cannot advance from {self.now} to {instant}: it must be an instant with its zone, and not be over"
            raise ValueError(msg)
        while True:
            self._serve()
            due_s = self._due_in_s()
            if due_s is None or self.now + timedelta(seconds=due_s) > instant:
                break
            self._pass(due_s)
        if instant > self.now:  # a function may have advanced beyond it
            self._pass((instant - self.now).total_seconds())

    def _serve(self) -> None:
        """Do what is due now: passes of APScheduler's loop, timers, and the functions that are ready."""
        self.store.hand_writer.flush()
        step(self.cron.sync)
        late = self._late()
        while late and self.store.answers:  # a pass takes only so many jobs
            step(self.cron.sync)
            before, late = late, self._late()
            if late == before:
                names = f"{', '.join(late[:_NAMED])}{f' and {len(late) - _NAMED} more' if len(late) > _NAMED else ''}"
                raise StoreUnavailableError(f"the fire times of {names} could not be decided", waited_s=0.0)
        self.queue.serving.lifecycle.tick()
        self.queue.serving.run()

    def _late(self) -> list[str]:
        """Jobs that are due now."""
        now = self.now
        return [job_id for job_id, due_at in self.cron.sync.running.jobs.due_at().items() if due_at <= now]

    def _due_in_s(self) -> float | None:
        """Seconds until the next thing becomes due, None if nothing ever does."""
        starts = list(self.cron.sync.running.jobs.due_at().values())
        if not self.store.answers:  # what is due already waits for it
            starts = [start for start in starts if start > self.now] + [self.now + timedelta(seconds=MAX_SLEEP_S)]
        due_s = [max(0.0, (min(starts) - self.now).total_seconds())] if starts else []
        timer_s = self.queue.serving.lifecycle.tick()
        if timer_s is not None:
            due_s.append(max(0.0, timer_s - self.queue.clock.monotonic()))
        return min(due_s, default=None)

    def _pass(self, seconds: float) -> None:
        clock = self.queue.clock
        timer_s = self.queue.serving.lifecycle.tick()
        clock.pass_s(seconds)
        if timer_s is not None and abs(timer_s - clock.monotonic()) < MICROSECOND_S:
            clock.pass_until(timer_s)  # a sum of floats may end just before it

    # --- what befalls a machine ---------------------------------------------------------------------------------------

    @property
    def store(self) -> HandStore:
        """The store; ``time.store.answers = False`` takes its database away until it is True again."""
        store = self.queue.serving.store
        assert isinstance(store, HandStore)
        return store

    def step_clock(self, seconds: float) -> None:
        """Somebody sets the wall clock, forward or, with a negative number, back; the scheduler notices at once.

        Nothing is served by that alone: `advance` does.
        """
        self._befall(lambda: self.queue.clock.set_by_s(seconds))

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: the wall clock goes on, timeouts and retries do not; noticed at its end.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"{seconds} s: nobody sleeps backwards")
        self._befall(lambda: self.queue.clock.sleep_s(seconds))

    def _befall(self, change: Callable[[], None]) -> None:
        refuse_on_loop()
        watch = self.cron.sync.running.watch
        watch._seen = watch._read()
        change()
        watch.look()

    def kill(self) -> None:
        """End as by kill -9; another `VirtualTime` on the same file is the next start. See `InlineQueue.kill`."""
        self._killed = True
        manager = self.cron.sync
        running, manager._running = manager._running, None
        if running is not None:
            running.scheduler.state = STATE_STOPPED
        self.queue.kill()

    # --- looking ------------------------------------------------------------------------------------------------------

    def tasks(self, job: str) -> list[Task]:
        """The tasks of a job, oldest fire time first."""
        return tasks_of(self._written(), job)

    def decisions(self, job: str) -> list[str]:
        """What became of its fire times: ``12:01 task``, ``12:02 skip paused`` or ``12:03-12:05 skip paused x3``."""
        return [decision(row) for row in fires_of(self._written(), job)]

    def _written(self) -> Store:
        store = self.queue.serving.store
        store.write(lambda _connection: None)
        return store
