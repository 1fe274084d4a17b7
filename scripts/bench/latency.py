"""Latency: from the call of submit to the start of the function, at a hundred tasks a second, priority NORMAL.

One thread submits at an even pace and waits for each submit to return; the first tasks are not counted. Times are of
the clock that all processes of a machine share (``CLOCK_MONOTONIC``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from scripts.bench.measure import Figures, Goal, Measure, Side, check, share

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SLOTS = 4
PER_S = 100
WARMING = 20
LIMIT_S = 60.0


def atlas(folder: Path, size: int, durability: Literal["full", "normal"] = "full") -> Figures:
    """Atlas as it comes, but for ``durability``."""
    from atlas.scheduler.event_log import event_log
    from atlas.scheduler.queue import TaskQueue
    from atlas.scheduler.registry import Registry
    from atlas.scheduler.store.store import open_store
    from scripts.bench.workloads import log_to, rows, wait_final

    log_to(folder)
    count = size + WARMING
    started: dict[int, float] = {}
    registry = Registry()

    @registry.register("note")
    def note(number: int) -> int:
        started[number] = time.monotonic()
        return number

    store = open_store(folder / "atlas.db", durability=durability)
    try:
        store.events.subscribe(event_log("INFO"))
        queue = TaskQueue(SLOTS, store=store, registry=registry)
        with queue.sync as sync:
            called = at_an_even_pace(lambda number: sync.submit("note", number, priority="normal"), count)
            wait_final(queue, count)
    finally:
        store.close()
    kept = rows(folder / "atlas.db", "SELECT result FROM tasks WHERE status = 'SUCCESS' ORDER BY CAST(result AS INT)")
    check(kept == [(str(number),) for number in range(count)], "results are what was sent")
    return waits(called, started, count)


def at_an_even_pace(submit: Callable[[int], object], count: int) -> dict[int, float]:
    """Submit ``count`` numbers; returns when each call was made."""
    called: dict[int, float] = {}
    begun_s = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begun_s + number / PER_S - time.monotonic()))
        called[number] = time.monotonic()
        submit(number)
    return called


def waits(called: dict[int, float], started: dict[int, float], count: int) -> Figures:
    """Percentiles of what lies between, without the first."""
    check(sorted(started) == list(range(count)), f"{len(started)} tasks of {count} have started")
    spent = [started[number] - called[number] for number in range(WARMING, count)]
    check(min(spent) > 0, "nothing starts before it is submitted")
    return {"p50_s": share(spent, 0.5), "p99_s": share(spent, 0.99), "most_s": max(spent)}


def huey(folder: Path, size: int) -> Figures:
    """Huey with SQLite, 4 threads, as often looking for work as it comes: every 0.1 s."""
    from huey import SqliteHuey

    queue = SqliteHuey(filename=str(folder / "huey.db"), fsync=True, strict_fifo=False)
    started: dict[int, float] = {}

    @queue.task()  # type: ignore[untyped-decorator]
    def note(number: int) -> int:
        started[number] = time.monotonic()
        return number

    count = size + WARMING
    consumer = queue.create_consumer(workers=SLOTS, worker_type="thread", periodic=False)
    consumer.start()
    handles = []
    called = at_an_even_pace(lambda number: handles.append(note(number)), count)
    found = [handle.get(blocking=True, timeout=LIMIT_S) for handle in handles]
    consumer.stop(graceful=True)
    check(found == list(range(count)), "results are what was sent")
    return waits(called, started, count)


def celery(folder: Path, size: int) -> Figures:
    """Celery with Redis, results on, 4 threads; its functions return when they started."""
    from scripts.bench import celery_app

    count = size + WARMING
    with celery_app.worker(folder, SLOTS):
        celery_app.started.delay(0).get(timeout=LIMIT_S)  # the worker is there
        handles = []
        called = at_an_even_pace(lambda number: handles.append(celery_app.started.delay(number)), count)
        found = [handle.get(timeout=LIMIT_S) for handle in handles]
    check([number for number, _ in found] == list(range(count)), "results are what was sent")
    return waits(called, dict(found), count)


FULL, NORMAL = "Atlas", "Atlas, durability normal"
MEASURE = Measure(
    name="latency",
    title="submit to start, 100 tasks a second",
    sizes=(1000,),
    sides=(
        Side(name=FULL, run=atlas, durability="accepted work is on the disk; at most 100 ends may be repeated"),
        Side(
            name=NORMAL,
            run=lambda folder, size: atlas(folder, size, "normal"),
            durability="accepted work survives the process; a power cut may take the newest",
        ),
        Side(
            name="huey",
            run=huey,
            home="peer",
            durability="each step is on the disk (synchronous=FULL); a task that was taken is lost by a crash",
            rounds=1,
        ),
        Side(
            name="Celery",
            run=celery,
            home="peer",
            asked=True,
            durability="in Redis's memory; written to disk as Redis is set up",
        ),
    ),
    goals=(
        Goal(what="submit to start, `normal`, p50", side=NORMAL, figure="p50_s", must=0.0006, reach=0.0003),
        Goal(what="submit to start, `normal`, p99", side=NORMAL, figure="p99_s", must=0.003, reach=0.001),
        Goal(what="submit to start, `full`, p50", figure="p50_s", to="Celery", must=1, reach=0.5),
        Goal(what="submit to start, `full`, p99", figure="p99_s", to="Celery", must=1, reach=0.5),
    ),
)
