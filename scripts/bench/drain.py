"""Drain: no-op functions that were submitted beforehand, 4 slots, results kept, events and log on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scripts.bench.measure import Figures, Goal, Measure, Side, check

if TYPE_CHECKING:
    from pathlib import Path

SLOTS = 4


def atlas(folder: Path, size: int) -> Figures:
    """Atlas as it comes: SQLite, durability ``full``."""
    from atlas.scheduler.event_log import event_log
    from atlas.scheduler.queue import TaskQueue
    from atlas.scheduler.registry import Registry
    from scripts.bench.workloads import Gates, log_to, rows, wait_final

    log_to(folder)
    per_commit: dict[int, int] = {}
    registry = Registry()

    @registry.register("nothing")
    def nothing(number: int) -> int:
        commit = writer.commits
        per_commit[commit] = per_commit.get(commit, 0) + 1
        return number

    with TaskQueue(SLOTS, store=folder / "atlas.db", registry=registry).sync as sync:
        queue = sync._queue  # noqa: SLF001 - the face has no look into the store
        store = queue.store
        assert store is not None
        writer = store.writer
        store.events.subscribe(event_log("INFO"))
        gates = Gates(SLOTS)
        gates.close(queue)
        begun_s = time.perf_counter()
        ids = sync.submit_many("nothing", [(number,) for number in range(size)])
        submitted_s = time.perf_counter() - begun_s
        commits, begun_s, cpu_s = writer.commits, time.perf_counter(), time.process_time()
        gates.open()
        wait_final(queue, size + SLOTS)
        wall_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
        commits = writer.commits - commits
    found = dict(
        rows(folder / "atlas.db", "SELECT id, result FROM tasks WHERE status = 'SUCCESS' AND function = 'nothing'")
    )
    check([found[one] for one in ids] == [str(number) for number in range(size)], "results are what was sent")
    lines = sum("task succeeded" in line for line in (folder / "atlas.log").open(encoding="utf-8"))
    check(lines >= size, f"{lines} lines of log for {size} tasks")
    return {
        "per_s": size / wall_s,
        "cpu_us": cpu_s / size * 1e6,
        "commits": commits,
        "between_commits": max(per_commit.values()),
        "submit_many_per_s": size / submitted_s,
    }


def huey(folder: Path, size: int) -> Figures:
    """Huey with SQLite, results kept, 4 threads."""
    from huey import SqliteHuey

    queue = SqliteHuey(filename=str(folder / "huey.db"), fsync=True, strict_fifo=False)

    @queue.task()  # type: ignore[untyped-decorator]
    def nothing(number: int) -> int:
        return number

    handles = [nothing(number) for number in range(size)]
    consumer = queue.create_consumer(
        workers=SLOTS, worker_type="thread", periodic=False, initial_delay=0.001, max_delay=0.01
    )
    begun_s, cpu_s = time.perf_counter(), time.process_time()
    consumer.start()
    while queue.result_count() < size:
        time.sleep(0.01)
    wall_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
    consumer.stop(graceful=True)
    check([handle.get() for handle in handles] == list(range(size)), "results are what was sent")
    return {"per_s": size / wall_s, "cpu_us": cpu_s / size * 1e6}


def celery(folder: Path, size: int) -> Figures:
    """Celery with Redis, results on, 4 threads; timed from the first task it takes to the last result."""
    from scripts.bench import celery_app

    with celery_app.keys():  # they are there before the worker is
        with celery_app.app.producer_pool.acquire(block=True) as producer:
            handles: list[Any] = [
                celery_app.nothing.apply_async((number,), producer=producer) for number in range(size)
            ]
        with celery_app.worker(folder, SLOTS) as keys:
            while (first := keys.waiting()) == size:
                time.sleep(0.002)
            begun_s = time.perf_counter()
            while keys.waiting():
                time.sleep(0.02)
            while keys.results() < size:
                time.sleep(0.02)
            wall_s = time.perf_counter() - begun_s
            check([handle.get() for handle in handles] == list(range(size)), "results are what was sent")
    return {"per_s": first / wall_s}


def pool(_folder: Path, size: int) -> Figures:
    """The floor: a thread pool behind a priority queue, nothing kept."""
    import queue
    import threading

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
    check(len(results) == size, "results are what was sent")
    return {"per_s": size / wall_s}


MEASURE = Measure(
    name="drain",
    title="drain of 20,000 no-op functions, 4 slots",
    sizes=(20_000,),
    sides=(
        Side(
            name="Atlas",
            run=atlas,
            durability="accepted work is on the disk; at most 100 ends may be repeated after a crash",
        ),
        Side(
            name="huey",
            run=huey,
            home="peer",
            durability="each step is on the disk (synchronous=FULL); a task that was taken is lost by a crash",
            rounds=2,
        ),
        Side(
            name="Celery",
            run=celery,
            home="peer",
            asked=True,
            durability="in Redis's memory; written to disk as Redis is set up",
            rounds=1,
        ),
        Side(name="thread pool", run=pool, durability="none", rounds=3),
    ),
    goals=(
        Goal(what="drained per second, × huey", figure="per_s", to="huey", must=8, reach=12, least=True, unit="/s"),
        Goal(
            what="drained per second, × Celery", figure="per_s", to="Celery", must=20, reach=35, least=True, unit="/s"
        ),
        Goal(what="tasks started between two commits", figure="between_commits", must=104, reach=104, unit=""),
    ),
    shown={"per_s": "/s", "cpu_us": "µs CPU a task"},
)
