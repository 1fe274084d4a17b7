"""`JobTable`: the jobs in memory, and which of them is due next."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from atlas.scheduler.job_store.due import DueJobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from atlas.scheduler.job_store.apart import Apart
    from atlas.scheduler.job_store.records import JobRecord, Parked
    from atlas.scheduler.job_store.rows import JobRows


class JobTable:
    """Every job by its id, and their next starts. Every method may be called from any thread.

    Attributes:
        version: A number that changes whenever a job is added, changed, removed, set apart or served again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[str, JobRecord] = {}
        self._parked: dict[str, Parked] = {}
        self._apart: dict[str, Apart] = {}
        self._look_s: dict[str, float] = {}  # when a job that is set apart is tried again
        self._due = DueJobs()
        self.version = 0

    def fill(self, rows: JobRows) -> None:
        """Hold these jobs and no others."""
        with self._lock:
            self._records, self._parked = dict(rows.records), dict(rows.parked)
            self._apart, self._look_s = {}, {}
            self._rebuild()

    def swap(self, changed: Iterable[JobRecord], removed: Iterable[str]) -> None:
        """Put changed jobs in place of their old records, or add them, and forget the removed ones."""
        with self._lock:
            for record in changed:
                self._records[record.id] = record
                self._forget(record.id)
            for job_id in removed:
                self._records.pop(job_id, None)
                self._forget(job_id)
            self._rebuild()

    def _forget(self, job_id: str) -> None:
        """What was wrong with a job is wrong no more: it is another one, or gone."""
        for held in (self._parked, self._apart, self._look_s):
            held.pop(job_id, None)

    def move(self, starts: Mapping[str, datetime], ended: Iterable[str] = ()) -> None:
        """Move jobs that were taken out to their next starts; those that ended have none."""
        with self._lock:
            for job_id, start in starts.items():
                record = self._records.get(job_id)
                if record is not None:
                    record.next_run = start
                    self._due.add(start.timestamp(), job_id)
            for job_id in ended:
                record = self._records.get(job_id)
                if record is not None:
                    record.next_run = None

    def rebuild(self) -> None:
        """Take every job's next start anew, whatever was taken out."""
        with self._lock:
            self._rebuild()

    def pop_due(self, now_s: float, limit: int) -> list[JobRecord]:
        """Take out at most ``limit`` jobs that are due at ``now_s``, oldest first."""
        due: dict[str, JobRecord] = {}  # one that was asked to be tried again stands there twice
        with self._lock:
            for due_s, job_id in self._due.pop(now_s):
                record = self._records.get(job_id)
                if record is not None and record.next_run is not None and record.next_run.timestamp() <= due_s:
                    due[job_id] = record
                    if len(due) >= limit:
                        break
        return list(due.values())

    # --- jobs that cannot be served -----------------------------------------------------------------------------------

    def set_apart(self, new: Apart) -> Apart | None:
        """Set apart a job that was taken out; what is due of it waits. Returns how it was before."""
        with self._lock:
            old = self._apart.get(new.id)
            if new.id in self._records:
                one = self._apart[new.id] = new.after(old)
                self._look_s.pop(new.id, None)
                if one.waits:
                    at_s = self._look_s[new.id] = one.tried_at.timestamp() + one.retry_in_s
                    self._due.add(at_s, new.id)
                if old is None or old.words != one.words:
                    self.version += 1
            return old

    def serve_again(self, job_ids: Iterable[str]) -> list[str]:
        """Forget what was wrong with these jobs; returns those with which something was."""
        with self._lock:
            found = [job_id for job_id in job_ids if self._apart.pop(job_id, None) is not None]
            for job_id in found:
                self._look_s.pop(job_id, None)
            self.version += bool(found)
            return found

    def try_at(self, job_ids: Iterable[str], at_s: float) -> None:
        """Let jobs that are set apart be tried at ``at_s`` already."""
        with self._lock:
            for job_id in job_ids:
                if self._look_s.get(job_id, at_s) > at_s:
                    self._look_s[job_id] = at_s
                    self._due.add(at_s, job_id)

    def due_at(self) -> dict[str, datetime]:
        """Job → when it is to be decided on: at its next start, or, where it is set apart, at its next try."""
        with self._lock:
            due = {job_id: one.next_run for job_id, one in self._records.items() if one.next_run is not None}
            looks = {job_id: datetime.fromtimestamp(at_s, UTC) for job_id, at_s in self._look_s.items()}
        return due | {job_id: max(due[job_id], at) for job_id, at in looks.items() if job_id in due}

    def apart(self) -> dict[str, Apart]:
        """Every job that is set apart, by its id."""
        if not self._apart:
            return {}
        with self._lock:
            return dict(self._apart)

    def next_s(self) -> float | None:
        """When the next job is due, seconds since 1970; None if there is none."""
        with self._lock:
            return self._due.next_s

    def record(self, job_id: str) -> JobRecord | None:
        """The record of a job, or None."""
        return self._records.get(job_id)

    def records(self) -> list[JobRecord]:
        """Every readable job, by id."""
        with self._lock:
            records = self._records
            return [records[job_id] for job_id in sorted(records)]  # pairs would be ten thousand tuples for a moment

    def parked(self) -> list[Parked]:
        """Every row that cannot be read, by id."""
        with self._lock:
            return [one for _job_id, one in sorted(self._parked.items())]

    def _rebuild(self) -> None:
        self.version += 1
        self._due, later = DueJobs(), self._look_s
        start_s: dict[datetime, float] = {}  # one number for all jobs that start together
        for record in self._records.values():
            start = record.next_run
            if start is not None:
                at_s = start_s.get(start)
                if at_s is None:
                    at_s = start_s[start] = start.timestamp()
                self._due.add(max(at_s, later.get(record.id, 0.0)), record.id)
