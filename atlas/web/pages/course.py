"""The course of a task: what happened to it, one event after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler.task import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from atlas.scheduler.store.audit import Entry
    from atlas.scheduler.task import Task
    from atlas.web.pages.view import View

MOST_ASKED: Final = 20
"""Lines of the audit about one task that are told."""
ENDED_AS: Final = {"error": "RETRYING", "timeout": "TIMEOUT", "crashed": "FAILED", "cancelled": "CANCELLED"}
ENDINGS: Final = {
    "error": "failed",
    "timeout": "timed out",
    "crashed": "died with its process",
    "cancelled": "was cancelled",
    "released": "was released by a stop",
    "SUCCESS": "succeeded",
    "FAILED": "failed",
    "TIMEOUT": "timed out",
    "CANCELLED": "was cancelled",
}
"""How an attempt ended: as its row says, or, of the last one, as the task."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, or will."""

    at: datetime
    status: str
    """What to mark it with."""
    words: str
    more: str = ""
    """Why or how, "" if there is nothing to say."""


def course_of(view: View, task: Task, earlier: Iterable[dict[str, Any]], asked: Iterable[Entry]) -> list[Event]:
    """The events of ``task``, oldest first: from its attempts that did not end it, and what people asked for."""
    say = view.say
    found = [
        Event(task.created_at, "PENDING", say("accepted"), view.why(task.reason, fires=task.fire_time is not None))
    ]
    found += [
        Event(
            one.at,
            "stop" if one.action == "cancel" else "run",
            say("{who} asked: {what}", who=one.actor, what=say(one.action)),
        )
        for one in asked
        if one.action != "submit"
    ]
    last = 0
    for one in earlier:
        last = one["attempt"]
        if one["started_at"] is not None:
            found.append(Event(one["started_at"], "run", say("attempt {n} began", n=last)))
        ended_as = ENDED_AS.get(one["outcome"], "RETRYING")
        found.append(Event(one["ended_at"], ended_as, between(view, one), view.headline(one["error"])))
    if task.started_at is not None and task.attempt > last:
        found.append(Event(task.started_at, "run", say("attempt {n} began", n=task.attempt)))
    if task.finished_at is not None:
        what = say(ENDINGS[task.status.value])
        words = say("attempt {n} {what}", n=task.attempt, what=what) if task.attempt else what
        error = "" if task.status is TaskStatus.SUCCESS else view.headline(task.error)
        found.append(Event(task.finished_at, task.status.value, words, error))
    elif task.status is TaskStatus.RETRYING and task.due_at is not None:
        found.append(Event(task.due_at, "PENDING", view.next_try(task.due_at)))
    return sorted(found, key=lambda event: event.at)


def between(view: View, one: dict[str, Any]) -> str:
    """How an attempt that did not end its task ended, and how long the next one waited."""
    what = view.say(ENDINGS.get(one["outcome"], "ended"))
    if one["wait_s"] is None:
        return view.say("attempt {n} {what}", n=one["attempt"], what=what)
    waited = view.said.duration(one["wait_s"])
    return view.say("attempt {n} {what}, the next one after {s}", n=one["attempt"], what=what, s=waited)
