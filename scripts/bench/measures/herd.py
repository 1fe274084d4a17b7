"""Herd: thousands of jobs due in the same second; how long until the last one starts, the CPU of it, what is lost.

Atlas reads its jobs from the jobs file, ahead of the second they are due in. Stock has its rows put into its table and
is resumed when they are due; told never to drop a late fire time, and once as it comes, which drops what is late by
more than a second. Checked: each fire time is served by one task that succeeded, calls and rows agree, and no more
than the promised hundred tasks fall between two commits.

Beside stock on SQLite the goals are missed: a job of the herd costs 64 µs of CPU, and 1/25 of stock would be 30. It
takes as long as that, since the threads share one interpreter. Of samples of what the machine runs 40 % are of the
writer's thread (9 SQLite, 12 the kernel, which writes pages, 19 Python: rows, counters, what follows a commit), 26 %
of the slots (an attempt begins, is called, is settled), 22 % of APScheduler's loop, with the decisions and the tasks
that are made, 12 % of events and the log; five rows and their pages take 13 of the 30 µs. SQLite lets go of the
interpreter meanwhile, and yet the second core helps little: the writer gets it back a turn of another thread later,
and turns shorter than Python's 5 ms cost more than they bring (1, 0.3 and 0.1 ms measured). Smaller passes and
commits bring nothing.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from scripts.bench.contenders import ATLAS, STOCK_MEMORY, STOCK_POSTGRES, STOCK_SQLITE, STOCK_SQLITE_DEFAULTS
from scripts.bench.measure import Figures, Goal, Measure, Side, check

if TYPE_CHECKING:
    from pathlib import Path

TRIES = 3
STUCK_S = 120.0
"""Nothing started or was dropped for so long; a pass of stock on SQLite starts nothing until every job is written."""


class _TooLateError(Exception):
    """The jobs were due before all of them were loaded."""


def atlas(folder: Path, size: int) -> Figures:
    """The whole scheduler, its jobs file written for a second that lies far enough ahead to load it."""
    lead_s = 4 + size / 2000
    for number in range(TRIES):
        try:
            (folder / str(number)).mkdir()
            return _served(folder / str(number), size, lead_s * 2**number)
        except _TooLateError:
            continue
    raise TimeoutError(f"{size} jobs were not loaded within {lead_s * 2 ** (TRIES - 1):g} s")


def _served(folder: Path, size: int, lead_s: float) -> Figures:
    from scripts.bench.sides.atlas_queue import CommitWindows, until
    from scripts.bench.sides.atlas_scheduler import run_jobs_file
    from scripts.bench.sides.sqlite_file import rows

    due = (datetime.now(UTC) + timedelta(seconds=lead_s + 1)).replace(microsecond=0)
    begun: list[float] = []
    windows = CommitWindows()

    def call() -> None:
        begun.append(time.time())
        windows.note()

    with run_jobs_file(folder, size, f"{due.second} {due.minute} {due.hour} * * *", call) as scheduler:
        windows.writer = scheduler.store.writer
        if time.time() > due.timestamp() - 0.3:
            raise _TooLateError
        time.sleep(due.timestamp() - time.time() - 0.2)
        cpu_s = time.process_time()
        totals = scheduler.store.totals
        until(lambda: len(begun) >= size)  # asking for figures two hundred times a second would be a tenth of the CPU
        until(lambda: sum(n for status, n in totals.metrics().by_status.items() if status.is_final) >= size)
        cpu_s = time.process_time() - cpu_s
    served = rows(folder / "atlas.db", "SELECT count(*), count(DISTINCT job_id), count(DISTINCT task_id) FROM fires")
    done = rows(folder / "atlas.db", "SELECT count(*) FROM tasks WHERE status = 'SUCCESS'")
    check(served == [(size, size, size)], f"each of {size} fire times is served once: {served}")
    check(done == [(size,)] and len(begun) == size, f"{done} tasks succeeded and {len(begun)} calls, of {size}")
    return {
        "last_s": max(begun) - due.timestamp(),
        "cpu_s": cpu_s,
        "lost": size - len(begun),
        "between_commits": windows.most(size),
    }


def stock(url: str | None, size: int, **defaults: object) -> Figures:
    """Stock is resumed when its jobs are due, and watched until each has started or was dropped."""
    from scripts.bench.sides.apscheduler_stock import Stock, started

    there = Stock(url, **defaults)
    for number in range(TRIES):
        due = datetime.now(UTC) + timedelta(seconds=(4 + size / 1000) * 2**number)
        there.add_due(size, due)
        if datetime.now(UTC) < due:
            break
        there.scheduler.remove_all_jobs()
    else:
        raise TimeoutError(f"{size} jobs were due before all of them were added")
    time.sleep(max(0.0, due.timestamp() - time.time()))
    cpu_s = time.process_time()
    there.scheduler.resume()
    seen, since_s = 0, time.monotonic()
    while (dealt_with := len(started) + there.missed) < size:
        if dealt_with > seen:
            seen, since_s = dealt_with, time.monotonic()
        check(time.monotonic() - since_s < STUCK_S, f"stock is stuck behind {dealt_with} of {size} jobs")
        time.sleep(0.01)
    cpu_s = time.process_time() - cpu_s
    there.scheduler.shutdown(wait=False)
    last_s = max(started) - due.timestamp() if started else 0.0
    return {"last_s": last_s, "cpu_s": cpu_s, "lost": size - len(started)}


def stock_postgres(_folder: Path, size: int) -> Figures:
    """Stock on a PostgreSQL database of its own."""
    from scripts.bench.sides.apscheduler_stock import postgres_database

    with postgres_database(f"atlas_bench_{os.getpid()}") as url:
        return stock(url, size, misfire_grace_time=None)


MEASURE = Measure(
    title="jobs due in the same second, 4 slots",
    sizes=(10_000, 1_000, 50_000),
    quick=1_000,
    sides=(
        Side(who=ATLAS, run=atlas),
        Side(
            who=STOCK_SQLITE,
            run=lambda folder, size: stock(f"sqlite:///{folder}/stock.db", size, misfire_grace_time=None),
            rounds=1,
            sizes=(10_000, 1_000),
        ),
        Side(
            who=STOCK_MEMORY,
            run=lambda _folder, size: stock(None, size, misfire_grace_time=None),
            sizes=(10_000, 1_000),
        ),
        Side(
            who=STOCK_SQLITE_DEFAULTS,
            run=lambda folder, size: stock(f"sqlite:///{folder}/stock.db", size),
            rounds=1,
            sizes=(10_000,),
        ),
        Side(who=STOCK_POSTGRES, run=stock_postgres, rounds=1, sizes=(10_000,)),
    ),
    goals=(
        Goal(what="herd of {size}: last start", figure="last_s", to="APScheduler SQLite", must=1 / 25, reach=1 / 50),
        Goal(what="herd of {size}: last start", figure="last_s", to="APScheduler memory", must=1, reach=1 / 2),
        Goal(what="herd of {size}: CPU", figure="cpu_s", to="APScheduler SQLite", must=1 / 25, reach=1 / 40),
        Goal(what="fire times lost of {size}", figure="lost", must=0, reach=0, unit=""),
        Goal(what="fire times lost of {size}", figure="lost", must=0, reach=0, unit="", size=50_000),
        Goal(
            what="herd of {size}: last start, to that of 10,000",
            figure="last_s",
            to="Atlas",
            must=7.5,
            reach=5,
            size=50_000,
            to_size=10_000,
        ),
    ),
    shown={"last_s": ("herd, last start", "s"), "lost": ("fire times lost in the herd", "")},
)
