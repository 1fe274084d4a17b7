"""What is shared by the sides that are Atlas: quiet logs in a file, a queue whose slots wait until they are told."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from scripts.bench.measure import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from atlas.scheduler.queue import TaskQueue
    from atlas.service import AtlasScheduler

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


def counted_writes(path: Path, table: str) -> Callable[[], list[str]]:
    """Have the database itself note what is written to ``table`` from now on; the call tells."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bench_writes (what TEXT)")
        for what in ("INSERT", "UPDATE", "DELETE"):
            connection.execute(
                f"CREATE TRIGGER bench_{what} AFTER {what} ON {table} "  # noqa: S608 - fixed words
                f"BEGIN INSERT INTO bench_writes VALUES ('{what}'); END"
            )
        connection.commit()
    return lambda: [what for (what,) in rows(path, "SELECT what FROM bench_writes")]


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


def write_jobs_file(path: Path, count: int, schedule: str) -> None:
    """A jobs file as one writes it, with ``count`` jobs on one schedule; line by line, to leave no mark in memory."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"cron_jobs": {\n')
        for number in range(count):
            job = {"name": f"Job {number}", "cron_expression": schedule, "function": "nothing"}
            end = "\n" if number == count - 1 else ",\n"
            file.write(f' "job_{number}": {json.dumps(job)}{end}')
        file.write("}}\n")


@contextmanager
def scheduler_in(folder: Path, call: Callable[[], object]) -> Iterator[AtlasScheduler]:
    """The whole scheduler on ``folder``, with the jobs file that stands there; left, it has stopped."""
    from atlas import AtlasScheduler
    from atlas.settings import PersistenceSettings, SchedulerSettings, Settings, WebSettings

    log_to(folder)
    settings = Settings(
        scheduler=SchedulerSettings(max_workers=4, timezone="UTC"),
        persistence=PersistenceSettings(
            database=folder / "atlas.db", cron_config=folder / "jobs.json", status_file=folder / "task_status.json"
        ),
        web=WebSettings(port=0, token_file=None),
    ).anchored(folder)
    atlas = AtlasScheduler.from_settings(settings)
    atlas.registry.add("nothing", call)
    with atlas.in_thread():
        yield atlas


@contextmanager
def run_jobs_file(folder: Path, count: int, schedule: str, call: Callable[[], object]) -> Iterator[AtlasScheduler]:
    """`scheduler_in` with a new jobs file."""
    write_jobs_file(folder / "jobs.json", count, schedule)
    with scheduler_in(folder, call) as atlas:
        yield atlas
