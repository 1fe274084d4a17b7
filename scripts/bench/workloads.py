"""What is shared by the sides that are Atlas: quiet logs in a file, a queue whose slots wait until they are told."""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any

from scripts.bench.measure import check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from atlas.scheduler.queue import TaskQueue

LIMIT_S = 300.0


def log_to(folder: Path) -> None:
    """Log as the service does: lines of INFO and above to a file."""
    from loguru import logger

    logger.remove()
    logger.add(folder / "atlas.log", level="INFO", format="{time} {level} {message} {extra}", diagnose=False)


def until(done: Callable[[], bool], *, every_s: float = 0.002) -> None:
    """Look until ``done``."""
    end_s = time.monotonic() + LIMIT_S
    while not done():
        check(time.monotonic() < end_s, f"not done in {LIMIT_S:g} s")
        time.sleep(every_s)


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """What a fresh connection reads, as anybody else would."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def wait_final(queue: TaskQueue, count: int) -> None:
    """Wait until ``count`` tasks are final on disk and everything that is told of them was told."""
    store = queue.store
    assert store is not None
    totals = store.totals

    def final() -> bool:
        return sum(n for status, n in totals.metrics().by_status.items() if status.is_final) >= count

    until(final)
    check(store.events.drain(LIMIT_S), "the events are not told")


class Gates:
    """Fills all slots of a queue until they are opened, so that work can be submitted beforehand."""

    def __init__(self, slots: int) -> None:
        """Closed gates."""
        self._slots, self._entered, self._open = slots, threading.Semaphore(0), threading.Event()

    def hold(self) -> int:
        """The function that fills a slot."""
        self._entered.release()
        self._open.wait(LIMIT_S)
        return 0

    def close(self, queue: TaskQueue) -> None:
        """Fill the slots."""
        for _ in range(self._slots):
            queue.sync.submit(self.hold)
        for _ in range(self._slots):
            self._entered.acquire(timeout=LIMIT_S)

    def open(self) -> None:
        """Let the slots go on."""
        self._open.set()
