"""Runs one seed and tells what came of it; cuts a failing one down."""

from __future__ import annotations

import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from scripts.simulate.broken import broken
from scripts.simulate.judge import judge
from scripts.simulate.world import World

if TYPE_CHECKING:
    from collections import Counter

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of the run's own is made in it
TOLD_LINES = 30


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a seed.

    Attributes:
        seed: The seed.
        days: Days that were run.
        digest: Hash of the trace; the same in every run of the seed.
        lines: Lines of the trace.
        problems: What broke; empty if all promises hold.
        end: The end of the trace, for a seed that failed.
        counts: How often what was exercised.
    """

    seed: int
    days: float
    digest: str
    lines: int
    problems: tuple[str, ...]
    end: tuple[str, ...]
    counts: Counter[str]


def run_seed(seed: int, days: float, variant: str | None = None) -> Report:
    """Run one seed."""
    logger.remove()  # thousands of warnings, each of them meant
    with tempfile.TemporaryDirectory(prefix="atlas-sim-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        world = World(seed, days, Path(folder))
        try:
            with broken(variant):
                world.run()
            problems = judge(world)
        except Exception:  # noqa: BLE001 - whatever got out of the scheduler is a finding
            problems = [*world.watch.problems, traceback.format_exc()]
    end = tuple(world.trace.end)[-TOLD_LINES:] if problems else ()
    counts = world.watch.counts
    counts["fire times"] = sum(len(world.expected.of(job)) for job in world.expected.all)
    counts["tasks"] = len(world.watch.status)
    return Report(seed, days, world.trace.digest(), world.trace.lines, tuple(problems), end, counts)


def shrink(seed: int, days: float, variant: str | None = None) -> Report:
    """The shortest run of a failing seed that still fails, found by halving; within half a day."""
    low, high, failing = 0.0, days, run_seed(seed, days, variant)
    while high - low > 0.5:
        middle = (low + high) / 2
        report = run_seed(seed, middle, variant)
        if report.problems:
            high, failing = middle, report
        else:
            low = middle
    return failing
