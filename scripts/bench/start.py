"""Start: with ten thousand jobs that are new, and again with nothing changed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scripts.bench.measure import Figures, Goal, Measure, Side, check

if TYPE_CHECKING:
    from pathlib import Path

SCHEDULE = "20 15 3 * * *"


def atlas(folder: Path, size: int) -> Figures:
    """From nothing to a running scheduler, database and all; then once more, with not one row of a job written."""
    from scripts.bench.workloads import counted_writes, write_jobs_file

    write_jobs_file(folder / "jobs.json", size, SCHEDULE)
    new_s = _started_s(folder, size)
    writes = counted_writes(folder / "atlas.db", "apscheduler_jobs")
    again_s = _started_s(folder, size)
    check(writes() == [], "a restart writes no row of a job")
    return {"new_s": new_s, "again_s": again_s}


def _started_s(folder: Path, size: int) -> float:
    from scripts.bench.workloads import scheduler_in

    begun_s = time.perf_counter()
    with scheduler_in(folder, int) as scheduler:
        started_s = time.perf_counter() - begun_s
        check(len(scheduler.get_jobs()) == size, "every job is there")
    return started_s


def stock(file: Path | None, size: int) -> Figures:
    """Start, and put every job in place, as programs on stock do; then once more on what is stored."""
    from scripts.bench import stock as apscheduler

    figures: Figures = {}
    for name in ("new_s", "again_s"):
        begun_s = time.perf_counter()
        scheduler = apscheduler.scheduler(file)
        apscheduler.add(scheduler, size)
        scheduler.resume()
        figures[name] = time.perf_counter() - begun_s
        check(len(scheduler.get_jobs()) == size, "every job is there")
        scheduler.shutdown(wait=False)
    return figures


MEASURE = Measure(
    name="start",
    title="start with 10,000 jobs in the file",
    sizes=(10_000, 1_000, 100),
    sides=(
        Side(
            name="Atlas",
            run=atlas,
            durability="accepted work is on the disk; at most 100 ends may be repeated after a crash",
        ),
        Side(
            name="APScheduler SQLite",
            run=lambda folder, size: stock(folder / "stock.db", size),
            durability="next fire times are on the disk, what started or failed is not; no results",
            rounds=1,
            sizes=(10_000,),
        ),
    ),
    goals=(
        Goal(what="start with 10,000 new jobs", figure="new_s", to="APScheduler SQLite", must=1 / 25, reach=1 / 60),
        Goal(what="the same, nothing changed", figure="again_s", to="APScheduler SQLite", must=1 / 100, reach=1 / 400),
    ),
)
