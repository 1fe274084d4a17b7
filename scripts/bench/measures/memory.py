"""Memory: a whole process with ten thousand jobs and as many final tasks, without and with its pages; and at rest.

What is measured is this process, the bench's few modules included. Another one asks for the pages.
Checked: every job is in the file, every task has ended, every page answers.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.bench.contenders import ATLAS, ATLAS_WITH_PAGES
from scripts.bench.measure import Figures, Goal, Measure, Side, check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atlas.service import AtlasScheduler

PAGES = ("", "jobs", "jobs/job_0", "tasks", "queue", "config", "system", "api/v1/jobs", "metrics")
GROUP = 100
"""Tasks that are unfinished at once: what is measured is a history, not a herd."""
SETTLE_S, IDLE_S = 2.0, 10.0
ASK = """
import sys, urllib.request
for address in sys.argv[1:]:
    with urllib.request.urlopen(address) as answer:
        assert len(answer.read()) > 100, address
"""


def atlas(folder: Path, size: int) -> Figures:
    """The scheduler alone, after its tasks have ended; and the CPU it takes while nothing happens."""
    from atlas.scheduler.status import CLEAN_FIRST_S

    started_s = time.monotonic()
    with _lived_in(folder, size):
        figures = {"mb": resident_mb()}
        idle_s = min(IDLE_S, size / 1000)  # a try with few jobs need not be long
        if idle_s == IDLE_S:  # once behind a start, and then once an hour, old tasks are looked for: that is no rest
            time.sleep(max(0.0, started_s + CLEAN_FIRST_S + IDLE_S - time.monotonic()))
        cpu_s, begun_s = time.process_time(), time.monotonic()
        time.sleep(idle_s)
        idle = (time.process_time() - cpu_s) / (time.monotonic() - begun_s)
        return figures | {"idle_percent": idle * 100}


def with_pages(folder: Path, size: int) -> Figures:
    """The scheduler and its web server, after a few pages and answers of the API, each asked for twice."""
    from atlas.web.server import WebServer

    with _lived_in(folder, size) as scheduler:
        server = WebServer(scheduler).start()
        try:
            asked = [server.address + page for page in PAGES]
            subprocess.run([sys.executable, "-c", ASK, *asked, *asked], check=True)  # noqa: S603 - fixed above
            time.sleep(min(SETTLE_S, size / 1000))
            return {"mb": resident_mb()}
        finally:
            server.stop()


@contextmanager
def _lived_in(folder: Path, size: int) -> Iterator[AtlasScheduler]:
    """A scheduler with ``size`` jobs that has ended as many tasks."""
    from scripts.bench.sides.atlas_queue import wait_final
    from scripts.bench.sides.atlas_scheduler import run_jobs_file
    from scripts.bench.sides.sqlite_file import rows

    with run_jobs_file(folder, size, "20 15 3 * * *", int) as scheduler:
        for done in range(0, size, GROUP):
            group = min(GROUP, size - done)
            scheduler.queue.sync.submit_many("nothing", [()] * group)
            wait_final(scheduler.queue, done + group)
        kept = rows(folder / "atlas.db", "SELECT count(*) FROM apscheduler_jobs")
        check(kept == [(size,)], f"{kept} jobs of {size} are there")
        time.sleep(min(SETTLE_S, size / 1000))
        yield scheduler


def resident_mb() -> float:
    """What this process holds in memory (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise OSError("the kernel does not say what this process holds")


MEASURE = Measure(
    title="memory and idle CPU, as many jobs as final tasks",
    sizes=(10_000, 1_000),
    quick=10_000,
    rounds=3,
    sides=(Side(who=ATLAS, run=atlas), Side(who=ATLAS_WITH_PAGES, run=with_pages)),
    goals=(
        Goal(what="memory, {size} jobs and final tasks", figure="mb", must=70, reach=62, unit="MB"),
        Goal(what="the same, with pages", side=ATLAS_WITH_PAGES.name, figure="mb", must=80, reach=70, unit="MB"),
        Goal(what="CPU while idle, {size} jobs", figure="idle_percent", must=0.05, reach=0.01, unit="%"),
    ),
    shown={"mb": ("memory", "MB")},
)
