"""Memory: a whole process with ten thousand jobs and as many final tasks."""

from __future__ import annotations

import gc
import time
from pathlib import Path

from scripts.bench.measure import Figures, Goal, Measure, Side, check


def atlas(folder: Path, size: int) -> Figures:
    """The scheduler without and with its pages, after the tasks have ended; and what it costs while nothing happens."""
    from scripts.bench.workloads import run_jobs_file, until

    with run_jobs_file(folder, size, "20 15 3 * * *", int) as scheduler:
        for _ in range(size // 1000):
            scheduler.queue.sync.submit_many("nothing", [()] * 1000)
        totals = scheduler.store.totals
        until(lambda: sum(n for status, n in totals.metrics().by_status.items() if status.is_final) >= size)
        check(scheduler.store.events.drain(60), "the events are told")
        gc.collect()
        time.sleep(2)
        held_mb = resident_mb()
        cpu_s, begun_s = time.process_time(), time.monotonic()
        time.sleep(10)
        idle = (time.process_time() - cpu_s) / (time.monotonic() - begun_s)
        return {"mb": held_mb, "idle_percent": idle * 100}


def resident_mb() -> float:
    """What this process holds in memory (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise OSError("the kernel does not say what this process holds")


MEASURE = Measure(
    name="memory",
    title="memory and idle CPU, 10,000 jobs and 10,000 final tasks",
    sizes=(10_000,),
    rounds=2,
    sides=(
        Side(
            name="Atlas",
            run=atlas,
            durability="accepted work is on the disk; at most 100 ends may be repeated after a crash",
        ),
    ),
    goals=(
        Goal(what="memory, 10,000 jobs and 10,000 final tasks", figure="mb", must=70, reach=62, unit="MB"),
        Goal(what="CPU while idle, 10,000 jobs", figure="idle_percent", must=0.05, reach=0.01, unit="%"),
    ),
)
