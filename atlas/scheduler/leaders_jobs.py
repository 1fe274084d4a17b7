"""The jobs of a store that another process leads, as rows and its lease tell of them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from atlas.scheduler.job_state import read_pauses
from atlas.scheduler.job_store.rows import read_jobs
from atlas.scheduler.job_view import Job
from atlas.scheduler.lease_facts import parked_words, unbound_jobs
from atlas.scheduler.store.leases import scheduler_lease
from atlas.scheduler.store.revisions import latest_revision

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection

    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.job_state import Pause
    from atlas.scheduler.job_store.records import JobRecord, Parked
    from atlas.scheduler.job_store.rows import JobRows
    from atlas.scheduler.store.store import Store

KEEPS_S: Final = 1.0
"""The leader commits all the time; its rows are read so often at most."""


class ShownJobs(Protocol):
    """Jobs, to look at."""

    @property
    def version(self) -> int:
        """Another number after every change but that of a start time."""

    def records(self) -> list[JobRecord]:
        """Every job that can be read."""

    def record(self, job_id: str) -> JobRecord | None:
        """One of them."""

    def parked(self) -> list[Parked]:
        """Jobs that cannot be read."""

    def apart_words(self) -> Mapping[str, str]:
        """Job that can be read and not be served → why, and what to do."""


class ShownStates(Protocol):
    """What is true of jobs beside their definitions, to look at."""

    @property
    def version(self) -> int:
        """Another number after every change."""

    def paused(self) -> list[str]:
        """Ids of the jobs with a pause in force."""

    def pause_of(self, job_id: str) -> Pause | None:
        """The pause in force."""

    def unbound(self, definition: JobDefinition) -> str | None:
        """Why the job has no function, None if it has one."""


class Shown(NamedTuple):
    """The jobs of a store, whoever leads.

    Attributes:
        revision: The revision of the config file in force.
    """

    jobs: ShownJobs
    states: ShownStates
    revision: int | None

    def each_job(self) -> Iterator[Job]:
        """Every job as it stands, the parked ones last; one by one: of ten thousand they are 2 MB."""
        apart = self.jobs.apart_words()
        for one in self.jobs.records():
            pause, unbound = self.states.pause_of(one.id), self.states.unbound(one.definition)
            yield Job.of(one.definition, one.trigger, one.next_run, pause, unbound, apart=apart.get(one.id))
        yield from map(Job.of_parked, self.jobs.parked())


class _Read(NamedTuple):
    rows: JobRows
    pauses: Mapping[str, Pause]
    unbound: Mapping[str, str]
    apart: Mapping[str, str]
    revision: int | None
    version: int


class LeadersJobs:
    """`ShownJobs` and `ShownStates` of a process that stands by."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._is_old = True
        self._read: _Read | None = None
        self._read_at_s = float("-inf")
        store.on_foreign(self._hear)

    def close(self) -> None:
        """Hear no more."""
        self.store.off_foreign(self._hear)

    def forget(self) -> None:
        """Read anew next time: this process has written."""
        self._read_at_s, self._is_old = float("-inf"), True

    def _hear(self) -> None:
        self._is_old = True

    @property
    def shown(self) -> Shown:
        """All of it."""
        return Shown(self, self, self._now().revision)

    @property
    def version(self) -> int:
        """See `ShownJobs`."""
        return self._now().version

    def records(self) -> list[JobRecord]:
        """See `ShownJobs`."""
        return list(self._now().rows.records.values())

    def record(self, job_id: str) -> JobRecord | None:
        """See `ShownJobs`."""
        return self._now().rows.records.get(job_id)

    def parked(self) -> list[Parked]:
        """See `ShownJobs`."""
        return list(self._now().rows.parked.values())

    def apart_words(self) -> Mapping[str, str]:
        """See `ShownJobs`."""
        return self._now().apart

    def paused(self) -> list[str]:
        """See `ShownStates`."""
        return [job_id for job_id in self._now().pauses if self.pause_of(job_id) is not None]

    def pause_of(self, job_id: str) -> Pause | None:
        """See `ShownStates`."""
        pause = self._now().pauses.get(job_id)
        return pause if pause is not None and pause.holds(self.store.clock.now()) else None

    def unbound(self, definition: JobDefinition) -> str | None:
        """See `ShownStates`."""
        return self._now().unbound.get(definition.id)

    def _now(self) -> _Read:
        with self._lock:
            now_s = self.store.clock.monotonic()
            if self._read is None or (self._is_old and now_s - self._read_at_s >= KEEPS_S):
                self._is_old, self._read_at_s = False, now_s
                try:
                    self._read = _with_known(self.store.read(_read), self._read)
                except BaseException:
                    self._is_old = True
                    raise
            return self._read


def _with_known(new: _Read, old: _Read | None) -> _Read:
    """``new`` with the records of ``old`` where only start times moved: whoever keeps them sees the new ones."""
    if old is None or new.version != old.version:
        return new
    for job_id, record in new.rows.records.items():
        old.rows.records[job_id].next_run = record.next_run
    return new._replace(rows=old.rows)


def _read(connection: Connection) -> _Read:
    rows, pauses, lease = read_jobs(connection), read_pauses(connection), scheduler_lease(connection)
    unbound = unbound_jobs(lease)
    revision = latest_revision(connection)
    digests = tuple((record.id, record.digest) for record in rows.records.values())
    apart = parked_words(lease)
    parts = digests, tuple(rows.parked.items()), tuple(sorted(pauses)), tuple(sorted(unbound)), tuple(apart.items())
    return _Read(rows, pauses, unbound, apart, None if revision is None else revision.number, hash(parts))
