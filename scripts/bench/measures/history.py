"""History: what a status change, the metrics and the latest 50 tasks cost behind 1e4, 1e5 and 1e6 tasks that ended.

The file is filled by SQL from one task that Atlas itself ran; a status change is a row of a real task that the store
writes in a commit of a hundred, with its counters, its event and its line of log, as the queue has it written.
Checked: every task is kept and counted, and what is found is the newest.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from statistics import median
from typing import TYPE_CHECKING

from scripts.bench.contenders import ATLAS
from scripts.bench.measure import Figures, Goal, Measure, Side, check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from atlas.scheduler.status import StatusManager
    from atlas.scheduler.store.store import Store
    from atlas.scheduler.task import Task

GROUP, GROUPS = 100, 40
LOOKS = 25
JOBS = 100
MADE_UP = {
    "id": "printf('%022x', n)",
    "job_id": f"'job_' || (n % {JOBS})",
    "status": "iif(n % 50, 'SUCCESS', 'FAILED')",
    "cause": "iif(n % 50, NULL, 'error')",
    "error": "iif(n % 50, NULL, 'ValueError: no')",
    "created_at": "created_at - 86400 + n * 0.01",
    "started_at": "created_at - 86400 + n * 0.01 + 0.001",
    "finished_at": "created_at - 86400 + n * 0.01 + 0.002",
}
"""Columns of the task of number ``n``; the others are those of the task that ran."""


def atlas(folder: Path, size: int) -> Figures:
    """Medians over groups of changes and over looks, all on one file with ``size`` final tasks."""
    from atlas.scheduler.event_log import EventLog
    from atlas.scheduler.status import StatusManager
    from atlas.scheduler.store.store import open_store
    from scripts.bench.sides.atlas_queue import log_to
    from scripts.bench.sides.sqlite_file import rows

    log_to(folder)
    database = folder / "atlas.db"
    _run_one(folder)
    fill(database, size)
    store = open_store(database)
    store.events.subscribe(EventLog("INFO"))
    with closing(store), StatusManager(None, store=store, keep_days=None, keep_tasks=None) as status:
        figures = {"change_us": _changes(store)} | _looks(status, size)
        total = status.get_metrics().total_tasks
    expected = size + GROUP * GROUPS
    kept = rows(database, "SELECT count(*) FROM tasks WHERE finished_at IS NOT NULL")
    check(kept == [(expected,)] and total == expected, f"{total} are counted and {kept} kept of {expected}")
    return figures


def _run_one(folder: Path) -> None:
    from scripts.bench.sides.atlas_queue import running_queue

    with running_queue(folder, {"nothing": int}) as there:
        there.sync.get_task_result(there.sync.submit("nothing", 7))


def fill(database: Path, size: int) -> None:
    """Make ``size`` final tasks of the one that is there, counted in the lifetime totals like any other."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        names = [name for _, name, *_ in connection.execute("PRAGMA table_info(tasks)")]
        values = ", ".join(MADE_UP.get(name, name) for name in names)
        connection.execute("CREATE TEMP TABLE one AS SELECT * FROM tasks")
        connection.execute("DELETE FROM tasks")
        connection.execute("DELETE FROM counters")
        connection.execute(
            f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {size}) "  # noqa: S608
            f"INSERT INTO tasks ({', '.join(names)}) SELECT {values} FROM numbers, one"
        )
        lasted = "finished_at - started_at"
        connection.execute(
            "INSERT INTO counters (job_id, status, tasks, timed, duration_s, min_s, max_s) "  # noqa: S608
            f"SELECT job_id, status, count(*), count(*), sum({lasted}), min({lasted}), max({lasted}) "
            "FROM tasks GROUP BY job_id, status"
        )
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _changes(store: Store) -> float:
    """CPU of the whole process for one change, µs: half are PENDING → RUNNING, half RUNNING → SUCCESS."""
    from atlas.scheduler.task import Task, TaskIds, TaskStatus

    now, ids, spent = store.clock.now(), TaskIds(), []
    for number in range(GROUPS):
        group = [
            Task(id=ids.new(now), name="nothing", function="nothing", job_id=f"job_{number}", created_at=now)
            for _ in range(GROUP)
        ]
        ticket = store.ticket()
        store.writer.accept(group, ticket)
        ticket.wait()
        check(store.events.drain(60), "the events are told")
        begun_s = time.process_time()
        for status in (TaskStatus.RUNNING, TaskStatus.SUCCESS):
            now = store.clock.now()
            for task in group:
                was = task.status
                task.move(status)
                task.started_at, task.finished_at = task.started_at or now, now if status.is_final else None
                store.writer.change(task, was, now)
            store.write(lambda _connection: None)  # behind the commit that holds them
        check(store.events.drain(60), "the events are told")
        spent.append((time.process_time() - begun_s) / GROUP / 2)
    return median(spent) * 1e6


def _looks(status: StatusManager, size: int) -> Figures:
    figures = {
        "metrics_s": _median_s(status.get_metrics),
        "metrics_of_job_s": _median_s(lambda: status.get_metrics("job_7")),
    }
    latest: dict[str, Callable[[], list[Task]]] = {
        "job": lambda: status.get_tasks(job="job_7", limit=50),
        "success": lambda: status.get_tasks(status="SUCCESS", limit=50),
        "failed": lambda: status.get_tasks(status="FAILED", limit=50),
        "all": lambda: status.get_tasks(limit=50),
    }
    there = {"job": size // JOBS, "failed": size // 50}
    for name, look in latest.items():
        figures[f"latest_of_{name}_s"] = _median_s(look)
        found = look()
        newest = sorted(found, key=lambda task: (task.created_at, task.id), reverse=True)
        check(len(found) >= min(50, there.get(name, 50)) and found == newest, f"the latest of {name} are found")
    return figures


def _median_s(call: Callable[[], object]) -> float:
    spent = []
    for _ in range(LOOKS):
        begun_s = time.perf_counter()
        call()
        spent.append(time.perf_counter() - begun_s)
    return median(spent)


MEASURE = Measure(
    title="behind a history of final tasks",
    sizes=(1_000_000, 100_000, 10_000),
    quick=50_000,
    rounds=1,
    sides=(Side(who=ATLAS, run=atlas),),
    goals=(
        Goal(what="CPU of a status change, history of {size}", figure="change_us", must=50, reach=25, unit="µs"),
        Goal(
            what="the same, to that of 10,000",
            figure="change_us",
            to="Atlas",
            to_size=10_000,
            must=1.5,
            reach=1.1,
            unit="µs",
        ),
        Goal(what="metrics, history of {size}", figure="metrics_s", must=0.001, reach=0.0001),
        Goal(
            what="the same, to that of 10,000",
            figure="metrics_s",
            to="Atlas",
            to_size=10_000,
            must=1.5,
            reach=1.1,
        ),
        *(
            Goal(what=f"latest 50 {what}, history of {{size}}", figure=f"latest_of_{name}_s", must=0.005, reach=0.001)
            for name, what in (
                ("job", "of a job"),
                ("success", "that succeeded"),
                ("failed", "that failed"),
                ("all", "of all"),
            )
        ),
    ),
    shown={
        "change_us": ("CPU of a status change", "µs"),
        "metrics_s": ("metrics", "s"),
        "latest_of_job_s": ("latest 50 of a job", "s"),
        "latest_of_success_s": ("latest 50 that succeeded", "s"),
        "latest_of_all_s": ("latest 50 of all", "s"),
    },
)
