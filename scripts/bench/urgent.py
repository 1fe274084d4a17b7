"""Urgent: how long an URGENT task waits for its start while ten thousand LOW functions keep all slots and CPUs busy.

Every LOW function burns a millisecond of CPU in Python, so that whoever submits and whoever starts needs the
interpreter's lock as well. An URGENT one is submitted every 50 ms for as long as LOW ones wait.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scripts.bench.measure import Figures, Goal, Measure, Side, check, share

if TYPE_CHECKING:
    from pathlib import Path

SLOTS = 4
BURN_S = 0.001
EVERY_S = 0.05


def atlas(folder: Path, size: int) -> Figures:
    """Atlas as it comes."""
    from atlas.scheduler.event_log import event_log
    from atlas.scheduler.queue import TaskQueue
    from atlas.scheduler.registry import Registry
    from atlas.scheduler.store.store import open_store
    from scripts.bench.workloads import log_to, rows, wait_final

    log_to(folder)
    started: dict[int, float] = {}
    registry = Registry()

    @registry.register("burn")
    def burn(number: int) -> int:
        end_s = time.thread_time() + BURN_S
        while time.thread_time() < end_s:
            pass
        return number

    @registry.register("note")
    def note(number: int) -> int:
        started[number] = time.monotonic()
        return number

    store = open_store(folder / "atlas.db")
    called: list[float] = []
    try:
        store.events.subscribe(event_log("INFO"))
        queue = TaskQueue(SLOTS, store=store, registry=registry)
        with queue.sync as sync:
            begun_s = time.monotonic()
            sync.submit_many("burn", [(number,) for number in range(size)], priority="low")
            while queue.get_queue_status()["queue_size"] > SLOTS:  # LOW ones wait
                called.append(time.monotonic())
                sync.submit("note", len(called) - 1, priority="urgent")
                time.sleep(EVERY_S)
            herd_s = time.monotonic() - begun_s
            wait_final(queue, size + len(called))
    finally:
        store.close()
    for function, count in (("burn", size), ("note", len(called))):
        kept = rows(
            folder / "atlas.db",
            "SELECT result FROM tasks WHERE status = 'SUCCESS' "  # noqa: S608 - two fixed words
            f"AND function = '{function}' ORDER BY CAST(result AS INT)",
        )
        check(kept == [(str(number),) for number in range(count)], f"results of {function} are what was sent")
    waited = [started[number] - at for number, at in enumerate(called)]
    return {
        "p50_s": share(waited, 0.5),
        "p99_s": share(waited, 0.99),
        "most_s": max(waited),
        "urgent": len(waited),
        "low_per_s": size / herd_s,
    }


MEASURE = Measure(
    name="urgent",
    title="URGENT behind LOW functions that burn CPU, 4 slots",
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
        Goal(what="URGENT behind 10,000 LOW: submit to start, p99", figure="p99_s", must=0.03, reach=0.015),
        Goal(what="the same, p50", figure="p50_s", must=0.03, reach=0.015),
    ),
)
