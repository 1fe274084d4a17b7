"""APScheduler's executor: it receives a due job and decides what becomes of its fire times: tasks, or stored skips."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from apscheduler.executors.base import BaseExecutor
from loguru import logger

from atlas.scheduler.definition import CatchUp
from atlas.scheduler.errors import JobBusyError, QueueStoppedError
from atlas.scheduler.job_store.passes import Served, Skipped, skip_event
from atlas.scheduler.outcome import shorten
from atlas.scheduler.schedule import newest_fire_times
from atlas.scheduler.store.refusals import cause_of
from atlas.scheduler.task import ExecutorKind
from atlas.scheduler.tasks.submission import make_task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from apscheduler.job import Job

    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.job_state import JobStates, Pause
    from atlas.scheduler.job_store.job_store import JobStore
    from atlas.scheduler.job_store.passes import Pass
    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.tasks.acceptance import Acceptance

ON_TIME_S: Final = 30.0
"""A start no later than this counts as on time: the scheduler looks up at least that often."""
_ON_TIME: Final = timedelta(seconds=ON_TIME_S)
MAX_COUNTED: Final = 1000
"""So many fire times of a job are looked at, the newest: a range of skips is counted, and caught up, no further."""


class SkipReason(enum.StrEnum):
    """Why a fire time made no task."""

    PAUSED = "paused"
    UNBOUND = "unbound"
    CALENDAR = "calendar"
    OVERLAP = "overlap"
    MISSED = "missed"
    """Nobody could serve it, and the catch-up policy does not make up for it."""
    COALESCED = "coalesced"
    """A newer fire time of the same job was served in its place."""
    STOPPED = "stopped"
    """The queue takes nothing."""
    FAULT = "fault"
    """Deciding on it raised; the detail says what."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Fire times that are decided together; a ``count`` of None stands for more than were counted."""

    first: datetime
    last: datetime
    count: int | None


class Bridge(BaseExecutor):
    """Turns a due job into one task or one skip per fire time. It never raises and counts no instances."""

    def __init__(self, job_store: JobStore, states: JobStates, acceptance: Acceptance) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._job_store, self._states, self._acceptance = job_store, states, acceptance
        self._open_ranges: dict[str, tuple[SkipReason, datetime]] = {}
        self.revision: int | None = None

    def submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        """Decide on the fire times from ``run_times[0]`` to now."""
        decided, record = self._job_store.current, self._job_store.record(job.id)
        if decided is None or record is None:
            logger.bind(job_id=job.id).error("a job is due outside of a pass; it is decided in the next one")
            return
        refusal = decided.refused.get(job.id)
        if refusal is not None:
            self._skip_fault(decided, record, run_times[0], refusal)
            return
        try:
            self._decide(decided, record, run_times[0])
        except Exception as error:  # noqa: BLE001 - a fire time must end as a task or a skip, whatever went wrong
            logger.bind(job_id=job.id).exception("deciding on a fire time raised")
            for task in decided.take_out(job.id):
                self._acceptance.forget(task.id)
            self._skip_fault(decided, record, run_times[0], _words(error))
            decided.faults[job.id] = cause_of(error)

    def _skip_fault(self, decided: Pass, record: JobRecord, due: datetime, why: str) -> None:
        """One skip for everything that is due of a job; a range that was open would go on over it."""
        self._open_ranges.pop(record.id, None)
        oldest, newest = record.trigger.fire_time_of(due), record.trigger.fire_time_of(decided.now)
        self._skip_range(decided, record, _Stretch(oldest, max(oldest, newest), None), SkipReason.FAULT, why)

    def _do_submit_job(self, _job: Job, _run_times: Sequence[datetime]) -> None:
        raise AssertionError("submit_job is overridden")

    def _decide(self, decided: Pass, record: JobRecord, due: datetime) -> None:
        definition = record.definition
        fire_times, more = self._fire_times(decided, record, due)
        pause = self._states.pause_of(record.id)
        if pause is not None:
            stretch = _stretch(fire_times, record, due, more)
            self._extend_range(decided, record, stretch, SkipReason.PAUSED, _why(pause))
            return
        executor = self._states.place_of(definition, decided.places)
        if not isinstance(executor, ExecutorKind):
            self._extend_range(decided, record, _stretch(fire_times, record, due, more), SkipReason.UNBOUND, executor)
            return
        ended = self._states.ended_pause_of(record.id)
        if ended is not None:
            held = [one for one in fire_times if ended.covers(record.trigger.run_time_of(one))]
            if held:
                self._extend_range(decided, record, _stretch(held, record, due, more), SkipReason.PAUSED, _why(ended))
                fire_times, more = fire_times[: len(fire_times) - len(held)], False
                if not fire_times:
                    return
                due = record.trigger.run_time_of(fire_times[-1])
        self._open_ranges.pop(record.id, None)
        if len(fire_times) > 1 or more or definition.schedule.calendar is not None or decided.now - due > _ON_TIME:
            fire_times = self._catch_up(decided, record, fire_times, due, more=more)
        behind_another = False
        for fire_time in reversed(fire_times):
            behind_another |= self._fire(decided, record, executor, fire_time, behind_another=behind_another)

    def _catch_up(
        self, decided: Pass, record: JobRecord, fire_times: list[datetime], due: datetime, *, more: bool
    ) -> list[datetime]:
        """The fire times that make a task, newest first; the others become skips."""
        definition = record.definition
        older = record.trigger.schedule.previous_before(fire_times[-1]) if more else None
        holidays = [one for one in fire_times if definition.schedule.is_excluded(one)]
        if holidays:
            self._skip(decided, record.id, holidays, SkipReason.CALENDAR)
            fire_times = [one for one in fire_times if one not in holidays]
        chosen = self._chosen(decided, record, definition, fire_times)
        left = [one for one in fire_times if one not in chosen]
        if left or older is not None:
            reason = SkipReason.COALESCED if chosen else SkipReason.MISSED
            oldest = record.trigger.fire_time_of(due)
            first, last = oldest if more else left[-1], left[0] if left else older or oldest
            stretch = _Stretch(first, last, None if more else len(left))
            self._skip_range(decided, record, stretch, reason, f"catch-up is {definition.policies.catchup.value}")
        return chosen

    @staticmethod
    def _fire_times(decided: Pass, record: JobRecord, due: datetime) -> tuple[list[datetime], bool]:
        """Fire times from the oldest due one to the pass's instant, newest first, and whether there are more."""
        trigger = record.trigger
        oldest, until = trigger.fire_time_of(due), trigger.fire_time_of(decided.now)
        following = decided.first_after(trigger.schedule, oldest)
        if following is None or following > until:
            return [oldest], False
        after = oldest - timedelta(microseconds=1)
        return newest_fire_times(trigger.schedule, after=after, until=until, limit=MAX_COUNTED)

    @staticmethod
    def _chosen(
        decided: Pass, record: JobRecord, definition: JobDefinition, fire_times: list[datetime]
    ) -> list[datetime]:
        """The fire times that make a task, newest first."""

        def late_s(fire_time: datetime) -> float:
            return (decided.now - record.trigger.run_time_of(fire_time)).total_seconds()

        policies = definition.policies
        match policies.catchup:
            case CatchUp.NONE:
                return [one for one in fire_times[:1] if late_s(one) <= ON_TIME_S]
            case CatchUp.LATEST:
                return [one for one in fire_times[:1] if late_s(one) <= max(ON_TIME_S, policies.catchup_window_s)]
            case CatchUp.ALL:
                window_s = max(ON_TIME_S, policies.catchup_window_s)
                return [one for one in fire_times if late_s(one) <= window_s][: max(1, policies.catchup_limit)]

    def _fire(
        self, decided: Pass, record: JobRecord, executor: ExecutorKind, fire_time: datetime, *, behind_another: bool
    ) -> bool:
        """Make the task of a fire time, or store why there is none; True if there is one."""
        definition = record.definition
        late_s = (decided.now - record.trigger.run_time_of(fire_time)).total_seconds()
        reason = "at its fire time" if late_s <= ON_TIME_S else f"caught up {late_s:.0f} s after its fire time"
        try:
            task = make_task(
                definition, executor, now=decided.now, reason=reason, fire_time=fire_time, revision=self.revision
            )
            self._acceptance.reserve(self._states.live(task), bounded=False, behind_another=behind_another)
        except JobBusyError as busy:
            self._skip(decided, record.id, [fire_time], SkipReason.OVERLAP, detail=busy.task_id)
            return False
        except QueueStoppedError:
            self._skip(decided, record.id, [fire_time], SkipReason.STOPPED)
            return False
        except Exception as error:  # noqa: BLE001 - the other fire times of a catch-up must be decided as well
            logger.bind(job_id=record.id).exception("making a task raised")
            self._skip(decided, record.id, [fire_time], SkipReason.FAULT, detail=_words(error))
            decided.faults[record.id] = cause_of(error)
            return False
        decided.tasks.append(task)
        at, decided_at = fire_time.timestamp(), decided.now.timestamp()
        decided.served.append(Served(record.id, at, task.id, decided_at, self.revision))
        return True

    def _skip(
        self, decided: Pass, job_id: str, fire_times: list[datetime], reason: SkipReason, detail: str | None = None
    ) -> None:
        rows = [
            self._row(decided, job_id, fire_time, reason=reason, detail=detail, last=fire_time, count=1)
            for fire_time in fire_times
        ]
        decided.skipped.extend(rows)
        self._tell(decided, rows)

    def _skip_range(self, decided: Pass, record: JobRecord, stretch: _Stretch, reason: SkipReason, detail: str) -> None:
        """One row for all of them."""
        last, count = stretch.last, stretch.count
        row = self._row(decided, record.id, stretch.first, reason=reason, detail=detail, last=last, count=count)
        decided.schedules[record.id] = record.trigger.schedule
        decided.skipped.append(row)
        self._tell(decided, [row])

    def _extend_range(
        self, decided: Pass, record: JobRecord, stretch: _Stretch, reason: SkipReason, detail: str
    ) -> None:
        """`_skip_range`, or a longer row if the job's latest skips had the same reason."""
        open_reason, first = self._open_ranges.get(record.id, (None, stretch.first))
        if open_reason is not reason:
            self._open_ranges[record.id] = reason, stretch.first
            self._skip_range(decided, record, stretch, reason, detail)
            return
        last, count = stretch.last, stretch.count
        row = self._row(decided, record.id, first, reason=reason, detail=detail, last=last, count=count)
        decided.schedules[record.id] = record.trigger.schedule
        decided.longer.append(row | {"since": stretch.first.timestamp()})

    def _row(
        self,
        decided: Pass,
        job_id: str,
        fire_time: datetime,
        *,
        reason: SkipReason,
        detail: str | None,
        last: datetime,
        count: int | None,
    ) -> dict[str, Any]:
        return {
            "job_id": job_id,
            "fire_time": fire_time.timestamp(),
            "task_id": None,
            "skip_reason": reason.value,
            "detail": None if detail is None else shorten(detail),
            "last": last.timestamp(),
            "count": count,
            "decided_at": decided.now.timestamp(),
            "revision": self.revision,
        }

    @staticmethod
    def _tell(decided: Pass, rows: Sequence[dict[str, Any]]) -> None:
        """One event for rows of one job and reason."""
        counts = [row["count"] for row in rows]
        event = skip_event(decided, rows[0], None if None in counts else sum(counts))
        decided.skips.append(Skipped(event, rows))


def _stretch(fire_times: list[datetime], record: JobRecord, due: datetime, more: bool) -> _Stretch:  # noqa: FBT001
    """All fire times from the oldest due one on, of which ``fire_times`` are the newest."""
    return _Stretch(record.trigger.fire_time_of(due), fire_times[0], None if more else len(fire_times))


def _why(pause: Pause) -> str:
    return f"by {pause.by}: {pause.reason}"


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
