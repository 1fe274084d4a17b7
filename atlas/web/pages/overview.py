"""Overview: what needs attention, six figures, yesterday to tomorrow, errors, running, next up, latest."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from atlas.scheduler.store.tables import tasks
from atlas.scheduler.store.task_rows import instant
from atlas.web.pages import charts, lanes, ranges
from atlas.web.pages.desk import LANES
from atlas.web.pages.job_rows import by_name, by_next_fire, by_urgency, rows_of, standing
from atlas.web.pages.plan import BUCKET_S
from atlas.web.pages.rollup import total_of
from atlas.web.pages.view import View
from atlas.web.rendering import Page

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from markupsafe import Markup
    from sqlalchemy import Connection

    from atlas.scheduler.forecast.result import Forecast
    from atlas.scheduler.job_store.records import JobRecord, Parked
    from atlas.scheduler.job_view import Job
    from atlas.web.pages.desk import Desk
    from atlas.web.pages.errors import ErrorGroup
    from atlas.web.pages.job_rows import JobRow, Standing
    from atlas.web.pages.rollup import Step
    from atlas.web.rendering import Shown
    from atlas.web.site import Visit
    from atlas.web.words.speech import Speech

DAY_S: Final = 86_400
SORTS: Final = {"urgency": "By urgency", "name": "By name", "next": "By next fire"}
_TICK_LATE_S: Final = 60.0
_FAILING: Final = 4
"""Failing jobs that have a line of their own; all of them are one click away."""
_TOLD_SINGLY: Final = 2
"""Jobs that cannot run of which each has a line of its own; of more the names are told, `_NAMED` of them."""
_NAMED: Final = 6
_LOOKED_AT: Final = 60
"""Starts that are looked at for those that come next; some make no task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something to look at, and what to do about it."""

    level: str
    subject: str
    words: str
    href: str = ""
    button: str = ""
    job: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """A task that runs now."""

    id: str
    title: str
    started_at: datetime | None
    share: float | None
    usual_s: float | None
    stopping: bool


def overview(visit: Visit) -> Shown:
    """The first page."""
    view = View.of(visit)
    desk, now, say = view.desk, view.now, view.say
    stand = standing(desk, now)
    records = desk.records()
    sort = view.asked("sort")
    order = {"name": by_name, "next": by_next_fire}.get(sort, partial(by_urgency, stand=stand))
    shown = rows_of(desk, order(records, most=LANES), now)
    plan = desk.forecast(now)
    span = lanes.Span(now.timestamp() // 60 * 60)
    key = ranges.asked(view)
    range_words, span_s = ranges.RANGES[key]
    whole, day_whole = desk.is_whole(now, span_s), desk.is_whole(now)
    steps = desk.rollup_of(span_s).steps(now, span_s)
    today, before = total_of(steps), desk.rollup.day_before(now) if whole and not key else None
    figures = desk.atlas.get_queue_status()
    rate = today.success_rate
    return view.shown(
        "overview.html",
        say("Overview"),
        "overview",
        stand=stand,
        alerts=[
            *_of_scheduler(view, figures),
            *_of_unable(view, stand),
            *_of_failing(view, stand),
            *_of_plan(view, plan),
        ],
        figures=figures,
        today=today,
        ranges=ranges.choices(view),
        range=key,
        range_words=say(range_words),
        whole=whole,
        change=None if rate is None or before is None else rate - before,
        worst_at=instant(today.worst_at),
        spark=charts.spark(
            _by_time(steps, now, span_s), say("tasks that ended in the last {time}, over time", time=say(range_words))
        ),
        sort=sort if sort in SORTS else "urgency",
        sorts=SORTS,
        axis=lanes.axis(span, view.said),
        lanes=[(row, _lane(span, view, row)) for row in shown],
        more=len(records) - len(shown),
        plan=plan,
        load_lane=lanes.load_lane(
            span, view.said, say, past=busy_slots(desk, desk.rollup.steps(now)), load=plan, slots=desk.slots
        ),
        errors=[(group, say.told(group.title), _outcome(say, group)) for group in desk.errors.groups(now)]
        if day_whole or desk.is_read
        else None,
        running=running_tasks(desk, now, figures, most=6),
        next_up=_next_up(desk, stand, now),
        latest=latest(desk, now, most=8),
        slots=desk.slots,
        empty=stand.total == 0 and today.total == 0 and not figures["running_tasks"],
        config_path=desk.atlas.settings.persistence.cron_config.name,
    )


def _lane(span: lanes.Span, view: View, row: JobRow) -> Markup:
    def draw() -> Markup:
        return lanes.lane(
            span,
            view.said,
            view.say,
            title=row.job.title,
            cells=row.recent.cells,
            starts=row.starts,
            takes_s=row.recent.duration_s(0.5),
        )

    return view.desk.drawn(("lane", row.job.id, view.visit.language), row.state(span.now_s), draw)


def _outcome(say: Speech, group: ErrorGroup) -> str:
    parts = []
    if group.failed:
        parts.append(say("{n} failed", n=group.failed))
    if group.timed_out:
        parts.append(say("{n} timed out", n=group.timed_out))
    if group.recovered:
        parts.append(say("{n} recovered by a retry", n=group.recovered))
    return say(", ").join(parts) or say("is tried again")


def _by_time(steps: Iterable[tuple[int, Step]], now: datetime, span_s: int) -> list[int]:
    """Tasks by hour of a day, or by day or a quarter of one."""
    size_s = 3600 if span_s <= DAY_S else DAY_S // 4 if span_s <= 7 * DAY_S else DAY_S
    counts = [0] * (span_s // size_s)
    begin = now.timestamp() - span_s
    for start, step in steps:
        counts[min(len(counts) - 1, max(0, int((start - begin) // size_s)))] += step.total
    return counts


def busy_slots(desk: Desk, steps: Iterable[tuple[int, Step]]) -> dict[int, float]:
    """Quarter of an hour → slots busy on average."""
    found: dict[int, float] = {}
    for start, step in steps:
        key = start // BUCKET_S * BUCKET_S
        found[key] = found.get(key, 0.0) + step.busy_s / BUCKET_S
    return {key: min(value, float(desk.slots)) for key, value in found.items()}


def _of_scheduler(view: View, figures: Mapping[str, Any]) -> list[Alert]:
    say, found = view.say, list[Alert]()
    atlas, system = view.desk.atlas, view.url("system")
    tick_s = atlas.last_tick_s()
    if figures.get("store_fault"):
        words = say("No work starts: {fault}", fault=figures["store_fault"])
        found.append(Alert(level="bad", subject=say("Store"), words=words, href=system, button=say("System")))
    if tick_s is not None and tick_s > _TICK_LATE_S:
        words = say("The clock last looked for due jobs {s} ago.", s=view.said.rough(tick_s))
        found.append(Alert(level="bad", subject=say("Clock"), words=words, href=system, button=say("System")))
    error = atlas.config_error()
    if error is not None:
        words = say("Refused; the last good revision runs on. {error}", error=say.told(error).splitlines()[0][:300])
        found.append(
            Alert(level="bad", subject=say("Config"), words=words, href=view.url("config"), button=say("Open config"))
        )
    if figures.get("abandoned_threads"):
        words = say(
            "1 thread does not stop and was abandoned; its slot was replaced."
            "|{n} threads do not stop and were abandoned; their slots were replaced.",
            n=figures["abandoned_threads"],
        )
        found.append(Alert(level="warn", subject=say("Threads"), words=words, href=system, button=say("System")))
    return found


def _of_unable(view: View, stand: Standing) -> list[Alert]:
    """The jobs that cannot run, each with its reason; of many their names."""
    say, shown = view.say, view.desk.atlas.cron.sync.shown
    records = [record for job_id in sorted(stand.unable) if (record := view.desk.record(job_id)) is not None]
    found: list[JobRecord | Parked] = [*shown.jobs.parked(), *records]
    jobs = list(shown.each_job(found[:_NAMED]))
    if len(found) <= _TOLD_SINGLY:
        return [_unable(view, job) for job in jobs]
    names = [job.title for job in jobs] + ["…"] * (len(found) > len(jobs))
    return [
        Alert(
            level="bad",
            subject=say("1 job|{n} jobs", n=view.said.count(len(found))),
            words=say("Cannot run: {jobs}", jobs=say(", ").join(names)),
            href=view.url("jobs", state="unable"),
            button=say("Jobs"),
        )
    ]


def _unable(view: View, job: Job) -> Alert:
    words = view.say("Does not fire: {why}", why=view.said.within_text(view.say.told(job.detail)))
    href, button = view.url("job", job=job.id), view.say("Open job")
    return Alert(level="bad", subject=job.title, words=words, href=href, button=button)


def _of_failing(view: View, stand: Standing) -> list[Alert]:
    say, found = view.say, list[Alert]()
    left_out = stand.paused | stand.off | stand.unable
    worst = [view.desk.record(job_id) for job_id in stand.failing if job_id not in left_out][:_FAILING]
    for row in rows_of(view.desk, [record for record in worst if record is not None], view.now):
        lately = row.recent.tasks[:10]
        bad = sum(task.status in {"FAILED", "TIMEOUT"} for task in lately)
        last = row.recent.last_final
        if last is None:
            continue
        words = say("the last task did not succeed|{bad} of the last {n} tasks did not succeed", bad=bad, n=len(lately))
        words = say(": ").join(filter(None, (words, _error(view, last.id))))
        found.append(
            Alert(
                level="bad" if row.recent.bad_in_a_row > 1 or bad * 2 >= len(lately) else "warn",
                subject=row.job.title,
                words=words,
                href=view.url("task", task=last.id),
                button=say("Open task"),
                job=row.job.id,
            )
        )
    return found


def _error(view: View, task_id: str) -> str:
    statement = select(tasks.c.error).where(tasks.c.id == task_id)
    return view.headline(view.desk.store.read(lambda connection: connection.execute(statement).scalar()))[:200]


def _of_plan(view: View, plan: Forecast | None) -> list[Alert]:
    if plan is None or not plan.crowds:
        return []
    crowd = max(plan.crowds, key=lambda crowd: (crowd.needed, max(crowd.late_s.values())))
    late = [view.desk.title(job_id) for job_id in islice(crowd.late_s, 4)]
    words = view.say(
        "{n} tasks are expected at once for {slots} slots; {jobs} would start up to {late} late.",
        n=crowd.needed,
        slots=plan.slots,
        jobs=view.say(", ").join(late[:3]) + (" …" if len(late) > 3 else ""),
        late=view.said.rough(max(crowd.late_s.values())),
    )
    subject = view.said.moment(crowd.at, seconds=False)
    return [
        Alert(
            level="warn", subject=subject, words=words, href=view.url("queue") + "#plan", button=view.say("Show plan")
        )
    ]


def running_tasks(desk: Desk, now: datetime, figures: dict[str, Any], *, most: int) -> list[Running]:
    """What runs now, with how far it is: its own progress, else against the job's median."""
    live = figures.get("running", [])[:most]
    ids = [one["task_id"] for one in live]
    statement = select(tasks.c.id, tasks.c.started_at).where(tasks.c.id.in_(ids))
    begun = {
        row.id: instant(row.started_at)
        for row in desk.store.read(lambda connection: connection.execute(statement).all())
    }
    lately = desk.recent.of([one["job_id"] for one in live if one["job_id"]], now)
    found = []
    for one in live:
        usual_s = lately[one["job_id"]].duration_s(0.5) if one["job_id"] in lately else None
        started = begun.get(one["task_id"])
        share = None
        if one["total"]:
            share = one["done"] / one["total"]
        elif usual_s and started is not None:
            share = min(0.97, (now - started).total_seconds() / usual_s)
        found.append(Running(one["task_id"], one["name"], started, share, usual_s, bool(one["stopping"])))
    return found


def _next_up(desk: Desk, stand: Standing, now: datetime) -> list[tuple[datetime, JobRow]]:
    states = desk.atlas.cron.sync.shown.states

    def makes_a_task(record: JobRecord) -> bool:
        fire_time = None if record.next_run is None else record.trigger.fire_time_of(record.next_run)
        if fire_time is None or record.definition.schedule.is_excluded(fire_time):
            return False
        return states.unbound(record.definition) is None

    waiting = [r for r in desk.records() if r.next_run is not None and r.id not in stand.paused]
    soon = heapq.nsmallest(_LOOKED_AT, waiting, key=lambda record: (record.next_run, record.id))
    rows = rows_of(desk, list(islice(filter(makes_a_task, soon), 6)), now)
    return [(row.job.next_run_at, row) for row in rows if row.job.next_run_at is not None]


def latest(desk: Desk, now: datetime, *, most: int) -> list[Any]:
    """The tasks that ended last."""

    def read(connection: Connection) -> list[Any]:
        statement = (
            select(
                *(tasks.c[name] for name in ("id", "name", "job_id", "status", "failures", "attempt")),
                *(tasks.c[name] for name in ("started_at", "finished_at")),
            )
            .where(tasks.c.finished_at.is_not(None), tasks.c.finished_at >= now.timestamp() - 7 * DAY_S)
            .order_by(tasks.c.finished_at.desc())
            .limit(most)
        )
        return [
            {
                "id": row.id,
                "name": row.name,
                "status": "RETRYING" if row.status == "SUCCESS" and row.failures else row.status,
                "seconds": None if row.started_at is None else max(0.0, row.finished_at - row.started_at),
                "finished_at": instant(row.finished_at),
            }
            for row in connection.execute(statement)
        ]

    return desk.store.read(read)


OVERVIEW: Final = Page(
    "overview",
    "/",
    overview,
    live={
        "o-sub": "overview/sub.html",
        "o-acts": "overview/acts.html",
        "o-alerts": "overview/alerts.html",
        "o-kpis": "overview/figures.html",
        "o-lanes": "overview/lanes.html",
        "o-errors": "overview/errors.html",
        "o-running": "overview/running.html",
        "o-next": "overview/next.html",
        "o-latest": "overview/latest.html",
    },
)
