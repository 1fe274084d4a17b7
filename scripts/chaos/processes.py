"""What the operating system knows of the processes of a run, read from /proc."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def _ids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """The fields behind the name: state, parent, …; empty when the process is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def children(pid: int) -> list[int]:
    """Living descendants of ``pid``."""
    parents = {one: int(stat[1]) for one in _ids() if (stat := _stat(one)) and stat[0] != "Z"}
    found: list[int] = []
    level = [pid]
    while level:
        level = [one for one, parent in parents.items() if parent in level]
        found += level
    return found


def marked(mark: str) -> list[int]:
    """Living processes, but for this one, whose environment holds ``mark``."""
    found = []
    for pid in _ids():
        try:
            environment = (PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        if pid != os.getpid() and mark.encode() in environment and (stat := _stat(pid)) and stat[0] != "Z":
            found.append(pid)
    return found


def is_worker(pid: int) -> bool:
    """True for a process that was spawned to run functions."""
    try:
        return b"spawn_main" in (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False


def memory_mb(pid: int) -> float:
    """Resident memory."""
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE / 1e6
    except OSError:
        return 0.0


def _open(pid: int) -> list[str]:
    """What each open file descriptor leads to."""
    found = []
    try:
        for entry in (PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found.append(str(entry.readlink()))
    except OSError:
        return []
    return found


def open_files(pid: int) -> int:
    """Open file descriptors, but for the pipes to living children: those come and go with the workers.

    A pipe whose other process is dead counts, so what stays behind of a worker is seen, however few live now.
    """
    shared = {one for child in children(pid) for one in _open(child) if one.startswith("pipe:")}
    return sum(one not in shared for one in _open(pid))
