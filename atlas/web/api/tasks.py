"""Tasks: looking, logs, submit, cancel, retry."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from atlas.scheduler.errors import UnknownFunctionError
from atlas.scheduler.job_view import task_json
from atlas.scheduler.store.task_logs import read_logs
from atlas.scheduler.store.task_queries import SEARCHED, TaskFilter, page_of_tasks
from atlas.scheduler.task import ExecutorKind, OnCrash, TaskStatus
from atlas.scheduler.tasks.submission import SubmitOptions
from atlas.web.api.verb import MAX_NUMBER, Call, Instant, Paged, Priority, Taken, Verb, listed

Status = Annotated[TaskStatus, Field(description="In this status.")]


class TaskPage(Paged):
    """Which tasks; what is not given does not narrow."""

    job: str | None = Field(None, description="Of this job.")
    status: Status | None = None
    since: Instant | None = Field(None, description="Accepted at or after this instant.")
    until: Instant | None = Field(None, description="Accepted before this instant.")
    text: str | None = Field(
        None,
        max_length=500,
        description=f"With this in id, name, job or error. A page looks at {SEARCHED:,} tasks; the next one goes on.",
    )
    before: str | None = Field(None, max_length=250, description="`next` of the page before.")


class LinePage(Paged):
    """Which lines of a task's log."""

    after: int = Field(0, ge=0, le=2**62, description="Behind the line with this id: `next` of the page before.")


class Submission(Taken):
    """What to run."""

    function: str = Field(description="A registered function; a module is not taken.")
    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    task_id: str | None = Field(None, min_length=1, max_length=191, description="An id of your own; it must be new.")
    name: str | None = Field(None, max_length=500, description="What people call it; by default the function's name.")
    priority: Priority = Field("NORMAL", description="Order of service.")
    timeout: float | None = Field(
        None, gt=0, description="Longest one attempt may run, seconds; null is no limit; by default the queue's."
    )
    max_retries: int | None = Field(
        None, ge=0, le=MAX_NUMBER, description="Retries after the first attempt; by default the queue's."
    )
    executor: ExecutorKind | None = Field(None, description="By default as the function asks.")
    on_crash: OnCrash = Field(OnCrash.RETRY, description="`fail` if it may not run twice.")


def list_tasks(call: Call) -> dict[str, Any]:
    """Tasks by status, job, time and text, newest first."""
    asked = call.taken(TaskPage)
    wanted = TaskFilter(
        job=asked.job,
        status=asked.status,
        since=asked.since,
        until=asked.until,
        text=asked.text,
        before=asked.before,
        limit=asked.limit,
    )
    found, following = call.store.read(lambda connection: page_of_tasks(connection, wanted))
    return listed([task_json(task) for task in found], following)


def get_task(call: Call) -> dict[str, Any]:
    """One task, with its attempts that did not end it."""
    task_id, status = call.path["task"], call.atlas.status
    return {**task_json(status.get_task(task_id)), "attempts": status.get_attempts(task_id)}


def task_logs(call: Call) -> dict[str, Any]:
    """What a task logged, oldest first."""
    asked, task_id = call.taken(LinePage), call.path["task"]
    call.atlas.status.get_task(task_id)
    found = call.store.read(lambda connection: read_logs(connection, task_id, asked.after, asked.limit + 1))
    lines = found[: asked.limit]
    return listed([line.to_json() for line in lines], lines[-1].id if len(found) > asked.limit else None)


def submit_task(call: Call) -> dict[str, Any]:
    """Run a registered function as a task."""
    asked, atlas = call.taken(Submission), call.atlas
    if asked.function not in atlas.registry.names():  # registered ones alone: no module name is taken here
        raise UnknownFunctionError(asked.function)
    options: SubmitOptions = {"kwargs": asked.kwargs, "by": call.by}
    for name in asked.model_fields_set & SubmitOptions.__annotations__.keys() - {"kwargs"}:
        options[name] = getattr(asked, name)  # type: ignore[literal-required]
    return {"task": atlas.queue.sync.submit(asked.function, *asked.args, **options)}


def cancel_task(call: Call) -> dict[str, Any]:
    """Cancel a task, or ask it to stop."""
    return {"cancelled": call.atlas.queue.sync.cancel_task(call.path["task"], by=call.by)}


def retry_task(call: Call) -> dict[str, Any]:
    """A new task that does what a final one did."""
    return {"task": call.atlas.queue.sync.retry_task(call.path["task"], by=call.by)}


VERBS: Final = (
    Verb("GET", "/tasks", list_tasks, TaskPage),
    Verb("POST", "/tasks", submit_task, Submission),
    Verb("GET", "/tasks/{task}/logs", task_logs, LinePage),
    Verb("POST", "/tasks/{task}/cancel", cancel_task),
    Verb("POST", "/tasks/{task}/retry", retry_task),
    Verb("GET", "/tasks/{task}", get_task),
)
"""The last one takes whatever is left of a path, so it comes last."""
