"""Task: its attempts and waits, its log, its traceback, its result and arguments, and why it started."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from atlas.scheduler.store.audit import read_audit
from atlas.scheduler.store.tables import tasks
from atlas.scheduler.store.task_logs import read_logs
from atlas.scheduler.store.task_queries import find_attempts
from atlas.scheduler.store.task_rows import fetch_known, instant
from atlas.scheduler.task import TaskStatus
from atlas.scheduler.why.answer import why_task
from atlas.web.pages import charts
from atlas.web.pages.course import ENDED_AS, MOST_ASKED, between, course_of
from atlas.web.pages.errors import folded
from atlas.web.pages.view import View, number_in, short_json
from atlas.web.rendering import Page

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Connection

    from atlas.scheduler.task import Task
    from atlas.scheduler.why.answer import Why
    from atlas.web.rendering import Shown
    from atlas.web.site import Visit

LOG_LINES: Final = 300
"""Lines of the log on one page."""
_MOST_ATTEMPTS: Final = 12
_REDACTED: Final = ("key", "token", "secret", "password", "passwd", "credential", "authorization")


def task(visit: Visit) -> Shown:
    """One task."""
    view = View.of(visit)
    task_id, store = str(visit.path_params["task"]), view.desk.store
    found = store.read(lambda connection: fetch_known(connection, task_id))
    earlier = store.read(lambda connection: find_attempts(connection, task_id))
    after = number_in(view.asked("after")) or 0
    lines = store.read(lambda connection: read_logs(connection, task_id, after_id=after, limit=LOG_LINES + 1))
    warnings = view.asked("level") == "warnings"
    shown = [line for line in lines[:LOG_LINES] if not warnings or line.level in {"WARNING", "ERROR", "CRITICAL"}]
    result = _pretty(found.result)
    stretches = [(earlier_one["attempt"], earlier_one["error"]) for earlier_one in earlier if earlier_one["error"]]
    error = found.error if found.error and found.status is not TaskStatus.SUCCESS else ""
    tabs = [("", view.say("Log"), len(lines[:LOG_LINES]))]
    if error or stretches:
        tabs.append(("traceback", view.say("Traceback"), len(stretches) + bool(error)))
    if result or found.result_omitted:
        tabs.append(("result", view.say("Result"), 0))
    course = course_of(view, found, earlier, store.read(partial(read_audit, subject=task_id, limit=MOST_ASKED)))
    tabs.append(("events", view.say("Events"), len(course)))
    show = view.asked("show", 20)
    return view.shown(
        "task.html",
        found.name,
        "tasks",
        task=found,
        shown_as="RETRYING" if found.status is TaskStatus.SUCCESS and found.failures else found.status.value,
        is_final=found.status.is_final,
        headline=view.headline(found.error) if found.status is not TaskStatus.SUCCESS else "",
        chart=_chart(view, found, earlier),
        tabs=tabs,
        show=show if show in {key for key, _words, _count in tabs} else "",
        course=course if show == "events" else [],
        lines=shown,
        pauses={one["attempt"]: between(view, one) for one in earlier},
        has_lines=bool(lines),
        more_lines=visit.here(after=lines[LOG_LINES - 1].id) if len(lines) > LOG_LINES else "",
        warnings=warnings,
        traceback=folded(error) if "\n" in error else [],
        error=error,
        earlier=stretches[-_MOST_ATTEMPTS:],
        folded=folded,
        arguments=arguments_of(found),
        short_json=short_json,
        result=result,
        facts=facts_of(view, found, earlier, view.said.exact),
        why=[view.say.told(one) for one in store.read(lambda connection: _why(connection, view, found)).sentences],
        beside=store.read(lambda connection: _neighbours(connection, view, found)),
        same_time=store.read(lambda connection: _same_time(connection, found)),
        job_known=found.job_id is not None and view.desk.record(found.job_id) is not None,
    )


def _why(connection: Connection, view: View, found: Task) -> Why:
    return why_task(connection, found, now=view.now, zone=view.desk.zone)


def arguments_of(found: Task) -> list[tuple[int | str, Any]]:
    """The arguments by place or name, without what is not for everybody's eyes: values whose name says so."""
    arguments = json.loads(found.arguments)
    return [*enumerate(_shielded(arguments["args"])), *_shielded(arguments["kwargs"]).items()]


def _shielded(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: "•••" if any(part in name.lower() for part in _REDACTED) else _shielded(one)
            for name, one in value.items()
        }
    return [_shielded(one) for one in value] if isinstance(value, list) else value


def _pretty(text: str | None) -> str:
    if text is None:
        return ""
    value = json.loads(text)
    return "" if value is None else json.dumps(value, ensure_ascii=False, indent=2)[:20_000]


def _chart(view: View, found: Task, earlier: list[dict[str, Any]]) -> Any:
    """The attempts over one clock; None for a task that has not begun."""
    bars: list[tuple[int, str, float, float, str]] = []
    for one in earlier[-_MOST_ATTEMPTS:]:
        begin = one["started_at"] or one["ended_at"]
        text = view.headline(one["error"]) or view.say(one["outcome"])
        bars.append(
            (
                one["attempt"],
                ENDED_AS.get(one["outcome"], "RETRYING"),
                begin.timestamp(),
                one["ended_at"].timestamp(),
                text,
            )
        )
    last = bars[-1][0] if bars else 0
    if found.started_at is not None and found.attempt > last:
        end = found.finished_at or view.now
        text = (
            view.headline(found.error)
            if found.error and found.status is not TaskStatus.SUCCESS
            else view.word_of(found.status.value)
        )
        bars.append((found.attempt, found.status.value, found.started_at.timestamp(), end.timestamp(), text))
    if not bars:
        return None
    zero = bars[0][2]
    relative = [
        (number, status, begin - zero, max(begin, end) - zero, text) for number, status, begin, end, text in bars
    ]
    label = view.say(
        "1 attempt, {status}|{n} attempts, the last one: {status}", n=len(bars), status=view.word_of(found.status.value)
    )
    return charts.attempts(relative, view.said, view.say, label)


def facts_of(
    view: View, found: Task, earlier: list[dict[str, Any]], say_at: Callable[[datetime | None], str]
) -> list[tuple[str, str]]:
    """What is true of a task, (what, value), instants as ``say_at`` says them."""
    say, said = view.say, view.said
    due = found.fire_time or found.created_at
    begins = [one["started_at"] for one in earlier if one["started_at"] is not None]
    first = begins[0] if begins else found.started_at
    waits_s = sum(one["wait_s"] or 0.0 for one in earlier)
    facts = [
        (say("Task"), found.id),
        (say("Why"), view.why(found.reason, fires=found.fire_time is not None)),
        (say("Due") if found.fire_time is not None else say("Accepted"), say_at(due)),
        (say("First start"), say_at(first)),
        (say("Start delay"), said.duration(None if first is None else max(0.0, (first - due).total_seconds()))),
        (say("Finished"), say_at(found.finished_at)),
        (say("Last attempt"), said.duration(found.duration_s)),
        (say("Waiting to retry"), said.duration(waits_s) if earlier else ""),
        (say("Attempts"), f"{found.attempt} / {found.policy.retry.max_retries + 1 + found.crashes}"),
        (say("Failures"), str(found.failures) if found.failures else ""),
        (say("Crashes"), str(found.crashes) if found.crashes else ""),
        (say("Timeout"), say("no limit") if found.policy.timeout_s is None else said.duration(found.policy.timeout_s)),
        (say("Zone"), said.zone_name),
        (say("Executor"), say(found.policy.executor.value)),
        (say("Function"), found.function),
        (say("Process"), found.owner or ""),
        (say("Config"), f"r{found.revision}" if found.revision else ""),
    ]
    return [(words, value) for words, value in facts if value and value != "–"]


def _neighbours(connection: Connection, view: View, found: Task) -> list[tuple[str, str, str]]:
    """The tasks of the same job before and after this one: (relation, id, when)."""
    if found.job_id is None:
        return []
    statement = select(tasks.c.id, tasks.c.created_at, tasks.c.fire_time).where(tasks.c.job_id == found.job_id).limit(1)
    at = found.created_at.timestamp()
    before = connection.execute(statement.where(tasks.c.created_at < at).order_by(tasks.c.created_at.desc())).first()
    after = connection.execute(statement.where(tasks.c.created_at > at).order_by(tasks.c.created_at)).first()
    day = view.said.local(found.fire_time or found.created_at).date()

    def when(row: Any) -> str:
        at = instant(row.fire_time or row.created_at) or view.now
        clock = view.said.clock(at, seconds=False)
        return clock if view.said.local(at).date() == day else f"{view.said.date(at)} {clock}"

    both = (("prev", before), ("next", after))
    return [(relation, row.id, when(row)) for relation, row in both if row is not None]


def _same_time(connection: Connection, found: Task) -> list[Any]:
    """Other tasks that were accepted within a minute of this one."""
    at = found.created_at.timestamp()
    statement = (
        select(tasks.c.id, tasks.c.name, tasks.c.status, tasks.c.started_at, tasks.c.finished_at)
        .where(tasks.c.created_at.between(at - 30, at + 30), tasks.c.id != found.id)
        .order_by(tasks.c.created_at)
        .limit(6)
    )
    return list(connection.execute(statement))


TASK: Final = Page(
    "task",
    "/tasks/{task:path}",
    task,
    live={
        "k-head": "task/head.html",
        "k-chart": "task/chart.html",
        "k-log": "task/log.html",
        "k-end": "task/end.html",
        "k-why": "task/why.html",
        "k-facts": "task/facts.html",
    },
)
