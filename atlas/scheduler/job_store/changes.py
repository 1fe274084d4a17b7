"""`JobChanges`: puts changed, new and removed jobs in force, each lot in one commit, behind the pass that is open."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from loguru import logger

from atlas.scheduler.crash_points import CrashPoint, reached
from atlas.scheduler.errors import StoreUnavailableError
from atlas.scheduler.events import JobEvent, JobEventKind
from atlas.scheduler.job_store.passes import Pass, write_earlier_starts
from atlas.scheduler.job_store.records import same_times
from atlas.scheduler.job_store.rows import write_records
from atlas.scheduler.store.refusals import cause_of
from atlas.scheduler.store.store import CALL_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.job_store.apart import ApartJobs
    from atlas.scheduler.job_store.door import Door
    from atlas.scheduler.job_store.records import JobChange, JobRecord
    from atlas.scheduler.job_store.table import JobTable
    from atlas.scheduler.store.store import Store

T = TypeVar("T")

TOLD_TOGETHER: Final = 256
"""Changed jobs of which is told together: the events of ten thousand are not in memory at once."""


class JobChanges:
    """Changes jobs from outside of a pass; every method from any thread."""

    def __init__(self, store: Store, table: JobTable, apart: ApartJobs, door: Door) -> None:
        self._store, self._table, self._apart, self._door = store, table, apart, door

    def apply(
        self,
        changes: Iterable[JobChange] = (),
        removed: Iterable[str] = (),
        *,
        serve: Callable[[JobRecord, list[datetime]], None] | None = None,
        also: Callable[[Connection], T] | None = None,
    ) -> T | None:
        """Write changed and removed jobs in one commit, then swap them in. Waits behind a pass.

        ``serve`` decides on what is due by a schedule that changes: it is served first, in a pass of its own. ``also``
        is done in the same commit, and its value returned. What is removed keeps its history.

        Raises:
            StoreUnavailableError: The store did not take it within 5 s; nothing changed.
        """
        changes, removed = list(changes), list(removed)
        self._door.enter()
        refused: dict[str, str] = {}
        left: set[str] = set()
        while serve is not None and (due := [one for one in self._due_by_old(changes) if one.id not in left]):
            self._serve(due, serve, refused, left)
            self._door.enter()
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
            self._door.leave()
        now = self._store.clock.now()
        events = self._store.events
        for start in range(0, len(changes), TOLD_TOGETHER):
            some = changes[start : start + TOLD_TOGETHER]
            events.publish_later(partial(_events_of, some, now), len(some))
        if removed:
            events.publish(*(JobEvent(job_id=job_id, kind=JobEventKind.REMOVED, at=now) for job_id in removed))
        return made

    def _settled(self, change: JobChange) -> JobRecord:
        """The record to write, with the next start that holds."""
        record, old = change.record, self._table.record(change.record.id)
        if (
            change.keeps_next_run
            and old is not None
            and same_times(old, enabled=record.enabled, trigger=record.trigger)
        ):
            record.next_run = old.next_run
        return record

    def _due_by_old(self, changes: Iterable[JobChange]) -> list[JobRecord]:
        """Jobs with a fire time that is due by the schedule they have, and that go on with another one."""
        now = self._store.clock.now()
        pairs = ((self._table.record(change.record.id), change.record) for change in changes)
        return [
            old
            for old, new in pairs
            if old is not None
            and (due_at := _due_at(old)) is not None
            and due_at <= now
            and new.enabled
            and old.trigger != new.trigger
        ]

    def _serve(
        self,
        due: Iterable[JobRecord],
        serve: Callable[[JobRecord, list[datetime]], None],
        refused: dict[str, str],
        left: set[str],
    ) -> None:
        """A pass of its own for these jobs; the door is held before and free behind it.

        A job that is refused has skips stored in the next turn (``refused``); one that stays due all the same, since
        its schedule cannot say what comes next or the database takes nothing of it, is ``left`` as it is.

        Raises:
            StoreUnavailableError: It was not written within 5 s.
        """
        decided = self._door.current = Pass(self._store.clock.now(), refused=dict(refused))
        try:
            for record in due:
                if (due_at := _due_at(record)) is not None:
                    serve(record, [due_at])
                    try:
                        following = record.trigger.get_next_fire_time(due_at, decided.now)
                    except Exception as error:  # noqa: BLE001 - the schedule that replaces it must come into force
                        logger.bind(job_id=record.id).warning("the old schedule raised: {}", cause_of(error))
                        left.add(record.id)
                        continue
                    if following is None:
                        decided.ended.add(record.id)
                    else:
                        decided.next_run[record.id] = following
        except BaseException as error:
            self._door.not_written(decided, error)
            raise
        finally:
            self._door.current = None
        if not self._door.write(decided, CALL_S):
            raise StoreUnavailableError(
                "what was due by the old schedule is not written; nothing was changed", waited_s=CALL_S
            )
        for job_id, one in self._apart.all().items():
            if job_id in decided.job_ids and one.tried_at == decided.now and one.waits:
                if job_id in refused:
                    logger.bind(job_id=job_id).error("what was due of a changed job can be neither served nor skipped")
                    left.add(job_id)
                refused[job_id] = one.error

    def bring_back(self) -> int:
        """Bring next starts back that lie behind a fire time which is still to come; returns how many.

        A wall clock that ran ahead let jobs fire in a future that is none. Skips that were stored for it are cut at
        now; tasks that were made stay, and their fire times are not served twice.

        Raises:
            StoreUnavailableError: The store did not take it within 5 s; nothing changed.
        """
        self._door.enter()
        try:
            now = self._store.clock.now()
            earlier = {
                record.id: first
                for record in self._table.records()
                if record.enabled
                and (first := _first_start(record, now)) is not None
                and (record.next_run is None or first < record.next_run)
            }
            self._apart.try_all()
            if earlier:
                self._store.write(lambda connection: write_earlier_starts(connection, earlier, now))
                self._table.move(earlier)
            self._table.rebuild()
        finally:
            self._door.leave()
        return len(earlier)


def _events_of(changes: Sequence[JobChange], at: datetime) -> list[JobEvent]:
    return [JobEvent(job_id=change.record.id, kind=change.kind, at=at) for change in changes]


def _due_at(record: JobRecord) -> datetime | None:
    """When a job starts next; where its schedule still cannot say that, where it begins to count."""
    try:
        return record.start()
    except Exception:  # noqa: BLE001 - what is due of it becomes a skip that says why
        return record.next_run


def _first_start(record: JobRecord, now: datetime) -> datetime | None:
    """When a job starts next behind ``now``; None also where its trigger raises, which its next pass will tell."""
    try:
        return record.trigger.get_next_fire_time(now, now)
    except Exception as error:  # noqa: BLE001 - the other jobs must come back
        logger.bind(job_id=record.id).warning("a trigger raised: {}", cause_of(error))
        return None
