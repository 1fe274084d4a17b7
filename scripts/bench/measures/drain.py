"""Drain: no-op functions that were submitted beforehand, 4 slots, results kept, events and log on.

The clock runs from the opening of the slots (Celery: from the first task its worker takes) until every result is kept.
Checked: every result is the number that was sent, Atlas has a line of log for each task and never more than the
promised hundred tasks between two commits.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from scripts.bench.contenders import ATLAS, CELERY, HUEY, THREAD_POOL
from scripts.bench.measure import Figures, Goal, Measure, Side, check, check_results

if TYPE_CHECKING:
    from pathlib import Path

SLOTS = 4


def atlas(folder: Path, size: int) -> Figures:
    """Atlas as it comes."""
    from scripts.bench.sides.atlas_queue import (
        CommitWindows,
        Gates,
        check_kept,
        running_queue,
        wait_final,
        writer_of,
    )

    windows = CommitWindows()

    def nothing(number: int) -> int:
        windows.note()
        return number

    with running_queue(folder, {"nothing": nothing}) as there:
        windows.writer = writer = writer_of(there)
        gates = Gates()
        gates.close(there)
        there.sync.submit_many("nothing", [(number,) for number in range(size)])
        commits, begun_s, cpu_s = writer.commits, time.perf_counter(), time.process_time()
        gates.open()
        wait_final(there, size + SLOTS)
        wall_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
        commits = writer.commits - commits
    check_kept(folder, "nothing", size)
    with (folder / "atlas.log").open(encoding="utf-8") as log:
        lines = sum("task succeeded" in line for line in log)
    check(lines >= size, f"{lines} lines of log for {size} tasks")
    return {
        "per_s": size / wall_s,
        "cpu_us": cpu_s / size * 1e6,
        "commits": commits,
        "between_commits": windows.most(size),
    }


def huey(folder: Path, size: int) -> Figures:
    """Huey with SQLite, results kept, 4 threads that look for work without rest."""
    from scripts.bench.sides import huey_queue

    there = huey_queue.opened(folder)
    called: list[int] = []

    @there.task()  # type: ignore[untyped-decorator]
    def nothing(number: int) -> int:
        called.append(number)
        return number

    handles = [nothing(number) for number in range(size)]
    consumer = huey_queue.consumer(there, initial_delay=0.001, max_delay=0.01)
    begun_s, cpu_s = time.perf_counter(), time.process_time()
    consumer.start()
    while len(called) < size or there.result_count() < size:
        time.sleep(0.005)
    wall_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
    consumer.stop(graceful=True)
    check_results([handle.get() for handle in handles], size)
    return {"per_s": size / wall_s, "cpu_us": cpu_s / size * 1e6}


def celery(folder: Path, size: int) -> Figures:
    """Celery with Redis, results on, 4 threads."""
    from scripts.bench.sides import celery_app

    with celery_app.keys():  # they are there before the worker is
        with celery_app.app.producer_pool.acquire(block=True) as producer:
            handles: list[Any] = [
                celery_app.nothing.apply_async((number,), producer=producer) for number in range(size)
            ]
        with celery_app.worker(folder, SLOTS) as keys:
            while (waiting := keys.waiting()) == size:
                time.sleep(0.002)
            begun_s = time.perf_counter()
            while keys.waiting():
                time.sleep(0.02)
            while keys.results() < size:
                time.sleep(0.02)
            wall_s = time.perf_counter() - begun_s
            check_results([handle.get() for handle in handles], size)
    return {"per_s": waiting / wall_s}


def pool(_folder: Path, size: int) -> Figures:
    """The floor: threads behind a priority queue, results in a dict."""
    line: queue.PriorityQueue[tuple[int, int]] = queue.PriorityQueue()
    results: dict[int, int] = {}

    def nothing(number: int) -> int:
        return number

    def slot() -> None:
        while True:
            priority, number = line.get()
            if priority:
                return
            results[number] = nothing(number)

    for number in range(size):
        line.put((0, number))
    for number in range(SLOTS):
        line.put((1, number))
    threads = [threading.Thread(target=slot) for _ in range(SLOTS)]
    begun_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - begun_s
    check_results(sorted(results.values()), size)
    return {"per_s": size / wall_s}


MEASURE = Measure(
    title="drain of no-op functions, 4 slots",
    sizes=(20_000,),
    quick=5_000,
    sides=(
        Side(who=ATLAS, run=atlas),
        Side(who=HUEY, run=huey, rounds=2),
        Side(who=CELERY, run=celery, rounds=1),
        Side(who=THREAD_POOL, run=pool),
    ),
    goals=(
        Goal(what="drain of {size}", figure="per_s", to="huey", must=8, reach=12, least=True, unit="/s"),
        Goal(what="drain of {size}", figure="per_s", to="Celery", must=20, reach=35, least=True, unit="/s"),
        Goal(what="tasks started between two commits", figure="between_commits", must=104, reach=104, unit=""),
    ),
    shown={"per_s": ("drained", "/s"), "cpu_us": ("CPU of the process for a drained task", "µs")},
)
