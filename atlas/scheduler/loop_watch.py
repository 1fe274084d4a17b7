"""Watches the loop that looks for due jobs: restarts it when it is dead or stalled, and notices what time did.

::

    wall clock    ├──────┤ ├────┤      somebody set it: a step
    since boot    ├────────────────┤   longer than the next one: the machine slept
    monotonic     ├────────────┤       longer than a look: this process did not run
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from loguru import logger

from atlas.scheduler.clock import boot_s, until_next_s
from atlas.scheduler.durations import format_duration
from atlas.scheduler.events import SchedulerEvent, SchedulerEventKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from atlas.scheduler.clock import Clock
    from atlas.scheduler.events import EventStream

LOOK_S: Final = 5.0
"""A scheduler is awake each five seconds for its lease: a look costs no wake of its own then."""
STALL_S: Final = 45.0
"""Age of the last tick beyond which the loop has stalled: it sleeps 30 s at most, and waits 1 s for a commit."""
PATIENCE: Final = 2.0
"""A loop that stalls again and again is restarted after longer and longer waits: each leaves a thread behind."""
STEP_S: Final = 2.0
"""Seconds by which clocks may disagree from one look to the next; discipline by NTP slews by far less."""
FROZEN_S: Final = 10.0
KEPT: Final = 20


class WatchedLoop(Protocol):
    """The loop, as far as its watch has to do with it."""

    def thread_lives(self) -> bool:
        """False once its thread has ended although nobody stopped it."""

    def tick_age_s(self) -> float | None:
        """Seconds since it last looked for due jobs; None if it never did."""

    def restart_loop(self) -> None:
        """Give the loop up and start another one."""

    def look_now(self) -> None:
        """Let it look for due jobs at once."""

    def clock_came_back(self) -> int:
        """The wall clock was set back: bring starts back that lie in a future that is none; returns how many."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that befell the loop."""

    at: datetime
    """When it was noticed, aware UTC."""
    kind: SchedulerEventKind
    """RESTARTED, CLOCK_STEPPED, SUSPENDED; STORE_REBUILT."""
    words: str


class LoopWatch:
    """One thread that looks every five seconds; ``boot`` says seconds since the machine started, its sleep included.

    Attributes:
        restarts: How often the loop was restarted.
    """

    def __init__(
        self, loop: WatchedLoop, clock: Clock, events: EventStream, *, boot: Callable[[], float] = boot_s
    ) -> None:
        self._loop, self._clock, self._events, self._boot = loop, clock, events, boot
        self._ready = threading.Condition(threading.Lock())
        self._closed = False
        self._thread: threading.Thread | None = None
        self._troubles: deque[Trouble] = deque(maxlen=KEPT)
        self._seen = self._read()
        self._patient_until_s = float("-inf")
        self._stall_s = STALL_S
        self.restarts = 0

    def start(self) -> None:
        """Start the thread."""
        self._seen = self._read()
        self._thread = threading.Thread(target=self._run, name="atlas-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def troubles(self) -> list[Trouble]:
        """The latest, oldest first."""
        return list(self._troubles)

    def look(self) -> None:
        """One look at the clocks, then at the loop."""
        self._look_at_clocks()
        self._look_at_loop()

    # --- time ---------------------------------------------------------------------------------------------------------

    def _read(self) -> tuple[float, float, float]:
        return self._clock.now().timestamp(), self._boot(), self._clock.monotonic()

    def _look_at_clocks(self) -> None:
        before, self._seen = self._seen, self._read()
        wall_s, boot_s_, monotonic_s = (now - then for now, then in zip(self._seen, before, strict=True))
        slept_s, stepped_s = boot_s_ - monotonic_s, wall_s - max(boot_s_, monotonic_s)
        frozen_s = monotonic_s if monotonic_s > FROZEN_S else 0.0
        if slept_s > STEP_S:
            self._note(SchedulerEventKind.SUSPENDED, f"the machine slept for {format_duration(slept_s)}")
        elif frozen_s:
            self._note(SchedulerEventKind.SUSPENDED, f"this process did not run for {format_duration(frozen_s)}")
        if abs(stepped_s) > STEP_S:
            if stepped_s > 0:
                words = f"the wall clock was set forward by {format_duration(stepped_s)}"
            else:
                words = f"the wall clock was set back by {format_duration(-stepped_s)}{self._bring_back()}"
            self._note(SchedulerEventKind.CLOCK_STEPPED, words)
        if slept_s > STEP_S or frozen_s or abs(stepped_s) > STEP_S:
            self._patient_until_s = self._clock.monotonic() + self._stall_s
            self._loop.look_now()

    def _bring_back(self) -> str:
        try:
            moved = self._loop.clock_came_back()
        except Exception as error:  # noqa: BLE001 - a database that does not answer just now; said, and not lost
            logger.opt(exception=error).error("starts could not be brought back behind the clock")
            return "; the next starts of jobs may lie too far ahead, restart to bring them back"
        if moved == 1:
            return "; 1 next start brought back behind it"
        return f"; {moved} next starts brought back behind it" if moved else ""

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _look_at_loop(self) -> None:
        age_s = self._loop.tick_age_s()
        if not self._loop.thread_lives():
            self._restart("its thread had ended")
        elif age_s is None or self._clock.monotonic() < self._patient_until_s:
            return
        elif age_s > self._stall_s:
            self._restart(f"it had not looked for due jobs for {format_duration(age_s)}")
            self._stall_s *= PATIENCE

    def _restart(self, why: str) -> None:
        self._patient_until_s = self._clock.monotonic() + self._stall_s
        self._loop.restart_loop()
        self.restarts += 1
        self._note(SchedulerEventKind.RESTARTED, f"the loop that looks for due jobs was restarted: {why}")

    def _note(self, kind: SchedulerEventKind, words: str) -> None:
        now = self._clock.now()
        self._troubles.append(Trouble(now, kind, words))
        logger.warning("{}", words)
        self._events.publish(SchedulerEvent(kind=kind, at=now, detail={"clock": words}))

    def _run(self) -> None:
        while True:
            with self._ready:
                if not self._closed:
                    self._clock.wait(self._ready, until_next_s(self._clock, LOOK_S))
                if self._closed:
                    return
            try:
                self.look()
            except Exception:  # noqa: BLE001 - a watch that dies would let the loop die unseen
                logger.exception("the watch of the loop raised; it goes on")
