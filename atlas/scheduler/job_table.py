"""`JobTable`: the jobs in memory, and which of them is due next."""

from __future__ import annotations

import heapq
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from atlas.scheduler.job_records import JobRecord, Parked
    from atlas.scheduler.job_rows import JobRows


class JobTable:
    """Every job by its id, and a heap of their next starts. Every method may be called from any thread.

    Attributes:
        version: A number that changes whenever a job is added, changed or removed.
    """

    def __init__(self) -> None:
        """Hold no job."""
        self._lock = threading.Lock()
        self._records: dict[str, JobRecord] = {}
        self._parked: dict[str, Parked] = {}
        self._heap: list[tuple[float, str]] = []
        self.version = 0

    def fill(self, rows: JobRows) -> None:
        """Hold these jobs and no others."""
        with self._lock:
            self._records, self._parked = dict(rows.records), dict(rows.parked)
            self._rebuild()

    def swap(self, changed: Iterable[JobRecord], removed: Iterable[str]) -> None:
        """Put changed jobs in place of their old records, or add them, and forget the removed ones."""
        with self._lock:
            for record in changed:
                self._records[record.id] = record
                self._parked.pop(record.id, None)
            for job_id in removed:
                self._records.pop(job_id, None)
                self._parked.pop(job_id, None)
            self._rebuild()

    def move(self, starts: Mapping[str, datetime], ended: Iterable[str] = ()) -> None:
        """Move jobs that are not in the heap to their next starts; those that ended have none."""
        with self._lock:
            many = len(starts) * 8 > len(self._heap)
            for job_id, start in starts.items():
                record = self._records.get(job_id)
                if record is not None:
                    record.next_run = start
                    if not many:
                        heapq.heappush(self._heap, (start.timestamp(), job_id))
            for job_id in ended:
                record = self._records.get(job_id)
                if record is not None:
                    record.next_run = None
            if many:
                self._rebuild_heap()

    def rebuild(self) -> None:
        """Take every job's next start anew, whatever was taken out of the heap."""
        with self._lock:
            self._rebuild()

    def pop_due(self, now_s: float, limit: int) -> list[JobRecord]:
        """Take at most ``limit`` jobs out of the heap that are due at ``now_s``, oldest first."""
        due: list[JobRecord] = []
        with self._lock:
            while self._heap and self._heap[0][0] <= now_s and len(due) < limit:
                due_s, job_id = heapq.heappop(self._heap)
                record = self._records.get(job_id)
                if record is not None and record.next_run is not None and record.next_run.timestamp() <= due_s:
                    due.append(record)
        return due

    def look_later(self, job_id: str, at_s: float) -> None:
        """Put a job that is due back into the heap, to be taken out again at ``at_s``."""
        with self._lock:
            heapq.heappush(self._heap, (at_s, job_id))

    def next_s(self) -> float | None:
        """When the next job is due, seconds since 1970; None if there is none."""
        with self._lock:
            return self._heap[0][0] if self._heap else None

    def record(self, job_id: str) -> JobRecord | None:
        """The record of a job, or None."""
        return self._records.get(job_id)

    def records(self) -> list[JobRecord]:
        """Every readable job, by id."""
        with self._lock:
            return [record for _job_id, record in sorted(self._records.items())]

    def parked(self) -> list[Parked]:
        """Every row that cannot be read, by id."""
        with self._lock:
            return [one for _job_id, one in sorted(self._parked.items())]

    def _rebuild(self) -> None:
        self.version += 1
        self._rebuild_heap()

    def _rebuild_heap(self) -> None:
        self._heap = [
            (record.next_run.timestamp(), record.id) for record in self._records.values() if record.next_run is not None
        ]
        heapq.heapify(self._heap)
