"""Whether disk and memory last."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from atlas.builtin.health.check import Check
from atlas.scheduler.message import Message

LOW_DISK: Final = (1_000_000_000, 100_000_000)
"""Free bytes below which the disk is degraded, and failing."""
LOW_MEMORY: Final = (0.10, 0.03)
"""Share of the machine's memory that is available below which it is degraded, and failing."""


def disk_check(folder: Path) -> Check:
    """How much is free on the disk below ``folder``."""
    usage = shutil.disk_usage(folder)
    used = 100 - 100 * usage.free / usage.total
    detail = Message(
        "{free} GB free of {total} GB ({used} % used)",
        free=f"{usage.free / 1e9:.1f}",
        total=f"{usage.total / 1e9:.1f}",
        used=f"{used:.0f}",
    )
    remedy = Message("free space below the data folder, or shorten keep_days")
    return _by_limit(usage.free, LOW_DISK, detail, remedy)


def memory_check() -> Check:
    """How much memory the machine has left, where it says so (Linux)."""
    resident = _kilobytes(Path("/proc/self/status"), "VmRSS")
    total, free = (_kilobytes(Path("/proc/meminfo"), name) for name in ("MemTotal", "MemAvailable"))
    if resident is None or not total or free is None:
        return Check(detail=Message("not known on this system"))
    detail = Message(
        "this process {mine} MB; {free} GB of {total} GB available",
        mine=f"{resident / 1e3:.0f}",
        free=f"{free / 1e6:.1f}",
        total=f"{total / 1e6:.1f}",
    )
    remedy = Message("lower scheduler.max_workers, or look for what else runs here")
    return _by_limit(free / total, LOW_MEMORY, detail, remedy)


def _by_limit(value: float, limits: tuple[float, float], detail: str, remedy: str) -> Check:
    if value >= limits[0]:
        return Check(detail=detail)
    return Check(status="failing" if value < limits[1] else "degraded", detail=detail, remedy=remedy)


def _kilobytes(file: Path, name: str) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
