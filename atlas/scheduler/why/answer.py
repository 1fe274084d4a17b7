"""`why`: finds the decision that is meant, and has it told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from atlas.scheduler.errors import UnknownJobError
from atlas.scheduler.job_state import read_pauses
from atlas.scheduler.lease_facts import parked_words, unbound_jobs
from atlas.scheduler.message import Message
from atlas.scheduler.store.audit import read_audit
from atlas.scheduler.store.leases import living_lease, scheduler_lease
from atlas.scheduler.store.tables import fires, tasks
from atlas.scheduler.store.task_rows import fetch
from atlas.scheduler.why.inquiry import Inquiry, minute_of
from atlas.scheduler.why.ran import tell_of_task
from atlas.scheduler.why.skipped import tell_of_skip
from atlas.scheduler.why.undecided import tell_of_nothing

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from sqlalchemy import Connection, Row

    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.task import Task


MOST_WITHIN: Final = 1000
"""Rows that may stand within a range of skips: days that a calendar leaves out have their own."""


@dataclass(frozen=True, slots=True)
class Why:
    """The answer.

    Attributes:
        at: The instant that was asked about, None for the latest decision.
        verdict: ``ran``, ``waits`` (for a slot), ``ended`` (before its start), ``skipped``, ``not_due``, ``undecided``,
            ``not_there``, ``never``.
        sentences: The answer, in plain English; each keeps what it was made of (`Message`).
        facts: What it is made of, as JSON values.
    """

    job_id: str
    at: datetime | None
    verdict: str
    sentences: tuple[str, ...]
    facts: dict[str, Any]

    @property
    def words(self) -> str:
        """One paragraph of plain English."""
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
    """Why ``job_id`` did what it did in the minute of ``at``, or at its latest decision, for a reader in ``zone``.

    A job that was removed is known as long as its history is.

    Raises:
        UnknownJobError: There is no such job, and there never was as far as is known.
    """
    ask = Inquiry(connection, job_id, at, now, zone)
    fire = _fire(ask)
    task = _task(ask, fire)
    if fire is None and task is None and ask.record is None and not _known(ask):
        raise UnknownJobError(ask.job_id)
    if at is None or at > now:
        _tell_of_scheduler(ask)
    if fire is not None and fire.task_id is None:
        tell_of_skip(ask, fire)
    elif task is not None:
        tell_of_task(ask, task)
    elif fire is not None:
        ask.verdict = "ran"
        ask.tell(Message("It fired at {at}; its task is removed by retention.", at=ask.time(fire.fire_time)))
    elif ask.at is not None:
        tell_of_nothing(ask, ask.at)
    else:
        ask.tell(Message("It has not fired yet."))
    _tell_of_now(ask)
    return Why(job_id, at, ask.verdict, tuple(ask.sentences), ask.facts)


def why_task(connection: Connection, task: Task, *, now: datetime, zone: ZoneInfo) -> Why:
    """Why this task ran as it did, or waits; of a job or submitted."""
    ask = Inquiry(connection, task.job_id or "", task.fire_time or task.created_at, now, zone)
    if not task.status.is_final:
        _tell_of_scheduler(ask)
    tell_of_task(ask, task)
    return Why(ask.job_id, ask.at, ask.verdict, tuple(ask.sentences), ask.facts)


def _tell_of_scheduler(ask: Inquiry) -> None:
    """Where none serves, that comes before anything else: what the rows say of now and later does not happen."""
    lease = scheduler_lease(ask.connection)
    if lease is not None and lease.lives(ask.now):
        return
    ask.facts["scheduler"] = None
    if lease is None:
        ask.tell(Message("No scheduler has run yet, and nothing starts until one does."))
    elif lease.stopped_at is not None:
        at = ask.time(lease.stopped_at)
        ask.tell(
            Message("No scheduler runs since {at}, when it was stopped, and nothing starts until one does.", at=at)
        )
    elif lease.ended:
        ask.tell(
            Message(
                "The scheduler, process {pid} on {host}, ended without a clean stop after {at}, and nothing starts"
                " until another one runs.",
                pid=lease.holder.get("pid", "?"),
                host=lease.holder.get("host", "?"),
                at=ask.time(lease.renewed_at),
            )
        )
    else:  # a living one that is asked itself says so too: for what the rows can tell, both are the same
        ask.tell(
            Message(
                "The scheduler, process {pid} on {host}, wrote its last sign of life at {at}, and nothing starts until"
                " it can write or another one runs.",
                pid=lease.holder.get("pid", "?"),
                host=lease.holder.get("host", "?"),
                at=ask.time(lease.renewed_at),
            )
        )


def _known(ask: Inquiry) -> bool:
    return bool(read_audit(ask.connection, subject=ask.job_id, limit=1)) or bool(
        ask.connection.execute(select(fires.c.job_id).where(fires.c.job_id == ask.job_id).limit(1)).first()
    )


def _fire(ask: Inquiry) -> Row[Any] | None:
    """The decision on the fire time in question, or the latest."""
    mine = select(fires).where(fires.c.job_id == ask.job_id).order_by(fires.c.fire_time.desc()).limit(1)
    if ask.at is None:
        return ask.connection.execute(mine).first()
    begin, end = minute_of(ask.at)
    exact = ask.connection.execute(mine.where(fires.c.fire_time >= begin, fires.c.fire_time < end)).first()
    if exact is not None:
        return exact
    before = mine.where(fires.c.fire_time < end).limit(MOST_WITHIN + 1).subquery()
    held = select(before).where(before.c.last >= begin).order_by(before.c.fire_time.desc()).limit(1)
    return ask.connection.execute(held).first()


def _task(ask: Inquiry, fire: Row[Any] | None) -> Task | None:
    if fire is not None and fire.task_id is not None:
        by_fire = fetch(ask.connection, fire.task_id)
        if ask.at is not None:
            return by_fire
    else:
        by_fire = None
    statement = select(tasks.c.id).where(tasks.c.job_id == ask.job_id)
    if ask.at is not None:
        begin, end = minute_of(ask.at)
        statement = statement.where(tasks.c.created_at >= begin, tasks.c.created_at < end)
    newest = ask.connection.execute(statement.order_by(tasks.c.created_at.desc()).limit(1)).scalar()
    found = None if newest is None else fetch(ask.connection, newest)
    if fire is not None and (found is None or found.created_at.timestamp() <= fire.decided_at):
        return by_fire
    if found is not None and fire is not None and fire.task_id is None and ask.at is not None:
        return None
    return found


def _tell_of_now(ask: Inquiry) -> None:
    """What is true now, where it differs from what a reader would take for granted."""
    record = ask.record
    if record is None:
        ask.tell(Message("The job is not there any more."))
        return
    pause = read_pauses(ask.connection, ask.job_id).get(ask.job_id)
    lease = living_lease(ask.connection, ask.now)
    apart = parked_words(lease).get(ask.job_id)
    if apart is not None:
        ask.facts["parked"] = str(apart)
        ask.tell(Message("It is parked now: {why}.", why=apart))
    elif not record.enabled:
        ask.tell(Message("It is switched off now: the config file says enabled: false."))
    elif pause is not None and pause.holds(ask.now):
        ask.facts["pause"] = pause.to_json()
        ask.tell(
            Message(
                "It is paused since {at} by {who}{until}{reason}.",
                at=ask.time(pause.paused_at),
                who=pause.by or Message("somebody"),
                until="" if pause.until is None else Message(" until {at}", at=ask.time(pause.until)),
                reason=Message(" ({reason})", reason=pause.reason) if pause.reason else "",
            )
        )
    elif record.next_run is None:
        ask.tell(_ended(ask, record.definition.schedule.end_at))
    elif (missing := unbound_jobs(lease).get(ask.job_id)) is not None:
        ask.facts["unbound"] = missing
        reason = "" if missing in ask.told_errors else Message(" ({reason})", reason=missing)
        ask.tell(Message("Its function is missing now{reason}: it makes no task until there is one.", reason=reason))
    elif "scheduler" in ask.facts:
        return  # none serves, which was told: it does not start then
    elif ask.at is None or ask.at > ask.now or ask.verdict in {"never", "skipped"}:
        ask.facts["next_run_at"] = record.next_run.isoformat()
        ask.tell(_next(ask, record, record.next_run))


def _ended(ask: Inquiry, end_at: datetime | None) -> str:
    if end_at is None or end_at > ask.now:
        return Message("Its last fire time has passed.")
    return Message("Its last fire time has passed: end_at is {at}.", at=ask.time(end_at))


def _next(ask: Inquiry, record: JobRecord, next_run: datetime) -> str:
    """When it starts next, and what a reader would not see in its cron expression."""
    schedule, at = record.definition.schedule, ask.time(next_run)
    if schedule.is_excluded(record.trigger.fire_time_of(next_run)):
        return Message("It is due next at {at}, and makes no task then: its calendar leaves that day out.", at=at)
    if schedule.start_at is not None and schedule.start_at > ask.now:
        return Message("It starts next at {at}: start_at is {start}.", at=at, start=ask.time(schedule.start_at))
    return Message("It starts next at {at}.", at=at)
