"""The sides that are Atlas's queue: as it comes, its events and log on, and what they are checked by."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from scripts.bench.measure import check, check_results
from scripts.bench.sides.sqlite_file import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from atlas.scheduler.queue import TaskQueue
    from atlas.scheduler.store.writer import Writer

SLOTS: Final = 4
LIMIT_S: Final = 300.0
MAX_REPEATED: Final = 100
"""Ended tasks that a crash may repeat, by promise; what runs in a slot comes on top."""


@contextmanager
def running_queue(
    folder: Path,
    functions: Mapping[str, Callable[..., object]],
    *,
    durability: Literal["full", "normal"] = "full",
    slots: int = SLOTS,
) -> Iterator[TaskQueue]:
    """A started queue on ``folder/atlas.db``; left, it has stopped and everything is on the disk."""
    from atlas.scheduler.queue import TaskQueue
    from atlas.scheduler.registry import Registry
    from atlas.scheduler.store.store import open_store

    log_to(folder)
    registry = Registry()
    for name, function in functions.items():
        registry.add(name, function)
    store = open_store(folder / "atlas.db", durability=durability)
    try:
        queue = TaskQueue(slots, store=store, registry=registry, log_level="INFO")
        with queue.sync:
            yield queue
    finally:
        store.close()


def log_to(folder: Path) -> None:
    """Log as a started scheduler does, to a file."""
    from atlas.logs import configure_logging
    from atlas.settings import LoggingSettings, Settings

    configure_logging(Settings(logging=LoggingSettings(file=folder / "atlas.log")), console=False)


def writer_of(queue: TaskQueue) -> Writer:
    """The writer of a started queue."""
    assert queue.store is not None
    return queue.store.writer


def until(done: Callable[[], bool]) -> None:
    """Look until ``done``."""
    end_s = time.monotonic() + LIMIT_S
    while not done():
        check(time.monotonic() < end_s, f"not done in {LIMIT_S:g} s")
        time.sleep(0.005)


def wait_final(queue: TaskQueue, count: int) -> None:
    """Wait until ``count`` tasks are final on disk and everything that is told of them was told."""
    store = queue.store
    assert store is not None
    totals = store.totals
    until(lambda: sum(n for status, n in totals.metrics().by_status.items() if status.is_final) >= count)
    check(store.events.drain(LIMIT_S), "the events are not told")


def check_kept(folder: Path, function: str, count: int) -> None:
    """Raise unless the file holds, for the numbers 0 to ``count``, one SUCCESS each with that number as its result.

    Raises:
        WrongResultError: It does not.
    """
    wanted = "SELECT CAST(result AS INT) FROM tasks WHERE status = 'SUCCESS' AND function = ? ORDER BY 1"
    check_results([result for (result,) in rows(folder / "atlas.db", wanted, function)], count)


class CommitWindows:
    """Notes behind which commit each function is entered: so many a crash before the next one would repeat."""

    def __init__(self, writer: Writer | None = None) -> None:
        """``writer`` may be set later, before the first function is entered."""
        self.writer = writer
        self._entered: list[int] = []

    def note(self) -> None:
        """A function is entered."""
        assert self.writer is not None
        self._entered.append(self.writer.commits)

    def most(self, count: int, *, slots: int = SLOTS) -> int:
        """The most functions that were entered between two commits.

        Raises:
            WrongResultError: It is more than is promised, or not ``count`` functions were entered in all.
        """
        check(len(self._entered) == count, f"{len(self._entered)} functions were entered for {count} tasks")
        most = max(Counter(self._entered).values())
        check(most <= MAX_REPEATED + slots, f"{most} functions were entered between two commits")
        return most


class Gates:
    """Fills all slots of a queue until they are opened, so that work can be submitted beforehand."""

    def __init__(self, slots: int = SLOTS) -> None:
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
            check(self._entered.acquire(timeout=LIMIT_S), "the slots are not filled")

    def open(self) -> None:
        """Let the slots go on."""
        self._open.set()
