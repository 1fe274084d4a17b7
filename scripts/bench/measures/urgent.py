"""Urgent: how long an URGENT task waits for its start while thousands of LOW functions keep all slots and CPUs busy.

Every LOW function burns a millisecond of CPU in Python, so that whoever submits and whoever starts needs the
interpreter's lock as well. An URGENT one is submitted every 50 ms for as long as LOW ones wait. Checked: all of both
kinds have succeeded, with results that are what was sent.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scripts.bench.contenders import ATLAS
from scripts.bench.measure import Figures, Goal, Measure, Side, share

if TYPE_CHECKING:
    from pathlib import Path

BURN_S = 0.001
EVERY_S = 0.05


def burn(number: int) -> int:
    """A millisecond of CPU."""
    end_s = time.thread_time() + BURN_S
    while time.thread_time() < end_s:
        pass
    return number


def atlas(folder: Path, size: int) -> Figures:
    """Atlas as it comes."""
    from scripts.bench.sides.atlas_queue import SLOTS, check_kept, running_queue, wait_final

    started: dict[int, float] = {}
    called: list[float] = []

    def note(number: int) -> int:
        started[number] = time.monotonic()
        return number

    with running_queue(folder, {"burn": burn, "note": note}) as there:
        begun_s = time.monotonic()
        there.sync.submit_many("burn", [(number,) for number in range(size)], priority="low")
        while there.get_queue_status()["queue_size"] > SLOTS or not called:
            called.append(time.monotonic())
            there.sync.submit("note", len(called) - 1, priority="urgent")
            time.sleep(EVERY_S)
        herd_s = time.monotonic() - begun_s
        wait_final(there, size + len(called))
    check_kept(folder, "burn", size)
    check_kept(folder, "note", len(called))
    waited = [started[number] - at for number, at in enumerate(called)]
    return {
        "p50_s": share(waited, 0.5),
        "p99_s": share(waited, 0.99),
        "most_s": max(waited),
        "urgent": len(waited),
        "low_per_s": size / herd_s,
    }


MEASURE = Measure(
    title="URGENT behind LOW functions that burn CPU, 4 slots",
    sizes=(10_000,),
    quick=2_000,
    rounds=2,
    sides=(Side(who=ATLAS, run=atlas),),
    goals=(Goal(what="URGENT behind {size} LOW: submit to start, p99", figure="p99_s", must=0.03, reach=0.015),),
    shown={"p50_s": ("URGENT behind LOW, p50", "s")},
)
