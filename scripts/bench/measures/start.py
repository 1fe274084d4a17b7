"""Start: with jobs that are all new, and again with nothing changed.

Atlas starts whole, to a running scheduler, on its jobs file. Stock starts and puts every job in place, as programs on
it do. What importing costs is another measure. Checked: every job is there, and Atlas's second start writes no row of a
job (the database counts).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scripts.bench.contenders import ATLAS, STOCK_SQLITE
from scripts.bench.measure import Figures, Goal, Measure, Side, check

if TYPE_CHECKING:
    from pathlib import Path

SCHEDULE = "20 15 3 * * *"


def atlas(folder: Path, size: int) -> Figures:
    """Atlas as it comes."""
    from scripts.bench.sides.atlas_scheduler import write_jobs_file
    from scripts.bench.sides.sqlite_file import counted_writes

    write_jobs_file(folder / "jobs.json", size, SCHEDULE)
    new_s = _started_s(folder, size)
    writes = counted_writes(folder / "atlas.db", "apscheduler_jobs")
    again_s = _started_s(folder, size)
    check(writes() == [], f"a restart writes {len(writes())} rows of jobs")
    return {"new_s": new_s, "again_s": again_s}


def _started_s(folder: Path, size: int) -> float:
    from atlas import AtlasScheduler  # noqa: F401 - loads its modules, as stock's are loaded
    from scripts.bench.sides.atlas_scheduler import scheduler_in

    begun_s = time.perf_counter()
    with scheduler_in(folder, int) as scheduler:
        started_s = time.perf_counter() - begun_s
        check(len(scheduler.get_jobs()) == size, "every job is there")
    return started_s


def stock(folder: Path, size: int) -> Figures:
    """Stock on SQLite."""
    from scripts.bench.sides.apscheduler_stock import Stock

    figures: Figures = {}
    for name in ("new_s", "again_s"):
        begun_s = time.perf_counter()
        there = Stock(f"sqlite:///{folder}/stock.db")
        there.add_daily(size)
        there.scheduler.resume()
        figures[name] = time.perf_counter() - begun_s
        check(len(there.scheduler.get_jobs()) == size, "every job is there")
        there.scheduler.shutdown(wait=False)
    return figures


MEASURE = Measure(
    title="start with jobs in the file",
    sizes=(10_000, 1_000, 100),
    quick=1_000,
    sides=(Side(who=ATLAS, run=atlas), Side(who=STOCK_SQLITE, run=stock, rounds=1)),
    goals=(
        Goal(what="start with {size} new jobs", figure="new_s", to="APScheduler SQLite", must=1 / 25, reach=1 / 60),
        Goal(what="the same, unchanged", figure="again_s", to="APScheduler SQLite", must=1 / 100, reach=1 / 400),
    ),
    shown={"new_s": ("start with new jobs", "s"), "again_s": ("start with unchanged jobs", "s")},
)
