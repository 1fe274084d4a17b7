"""Tasks: looking, logs, submit, cancel, retry."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from atlas.scheduler.errors import UnknownFunctionError
from atlas.scheduler.job_view import task_json
from atlas.scheduler.store.task_logs import read_logs
from atlas.scheduler.store.task_queries import cursor
from atlas.scheduler.task import TaskStatus
from atlas.web.api.verb import Call, Facts, Instant, Listed, Paged, Taken, Told, Verb, facts

Status = Annotated[TaskStatus, Field(description="In this status.")]


class TaskPage(Paged):
    """Which tasks; what is not given does not narrow."""

    job: str | None = Field(None, description="Of this job.")
    status: Status | None = None
    since: Instant | None = Field(None, description="Accepted at or after this instant.")
    until: Instant | None = Field(None, description="Accepted before this instant.")
    text: str | None = Field(None, max_length=500, description="With this text in id, name or error.")
    before: str | None = Field(None, max_length=250, description="`next` of the page before.")


class LinePage(Paged):
    """Which lines of a task's log."""

    after: int = Field(0, ge=0, le=2**62, description="Behind the line with this id: `next` of the page before.")


class Submission(Taken):
    """What to run."""

    function: str = Field(description="A registered function; a module is not taken.")
    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)


class TaskMade(Told):
    """A task was accepted."""

    task: str = Field(description="Its id.")


class Cancelled(Told):
    """False if it had ended already."""

    cancelled: bool


def list_tasks(call: Call) -> Listed:
    """Tasks by status, job, time and text, newest first."""
    asked = call.taken(TaskPage)
    found = call.atlas.status.get_tasks(
        job=asked.job,
        status=asked.status,
        since=asked.since,
        until=asked.until,
        text=asked.text,
        before=asked.before,
        limit=asked.limit + 1,
    )
    shown = found[: asked.limit]
    more = len(found) > asked.limit
    return Listed(
        items=[task_json(task) for task in shown],
        next=cursor(shown[-1].created_at.timestamp(), shown[-1].id) if more else None,
    )


def get_task(call: Call) -> Facts:
    """One task, with its attempts that did not end it."""
    task_id, status = call.path["task"], call.atlas.status
    return facts({**task_json(status.get_task(task_id)), "attempts": status.get_attempts(task_id)})


def task_logs(call: Call) -> Listed:
    """What a task logged, oldest first."""
    asked, task_id = call.taken(LinePage), call.path["task"]
    call.atlas.status.get_task(task_id)
    found = call.store.read(lambda connection: read_logs(connection, task_id, asked.after, asked.limit + 1))
    lines = found[: asked.limit]
    return Listed(items=[line.to_json() for line in lines], next=lines[-1].id if len(found) > asked.limit else None)


def submit_task(call: Call) -> TaskMade:
    """Run a registered function as a task."""
    asked, atlas = call.taken(Submission), call.atlas
    if asked.function not in atlas.registry.names():  # registered ones alone: no module name is taken here
        raise UnknownFunctionError(asked.function)
    return TaskMade(task=atlas.queue.sync.submit(asked.function, *asked.args, kwargs=asked.kwargs, by=call.by))


def cancel_task(call: Call) -> Cancelled:
    """Cancel a task, or ask it to stop."""
    return Cancelled(cancelled=call.atlas.queue.sync.cancel_task(call.path["task"], by=call.by))


def retry_task(call: Call) -> TaskMade:
    """A new task that does what a final one did."""
    return TaskMade(task=call.atlas.queue.sync.retry_task(call.path["task"], by=call.by))


VERBS: Final = (
    Verb("GET", "/tasks", list_tasks, TaskPage, Listed),
    Verb("POST", "/tasks", submit_task, Submission, TaskMade),
    Verb("GET", "/tasks/{task}/logs", task_logs, LinePage, Listed),
    Verb("POST", "/tasks/{task}/cancel", cancel_task, tells=Cancelled),
    Verb("POST", "/tasks/{task}/retry", retry_task, tells=TaskMade),
    Verb("GET", "/tasks/{task}", get_task),
)
"""The last one takes whatever is left of a path, so it comes last."""
