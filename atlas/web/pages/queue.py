"""Queue: the four priorities and how long each waits, what runs, what is next, and the plan against the slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from atlas.builtin.health.work import full_words
from atlas.scheduler.store.tables import tasks
from atlas.scheduler.store.task_rows import instant
from atlas.scheduler.task import TaskPriority
from atlas.web.pages import lanes
from atlas.web.pages.overview import busy_slots, running_tasks
from atlas.web.pages.view import View, priority_name
from atlas.web.rendering import Page

if TYPE_CHECKING:
    from atlas.web.rendering import Shown
    from atlas.web.site import Visit

WAITING: Final = 50


def queue(visit: Visit) -> Shown:
    """The queue."""
    view = View.of(visit)
    desk, now = view.desk, view.now
    figures = desk.atlas.get_queue_status()
    plan = desk.forecast(now)
    span = lanes.Span(now.timestamp())
    return view.shown(
        "queue.html",
        view.say("Queue"),
        "queue",
        figures=figures,
        slots=desk.slots,
        depths=[
            (priority.name, figures["by_priority"][priority.name], figures["oldest_wait_s"].get(priority.name))
            for priority in TaskPriority
        ],
        full=[full_words(executor, facts) for executor, facts in figures["full_executors"].items()],
        running=running_tasks(desk, now, figures, most=20),
        waiting=_waiting(view),
        axis=lanes.axis(span, view.said),
        load_lane=lanes.load_lane(
            span, view.said, view.say, past=busy_slots(desk, desk.rollup.steps(now)), load=plan, slots=desk.slots
        ),
        plan=plan,
        title_of=desk.title,
    )


def _waiting(view: View) -> list[dict[str, Any]]:
    """What is served next: by priority, then by age; tasks that wait for a retry behind them."""
    found: list[dict[str, Any]] = []
    names = ("id", "name", "status", "priority", "created_at", "due_at", "reason", "fire_time")
    columns = [tasks.c[name] for name in names]
    for status in ("PENDING", "RETRYING"):
        statement = (
            select(*columns)
            .where(tasks.c.status == status, tasks.c.origin != "manual")
            .order_by(tasks.c.created_at)
            .limit(20 * WAITING)
        )
        rows = view.desk.store.read(lambda connection, wanted=statement: connection.execute(wanted).all())  # type: ignore[misc]
        found += [
            {
                "id": row.id,
                "name": row.name,
                "status": row.status,
                "priority": priority_name(row.priority),
                "rank": row.priority,
                "at": instant(row.created_at),
                "due_at": instant(row.due_at),
                "reason": view.why(row.reason, fires=row.fire_time is not None),
            }
            for row in rows
        ]
    found.sort(key=lambda one: (one["status"] != "PENDING", one["rank"], one["due_at"] or one["at"], one["id"]))
    return found[:WAITING]


QUEUE: Final = Page(
    "queue",
    "/queue",
    queue,
    live={"q-depth": "queue/depth.html", "q-running": "queue/running.html", "q-waiting": "queue/waiting.html"},
)
