"""A small heap: what threads, SQLite and big texts have given back is there for everybody, or the system's again.

The GNU C library gives each of twenty threads a heap of its own, and once a large piece was given back it keeps all
that are not larger: of what ten thousand jobs and their pages need for a moment, eight megabytes stayed. One heap is
enough where one interpreter's lock lets one thread at a time ask for most of it, and SQLite's own lock for the rest; a
second one keeps close to a megabyte that the first could use. For a process that is the scheduler's
own; embedded, it is the application's to decide. Other C libraries have no such settings.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

# The numbers are those of malloc.h.
_OPTIONS: Final = {
    "MALLOC_ARENA_MAX": (-8, 1),
    "MALLOC_MMAP_THRESHOLD_": (-3, 128 * 1024),
    "MALLOC_TRIM_THRESHOLD_": (-1, 1024 * 1024),
}
"""By the variable that sets the same, which is obeyed where somebody has set it."""


def keep_heap_small() -> None:
    """Share one heap among threads and give large pieces back, from now on; threads that run already keep theirs."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for variable, (option, value) in _OPTIONS.items():
            if variable not in os.environ:
                mallopt(option, value)
