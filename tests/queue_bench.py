"""What the queue's tests share: gates that hold functions, a patient look, and the proof that nothing leaked."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import OperationalError

from atlas.scheduler.clock import SystemClock
from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import pytest
    from sqlalchemy import Connection

    from atlas.scheduler.queue import TaskQueue
    from atlas.scheduler.store.store import Store
    from atlas.scheduler.tasks.line import Line

LIMIT_S = 40.0
"""Longest any test waits for something that should happen at once."""


class Gate:
    """A function that stays inside until it is opened, whatever anybody asks of it."""

    def __init__(self, value: Any = "through") -> None:
        self.value = value
        self.entered = threading.Semaphore(0)
        self.calls = 0
        self._open = threading.Event()

    def __call__(self, *_args: Any) -> Any:
        self.calls += 1
        self.entered.release()
        assert self._open.wait(LIMIT_S)
        return self.value

    def open(self) -> None:
        self._open.set()

    def shut(self) -> None:
        self._open.clear()

    def wait_entered(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.entered.acquire(timeout=LIMIT_S), "nothing entered the gate"

    async def entered_async(self, times: int = 1) -> None:
        await asyncio.to_thread(self.wait_entered, times)


class HandClock(SystemClock):
    """The machine's clock, with monotonic time that a test may put forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> datetime:
        return super().now()

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Outage:
    """While it lasts no commit of the writer succeeds: it fails at once, or first waits until ``is_noticed`` is set."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lasts = False
        self.is_noticed = threading.Event()
        self.is_noticed.set()
        do_begin = store.engine.dialect.do_begin

        def begin(connection: Any) -> None:
            if self.lasts and threading.current_thread().name == "atlas-writer":
                assert self.is_noticed.wait(LIMIT_S)
                raise OperationalError("BEGIN", {}, OSError("disk I/O error"))
            do_begin(connection)

        monkeypatch.setattr(store.engine.dialect, "do_begin", begin)

    def begins_unnoticed(self) -> None:
        """From now on commits hang; they fail once ``is_noticed`` is set, and only then nothing starts any more."""
        self.is_noticed.clear()
        self.lasts = True


def nothing(_connection: Connection) -> None:
    """Work that only waits for a commit."""


def passes(queue: TaskQueue, seconds: float) -> None:
    """Let so much time pass at once on the `HandClock` of its store; who runs too long is stopped, or given up."""
    serving = queue.serving
    clock = serving.store.clock
    assert isinstance(clock, HandClock)
    clock.ahead_s += seconds
    serving.renew()  # as it is every five seconds: nothing starts on an old lease
    serving.lifecycle.tick()
    serving._timekeeper.at(-1.0)  # it waits on the machine's time


def eventually(condition: Callable[[], bool], what: str = "", *, limit_s: float = LIMIT_S) -> None:
    """Look until ``condition`` holds, ever less often; for what no event tells, as another process's work."""
    clock, pause, wait_s = SystemClock(), threading.Condition(), 0.003
    end_s = clock.monotonic() + limit_s
    while not condition():
        assert clock.monotonic() < end_s, f"never: {what or condition}"
        with pause:
            clock.wait(pause, wait_s)
        wait_s = min(1.5 * wait_s, 0.05)


def _all_free(line: Line) -> bool:
    with line._lock:  # what was cancelled leaves the line when it is taken from it
        lanes = line._lanes.values()
        return line.free == line.max_running and not any(lane.running or lane.size for lane in lanes)


def settled(queue: TaskQueue) -> None:
    """Wait until nothing is left to do, and assert that nothing of it is left behind."""
    serving = queue.serving
    live, line = serving.live_tasks, serving.line
    assert serving.shutdown.wait_idle(LIMIT_S, waiting_too=True), serving.figures()
    serving.store.write(nothing)
    eventually(lambda: _all_free(line) and not serving.lifecycle.stopping.abandoned, "all slots are free")
    with live.lock, line._lock:
        assert not live.by_id
        assert not live.running
        assert (live.admission.held, live.admission.suspect, live.admission._jobs) == (0, None, {})
        assert not serving.lifecycle.stopping._unreplaced
        assert live.waiting.total == sum(live.waiting.by_priority().values()) == 0
    figures = queue.get_queue_status()
    assert (figures["queue_size"], figures["running_tasks"], figures["held_tasks"]) == (0, 0, 0)
    found = serving.store.totals.metrics()
    assert all(found.by_status[status] == 0 for status in TaskStatus if not status.is_final), found
    assert all(count >= 0 for count in found.by_status.values())
