"""APScheduler's executor: it receives a due job and decides what becomes of its fire times: tasks, or stored skips."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from apscheduler.executors.base import BaseExecutor
from loguru import logger

from atlas.scheduler.definition import CatchUp, JobDefinition
from atlas.scheduler.errors import JobBusyError, QueueStoppedError
from atlas.scheduler.events import JobEvent, JobEventKind
from atlas.scheduler.schedule import newest_fire_times
from atlas.scheduler.submission import IDS
from atlas.scheduler.task import Origin, Task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from apscheduler.job import Job

    from atlas.scheduler.job_state import JobStates
    from atlas.scheduler.job_store import JobRecord, JobStore, Pass
    from atlas.scheduler.lifecycle import Lifecycle

ON_TIME_S: Final = 30.0
"""A start no later than this counts as on time: the scheduler looks up at least that often."""
MAX_COUNTED: Final = 1000
"""A range of skips is counted up to this many fire times."""


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


@dataclass(slots=True)
class _Range:
    """A stretch of skips with one reason that may go on."""

    reason: SkipReason
    first_s: float


class Bridge(BaseExecutor):
    """Turns a due job into one task or one skip per fire time. It never raises and counts no instances.

    Args:
        job_store: Whose open pass takes the decisions.
        states: Pauses and bindings.
        lifecycle: Decides overlap and reserves tasks.
    """

    def __init__(self, job_store: JobStore, states: JobStates, lifecycle: Lifecycle) -> None:
        """Connect the parts."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._job_store, self._states, self._lifecycle = job_store, states, lifecycle
        self._ranges: dict[str, _Range] = {}
        self.revision: int | None = None

    def submit_job(self, job: Job, run_times: Sequence[datetime]) -> None:
        """Decide on the fire times from ``run_times[0]`` to now."""
        decided, record = self._job_store.current, self._job_store.record(job.id)
        if decided is None or record is None:
            logger.bind(job_id=job.id).error("a job is due outside of a pass; it is decided in the next one")
            return
        try:
            self._decide(decided, record, run_times[0])
        except Exception as error:  # noqa: BLE001 - a fire time must end as a task or a skip, whatever went wrong
            logger.bind(job_id=job.id).exception("deciding on a fire time raised")
            fire_time = record.trigger.fire_time_of(run_times[0])
            self._skip(decided, job.id, [fire_time], SkipReason.FAULT, detail=f"{type(error).__name__}: {error}")

    def _do_submit_job(self, _job: Job, _run_times: Sequence[datetime]) -> None:
        raise AssertionError("submit_job is overridden")

    def _decide(self, decided: Pass, record: JobRecord, due: datetime) -> None:
        definition = record.definition
        fire_times, more = self._fire_times(decided, record, due)
        oldest = record.trigger.fire_time_of(due)
        pause = self._states.pause_of(record.id)
        if pause is not None:
            self._skip_stretch(
                decided, record.id, oldest, fire_times, more, SkipReason.PAUSED, f"by {pause.by}: {pause.reason}"
            )
            return
        unbound = self._states.unbound(definition)
        if unbound is not None:
            self._skip_stretch(decided, record.id, oldest, fire_times, more, SkipReason.UNBOUND, unbound)
            return
        self._ranges.pop(record.id, None)
        holidays = [one for one in fire_times if definition.schedule.is_excluded(one)]
        if holidays:
            self._skip(decided, record.id, holidays, SkipReason.CALENDAR)
            fire_times = [one for one in fire_times if one not in holidays]
        chosen = self._chosen(decided, record, definition, fire_times)
        left = [one for one in fire_times if one not in chosen]
        if left or more:
            reason = SkipReason.COALESCED if chosen else SkipReason.MISSED
            self._skip_stretch(
                decided, record.id, oldest, left, more, reason, f"catch-up is {definition.catchup.value}"
            )
            self._ranges.pop(record.id, None)
        for number, fire_time in enumerate(reversed(chosen)):
            self._fire(decided, record, definition, fire_time, behind_another=number > 0)

    @staticmethod
    def _fire_times(decided: Pass, record: JobRecord, due: datetime) -> tuple[list[datetime], bool]:
        """Fire times from the oldest due one to the pass's instant, newest first, and whether there are more."""
        trigger = record.trigger
        oldest, until = trigger.fire_time_of(due), trigger.fire_time_of(decided.now)
        following = trigger.schedule.next_after(oldest)
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

        match definition.catchup:
            case CatchUp.NONE:
                return [one for one in fire_times[:1] if late_s(one) <= ON_TIME_S]
            case CatchUp.LATEST:
                return [one for one in fire_times[:1] if late_s(one) <= max(ON_TIME_S, definition.catchup_window_s)]
            case CatchUp.ALL:
                window_s = max(ON_TIME_S, definition.catchup_window_s)
                return [one for one in fire_times if late_s(one) <= window_s][: max(1, definition.catchup_limit)]

    def _fire(
        self, decided: Pass, record: JobRecord, definition: JobDefinition, fire_time: datetime, *, behind_another: bool
    ) -> None:
        late_s = (decided.now - record.trigger.run_time_of(fire_time)).total_seconds()
        reason = "at its fire time" if late_s <= ON_TIME_S else f"caught up {late_s:.0f} s after its fire time"
        task = make_task(
            definition, self._states, now=decided.now, reason=reason, fire_time=fire_time, revision=self.revision
        )
        try:
            self._lifecycle.reserve(self._states.live(task), bounded=False, behind_another=behind_another)
        except JobBusyError as busy:
            self._skip(decided, record.id, [fire_time], SkipReason.OVERLAP, detail=busy.task_id)
            return
        except QueueStoppedError:
            self._skip(decided, record.id, [fire_time], SkipReason.STOPPED)
            return
        decided.tasks.append(task)
        decided.replaces += self._lifecycle.replaced_by(task)
        decided.fires.append(self._row(decided, record.id, fire_time, task_id=task.id))

    def _skip(
        self, decided: Pass, job_id: str, fire_times: list[datetime], reason: SkipReason, detail: str | None = None
    ) -> None:
        for fire_time in fire_times:
            decided.fires.append(
                self._row(decided, job_id, fire_time, reason=reason, detail=detail, last=fire_time, count=1)
            )
        self._tell(decided, job_id, fire_times, reason, detail)

    def _skip_stretch(  # noqa: PLR0917 - the facts of one stretch, used here only
        self,
        decided: Pass,
        job_id: str,
        oldest: datetime,
        fire_times: list[datetime],
        more: bool,  # noqa: FBT001 - passed through from newest_fire_times
        reason: SkipReason,
        detail: str,
    ) -> None:
        """One row for all of them, or a longer last row if the job's latest skips had the same reason."""
        last = fire_times[0] if fire_times else oldest
        open_range = self._ranges.get(job_id)
        if open_range is not None and open_range.reason is reason:
            decided.longer.append(
                {
                    "b_job_id": job_id,
                    "b_fire_time": open_range.first_s,
                    "last": last.timestamp(),
                    "more": len(fire_times),
                },
            )
            return
        count = None if more else len(fire_times)
        first = oldest if more or not fire_times else fire_times[-1]
        decided.fires.append(self._row(decided, job_id, first, reason=reason, detail=detail, last=last, count=count))
        self._ranges[job_id] = _Range(reason, first.timestamp())
        self._tell(decided, job_id, fire_times, reason, detail)

    def _row(
        self,
        decided: Pass,
        job_id: str,
        fire_time: datetime,
        *,
        task_id: str | None = None,
        reason: SkipReason | None = None,
        detail: str | None = None,
        last: datetime | None = None,
        count: int | None = None,
    ) -> dict[str, Any]:
        return {
            "job_id": job_id,
            "fire_time": fire_time.timestamp(),
            "task_id": task_id,
            "skip_reason": None if reason is None else reason.value,
            "detail": detail,
            "last": None if last is None else last.timestamp(),
            "count": count,
            "decided_at": decided.now.timestamp(),
            "revision": self.revision,
        }

    @staticmethod
    def _tell(decided: Pass, job_id: str, fire_times: list[datetime], reason: SkipReason, detail: str | None) -> None:
        facts = {"reason": reason.value, "fire_times": len(fire_times), "detail": detail}
        decided.events.append(JobEvent(job_id=job_id, kind=JobEventKind.SKIPPED, at=decided.now, detail=facts))


def make_task(
    definition: JobDefinition,
    states: JobStates,
    *,
    now: datetime,
    reason: str,
    fire_time: datetime | None = None,
    revision: int | None = None,
) -> Task:
    """A task of a job.

    Raises:
        FunctionError: The job is UNBOUND.
    """
    return Task(
        id=IDS.new(now),
        name=definition.title,
        function=definition.function,
        arguments=definition.arguments,
        job_id=definition.id,
        fire_time=fire_time,
        origin=Origin.FIRE,
        reason=reason,
        priority=definition.priority,
        policy=definition.policy(states.executor_of(definition)),
        revision=revision,
        volatile=definition.volatile,
        created_at=now,
    )
