"""One thread that wakes when something is due: a retry, a deadline, the lease."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from loguru import logger

from atlas.scheduler.clock import until_next_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from atlas.scheduler.clock import Clock


class Timekeeper:
    """Calls ``tick``, which says when it wants to be called next or None, at those times, and ``renew`` regularly."""

    def __init__(
        self, clock: Clock, tick: Callable[[], float | None], renew: Callable[[], None], renew_s: float
    ) -> None:
        self._clock, self._tick, self._renew, self._renew_s = clock, tick, renew, renew_s
        self._ready = threading.Condition(threading.Lock())
        self._next_s: float = 0.0
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._loop, name="atlas-timekeeper", daemon=True)
        self._thread.start()

    def at(self, when_s: float) -> None:
        """Tick at the monotonic time ``when_s`` at the latest. Cheap when something earlier is due anyway."""
        if when_s < self._next_s:
            with self._ready:
                if when_s < self._next_s:
                    self._next_s = when_s
                    self._ready.notify()

    def close(self) -> None:
        """End the thread."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _loop(self) -> None:
        renew_at_s = self._next_renewal_s()
        while True:
            with self._ready:
                self._next_s = renew_at_s
            next_s = self._guarded(self._tick)
            with self._ready:
                if next_s is not None:
                    self._next_s = min(self._next_s, next_s)
                while not self._closed and (wait_s := self._next_s - self._clock.monotonic()) > 0:
                    self._clock.wait(self._ready, wait_s)
                if self._closed:
                    return
            if self._clock.monotonic() >= renew_at_s:
                self._guarded(self._renew)
                renew_at_s = self._next_renewal_s()

    def _next_renewal_s(self) -> float:
        return self._clock.monotonic() + until_next_s(self._clock, self._renew_s)

    @staticmethod
    def _guarded(call: Callable[[], float | None] | Callable[[], None]) -> float | None:
        try:
            return call()
        except Exception:  # noqa: BLE001 - a timekeeper that dies would stop every timeout
            logger.exception("the timekeeper's work raised")
            return None
