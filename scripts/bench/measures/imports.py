"""Imports: the CPU that ``atlas --help`` and ``import atlas.scheduler`` cost, each in a new interpreter."""

from __future__ import annotations

import resource
import subprocess
import sys
from statistics import median
from typing import TYPE_CHECKING

from scripts.bench.contenders import ATLAS
from scripts.bench.measure import Figures, Goal, Measure, Side

if TYPE_CHECKING:
    from pathlib import Path


def cpu_of(*argv: str) -> float:
    """CPU seconds of one child process, kernel and all."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - fixed below
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def atlas(_folder: Path, size: int) -> Figures:
    """The median of ``size`` times each."""
    commands = {
        "help_s": ("-m", "atlas", "--help"),
        "import_s": ("-c", "import atlas.scheduler"),
        "used_s": ("-c", "from atlas.scheduler import CronManager, TaskQueue"),
        "bare_s": ("-c", ""),
    }
    return {name: median(cpu_of(*argv) for _ in range(size)) for name, argv in commands.items()}


MEASURE = Measure(
    title="CPU of a new interpreter, itself included",
    sizes=(7,),
    quick=3,
    rounds=1,
    sides=(Side(who=ATLAS, run=atlas),),
    goals=(
        Goal(what="CPU of `atlas --help`", figure="help_s", must=0.1, reach=0.06),
        Goal(what="CPU of `import atlas.scheduler`, which loads nothing yet", figure="import_s", must=0.4, reach=0.3),
        Goal(what="CPU of the import of `CronManager` and `TaskQueue`", figure="used_s", must=0.4, reach=0.3),
    ),
    shown={"bare_s": ("CPU of an interpreter that does nothing", "s")},
)
