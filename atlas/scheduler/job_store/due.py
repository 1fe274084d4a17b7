"""Which jobs are due next: a heap of instants, and with each of them the jobs that are due then.

Many jobs share their instants (each midnight, every five minutes): each is a place in a list, and taking ten thousand
that start together moves the heap once.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


class DueJobs:
    """Job ids by the instants they are due at, seconds since 1970. One may stand here more than once."""

    __slots__ = ("_instants", "_jobs")

    def __init__(self) -> None:
        self._instants: list[float] = []
        self._jobs: dict[float, str | list[str]] = {}  # one that has its instant for itself needs no list

    def __iter__(self) -> Iterator[tuple[float, str]]:
        """Every instant with every job, in no order."""
        for at_s, jobs in self._jobs.items():
            for job_id in [jobs] if isinstance(jobs, str) else jobs:
                yield at_s, job_id

    @property
    def next_s(self) -> float | None:
        """The first instant, None if there is none."""
        return self._instants[0] if self._instants else None

    def add(self, at_s: float, job_id: str) -> None:
        """Let ``job_id`` be due at ``at_s``."""
        jobs = self._jobs.get(at_s)
        if jobs is None:
            self._jobs[at_s] = job_id
            heapq.heappush(self._instants, at_s)
        elif isinstance(jobs, str):
            self._jobs[at_s] = [jobs, job_id]
        else:
            jobs.append(job_id)

    def pop(self, now_s: float) -> Generator[tuple[float, str]]:
        """Take out what is due at ``now_s``, one by one, oldest first and by id; what is not asked for stays."""
        while self._instants and (at_s := self._instants[0]) <= now_s:
            jobs = self._jobs[at_s]
            if isinstance(jobs, str):
                jobs = self._jobs[at_s] = [jobs]
            jobs.sort(reverse=True)  # of a list that was sorted so before, and popped from, it costs next to nothing
            while len(jobs) > 1:
                yield at_s, jobs.pop()
            del self._jobs[heapq.heappop(self._instants)]
            yield at_s, jobs.pop()
