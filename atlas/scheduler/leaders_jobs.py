"""The jobs of a store as they stand, to look at: in this process, or as rows and another one's lease tell of them."""

from __future__ import annotations

import threading
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from atlas.scheduler.job_state import read_pauses
from atlas.scheduler.job_store.records import Parked
from atlas.scheduler.job_store.rows import read_jobs
from atlas.scheduler.job_view import Job
from atlas.scheduler.lease_facts import parked_words, unbound_jobs
from atlas.scheduler.store.leases import scheduler_lease
from atlas.scheduler.store.revisions import latest_revision

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy import Connection

    from atlas.scheduler.clock import Clock
    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.definition_text import KnownDefinition
    from atlas.scheduler.job_state import JobStates, Pause
    from atlas.scheduler.job_store.job_store import JobStore
    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.job_store.rows import JobRows
    from atlas.scheduler.store.store import Store

KEEPS_S: Final = 1.0
"""The leader commits all the time; its rows are read so often at most."""


class RowJobs(NamedTuple):
    """The jobs of a store at one moment, with their pauses and functions, as rows and its scheduler's lease tell."""

    rows: JobRows
    pauses: Mapping[str, Pause]
    missing: Mapping[str, str]
    apart: Mapping[str, str]
    revision: int | None
    version: int
    """Another number after every change but that of a start time."""
    clock: Clock

    def records(self) -> list[JobRecord]:
        """See `JobStore.records`."""
        return list(self.rows.records.values())

    def record(self, job_id: str) -> JobRecord | None:
        """See `JobStore.record`."""
        return self.rows.records.get(job_id)

    def parked(self) -> list[Parked]:
        """See `JobStore.parked`."""
        return list(self.rows.parked.values())

    def apart_words(self) -> Mapping[str, str]:
        """See `JobStore.apart_words`."""
        return self.apart

    def paused(self) -> list[str]:
        """See `JobStates.paused`."""
        return [job_id for job_id in self.pauses if self.pause_of(job_id) is not None]

    def pause_of(self, job_id: str) -> Pause | None:
        """See `JobStates.pause_of`."""
        pause = self.pauses.get(job_id)
        return pause if pause is not None and pause.holds(self.clock.now()) else None

    def unbound(self, definition: JobDefinition) -> str | None:
        """See `JobStates.unbound`."""
        return self.missing.get(definition.id)

    def unbound_among(self, definitions: Iterable[KnownDefinition]) -> Mapping[str, str]:
        """See `JobStates.unbound_among`."""
        return {one.id: self.missing[one.id] for one in definitions if one.id in self.missing}


def read_row_jobs(connection: Connection, clock: Clock) -> RowJobs:
    """All of them; without a living scheduler none is set apart, since nobody has tried."""
    rows, pauses, lease = read_jobs(connection), read_pauses(connection), scheduler_lease(connection)
    missing, revision = unbound_jobs(lease), latest_revision(connection)
    apart = parked_words(lease if lease is not None and lease.lives(clock.now()) else None)
    digests = tuple((record.id, record.digest) for record in rows.records.values())
    parts = (
        digests,
        tuple(rows.parked.items()),
        tuple(sorted(pauses.items())),
        tuple(sorted(missing)),
        tuple(apart.items()),
    )
    return RowJobs(rows, pauses, missing, apart, None if revision is None else revision.number, hash(parts), clock)


class Shown(NamedTuple):
    """The jobs of a store, whoever leads."""

    jobs: JobStore | RowJobs
    states: JobStates | RowJobs
    """What is true of them beside their definitions."""
    revision: int | None = None
    """The revision of the config file in force."""

    def each_job(self, some: Iterable[JobRecord | Parked] | None = None) -> Iterator[Job]:
        """``some`` jobs as they stand, by default all, parked ones last; one by one: of ten thousand they are 2 MB."""
        apart = self.jobs.apart_words()
        every: Iterable[JobRecord | Parked] = chain(self.jobs.records(), self.jobs.parked())
        for one in every if some is None else some:
            if isinstance(one, Parked):
                yield Job.of_parked(one)
            else:
                pause, unbound = self.states.pause_of(one.id), self.states.unbound(one.definition)
                yield Job.of(one.definition, one.trigger, one.next_run, pause, unbound, apart=apart.get(one.id))

    def all_jobs(self) -> list[Job]:
        """Every job as it stands, by id."""
        return sorted(self.each_job(), key=lambda job: job.id)


class LeadersJobs:
    """`Shown` in a process that stands by, read anew where the leader has committed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._is_old = True
        self._read: RowJobs | None = None
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
        clock = self.store.clock
        with self._lock:
            now_s = clock.monotonic()
            if self._read is None or (self._is_old and now_s - self._read_at_s >= KEEPS_S):
                self._is_old, self._read_at_s = False, now_s
                try:
                    new = self.store.read(lambda connection: read_row_jobs(connection, clock))
                except BaseException:
                    self._is_old = True
                    raise
                self._read = _with_known(new, self._read)
            return Shown(self._read, self._read, self._read.revision)


def _with_known(new: RowJobs, old: RowJobs | None) -> RowJobs:
    """``new`` with the records of ``old`` where only start times moved: whoever keeps them sees the new ones."""
    if old is None or new.version != old.version:
        return new
    for job_id, record in new.rows.records.items():
        old.rows.records[job_id].next_run = record.next_run
    return new._replace(rows=old.rows)
