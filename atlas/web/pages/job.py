"""Job: how long its tasks take, when it fires, its policy and where each value comes from, its tasks and skips."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from atlas.scheduler.definition import BUILT_IN
from atlas.scheduler.errors import ArgumentsError, StoreVersionError, UnknownJobError
from atlas.scheduler.forecast.starts import start_times
from atlas.scheduler.job_view import JobState
from atlas.scheduler.store.tables import attempts, fires, tasks
from atlas.scheduler.store.task_queries import behind, cursor
from atlas.scheduler.store.task_rows import instant
from atlas.scheduler.why.answer import why as reason_of
from atlas.web.pages import charts, ranges
from atlas.web.pages.job_rows import rows_of
from atlas.web.pages.recent import NEWEST
from atlas.web.pages.view import View, short_json
from atlas.web.rendering import Page

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from atlas.scheduler.definition import JobDefinition
    from atlas.scheduler.job_store.records import JobRecord
    from atlas.web.pages.job_rows import JobRow
    from atlas.web.rendering import Shown
    from atlas.web.site import Visit

ROWS: Final = 20
_SHOWN: Final = ("SUCCESS", "RETRYING", "TIMEOUT", "FAILED", "CANCELLED")
_FIRES: Final = 8
_MICROSECOND: Final = timedelta(microseconds=1)
_END: Final = datetime(9000, 1, 1, tzinfo=UTC)
_SKIP_COLUMNS: Final = (
    *(fires.c[name] for name in ("fire_time", "skip_reason", "detail", "last")),
    fires.c.count.label("times"),
)
_WITH: Final = 100
"""Jobs whose next start is compared with this one's: "with …"."""
SKIPS: Final = {
    "overlap": "its last task was unfinished",
    "missed": "nobody could serve it in time",
    "coalesced": "a newer one was caught up instead",
    "paused": "the job was paused",
    "unbound": "its function was missing",
    "calendar": "the calendar excludes this day",
    "stopped": "the queue was stopping",
    "fault": "the fire could not be decided",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """One line of a job's history: a task, or a skip."""

    at: datetime
    """When it was due, or asked for."""
    place: tuple[float, str]
    """Where it stands in the history: when it was accepted, or due if it is a skip; and the task's id."""
    status: str
    task_id: str = ""
    delay_s: float | None = None
    duration_s: float | None = None
    attempts: int = 0
    why: str = ""
    outcome: str = ""
    count: int = 1
    last: datetime | None = None


def job(visit: Visit) -> Shown:
    """One job."""
    view = View.of(visit)
    job_id, desk = str(visit.path_params["job"]), view.desk
    record = desk.record(job_id)
    if record is None:
        return _without_record(view, job_id)
    row = rows_of(desk, [record], view.now)[0]
    only = view.asked("only")
    before = view.asked("before")
    happened = desk.store.read(lambda connection: _history(connection, view, job_id, only, before))
    older = view.visit.here(before=cursor(*happened[-1].place)) if len(happened) >= ROWS else ""
    definition = row.definition
    return view.shown(
        "job.html",
        row.job.title,
        "jobs",
        row=row,
        job=row.job,
        schedule_words=definition.schedule.describe(visit.language),
        ranges=ranges.choices(view, first=view.say("newest {n}", n=NEWEST)),
        **_figures(view, row),
        ahead=_ahead(view, record, row),
        policy=_policy(view, definition),
        arguments=json.loads(definition.arguments),
        short_json=short_json,
        definition=definition,
        metrics=desk.store.totals.metrics(job_id),
        happened=sorted(happened, key=lambda one: one.at, reverse=True),
        only=only,
        older=older,
        **_why(view, job_id),
    )


def _figures(view: View, row: JobRow) -> dict[str, Any]:
    """Figures and chart of its newest tasks, or of some days."""
    say, timeout_s, key = view.say, row.definition.policies.timeout_s, ranges.asked(view)
    range_words, span_s = ranges.RANGES[key]
    if key:
        days = span_s // ranges.DAY_S
        size_s = ranges.DAY_S if days > 7 else ranges.DAY_S // 6
        found = view.desk.history.of(row.job.id, span_s, size_s, view.said.local(view.now))
        total = found.by_status
        return {
            "of_what": say(range_words),
            "days": days,
            "chart_title": say("mean of each day") if days > 7 else say("mean of each four hours"),
            "rate": found.success_rate,
            "median": found.duration_s(0.5),
            "p95": found.duration_s(0.95),
            "recovered": (total["RETRYING"], found.tried_again),
            "ended": sum(total.values()),
            "counts": [(status, total[status]) for status in _SHOWN],
            "chart": charts.history(found, view.said, say, timeout_s=timeout_s, days=days),
        }
    recent = row.recent
    ended = [task for task in recent.tasks if task.finished_at is not None]
    retried = [task for task in ended if task.failures]
    return {
        "of_what": say("newest {n}", n=len(ended)),
        "days": 0,
        "chart_title": say("last task|last {n} tasks", n=len(ended)),
        "rate": recent.success_rate,
        "median": recent.duration_s(0.5),
        "p95": recent.duration_s(0.95),
        "recovered": (sum(task.status == "SUCCESS" for task in retried), len(retried)),
        "ended": len(ended),
        "counts": [(status, sum(task.shown == status for task in ended)) for status in _SHOWN],
        "chart": charts.durations(recent.tasks, view.said, say, timeout_s=timeout_s),
    }


def _why(view: View, job_id: str) -> dict[str, Any]:
    """Why it did what it did at the instant that is asked about, or at its latest decision."""
    asked = view.asked("at", 40)
    try:
        at = _instant(asked, view.desk.zone) if asked else None
    except (ValueError, OverflowError):
        words = view.say("{text} is no date and time such as 2026-12-24T18:00.", text=repr(asked))
        return {"why": [words], "why_at": "", "why_asked": True, "why_task": ""}
    try:
        found = view.desk.store.read(
            lambda connection: reason_of(connection, job_id, at=at, now=view.now, zone=view.desk.zone)
        )
    except StoreVersionError as error:  # of one task: the rest of the page is true
        return {"why": [str(error)], "why_at": "", "why_asked": at is not None, "why_task": ""}
    local = "" if at is None else view.said.local(at).strftime("%Y-%m-%dT%H:%M:%S" if at.second else "%Y-%m-%dT%H:%M")
    said = [view.say.told(one) for one in found.sentences]
    return {"why": said, "why_at": local, "why_asked": at is not None, "why_task": found.facts.get("task", "")}


def _instant(text: str, zone: tzinfo) -> datetime:
    at = datetime.fromisoformat(text)
    if not 1970 < at.year < 9000:
        raise ValueError(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=zone)


def _without_record(view: View, job_id: str) -> Shown:
    for parked in view.desk.atlas.cron.sync.shown.jobs.parked():
        if parked.id == job_id:
            return view.shown("job_parked.html", job_id, "jobs", job_id=job_id, error=parked.error)
    raise UnknownJobError(job_id)


def _ahead(view: View, record: JobRecord, row: JobRow) -> list[tuple[datetime, str]]:
    """The next starts, each with another job that starts at the same moment."""
    if record.next_run is None or row.job.state in {JobState.PAUSED, JobState.UNBOUND, JobState.PARKED}:
        return []
    found = start_times(record.trigger, record.next_run - _MICROSECOND, _END, _FIRES)
    wanted = {at.timestamp() for at in found}
    beside: dict[float, str] = {}
    for other in view.desk.records()[:_WITH]:
        if other.id != record.id:
            for at in wanted.intersection(view.desk.plans.of(other, view.now).at):
                beside.setdefault(at, other.id)
    return [(at, beside.get(at.timestamp(), "")) for at in found]


def _policy(view: View, definition: JobDefinition) -> list[tuple[str, str, str]]:
    """(what, its value in words, where it comes from)."""
    say, said, policies = view.say, view.said, definition.policies
    retry, executor = policies.retry, policies.executor
    waits = [retry.delay_s * retry.backoff**number for number in range(min(retry.max_retries, 4))]
    shown = ", ".join(said.rough(min(wait_s, retry.max_delay_s)) for wait_s in waits)
    values = {
        "priority": ("Priority", view.word_of(policies.priority.name)),
        "timeout": (
            "Timeout",
            say("no limit")
            if policies.timeout_s is None
            else say("{s} per attempt", s=said.duration(policies.timeout_s)),
        ),
        "max_retries": (
            "Retries",
            say("none") if not retry.max_retries else say("{n}, then it fails", n=retry.max_retries),
        ),
        "retry_delay": ("Back-off", (shown + (" …" if retry.max_retries > 4 else "")) or say("none")),
        "retry_on": ("Retried errors", ", ".join(retry.retry_on) or say("all")),
        "overlap": ("Overlap", say(_OVERLAP[policies.overlap.value], n=policies.max_instances)),
        "catchup": (
            "Missed fires",
            say(_CATCHUP[policies.catchup.value], s=said.rough(policies.catchup_window_s), n=policies.catchup_limit),
        ),
        "on_crash": (
            "After a crash",
            say("runs again") if policies.on_crash == "retry" else say("fails: at most once"),
        ),
        "executor": ("Executor", say("as the function asks") if executor is None else say(executor.value)),
    }
    return [(say(words), value, view.say(_FROM[policies.source_of(name)])) for name, (words, value) in values.items()]


_FROM: Final = {
    "job": "from the job",
    "defaults": "from the file’s defaults",
    "config.yaml": "from config.yaml",
    "queue": "from the queue’s defaults",
    BUILT_IN: "built in",
}
_OVERLAP: Final = {
    "skip": "skip: one task at a time",
    "queue": "queue: they wait for each other",
    "replace": "replace: the newer one wins",
    "allow": "allow: up to {n} at once",
}
_CATCHUP: Final = {
    "none": "none is caught up",
    "latest": "the latest, if at most {s} old",
    "all": "all of the last {s}, at most {n}",
}


def _history(connection: Connection, view: View, job_id: str, only: str, before: str) -> list[Happened]:
    """Tasks and skips of the job behind the place ``before``, newest first by their places.

    By place, not by due time: what is caught up is accepted hours after its due time, many tasks at one moment.
    """
    found: list[Happened] = []
    of_tasks, of_skips = [tasks.c.job_id == job_id], [fires.c.job_id == job_id, fires.c.skip_reason.is_not(None)]
    with suppress(ArgumentsError):
        of_tasks.append(behind(before))
        place, _, task_id = before.partition(",")
        of_skips.append(fires.c.fire_time <= float(place) if task_id else fires.c.fire_time < float(place))
    if only != "skips":
        columns = (
            "id",
            "status",
            "created_at",
            "fire_time",
            "started_at",
            "finished_at",
            "attempt",
            "failures",
            "reason",
            "result",
            "error",
            "cause",
        )
        earlier = select(func.min(attempts.c.started_at)).where(attempts.c.task_id == tasks.c.id).scalar_subquery()
        first_start = func.coalesce(earlier, tasks.c.started_at).label("first_start")
        statement = select(*(tasks.c[name] for name in columns), first_start).where(*of_tasks)
        if only == "bad":
            statement = statement.where(tasks.c.status.in_(("FAILED", "TIMEOUT", "CANCELLED")))
        if only == "manual":
            statement = statement.where(tasks.c.fire_time.is_(None))
        statement = statement.order_by(tasks.c.created_at.desc(), tasks.c.id.desc()).limit(ROWS)
        found += [_task_line(view, row) for row in connection.execute(statement)]
    if only in {"", "skips"}:
        skips = select(*_SKIP_COLUMNS).where(*of_skips)
        for row in connection.execute(skips.order_by(fires.c.fire_time.desc()).limit(ROWS)):
            at = instant(row.fire_time)
            if at is not None:
                words = view.say(SKIPS.get(row.skip_reason, row.skip_reason))
                detail = (
                    view.say(": ").join((words, view.say.told(row.detail)))
                    if row.detail and row.skip_reason != "overlap"
                    else words
                )
                found.append(
                    Happened(
                        at=at,
                        place=(row.fire_time, ""),
                        status="SKIPPED",
                        outcome=detail,
                        count=row.times or 1,
                        last=instant(row.last),
                    )
                )
    return sorted(found, key=lambda one: one.place, reverse=True)[:ROWS]


def _task_line(view: View, row: Any) -> Happened:
    created = instant(row.created_at) or view.now
    started, finished, fire = instant(row.started_at), instant(row.finished_at), instant(row.fire_time)
    first = instant(row.first_start)
    return Happened(
        at=fire or created,
        place=(row.created_at, row.id),
        status="RETRYING" if row.status == "SUCCESS" and row.failures else row.status,
        task_id=row.id,
        delay_s=None if first is None else max(0.0, (first - (fire or created)).total_seconds()),
        duration_s=max(0.0, (finished - started).total_seconds())
        if started is not None and finished is not None
        else None,
        attempts=row.attempt,
        why=view.why(row.reason, fires=fire is not None),
        outcome=_outcome(view, row),
    )


def _outcome(view: View, row: Any) -> str:
    if row.status == "SUCCESS":
        return short_json(json.loads(row.result), 80) if row.result else ""
    if row.error:
        return view.headline(row.error)[:120]
    return view.say(row.cause) if row.cause and row.cause != "cancelled" else ""


JOB: Final = Page(
    "job",
    "/jobs/{job:path}",
    job,
    live={
        "b-head": "job/head.html",
        "b-figures": "job/figures.html",
        "b-chart": "job/chart.html",
        "b-why": "job/why.html",
        "b-rows": "job/rows.html",
        "b-ahead": "job/ahead.html",
    },
)
