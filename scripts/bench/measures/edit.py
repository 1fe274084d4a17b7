"""Edit: one job of thousands gets another schedule in the file; from the moment that is noticed until it holds.

The scheduler watches its file as it always does, an editor saves by renaming. Checked: the edited jobs move, no other
one does, and the database counts the rows of jobs that are written.
"""

from __future__ import annotations

import json
import queue
import time
from statistics import median
from typing import TYPE_CHECKING

from scripts.bench.contenders import ATLAS
from scripts.bench.measure import Figures, Goal, Measure, Side, check

if TYPE_CHECKING:
    from pathlib import Path

    from atlas.scheduler.reconcile.file import Seen
    from atlas.scheduler.reconcile.reconciler import Reconciler

SCHEDULE = "20 15 3 * * *"
EDITS = 3
LIMIT_S = 30.0


def atlas(folder: Path, size: int) -> Figures:
    """Medians of three edits, a few seconds apart."""
    from scripts.bench.sides.atlas_scheduler import run_jobs_file
    from scripts.bench.sides.sqlite_file import counted_writes, rows

    file, database = folder / "jobs.json", folder / "atlas.db"
    found: dict[str, list[float]] = {"applied_s": [], "saved_s": []}
    due = "SELECT id, next_run_time FROM apscheduler_jobs"
    with run_jobs_file(folder, size, SCHEDULE, int) as scheduler:
        writes = counted_writes(database, "apscheduler_jobs")
        before = dict(rows(database, due))
        noticed = _timed(scheduler.reconciler)
        for number in range(EDITS):
            saved_s = time.perf_counter()
            _save(file, f"job_{number * (size // EDITS)}", f"{number} 30 4 * * *")
            found["applied_s"].append(noticed.get(timeout=LIMIT_S))
            found["saved_s"].append(time.perf_counter() - saved_s)
        written, after = writes(), dict(rows(database, due))
    moved = {job for job, at in after.items() if at != before[job]}
    check(len(after) == size, f"{len(after)} jobs of {size} are there")
    check(moved == {f"job_{number * (size // EDITS)}" for number in range(EDITS)}, f"other jobs moved: {sorted(moved)}")
    return {name: median(values) for name, values in found.items()} | {"rows": len(written) / EDITS}


def _timed(reconciler: Reconciler) -> queue.Queue[float]:
    """How long the watcher's calls take that end with a new content in force."""
    lasted: queue.Queue[float] = queue.Queue()
    notice = reconciler.notice

    def timed(seen: Seen, stood_s: float) -> bool:
        begun_s = time.perf_counter()
        dealt_with = notice(seen, stood_s)
        if dealt_with:
            lasted.put(time.perf_counter() - begun_s)
        return dealt_with

    reconciler.notice = timed  # type: ignore[method-assign]
    return lasted


def _save(file: Path, job: str, schedule: str) -> None:
    text = json.loads(file.read_text("utf-8"))
    text["cron_jobs"][job]["cron_expression"] = schedule
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(text, indent=1), "utf-8")
    fresh.replace(file)


MEASURE = Measure(
    title="one job of many edited in the file",
    sizes=(10_000, 1_000, 100),
    quick=10_000,
    sides=(Side(who=ATLAS, run=atlas),),
    goals=(
        Goal(what="one job of {size} edited, noticed to applied", figure="applied_s", must=0.1, reach=0.05),
        Goal(what="rows of jobs written for it", figure="rows", must=1, reach=1, unit=""),
        Goal(what="the same, saved to applied", figure="saved_s", must=2, reach=2),
    ),
    shown={"applied_s": ("one job edited, noticed to applied", "s")},
)
