"""Why a job ran, did not run, ran late or again: one paragraph from what was decided and stored at the time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, assert_never

from sqlalchemy import func, select

from atlas.scheduler.durations import format_duration
from atlas.scheduler.errors import UnknownJobError
from atlas.scheduler.job_rows import read_job
from atlas.scheduler.job_state import read_pauses
from atlas.scheduler.job_store import Parked
from atlas.scheduler.store.audit import Action, read_audit
from atlas.scheduler.store.revisions import latest_revision, revision_numbered
from atlas.scheduler.store.tables import fires, leases, tasks
from atlas.scheduler.store.task_queries import find_attempts
from atlas.scheduler.store.task_rows import fetch, instant
from atlas.scheduler.task import Cause, Task, TaskStatus
from atlas.scheduler.zones import zone_named

if TYPE_CHECKING:
    from collections.abc import Callable
    from zoneinfo import ZoneInfo

    from sqlalchemy import Connection, Row

NEAR: Final = timedelta(minutes=1)
"""A time that somebody names means the minute it stands in."""
LATE_S: Final = 2.0
"""A start later than this is told of."""
_SPAN_S: Final = 90.0


@dataclass(slots=True)
class Why:
    """The answer.

    Attributes:
        job_id: The job.
        at: The instant that was asked about, None for the latest decision.
        verdict: ``ran``, ``skipped``, ``not_due``, ``undecided``, ``not_there``, ``never``.
        sentences: In plain English, in order.
        facts: What they are made of, as JSON values.
    """

    job_id: str
    at: datetime | None
    verdict: str
    sentences: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """One paragraph."""
        return " ".join(self.sentences)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "job": self.job_id,
            "at": None if self.at is None else self.at.isoformat(),
            "verdict": self.verdict,
            "words": self.words,
            **self.facts,
        }


def why(
    connection: Connection, job_id: str, *, at: datetime | None, now: datetime, zone: ZoneInfo | None = None
) -> Why:
    """Why ``job_id`` did what it did at ``at``, or at its latest decision.

    Args:
        connection: A reading one.
        job_id: The job; one that was removed is known as long as its history is.
        at: The instant in question: the minute it stands in; None for the latest decision.
        now: The present.
        zone: Where the reader is; by default the job's own zone.

    Raises:
        UnknownJobError: There is no such job, and there never was as far as is known.
    """
    return _Inquiry(connection, job_id, at, now, zone).answer()


class _Inquiry:
    """Looks up what was decided and puts it into words."""

    def __init__(
        self, connection: Connection, job_id: str, at: datetime | None, now: datetime, zone: ZoneInfo | None
    ) -> None:
        self.connection, self.job_id, self.at, self.now = connection, job_id, at, now
        found = read_job(connection, job_id)
        # The history of a job whose row cannot be read can be told all the same.
        self.record = None if isinstance(found, Parked) else found
        self.zone = zone or zone_named("UTC" if self.record is None else self.record.definition.schedule.timezone)
        self.why = Why(job_id, at, "never")

    # --- what was decided -----------------------------------------------------------------------------------------

    def answer(self) -> Why:
        fire = self._fire()
        task = self._task(fire)
        if fire is None and task is None and self.record is None and not self._known():
            raise UnknownJobError(self.job_id)
        if fire is not None and fire.task_id is None:
            self._skipped(fire)
        elif task is not None:
            self._ran(task)
        elif fire is not None:
            self.why.verdict = "ran"
            self.why.sentences.append(f"It fired at {self._time(fire.fire_time)}; its task is removed by retention.")
        elif self.at is not None:
            self._nothing_at(self.at)
        else:
            self._never()
        self._present()
        return self.why

    def _known(self) -> bool:
        return bool(read_audit(self.connection, subject=self.job_id, limit=1)) or bool(
            self.connection.execute(select(fires.c.job_id).where(fires.c.job_id == self.job_id).limit(1)).first()
        )

    def _fire(self) -> Row[Any] | None:
        """The decision on the fire time in question, or the latest."""
        mine = select(fires).where(fires.c.job_id == self.job_id).order_by(fires.c.fire_time.desc()).limit(1)
        if self.at is None:
            return self.connection.execute(mine).first()
        begin, end = self._minute(self.at)
        exact = self.connection.execute(mine.where(fires.c.fire_time >= begin, fires.c.fire_time < end)).first()
        if exact is not None:
            return exact
        before = self.connection.execute(mine.where(fires.c.fire_time < end)).first()
        return before if before is not None and before.last is not None and before.last >= begin else None

    def _task(self, fire: Row[Any] | None) -> Task | None:
        if fire is not None and fire.task_id is not None:
            by_fire = fetch(self.connection, fire.task_id)
            if self.at is not None:
                return by_fire
        else:
            by_fire = None
        statement = select(tasks.c.id).where(tasks.c.job_id == self.job_id)
        if self.at is not None:
            begin, end = self._minute(self.at)
            statement = statement.where(tasks.c.created_at >= begin, tasks.c.created_at < end)
        newest = self.connection.execute(statement.order_by(tasks.c.created_at.desc()).limit(1)).scalar()
        found = None if newest is None else fetch(self.connection, newest)
        if fire is not None and (found is None or found.created_at.timestamp() <= fire.decided_at):
            return by_fire
        if found is not None and fire is not None and fire.task_id is None and self.at is not None:
            return None
        return found

    @staticmethod
    def _minute(at: datetime) -> tuple[float, float]:
        begin = at.replace(second=0, microsecond=0) if not (at.second or at.microsecond) else at.replace(microsecond=0)
        return begin.timestamp(), (begin + (NEAR if not at.second else timedelta(seconds=1))).timestamp()

    # --- it ran ---------------------------------------------------------------------------------------------------

    def _ran(self, task: Task) -> None:
        why = self.why
        why.verdict = "ran" if task.started_at is not None else "waits" if not task.status.is_final else "ended"
        why.facts |= {"task": task.id, "status": task.status.value, "revision": task.revision, "reason": task.reason}
        fire_time = None if task.fire_time is None else task.fire_time.timestamp()
        if fire_time is None:
            why.sentences.append(f"It was started by hand at {self._time(task.created_at)}{self._by_whom(task)}.")
            due = task.created_at
        else:
            due = task.fire_time or task.created_at
            if self.record is not None:
                due = self.record.trigger.run_time_of(due)
            offset_s = (due - (task.fire_time or due)).total_seconds()
            spread = f", and starts {format_duration(offset_s)} later by its spread" if offset_s else ""
            caught = f"; it was {task.reason}" if task.reason.startswith("caught up") else ""
            why.facts["fire_time"] = datetime.fromtimestamp(fire_time, UTC).isoformat()
            why.sentences.append(f"It was due at {self._time(fire_time)}{spread}{caught}{self._under(task.revision)}.")
            if caught:
                why.sentences.append(self._downtime(fire_time, task.created_at.timestamp()))
        self._attempts(task, due)
        self._end(task)

    def _by_whom(self, task: Task) -> str:
        for entry in read_audit(self.connection, subject=self.job_id, action=Action.RUN, limit=200):
            if isinstance(entry.after, dict) and entry.after.get("task") == task.id:
                self.why.facts["by"] = entry.actor
                return f" by {entry.actor}"
        return ""

    def _attempts(self, task: Task, due: datetime) -> None:
        why = self.why
        earlier = find_attempts(self.connection, task.id)
        first = earlier[0]["started_at"] if earlier and earlier[0]["started_at"] else task.started_at
        if first is None:
            if not task.status.is_final:
                why.sentences.append(f"Its task {task.id} waits for a slot since {self._time(task.created_at)}.")
            return
        late_s = (first - max(due, task.created_at)).total_seconds()
        if late_s >= LATE_S:
            busy = self._running_at(first)
            why.facts["waited_s"] = round(late_s, 1)
            others = f" while {busy} other tasks ran" if busy else ""
            why.sentences.append(f"It waited {format_duration(late_s)} for its start{others}.")
        why.facts["attempts"] = len(earlier) + (task.started_at is not None and task.status is not TaskStatus.RETRYING)
        for one in earlier:
            words = _OUTCOMES.get(one["outcome"], one["outcome"])
            told = f"Attempt {one['attempt']} {words} at {self._time(one['ended_at'])}{_error(one['error'])}"
            if one["wait_s"] is not None:
                told += f"; it was tried again after {format_duration(one['wait_s'])}"
            why.sentences.append(f"{told}.")

    def _running_at(self, moment: datetime) -> int:
        at_s = moment.timestamp()
        statement = select(func.count()).where(
            tasks.c.started_at < at_s - 0.001,
            (tasks.c.finished_at.is_(None)) | (tasks.c.finished_at >= at_s - 0.5),
            tasks.c.created_at > at_s - 7 * 86_400,
        )
        return int(self.connection.execute(statement).scalar() or 0)

    def _end(self, task: Task) -> None:
        match task.status:
            case TaskStatus.SUCCESS:
                words = f"It succeeded at {self._time(task.finished_at)}"
            case TaskStatus.FAILED:
                cause = _CAUSES.get(task.cause) if task.cause else None
                words = f"It failed at {self._time(task.finished_at)}{f' because {cause}' if cause else ''}"
            case TaskStatus.TIMEOUT:
                limit = task.policy.timeout_s
                words = f"It ran out of time at {self._time(task.finished_at)}" + (
                    "" if limit is None else f": an attempt may take {format_duration(limit)}"
                )
            case TaskStatus.CANCELLED:
                words = f"It was cancelled at {self._time(task.finished_at)}{self._cancelled(task)}"
            case TaskStatus.RUNNING:
                words = f"It runs since {self._time(task.started_at)}"
            case TaskStatus.RETRYING:
                words = f"It is tried again at {self._time(task.due_at)}"
            case TaskStatus.PENDING:
                return
            case _:
                assert_never(task.status)
        took = task.duration_s
        if task.status.is_final and took is not None and task.started_at is not None:
            words += f", after {format_duration(took)}"
        error = _error(task.error) if task.status is not TaskStatus.SUCCESS else ""
        self.why.sentences.append(f"{words}{error}.")

    def _cancelled(self, task: Task) -> str:
        if task.cause is Cause.REPLACED:
            return ", because the job fired again and its overlap rule is replace"
        if task.cause is Cause.BUSY:
            return ", because another task of the job was unfinished"
        found = read_audit(self.connection, subject=task.id, action=Action.CANCEL, limit=1)
        return f" by {found[0].actor}" if found else ""

    # --- it was skipped -------------------------------------------------------------------------------------------

    def _skipped(self, fire: Row[Any]) -> None:
        why = self.why
        why.verdict = "skipped"
        why.facts |= {
            "skip_reason": fire.skip_reason,
            "detail": fire.detail,
            "fire_time": _iso(fire.fire_time),
            "last": _iso(fire.last),
            "count": fire._mapping["count"],  # noqa: SLF001 - a row has a method of this name
            "decided_at": _iso(fire.decided_at),
            "revision": fire.revision,
        }
        count = why.facts["count"]
        if fire.last is not None and fire.last > fire.fire_time:
            many = f"{count:,} fire times" if count else "more than a thousand fire times"
            due = f"It made no task for {many} from {self._time(fire.fire_time)} to {self._time(fire.last)}"
        else:
            due = f"It was due at {self._time(fire.fire_time)} and made no task"
        words: Callable[[Row[Any]], str] = {
            "paused": self._paused,
            "overlap": self._overlap,
            "missed": self._missed,
            "coalesced": lambda _fire: "a newer fire time was served in its place, as catch-up is latest",
            "unbound": lambda row: f"its function was missing ({row.detail})",
            "calendar": lambda _fire: "its calendar leaves that day out",
            "stopped": lambda _fire: "the queue was stopping and took nothing",
            "fault": lambda row: f"deciding on it raised {row.detail}",
        }.get(fire.skip_reason, lambda row: f"{row.skip_reason}: {row.detail}")
        why.sentences.append(f"{due}, because {words(fire)}{self._under(fire.revision)}.")

    def _paused(self, fire: Row[Any]) -> str:
        told = (fire.detail or "").strip().rstrip(":")
        return "it was paused" + (f" {told}" if told and told != "by" else "")

    def _overlap(self, fire: Row[Any]) -> str:
        blocking = None if fire.detail is None else fetch(self.connection, fire.detail)
        if blocking is None:
            return f"task {fire.detail} of it was unfinished, and its overlap rule made no second one"
        began = blocking.started_at or blocking.created_at
        self.why.facts["blocking_task"] = {"task": blocking.id, "status": blocking.status.value}
        ran = f"ran since {self._time(began)}" if blocking.started_at else f"waited since {self._time(began)}"
        end = (
            ""
            if blocking.finished_at is None
            else f" and ended {blocking.status.lower()} at {self._time(blocking.finished_at)}"
        )
        return f"its task {blocking.id} {ran}{end}; its overlap rule makes no second one meanwhile"

    def _missed(self, fire: Row[Any]) -> str:
        late_s = fire.decided_at - fire.fire_time
        until = f"{self._time(fire.decided_at)}, {format_duration(late_s)} later"
        told = f"nobody could serve it until {until}, and {fire.detail}"
        if self.record is not None and (fire.detail or "").endswith("latest"):
            told += f" within {format_duration(self.record.definition.catchup_window_s)}"
        down = self._downtime(fire.fire_time, fire.decided_at)
        return told + (f" ({down[0].lower()}{down[1:].rstrip('.')})" if down else "")

    def _downtime(self, begin_s: float, end_s: float) -> str:
        """What is known of why nobody served from ``begin_s`` to ``end_s``."""
        row = self.connection.execute(
            select(leases).where(leases.c.started_at <= end_s + _SPAN_S, leases.c.started_at >= begin_s).limit(1)
        ).first()
        if row is None:
            return "The scheduler was not able to look at it in time."
        return f"No scheduler ran then; one was started at {self._time(row.started_at)}."

    # --- nothing was decided ----------------------------------------------------------------------------------------

    def _nothing_at(self, at: datetime) -> None:
        why, record = self.why, self.record
        if at > self.now:
            why.verdict = "undecided"
            why.sentences.append(f"{self._time(at)} is still to come, so nothing is decided yet.")
            return
        in_force = latest_revision(self.connection, until=at)
        why.facts["revision"] = None if in_force is None else in_force.number
        entry = None if in_force is None else _entry(in_force.text, self.job_id)
        if entry is None and self._came_later(at):
            why.verdict = "not_there"
            told = (
                "no revision of the config file was in force"
                if in_force is None
                else f"revision {in_force.number} was in force"
            )
            why.sentences.append(f"There was no such job at {self._time(at)}: {told}, and the job came later.")
            return
        why.verdict = "not_due"
        if entry is not None and entry.get("enabled") is False and in_force is not None:
            why.sentences.append(
                f"It was switched off at {self._time(at)}: revision {in_force.number} says enabled: false."
            )
            return
        why.sentences.append(f"Nothing was decided for {self._time(at)}.")
        if record is None:
            return
        begin, end = (datetime.fromtimestamp(one, UTC) for one in self._minute(at))
        schedule = record.definition.schedule
        due = schedule.next_after(begin - timedelta(microseconds=1))
        if due is not None and due < end:
            why.verdict = "undecided"
            why.sentences.append(
                "By the schedule it has now it would have been due: either it had another one then, or the record of it"
                " was removed by retention, or no scheduler has run since."
            )
        else:
            before = schedule.previous_before(end)
            told = "" if before is None else f"; the fire time before is {self._time(before)}"
            after = "" if due is None else f", the next one {self._time(due)}"
            why.sentences.append(f"It was not due then: its schedule is {schedule.describe()}{told}{after}.")

    def _came_later(self, at: datetime) -> bool:
        added = read_audit(self.connection, subject=self.job_id, action=Action.ADD, limit=1)
        if self.record is not None and self.record.source.value == "code":
            return bool(added) and added[0].at > at
        return True

    def _never(self) -> None:
        self.why.sentences.append("It has not fired yet.")

    # --- now --------------------------------------------------------------------------------------------------------

    def _present(self) -> None:
        """What is true now, where it differs from what a reader would take for granted."""
        why, record = self.why, self.record
        if record is None:
            why.sentences.append("The job is not there any more.")
            return
        pause = read_pauses(self.connection, self.job_id).get(self.job_id)
        if not record.enabled:
            why.sentences.append("It is switched off now: the config file says enabled: false.")
        elif pause is not None and pause.holds(self.now):
            until = "" if pause.until is None else f" until {self._time(pause.until)}"
            reason = f" ({pause.reason})" if pause.reason else ""
            why.facts["pause"] = pause.to_json()
            why.sentences.append(
                f"It is paused since {self._time(pause.paused_at)} by {pause.by or 'somebody'}{until}{reason}."
            )
        elif record.next_run is None:
            why.sentences.append("Its last fire time has passed.")
        elif self.at is None or self.at > self.now or why.verdict in {"never", "skipped"}:
            why.facts["next_run_at"] = record.next_run.isoformat()
            why.sentences.append(f"It starts next at {self._time(record.next_run)}.")

    # --- words ------------------------------------------------------------------------------------------------------

    def _under(self, number: int | None) -> str:
        if number is None:
            return ""
        found = revision_numbered(self.connection, number)
        return f", under revision {number}" + ("" if found is None else f" of {self._time(found.accepted_at)}")

    def _time(self, at: datetime | float | None) -> str:
        """``02:00`` of today, else with its date; seconds where there are some."""
        moment = instant(at) if isinstance(at, int | float) else at
        if moment is None:
            return "?"
        local, today = moment.astimezone(self.zone), self.now.astimezone(self.zone)
        clock = local.strftime("%H:%M:%S" if local.second else "%H:%M")
        return clock if local.date() == today.date() else f"{local:%Y-%m-%d} {clock}"


_OUTCOMES: Final = {
    "error": "failed",
    "timeout": "ran out of time",
    "crashed": "ended with the crash of its process",
    "released": "was released when the scheduler stopped",
}
_CAUSES: Final = {
    Cause.LOST: "its process died, and it may not run twice or lived in that process only",
    Cause.QUARANTINED: "it took its process down three times and is not tried again",
}


def _error(error: str | None) -> str:
    lines = [line.strip() for line in (error or "").splitlines() if line.strip()]
    if not lines:
        return ""
    last = lines[-1].rstrip(".")
    return f" ({last if len(last) <= 200 else last[:199] + '…'})"


def _iso(value: float | None) -> str | None:
    return None if value is None else datetime.fromtimestamp(value, UTC).isoformat()


def _entry(text: str, job_id: str) -> dict[str, Any] | None:
    """What an accepted text says of a job."""
    try:
        found = json.loads(text)["cron_jobs"].get(job_id)
    except (ValueError, KeyError, AttributeError):
        return None
    return found if isinstance(found, dict) else None
