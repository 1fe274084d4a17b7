"""Plain functions: slot threads that pull straight from the line."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from loguru import logger

from atlas.scheduler import switch_interval
from atlas.scheduler.executors.attempt import run_attempt
from atlas.scheduler.task import ExecutorKind

if TYPE_CHECKING:
    from atlas.scheduler.task import Task
    from atlas.scheduler.tasks.lifecycle import Lifecycle
    from atlas.scheduler.tasks.line import Line


COMPUTES_S: Final = 0.0005
"""A function that took so much of a CPU computes, and the next one in its slot will do so as well."""


class _Turns:
    """Short turns for all threads while what one slot runs computes; of the slot's thread alone."""

    def __init__(self) -> None:
        self._looked_s = time.perf_counter()
        self._cpu_s: float | None = None
        self._are_short = False

    def look(self) -> None:
        """A function has ended.

        A thread's CPU time is a call of the system, as long as a short function: it is asked for where one took as
        long as that, and so two in a row are needed to tell that they compute.
        """
        before_s, self._looked_s = self._looked_s, time.perf_counter()
        if self._looked_s - before_s < COMPUTES_S:
            self._cpu_s = None
            self._let_be(short=False)
            return
        cpu_s, self._cpu_s = self._cpu_s, time.thread_time()
        self._let_be(short=cpu_s is not None and self._cpu_s - cpu_s >= COMPUTES_S)

    def end(self) -> None:
        """The slot has nothing to do."""
        self._let_be(short=False)

    def _let_be(self, *, short: bool) -> None:
        if short is not self._are_short:
            self._are_short = short
            change = switch_interval.shorten if short else switch_interval.restore
            change(switch_interval.FUNCTION_S)


class ThreadExecutor:
    """Slot threads, made when a task waits and none is idle. A thread cannot be stopped, only asked and abandoned."""

    def __init__(self, line: Line, lifecycle: Lifecycle) -> None:
        self._line, self._lifecycle = line, lifecycle
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        line.attach(ExecutorKind.THREAD, self._grow)

    def _grow(self, count: int) -> None:
        with self._lock:
            room = self._line.max_running + self._lifecycle.stopping.abandoned - len(self._threads)
            for _ in range(min(count, room)):
                thread = threading.Thread(target=self._slot, name="atlas-slot", daemon=True)
                thread.start()
                self._threads.add(thread)

    def _slot(self) -> None:
        mine = _Turns()
        try:
            task = self._line.take(ExecutorKind.THREAD)
            while task is not None:
                if self._serve(task):
                    mine.look()
                    task = self._line.take(ExecutorKind.THREAD, give_back=True, wait=False)
                elif self._is_one_too_many():
                    return  # abandoned meanwhile: the slot is somebody else's now
                else:  # while it counted as abandoned no thread was made for that slot
                    task = None
                if task is None:
                    mine.end()
                    task = self._line.take(ExecutorKind.THREAD)
        except BaseException:
            logger.exception("a slot thread died; its task stays RUNNING until the queue restarts")
            raise
        finally:
            mine.end()
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _is_one_too_many(self) -> bool:
        """True if there is a thread for every slot without this one, which is counted no more then."""
        with self._lock:
            if len(self._threads) <= self._line.max_running + self._lifecycle.stopping.abandoned:
                return False
            self._threads.discard(threading.current_thread())
            return True

    def _serve(self, task: Task) -> bool:
        attempt = self._lifecycle.begin(task)
        if attempt is None:
            return True
        refusal = None if attempt.claim is None else self._lifecycle.wait_for_claim(attempt, attempt.claim)
        return self._lifecycle.finish(attempt, refusal or run_attempt(attempt))

    def close(self, timeout_s: float) -> None:
        """Wait for idle threads to end; the line is closed already, abandoned threads are daemons and left behind."""
        until_s = time.monotonic() + timeout_s
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            if len(self._threads) <= self._lifecycle.stopping.abandoned:
                return
            thread.join(max(0.0, until_s - time.monotonic()))
