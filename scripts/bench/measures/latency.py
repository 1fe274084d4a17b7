"""Latency: from the call of submit to the start of the function, at a hundred tasks a second, priority NORMAL.

One thread submits at an even pace and waits for each submit to return; the first tasks are not counted. Times are of
the clock that all processes of a machine share (``CLOCK_MONOTONIC``). Checked: every task has started and its result is
what was sent.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

from scripts.bench.contenders import ATLAS, ATLAS_NORMAL, CELERY, HUEY
from scripts.bench.measure import Figures, Goal, Measure, Side, check, check_results, share

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SLOTS = 4
PER_S = 100
WARMING = 20
LIMIT_S = 60.0


def atlas(folder: Path, size: int, durability: Literal["full", "normal"] = "full") -> Figures:
    """Atlas as it comes, but for ``durability``."""
    from scripts.bench.sides.atlas_queue import check_kept, running_queue, wait_final

    count = size + WARMING
    started: dict[int, float] = {}

    def note(number: int) -> int:
        started[number] = time.monotonic()
        return number

    with running_queue(folder, {"note": note}, durability=durability) as there:
        submit = there.sync.submit
        called = at_an_even_pace(lambda number: submit("note", number, priority="normal"), count)
        wait_final(there, count)
    check_kept(folder, "note", count)
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
    """Huey with SQLite, 4 threads, looking for work as often as it comes: every 0.1 s."""
    from scripts.bench.sides import huey_queue

    there = huey_queue.opened(folder)
    started: dict[int, float] = {}

    @there.task()  # type: ignore[untyped-decorator]
    def note(number: int) -> int:
        started[number] = time.monotonic()
        return number

    count = size + WARMING
    consumer = huey_queue.consumer(there)
    consumer.start()
    handles: list[Any] = []
    called = at_an_even_pace(lambda number: handles.append(note(number)), count)
    found = [handle.get(blocking=True, timeout=LIMIT_S) for handle in handles]
    consumer.stop(graceful=True)
    check_results(found, count)
    return waits(called, started, count)


def celery(folder: Path, size: int) -> Figures:
    """Celery with Redis, results on, 4 threads; its functions return when they started."""
    from scripts.bench.sides import celery_app

    count = size + WARMING
    with celery_app.worker(folder, SLOTS):
        celery_app.started.delay(0).get(timeout=LIMIT_S)  # the worker is there
        handles: list[Any] = []
        called = at_an_even_pace(lambda number: handles.append(celery_app.started.delay(number)), count)
        found = [handle.get(timeout=LIMIT_S) for handle in handles]
    check_results([number for number, _ in found], count)
    return waits(called, dict(found), count)


FULL, NORMAL = ATLAS.name, ATLAS_NORMAL.name
MEASURE = Measure(
    title="submit to start, 100 tasks a second",
    sizes=(1000,),
    quick=300,
    sides=(
        Side(who=ATLAS, run=atlas),
        Side(who=ATLAS_NORMAL, run=lambda folder, size: atlas(folder, size, "normal")),
        Side(who=HUEY, run=huey, rounds=1),
        Side(who=CELERY, run=celery),
    ),
    goals=(
        Goal(what="submit to start, `normal`, p50", side=NORMAL, figure="p50_s", must=0.0006, reach=0.0003),
        Goal(what="submit to start, `normal`, p99", side=NORMAL, figure="p99_s", must=0.003, reach=0.001),
        Goal(what="submit to start, `full`, p50", side=FULL, figure="p50_s", to="Celery", must=1, reach=1),
        Goal(what="submit to start, `full`, p99", side=FULL, figure="p99_s", to="Celery", must=1, reach=1),
        Goal(what="submit to start, `full`, p50", side=FULL, figure="p50_s", must=None, reach=0.0008),
        Goal(what="submit to start, `full`, p99", side=FULL, figure="p99_s", must=None, reach=0.0015),
    ),
    shown={"p50_s": ("submit to start, p50", "s"), "p99_s": ("submit to start, p99", "s")},
)
