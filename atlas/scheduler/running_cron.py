"""What lives while a cron manager is open: the jobs, APScheduler's loop on them, and the watch over that loop."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import STATE_PAUSED, STATE_STOPPED
from loguru import logger
from sqlalchemy import func, select

from atlas.scheduler.bridge import Bridge
from atlas.scheduler.errors import AtlasError
from atlas.scheduler.job_state import JobStates, resumed_since
from atlas.scheduler.job_store.job_store import JobStore
from atlas.scheduler.listeners import listen
from atlas.scheduler.loop_watch import STALL_S, STEP_S, LoopWatch
from atlas.scheduler.store.statements import ONCE
from atlas.scheduler.store.tables import tasks

if TYPE_CHECKING:
    from atlas.scheduler.registry import Registry
    from atlas.scheduler.serving import Serving


class RunningCron:
    """The parts of an open cron manager; for its watch it is the `WatchedLoop`.

    Attributes:
        scheduler: APScheduler; a restart of the loop replaces it.
    """

    def __init__(self, serving: Serving, registry: Registry) -> None:
        """Read the jobs and pauses; nothing fires yet."""
        store = serving.store
        self.serving, self.states = serving, JobStates(store, registry)
        self.jobs = JobStore(store, on_released=store.writer.hand_over, on_dropped=serving.withdraw_tasks)
        self.bridge = Bridge(self.jobs, self.states, serving.acceptance)
        self.scheduler = self._make_scheduler()
        self.states.load()
        self.jobs.load()
        self.jobs.apart_jobs.on_change = self._renew
        store.on_foreign(self._hear)
        self._forget_keepers = [store.on_rebuild(self.jobs.keep), store.on_rebuild(self.states.keep)]
        self.watch = LoopWatch(self, store.clock, store.events)
        serving.acceptance.live_of = self.states.live

    def _renew(self) -> None:
        """Let other processes know now which jobs are set apart."""
        try:
            if self.serving.acceptance.taking:
                self.serving.renew()
        except AtlasError:
            pass  # it stops
        except Exception:  # noqa: BLE001 - the app has figures of its own there; the pass must go on
            logger.exception("which jobs are set apart could not be told to other processes")

    def _hear(self) -> None:
        """Take in what another process wrote: pauses, and that a job which is set apart is to be tried."""
        self.states.load()
        apart = self.jobs.apart()
        if apart:
            for job_id in self.serving.store.read(lambda connection: resumed_since(connection, apart)):
                self.jobs.try_again(job_id)

    def bring_back(self) -> None:
        """Bring starts back that a wall clock which ran ahead has moved: the newest task was made in the future."""
        store = self.serving.store
        last = select(func.max(tasks.c.created_at))
        newest = store.read(lambda connection: connection.execute(last, execution_options=ONCE).scalar())
        if newest is not None and newest > store.clock.now().timestamp() + STEP_S and (moved := self.clock_came_back()):
            logger.warning("the wall clock was ahead when this database was last used; starts brought back: {}", moved)

    def start(self) -> None:
        """Let the loop run, and the watch over it."""
        self.scheduler.start()
        self.watch.start()

    def close(self) -> None:
        """End the loop; one that stands still is left behind, or stopping would wait for it for ever."""
        store = self.serving.store
        store.off_foreign(self._hear)
        for forget in self._forget_keepers:
            forget()
        self.watch.close()
        if not self.scheduler.running:
            return
        age_s = self.last_tick_s()
        if age_s is not None and age_s > STALL_S:
            logger.error("the loop that looks for due jobs stands still; it is left behind")
            self.scheduler.state = STATE_STOPPED
            self.jobs.door.give_up_pass()
        else:
            self.scheduler.shutdown(wait=False)

    def last_tick_s(self) -> float | None:
        """Seconds since the loop last looked for due jobs, None before the first time."""
        ticked_s = self.jobs.last_tick_s
        return None if ticked_s is None else self.serving.store.clock.monotonic() - ticked_s

    def _make_scheduler(self) -> BackgroundScheduler:
        scheduler = BackgroundScheduler(
            timezone=UTC,
            jobstores={"default": self.jobs},
            executors={"default": self.bridge},
            job_defaults={"misfire_grace_time": None, "coalesce": True},
        )
        listen(scheduler, self.serving.store.events, self.serving.store.clock)
        return scheduler

    # --- what the watch asks ------------------------------------------------------------------------------------------

    def thread_lives(self) -> bool:
        """False once the loop's thread has ended although nobody stopped it."""
        if not self.scheduler.running:
            return True
        thread = getattr(self.scheduler, "_thread", None)
        return thread is None or thread.is_alive()

    def tick_age_s(self) -> float | None:
        """`last_tick_s`, None while the loop is paused."""
        return None if self.scheduler.state == STATE_PAUSED else self.last_tick_s()

    def restart_loop(self) -> None:
        """Give APScheduler's loop up, with the pass it has open, and start another one on the same jobs."""
        old = self.scheduler
        # Not shutdown(): it joins the thread, and takes locks that a stalled one holds.
        old.state = STATE_STOPPED
        old.wakeup()  # should the old thread sleep or ever wake, it ends
        self.jobs.door.give_up_pass()
        self.scheduler = self._make_scheduler()
        self.jobs.last_tick_s = self.serving.store.clock.monotonic()
        self.scheduler.start()

    def look_now(self) -> None:
        """Let the loop look for due jobs at once."""
        if self.scheduler.running:
            self.scheduler.wakeup()

    def clock_came_back(self) -> int:
        """See `JobStore.clock_came_back`."""
        return self.jobs.clock_came_back()
