"""Tasks: by status, job, time and text, newest first; what is asked for stands in the address."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from atlas.scheduler.errors import ArgumentsError
from atlas.scheduler.store.tables import tasks
from atlas.scheduler.store.task_queries import behind, containing, cursor
from atlas.scheduler.store.task_rows import instant
from atlas.scheduler.task import TaskStatus
from atlas.web.pages.view import View, priority_name, short_json
from atlas.web.rendering import Page

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import ColumnElement, Connection

    from atlas.web.rendering import Shown
    from atlas.web.site import Visit

PER_PAGE: Final = 50
MOST_SEARCHED: Final = 20_000
"""Newest tasks a text is looked for in; an older one is found with a job, a status or a time beside it."""
MOST_TAKEN: Final = 10_000
"""Newest tasks of a selection that are taken away in one file."""
SINCE: Final = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
SHOWN: Final = 80
"""Characters of a result in the list."""
_COLUMNS: Final = (
    *("id", "name", "job_id", "status", "priority", "created_at", "fire_time", "started_at", "finished_at"),
    *("attempt", "failures", "reason", "error", "cause", "due_at"),
)


def task_list(visit: Visit) -> Shown:
    """The table of tasks."""
    view = View.of(visit)
    before, wanted = view.asked("before"), wanted_of(view)
    found = view.desk.store.read(lambda connection: find_tasks(connection, view, wanted, before, PER_PAGE + 1))
    more = len(found) > PER_PAGE
    rows = found[:PER_PAGE]
    metrics = view.desk.store.totals.metrics(wanted["job"] or None)
    return view.shown(
        "tasks.html",
        view.say("Tasks"),
        "tasks",
        rows=[_row(view, row) for row in rows],
        wanted=wanted,
        chips=[
            ("", view.say("All"), metrics.total_tasks, visit.here(status=None, before=None)),
            *(
                (one.value, view.word_of(one.value), metrics.by_status[one], visit.here(status=one.value, before=None))
                for one in TaskStatus
            ),
        ],
        ranges=[("", view.say("any time")), *((key, view.say(f"last {key}")) for key in SINCE)],
        most_taken=MOST_TAKEN,
        files=[(kind, view.url(f"tasks_{kind}", **wanted)) for kind in ("csv", "json")],
        newest=visit.here(before=None) if before else "",
        following=visit.here(before=cursor(rows[-1].created_at, rows[-1].id)) if more else "",
        narrowed=any(wanted.values()),
        searched=MOST_SEARCHED,
    )


def wanted_of(view: View) -> dict[str, str]:
    """What the address narrows the tasks to, "" for what it does not; ``FAILED,TIMEOUT`` are two statuses."""
    statuses, since = view.asked("status").upper().split(","), view.asked("since")
    return {
        "status": ",".join(one for one in statuses if one in TaskStatus.__members__),
        "job": view.asked("job"),
        "q": view.asked("q"),
        "since": since if since in SINCE else "",
        "until": view.asked("until"),
    }


def find_tasks(connection: Connection, view: View, wanted: dict[str, str], before: str, most: int) -> list[Any]:
    """The newest ``most`` rows that `wanted_of` narrows to, behind the cursor ``before``."""
    begin = func.substr(tasks.c.result, 1, SHOWN + 1).label("result")  # the whole may have 64 kB
    statement = select(*(tasks.c[name] for name in _COLUMNS), begin)
    conditions: list[ColumnElement[bool]] = []
    if wanted["status"]:
        conditions.append(tasks.c.status.in_(wanted["status"].split(",")))
    if wanted["job"]:
        conditions.append(tasks.c.job_id == wanted["job"])
    if wanted["since"]:
        conditions.append(tasks.c.created_at >= (view.now - SINCE[wanted["since"]]).timestamp())
    until = _instant(view, wanted["until"])
    if until is not None:
        conditions.append(tasks.c.created_at < until.timestamp())
    with suppress(ArgumentsError):
        conditions.append(behind(before))
    order = (tasks.c.created_at.desc(), tasks.c.id.desc())
    if wanted["q"]:
        newest = select(tasks.c.created_at).where(*conditions).order_by(*order).limit(MOST_SEARCHED).subquery()
        oldest = select(func.min(newest.c.created_at)).scalar_subquery()
        conditions += [tasks.c.created_at >= oldest, containing(connection, wanted["q"])]
    return list(connection.execute(statement.where(*conditions).order_by(*order).limit(most)))


def _instant(view: View, text: str) -> datetime | None:
    """What ``<input type=datetime-local>`` gives, in the zone of the page."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=view.said.zone)


def _row(view: View, row: Any) -> dict[str, Any]:
    started, finished = instant(row.started_at), instant(row.finished_at)
    if row.status == "SUCCESS":
        outcome = short_json(row.result or "", SHOWN)
    else:
        outcome = view.headline(row.error)[:140] if row.error else ""
    due_at = instant(row.due_at)
    if row.status == "RETRYING" and due_at is not None:
        outcome = " · ".join(filter(None, (view.next_try(due_at), outcome)))
    return {
        "id": row.id,
        "name": row.name,
        "status": "RETRYING" if row.status == "SUCCESS" and row.failures else row.status,
        "is_success": row.status == "SUCCESS",
        "priority": priority_name(row.priority),
        "at": instant(row.created_at),
        "seconds": max(0.0, (finished - started).total_seconds())
        if started is not None and finished is not None
        else None,
        "attempts": row.attempt,
        "why": view.why(row.reason, fires=row.fire_time is not None),
        "outcome": outcome
        or (view.say(row.cause) if row.cause and row.status == "CANCELLED" and row.cause != "cancelled" else ""),
    }


TASKS: Final = Page(
    "tasks",
    "/tasks",
    task_list,
    live={"t-rows": "tasks/rows.html", "t-chips": "tasks/chips.html"},
)
