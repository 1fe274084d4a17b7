"""The job store: APScheduler's table with a definition as JSON in each row, slim records in memory, one commit a pass.

::

    get_due_jobs ── opens a pass ──► the bridge adds tasks and skips, APScheduler next run times
    get_next_run_time ── closes it ──► one commit ──► records move, tasks are released

From its opening until its commit a pass holds the door: changes to jobs wait behind it, and no other pass opens.
A job that cannot be served is set apart: the others go on, what is due of it waits until it can (`Apart`).
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.triggers.base import BaseTrigger
from loguru import logger
from sqlalchemy import MetaData
from sqlalchemy.exc import DBAPIError

from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.errors import AtlasError, StoreUnavailableError
from atlas.scheduler.events import JobEvent, JobEventKind
from atlas.scheduler.job_store.apart import Apart, cause_of
from atlas.scheduler.job_store.blame import Shared, write_without_refused
from atlas.scheduler.job_store.passes import Pass, write_earlier_starts, write_pass
from atlas.scheduler.job_store.records import JobChange, JobRecord, Parked, same_times
from atlas.scheduler.job_store.rows import read_jobs, write_records
from atlas.scheduler.job_store.table import JobTable
from atlas.scheduler.store.store import CALL_S
from atlas.scheduler.store.tables import jobs
from atlas.scheduler.store.tickets import Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy import Connection

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
    msg = "jobs of Atlas run through its bridge, not through an APScheduler executor"
    raise AssertionError(msg)


class Answer(BaseTrigger):
    """What a job's trigger said when its pass opened; APScheduler asks twice, and dies of a trigger that raises.

    Args:
        following: The next starting time, None when the job has ENDED.
    """

    __slots__ = ("_following",)

    def __init__(self, following: datetime | None) -> None:
        self._following = following

    def get_next_fire_time(self, _previous: datetime | None, _now: datetime) -> datetime | None:
        """The answer."""
        return self._following


class JobStore(SQLAlchemyJobStore):
    """APScheduler's SQLAlchemy job store on Atlas's engine: no pickle, no deleted rows, no error into the loop.

    Args:
        store: The database and its writer.
        on_released: Takes the tasks of a pass once they are on disk.
        on_dropped: Takes the tasks of a pass that were not written.
        on_replaced: Takes ids of tasks whose end a pass asked for.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_released: Callable[[Sequence[Task]], None],
        on_dropped: Callable[[Sequence[Task]], None],
        on_replaced: Callable[[Sequence[str]], None],
    ) -> None:
        """Prepare; `load` reads the rows."""
        super().__init__(  # type: ignore[no-untyped-call]
            engine=store.engine, metadata=MetaData(), tablename=jobs.name
        )
        self._store = store
        self._on_released, self._on_dropped, self._on_replaced = on_released, on_dropped, on_replaced
        self._door = threading.Lock()  # held by a pass until its commit, and by a change to jobs
        self._table = JobTable()
        self._open = threading.local()
        self._deciding: Pass | None = None  # the pass the loop has open, until its thread closes it
        self._giving_up = threading.Lock()
        self.on_apart: Callable[[], None] = lambda: None  # jobs were set apart, or are served again
        self.last_tick_s: float | None = None
        self.ticked = threading.Condition()

    @property
    def current(self) -> Pass | None:
        """The pass this thread has open; one that another thread has open is none of its business."""
        return getattr(self._open, "decided", None)

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
        return f"{len(records)} job{'s' * (len(records) != 1)}"

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
        return self._table.apart()

    def apart_words(self) -> dict[str, str]:
        """Job that can be read and not be served → why, and what to do."""
        return {job_id: one.words for job_id, one in self.apart().items()}

    def try_again(self, job_id: str) -> bool:
        """Let a job that is set apart be tried at once; False if it is not."""
        one = self.apart().get(job_id)
        if one is None:
            return False
        if one.waits:
            self._table.try_at([job_id], self._store.clock.now().timestamp())
            self._wake()
        else:
            self._told_of_return(self._table.serve_again([job_id]))
        return True

    def apply(
        self,
        changes: Iterable[JobChange] = (),
        removed: Iterable[str] = (),
        *,
        serve: Callable[[Job, list[datetime]], None] | None = None,
        also: Callable[[Connection], T] | None = None,
    ) -> T | None:
        """Write changed and removed jobs in one commit, then swap them in. Waits behind a pass.

        Args:
            changes: Jobs to add or change.
            removed: Ids of jobs to delete; their history stays.
            serve: Decides on what is due by a schedule that changes; it is served first, in a pass of its own.
            also: Written in the same commit; what it returns is returned.

        Raises:
            StoreUnavailableError: The store did not take it within 5 s; nothing changed.
        """
        changes, removed = list(changes), list(removed)
        self._enter()
        refused: dict[str, str] = {}
        left: set[str] = set()
        while serve is not None and (due := [one for one in self._due_by_old(changes) if one.id not in left]):
            self._serve(due, serve, refused, left)
            self._enter()
        try:
            records = [self._settled(change) for change in changes]

            def write(connection: Connection) -> T | None:
                reached(CrashPoint.APPLY_BEFORE_ROWS)
                write_records(connection, records, removed)
                reached(CrashPoint.APPLY_ROWS_WRITTEN)
                return None if also is None else also(connection)

            made = self._store.write(write)
            reached(CrashPoint.APPLY_COMMITTED)
            self._table.swap(records, removed)
        finally:
            self._door.release()
        now = self._store.clock.now()
        self._store.events.publish(
            *(JobEvent(job_id=change.record.id, kind=change.kind, at=now) for change in changes),
            *(JobEvent(job_id=job_id, kind=JobEventKind.REMOVED, at=now) for job_id in removed),
        )
        self._wake()
        return made

    def _settled(self, change: JobChange) -> JobRecord:
        """The record to write, with the next start that holds."""
        record, old = change.record, self.record(change.record.id)
        if (
            change.keeps_next_run
            and old is not None
            and same_times(old, enabled=record.enabled, trigger=record.trigger)
        ):
            record.next_run = old.next_run
        return record

    def _enter(self) -> None:
        """Take the door.

        Raises:
            StoreUnavailableError: A pass kept it for 5 s.
        """
        if not self._door.acquire(timeout=CALL_S):
            raise StoreUnavailableError(
                "a pass of the scheduler waits for the database; nothing was changed", waited_s=CALL_S
            )

    def _due_by_old(self, changes: Iterable[JobChange]) -> list[JobRecord]:
        """Jobs with a fire time that is due by the schedule they have, and that go on with another one."""
        now = self._store.clock.now()
        pairs = ((self.record(change.record.id), change.record) for change in changes)
        return [
            old
            for old, new in pairs
            if old is not None
            and old.next_run is not None
            and old.next_run <= now
            and new.enabled
            and old.trigger != new.trigger
        ]

    def _serve(
        self,
        due: Iterable[JobRecord],
        serve: Callable[[Job, list[datetime]], None],
        refused: dict[str, str],
        left: set[str],
    ) -> None:
        """A pass of its own for these jobs; the door is held before and free behind it.

        A job that is refused has skips stored in the next turn (``refused``); one that stays due all the same, since
        its schedule cannot say what comes next or the database takes nothing of it, is ``left`` as it is.

        Raises:
            StoreUnavailableError: It was not written within 5 s.
        """
        decided = self._open.decided = Pass(self._store.clock.now(), refused=dict(refused))
        try:
            for record in due:
                if record.next_run is not None:
                    serve(self._job(record, record.trigger), [record.next_run])
                    try:
                        following = record.trigger.get_next_fire_time(record.next_run, decided.now)
                    except Exception as error:  # noqa: BLE001 - the schedule that replaces it must come into force
                        logger.bind(job_id=record.id).warning("the old schedule raised: {}", cause_of(error))
                        left.add(record.id)
                        continue
                    if following is None:
                        decided.ended.add(record.id)
                    else:
                        decided.next_run[record.id] = following
        except BaseException as error:
            self._not_committed(decided, error)
            raise
        finally:
            self._open.decided = None
        if not self._commit(decided, CALL_S):
            raise StoreUnavailableError(
                "what was due by the old schedule is not written; nothing was changed", waited_s=CALL_S
            )
        for job_id, one in self.apart().items():
            if job_id in decided.job_ids and one.tried_at == decided.now and one.waits:
                if job_id in refused:
                    logger.bind(job_id=job_id).error("what was due of a changed job can be neither served nor skipped")
                    left.add(job_id)
                refused[job_id] = one.error

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
        if next_s is None or next_s > now_s or not self._door.acquire(blocking=False):
            return []
        decided = self._deciding = Pass(now)
        taken = self._table.pop_due(now_s, PASS_JOBS)
        due = [job for record in taken if (job := self._due_job(decided, record)) is not None]
        if due:
            self._open.decided = decided
        elif self._is_mine(decided):
            self._door.release()
        return due

    def _is_mine(self, decided: Pass) -> bool:
        """Close a pass of the loop; False if it was given up meanwhile."""
        with self._giving_up:
            if self._deciding is not decided:
                return False
            self._deciding = None
            return True

    def give_up_pass(self) -> bool:
        """Forget the pass that a dead or stalled loop has open, if it has one: the next loop decides it again."""
        with self._giving_up:
            decided, self._deciding = self._deciding, None
        if decided is None:
            return False
        self._not_committed(decided, TimeoutError("the loop that decided on it is dead or stands still"))
        return True

    def _due_job(self, decided: Pass, record: JobRecord) -> Job | None:
        try:
            return self._job(record, Answer(decided.following(record)))
        except Exception as error:  # noqa: BLE001 - APScheduler's thread would die of it, and with it every other job
            self._tell_apart(self._set_apart({record.id: error}, decided.now))
            return None

    # --- jobs that cannot be served -----------------------------------------------------------------------------------

    def _set_apart(self, errors: Mapping[str, Exception], now: datetime) -> list[tuple[Apart, Exception | None]]:
        """Let what is due of these jobs wait; returns what nobody knows yet."""
        news: list[tuple[Apart, Exception | None]] = []
        for job_id, error in errors.items():
            new = Apart(id=job_id, error=cause_of(error), since=now, tried_at=now)
            if not new.tells_what(self._table.set_apart(new)):
                news.append((new, error))
        return news

    def _note_faults(self, served: Pass) -> tuple[list[tuple[Apart, Exception | None]], list[str]]:
        """Note which jobs have skips because they could not be decided on, and which could; returns what is new."""
        news: list[tuple[Apart, Exception | None]] = []
        for job_id, error in served.faults.items():
            new = Apart(id=job_id, error=error, since=served.now, tried_at=served.now, waits=False)
            goes_on = job_id in served.next_run or job_id in served.ended
            if goes_on and not new.tells_what(self._table.set_apart(new)):
                news.append((new, None))  # the bridge has logged the error
        apart = self._table.apart()
        well = apart.keys() & (set(served.job_ids) - served.faults.keys()) if apart else ()
        return news, self._table.serve_again(sorted(well))

    def _tell_apart(self, news: Sequence[tuple[Apart, Exception | None]]) -> None:
        """Tell what is wrong with jobs; an error that was not logged yet comes along."""
        if news:
            self.on_apart()
        for new, error in news:
            if error is not None:  # a statement comes with its values, which are nobody else's business
                trace = None if isinstance(error, DBAPIError) else error
                logger.bind(job_id=new.id, error=new.error).opt(exception=trace).error(
                    "a job cannot be served: it is set apart and the others go on; edit it or resume it"
                )
            detail = {"error": new.error, "waits": new.waits}
            self._store.events.publish(
                JobEvent(job_id=new.id, kind=JobEventKind.PARKED, at=new.tried_at, detail=detail)
            )

    def _told_of_return(self, job_ids: Sequence[str]) -> None:
        """Tell that jobs which were set apart are served again."""
        if job_ids:
            self.on_apart()
        now = self._store.clock.now()
        for job_id in job_ids:
            logger.bind(job_id=job_id).info("a job that was set apart is served again")
            self._store.events.publish(JobEvent(job_id=job_id, kind=JobEventKind.RESUMED, at=now))

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
        changed = JobRecord(record.definition, record.digest, record.trigger, next_run)
        self.apply([JobChange(changed, JobEventKind.CHANGED, keeps_next_run=False)])

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
        decided, self._open.decided = self.current, None
        now = self._store.clock.now()
        if decided is not None:
            if not self._is_mine(decided):  # this loop was taken for dead, and another one decides
                self._on_dropped(decided.tasks)
                return now + timedelta(seconds=PASS_WAIT_S)
            if not self._commit(decided, PASS_WAIT_S):
                return now + timedelta(seconds=PASS_WAIT_S)
        soon = now + timedelta(seconds=MAX_SLEEP_S)
        if self._door.locked():
            return now + timedelta(seconds=PASS_WAIT_S / 2)
        next_s = self._table.next_s()
        return soon if next_s is None else min(soon, datetime.fromtimestamp(next_s, UTC))

    def _commit(self, decided: Pass, wait_s: float) -> bool:
        """Write a pass; False if it is not on disk when this returns."""
        ticket, suspects = Ticket(), {job_id for job_id, one in self.apart().items() if one.waits}

        def whole(connection: Connection) -> Shared:
            return Shared(write_pass(connection, decided), {})

        def in_parts(connection: Connection) -> Shared:
            return write_without_refused(connection, decided, suspects, write_pass)

        try:
            self._store.writer.work(
                in_parts if suspects else whole,
                ticket,
                otherwise=None if suspects else in_parts,
                after=lambda shared: self._committed(decided, shared),
                failed=lambda error: self._not_committed(decided, error),
            )
        except AtlasError as error:  # the store is closed
            self._not_committed(decided, error)
            return False
        try:
            ticket.wait(wait_s)
        except TimeoutError:
            return False  # the writer goes on trying with the same rows; until then no other pass opens
        except Exception as error:  # noqa: BLE001 - told by _not_committed; the loop must go on
            logger.debug("a pass was not written", error=str(error))
            return False
        return True

    def _committed(self, decided: Pass, shared: Shared) -> None:
        reached(CrashPoint.PASS_COMMITTED)
        (kept, skips), refused = shared
        served = decided.only([job_id for job_id in decided.job_ids if job_id not in refused]) if refused else decided
        apart, (faults, well) = self._set_apart(refused, decided.now), self._note_faults(served)
        self._table.move(served.next_run, served.ended)
        self._door.release()
        self._on_released(kept)
        if len(kept) < len(decided.tasks):
            kept_ids = {task.id for task in kept}
            self._on_dropped([task for task in decided.tasks if task.id not in kept_ids])
        replaced = [old for task in kept for old in decided.replaces.get(task.id, ())]
        if replaced:
            self._on_replaced(replaced)
        self._tell_apart(apart + faults)
        self._told_of_return(well)
        ended = [JobEvent(job_id=job_id, kind=JobEventKind.ENDED, at=decided.now) for job_id in served.ended]
        if skips or ended:
            self._store.events.publish(*skips, *ended)
        self._wake()

    def _not_committed(self, decided: Pass, error: BaseException) -> None:
        logger.opt(exception=error).error("a pass could not be written; it is decided again")
        self._on_dropped(decided.tasks)
        self._table.rebuild()
        self._door.release()

    def clock_came_back(self) -> int:
        """Bring next starts back that lie behind a fire time which is still to come; returns how many.

        A wall clock that ran ahead let jobs fire in a future that is none. Skips that were stored for it are cut at
        now; tasks that were made stay, and their fire times are not served twice.

        Raises:
            StoreUnavailableError: The store did not take it within 5 s; nothing changed.
        """
        self._enter()
        try:
            now = self._store.clock.now()
            earlier = {
                record.id: first
                for record in self.records()
                if record.enabled
                and (first := _first_start(record, now)) is not None
                and (record.next_run is None or first < record.next_run)
            }
            self._table.try_at(self._table.apart(), now.timestamp())
            if earlier:
                self._store.write(lambda connection: write_earlier_starts(connection, earlier, now))
                self._table.move(earlier)
            self._table.rebuild()
        finally:
            self._door.release()
        self._wake()
        return len(earlier)

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


def _first_start(record: JobRecord, now: datetime) -> datetime | None:
    """When a job starts next behind ``now``; None also where its trigger raises, which its next pass will tell."""
    try:
        return record.trigger.get_next_fire_time(now, now)
    except Exception as error:  # noqa: BLE001 - the other jobs must come back
        logger.bind(job_id=record.id).warning("a trigger raised: {}", cause_of(error))
        return None
