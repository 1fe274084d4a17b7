"""The job store: APScheduler's table with a definition as JSON in each row, slim records in memory, one commit a pass.

::

    get_due_jobs ── opens a pass ──► the bridge adds tasks and skips, APScheduler next run times
    get_next_run_time ── closes it ──► one commit ──► records move, tasks are released

From its opening until its commit a pass holds the door (`Door`): changes to jobs wait behind it (`JobChanges`), and no
other pass opens. A job that cannot be served is set apart: the others go on, what is due of it waits until it can
(`ApartJobs`).
"""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.triggers.base import BaseTrigger
from loguru import logger
from sqlalchemy import MetaData

from atlas.scheduler.events import JobEventKind
from atlas.scheduler.job_store.apart import ApartJobs
from atlas.scheduler.job_store.changes import JobChanges
from atlas.scheduler.job_store.door import Door
from atlas.scheduler.job_store.records import JobChange, JobRecord, Parked
from atlas.scheduler.job_store.rows import read_jobs, write_records
from atlas.scheduler.job_store.table import JobTable
from atlas.scheduler.message import Message
from atlas.scheduler.store.tables import jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import Connection

    from atlas.scheduler.job_store.apart import Apart
    from atlas.scheduler.job_store.passes import Pass
    from atlas.scheduler.store.store import Store
    from atlas.scheduler.task import Task

T = TypeVar("T")

MAX_SLEEP_S: Final = 30.0
"""The scheduler looks up at least this often: it notices a stepped clock, and its tick is never older."""
PASS_WAIT_S: Final = 1.0
"""How long a pass waits for its commit under APScheduler's lock."""
PASS_JOBS: Final = 2000
"""Jobs of one pass: its tasks start, and others' commits get their turn, while the next pass is decided."""
SERVE: Final = "atlas.scheduler.job_store.job_store:served_by_the_bridge"
"""The one callable every APScheduler job of Atlas names; the bridge never calls it."""


def served_by_the_bridge() -> None:
    """Stand for "the bridge serves this job" in APScheduler's eyes.

    Raises:
        AssertionError: Something other than the bridge ran a job.
    """
    raise AssertionError("jobs of Atlas run through its bridge, not through an APScheduler executor")


class Answer(BaseTrigger):
    """What a job's trigger said when its pass opened; APScheduler asks twice, and dies of a trigger that raises."""

    __slots__ = ("_following",)

    def __init__(self, following: datetime | None) -> None:
        self._following = following

    def get_next_fire_time(self, _previous: datetime | None, _now: datetime) -> datetime | None:
        """The answer."""
        return self._following


class JobStore(SQLAlchemyJobStore):
    """APScheduler's SQLAlchemy job store on Atlas's engine: no pickle, no deleted rows, no error into the loop."""

    def __init__(
        self,
        store: Store,
        *,
        on_released: Callable[[Sequence[Task]], None],
        on_dropped: Callable[[Sequence[Task]], None],
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            engine=store.engine, metadata=MetaData(), tablename=jobs.name
        )
        self._store, self._table = store, JobTable()
        self.apart_jobs = ApartJobs(store, self._table)
        self.door = Door(
            store,
            self._table,
            self.apart_jobs,
            on_released=on_released,
            on_dropped=on_dropped,
            wake=self._wake,
        )
        self._changes = JobChanges(store, self._table, self.apart_jobs, self.door)
        self.last_tick_s: float | None = None
        self.ticked = threading.Condition()

    @property
    def current(self) -> Pass | None:
        """The pass this thread has open; one that another thread has open is none of its business."""
        return self.door.current

    # --- records ------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read every row; one that cannot be read is parked, never deleted."""
        rows = self._store.read(read_jobs)
        for parked in rows.parked.values():
            logger.bind(job_id=parked.id).error("the row of a job cannot be read; it is parked", error=parked.error)
        self._table.fill(rows)

    def keep(self, connection: Connection) -> str:
        """Write every readable job into a database that was lost; says how many."""
        records = self.records()
        write_records(connection, records)
        return Message("1 job") if len(records) == 1 else Message("{n} jobs", n=len(records))

    @property
    def version(self) -> int:
        """A number that changes whenever a job is added, changed or removed."""
        return self._table.version

    def record(self, job_id: str) -> JobRecord | None:
        """The record of a job, or None."""
        return self._table.record(job_id)

    def records(self) -> list[JobRecord]:
        """Every readable job, by id."""
        return self._table.records()

    def parked(self) -> list[Parked]:
        """Every row that cannot be read."""
        return self._table.parked()

    def apart(self) -> dict[str, Apart]:
        """Every job that can be read and not be served, by its id."""
        return self.apart_jobs.all()

    def apart_words(self) -> dict[str, str]:
        """Job that can be read and not be served → why, and what to do."""
        return {job_id: one.words for job_id, one in self.apart().items()}

    def due_at(self) -> dict[str, datetime]:
        """Job → when it is to be decided on: at its next start, or, where it is set apart, at its next try."""
        return self._table.due_at()

    # --- changes from outside of a pass -------------------------------------------------------------------------------

    def apply(
        self,
        changes: Iterable[JobChange] = (),
        removed: Iterable[str] = (),
        *,
        serve: Callable[[Job, list[datetime]], None] | None = None,
        also: Callable[[Connection], T] | None = None,
    ) -> T | None:
        """`JobChanges.apply`, with ``serve`` as the bridge has it; the loop looks again."""

        def served(record: JobRecord, times: list[datetime]) -> None:
            assert serve is not None
            serve(self._job(record, record.trigger), times)

        made = self._changes.apply(changes, removed, serve=None if serve is None else served, also=also)
        self._wake()
        return made

    def clock_came_back(self) -> int:
        """`JobChanges.bring_back`; the loop looks again."""
        moved = self._changes.bring_back()
        self._wake()
        return moved

    def try_again(self, job_id: str) -> None:
        """Let a job be tried at once if it is set apart."""
        if self.apart_jobs.try_again(job_id):
            self._wake()

    def _wake(self) -> None:
        scheduler = self._scheduler
        if scheduler is not None and scheduler.running:
            scheduler.wakeup()

    # --- the pass -----------------------------------------------------------------------------------------------------

    def get_due_jobs(self, now: datetime) -> list[Job]:
        """Open a pass: jobs due at ``now``, oldest first; none while another pass or a change is under way.

        Of very many it takes `PASS_JOBS`; those that are left are still due when it closes.
        """
        with self.ticked:
            self.last_tick_s = self._store.clock.monotonic()
            self.ticked.notify_all()
        next_s, now_s = self._table.next_s(), now.timestamp()
        if next_s is None or next_s > now_s or (decided := self.door.enter_loop(now)) is None:
            return []
        try:
            taken = self._table.pop_due(now_s, PASS_JOBS)
            due = [job for record in taken if (job := self._due_job(decided, record)) is not None]
        except BaseException as error:  # APScheduler asks again in 10 s, and must not find the door shut
            self.door.give_up_pass(error)
            raise
        if due or decided.job_ids:
            self.door.current = decided
        elif self.door.is_loops(decided):
            self.door.leave()
        else:
            self.door.drop(decided)
        return due

    def _due_job(self, decided: Pass, record: JobRecord) -> Job | None:
        try:
            if decided.starts_later(record):
                return None
            return self._job(record, Answer(decided.following(record)))
        except Exception as error:  # noqa: BLE001 - APScheduler's thread would die of it, and with it every other job
            self.apart_jobs.tell(self.apart_jobs.mark({record.id: error}, decided.now))
            return None

    # --- what APScheduler does in a pass ------------------------------------------------------------------------------

    def update_job(self, job: Job) -> None:
        """Note a job's next starting time; within a pass it is written with it, else at once."""
        decided = self.current
        if decided is not None:
            decided.next_run[job.id] = job.next_run_time.astimezone(UTC)
            return
        record = self.record(job.id)
        if record is None:
            raise JobLookupError(job.id)
        next_run = None if job.next_run_time is None else job.next_run_time.astimezone(UTC)
        self.apply([JobChange(replace(record, next_run=next_run), JobEventKind.CHANGED, keeps_next_run=False)])

    def remove_job(self, job_id: str) -> None:
        """Within a pass: the job has ENDED, its row stays. Else: delete it."""
        decided = self.current
        if decided is not None:
            decided.ended.add(job_id)
            return
        if self.record(job_id) is None:
            raise JobLookupError(job_id)
        self.apply(removed=[job_id])

    def get_next_run_time(self) -> datetime:
        """Close the pass, if one is open, and say when to look again: at the next start, in 30 s at the latest."""
        decided, self.door.current = self.current, None
        now = self._store.clock.now()
        if decided is not None:
            if not self.door.is_loops(decided):  # this loop was taken for dead, and another one decides
                self.door.drop(decided)
                return now + timedelta(seconds=PASS_WAIT_S)
            if not self.door.write(decided, PASS_WAIT_S):
                return now + timedelta(seconds=PASS_WAIT_S)
        soon = now + timedelta(seconds=MAX_SLEEP_S)
        if self.door.lock.locked():
            return now + timedelta(seconds=PASS_WAIT_S / 2)
        next_s = self._table.next_s()
        return soon if next_s is None else min(soon, datetime.fromtimestamp(next_s, UTC))

    # --- what APScheduler asks outside of a pass ----------------------------------------------------------------------

    def start(self, scheduler: Any, alias: str) -> None:
        """Remember the scheduler; the table is the schema's business and the rows are loaded already."""
        self._scheduler, self._alias = scheduler, alias

    def shutdown(self) -> None:
        """Nothing: the engine is shared."""

    def lookup_job(self, job_id: str) -> Job | None:
        """The job as APScheduler knows it, made when asked for."""
        record = self.record(job_id)
        return None if record is None else self._job(record, record.trigger)

    def get_all_jobs(self) -> list[Job]:
        """Every job by its next start, those without one last."""
        never = datetime.max.replace(tzinfo=UTC)
        records = sorted(self.records(), key=lambda record: record.next_run or never)
        return [self._job(record, record.trigger) for record in records]

    def add_job(self, job: Job) -> None:
        """Refuse: a job of Atlas is more than APScheduler's.

        Raises:
            TypeError: Always; `CronManager.add_job` is the way.
        """
        msg = f"job {job.id!r}: add jobs with CronManager.add_job, this job store keeps definitions, not callables"
        raise TypeError(msg)

    def remove_all_jobs(self) -> None:
        """Delete every job."""
        self.apply(removed=[record.id for record in self.records()])

    def _job(self, record: JobRecord, trigger: BaseTrigger) -> Job:
        job = Job.__new__(Job)  # not __setstate__(): it looks the callable up, for each of ten thousand due jobs
        job._scheduler, job._jobstore_alias = self._scheduler, self._alias  # noqa: SLF001 - as the stock store does
        job.id = job.name = record.id
        job.func, job.func_ref, job.args, job.kwargs = served_by_the_bridge, SERVE, (), {}
        job.trigger, job.executor, job.next_run_time = trigger, "default", record.next_run
        job.misfire_grace_time, job.coalesce, job.max_instances = None, True, 1
        return job
