"""Herd: ten thousand jobs due in the same second; how long until the last one starts, and what is lost."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from scripts.bench.measure import Figures, Goal, Measure, Side, check

if TYPE_CHECKING:
    from pathlib import Path

IDLE_S = 3.0
"""Nothing started for so long: what is missing is lost."""
IDLE_OF_SQLITE_S = 90.0
"""A pass of stock on SQLite starts nothing until it has written every job, and that may take a minute."""


def atlas(folder: Path, size: int) -> Figures:
    """Atlas as it comes, but for the slots: the whole scheduler on its SQLite file, jobs from the jobs file."""
    from scripts.bench.workloads import rows, run_jobs_file, until

    lead_s = 3 + size / 2500
    due = (datetime.now(UTC) + timedelta(seconds=lead_s + 1)).replace(microsecond=0)
    schedule = f"{due.second} {due.minute} {due.hour} * * *"
    begun: list[float] = []
    with run_jobs_file(folder, size, schedule, lambda: begun.append(time.time())) as scheduler:
        check(time.time() < due.timestamp(), f"the jobs were not loaded within {lead_s:g} s")
        time.sleep(max(0.0, due.timestamp() - time.time() - 0.2))
        cpu_s = time.process_time()
        totals = scheduler.store.totals
        until(lambda: sum(n for status, n in totals.metrics().by_status.items() if status.is_final) >= size)
        cpu_s = time.process_time() - cpu_s
    served = rows(folder / "atlas.db", "SELECT count(*), count(DISTINCT job_id), count(task_id) FROM fires")[0]
    done = rows(folder / "atlas.db", "SELECT count(*) FROM tasks WHERE status = 'SUCCESS'")[0][0]
    check(served == (size, size, size), f"each fire time is served once: {served}")
    check(done == size == len(begun), f"{done} tasks succeeded, {len(begun)} calls")
    return {"last_s": max(begun) - due.timestamp(), "cpu_s": cpu_s, "lost": size - len(begun)}


def _stock(file: Path | None, size: int, *, lead_s: float, **defaults: object) -> Figures:
    """Stock: all jobs are added while it is paused; it goes on when they are due, or ahead of that by ``lead_s``."""
    from scripts.bench import stock

    scheduler = stock.scheduler(file, **defaults)
    due = datetime.now(UTC) + timedelta(seconds=lead_s)
    stock.add(scheduler, size, at=due)
    check(lead_s == 0 or datetime.now(UTC) < due, f"the jobs were not added within {lead_s:g} s")
    from_s = max(time.time(), due.timestamp())
    cpu_s = time.process_time()
    scheduler.resume()
    while time.time() < from_s:
        time.sleep(0.01)
    seen, since = 0, time.monotonic()
    idle_s = IDLE_S if file is None else IDLE_OF_SQLITE_S
    while len(stock.started) < size and time.monotonic() - since < idle_s:
        if len(stock.started) > seen:
            seen, since = len(stock.started), time.monotonic()
        time.sleep(0.01)
    cpu_s = time.process_time() - cpu_s
    scheduler.shutdown(wait=False)
    return {"last_s": max(stock.started) - from_s, "cpu_s": cpu_s, "lost": size - len(stock.started)}


def stock_sqlite(folder: Path, size: int) -> Figures:
    """Stock on SQLite, told never to drop a late fire time."""
    return _stock(folder / "stock.db", size, lead_s=0, misfire_grace_time=None)


def stock_memory(_folder: Path, size: int) -> Figures:
    """Stock in memory, told never to drop a late fire time."""
    return _stock(None, size, lead_s=0, misfire_grace_time=None)


def stock_defaults(_folder: Path, size: int) -> Figures:
    """Stock in memory as it comes: what is later than a second is dropped."""
    return _stock(None, size, lead_s=3 + size / 1000)


MEASURE = Measure(
    name="herd",
    title="10,000 jobs due in the same second, 4 slots",
    sizes=(10_000, 1_000, 50_000),
    sides=(
        Side(
            name="Atlas",
            run=atlas,
            durability="accepted work is on the disk; at most 100 ends may be repeated after a crash",
        ),
        Side(
            name="APScheduler SQLite",
            run=stock_sqlite,
            durability="next fire times are on the disk, what started or failed is not; no results",
            rounds=1,
            sizes=(10_000,),
        ),
        Side(name="APScheduler memory", run=stock_memory, durability="none", rounds=2, sizes=(10_000, 1_000)),
        Side(name="APScheduler memory, defaults", run=stock_defaults, durability="none", rounds=1, sizes=(10_000,)),
    ),
    goals=(
        Goal(what="herd of 10,000: last start", figure="last_s", to="APScheduler SQLite", must=1 / 25, reach=1 / 50),
        Goal(what="herd of 10,000: last start", figure="last_s", to="APScheduler memory", must=1, reach=1 / 2),
        Goal(
            what="herd of 10,000: CPU of the process",
            figure="cpu_s",
            to="APScheduler SQLite",
            must=1 / 25,
            reach=1 / 40,
        ),
        Goal(what="fire times lost of 10,000", figure="lost", must=0, reach=0, unit=""),
        Goal(what="fire times lost of 50,000", figure="lost", must=0, reach=0, unit="", size=50_000),
        Goal(
            what="herd of 50,000: last start, to that of 10,000",
            figure="last_s",
            to="Atlas",
            must=7.5,
            reach=5,
            size=50_000,
            to_size=10_000,
        ),
    ),
)
