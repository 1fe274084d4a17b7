"""How busy the machine is with other work: figures taken meanwhile are worth less, and the table says so."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

MUCH: Final = 0.15
"""Share of all CPUs that others may use before it is warned of."""


class Others:
    """Share of all CPUs that went to processes which the bench did not start, from its making on."""

    def __init__(self) -> None:
        """Look at the counters of the kernel."""
        self.load = round(os.getloadavg()[0], 1)
        self._before = _counters()

    def share(self) -> float | None:
        """0 to 1; None where the kernel does not tell (no Linux) or no time has passed. Servers count as others."""
        before, now = self._before, _counters()
        if before is None or now is None or now[0] <= before[0]:
            return None
        all_s, busy_s, own_s = (new - old for old, new in zip(before, now, strict=True))
        return round(min(1.0, max(0.0, (busy_s - own_s) / all_s)), 2)


def warning(load: float) -> str | None:
    """What to say of a machine that is busy before anything is measured."""
    cores = os.cpu_count() or 1
    if load <= cores / 2:
        return None
    return f"the machine is busy (load {load:.1f} on {cores} cores): ratios are worth little, figures less"


def _counters() -> tuple[float, float, float] | None:
    """Seconds of all CPUs, those that were busy, and those of this process and its children that have ended."""
    try:
        ticks = [int(one) for one in Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    user, nice, system, idle, waiting, irq, soft, steal = ticks
    busy, hz = user + nice + system + irq + soft + steal, os.sysconf("SC_CLK_TCK")
    own_s = sum(
        one.ru_utime + one.ru_stime for one in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    return (busy + idle + waiting) / hz, busy / hz, own_s
