"""Pages that ask before something is done: each shows what will happen, and its form is one action.

The forms' addresses and fields are those of `atlas.web.actions`; without a script they are plain POSTs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler.errors import UnknownJobError, UnknownTaskError
from atlas.scheduler.store.task_rows import fetch
from atlas.scheduler.task import ExecutorKind, TaskPriority
from atlas.web.pages.job_rows import rows_of
from atlas.web.pages.view import View, short_json
from atlas.web.rendering import Page
from atlas.web.site import is_local

if TYPE_CHECKING:
    from atlas.scheduler.task import Task
    from atlas.web.pages.job_rows import JobRow
    from atlas.web.rendering import Shown
    from atlas.web.site import Visit


def _job(view: View) -> JobRow:
    job_id = view.visit.query.get("job", "")
    record = view.desk.record(job_id)
    if record is None:
        raise UnknownJobError(job_id)
    return rows_of(view.desk, [record], view.now)[0]


def _task(view: View) -> Task:
    task_id = view.visit.query.get("task", "")
    task = view.desk.store.read(lambda connection: fetch(connection, task_id))
    if task is None:
        raise UnknownTaskError(task_id)
    return task


def _back(view: View, otherwise: str) -> str:
    """Where the action leads back to, below the prefix."""
    back = view.visit.query.get("back", "")
    return back if is_local(back) else otherwise.removeprefix(view.visit.root)


def ask_run(visit: Visit) -> Shown:
    """Run a job now, with its own arguments or others."""
    view = View.of(visit)
    row = _job(view)
    arguments = json.loads(row.definition.arguments)
    running = [task for task in row.recent.tasks if task.status in {"PENDING", "RUNNING", "RETRYING"}]
    return view.shown(
        "ask_run.html",
        view.say("Run {title} now", title=row.job.title),
        "jobs",
        job=row.job,
        definition=row.definition,
        args=json.dumps(arguments["args"], ensure_ascii=False),
        kwargs=json.dumps(arguments["kwargs"], ensure_ascii=False, indent=2),
        busy=running if row.definition.overlap.value == "skip" else [],
        back=_back(view, view.url("job", job=row.job.id)),
        median=row.recent.duration_s(0.5),
    )


def ask_pause(visit: Visit) -> Shown:
    """Pause a job: why, and until when."""
    view = View.of(visit)
    row = _job(view)
    if row.job.pause is not None:
        return _resume(view, row)
    return view.shown(
        "ask_pause.html",
        view.say("Pause {title}", title=row.job.title),
        "jobs",
        job=row.job,
        back=_back(view, view.url("job", job=row.job.id)),
        unfinished=[task for task in row.recent.tasks if task.status in {"PENDING", "RUNNING", "RETRYING"}],
    )


def ask_resume(visit: Visit) -> Shown:
    """Resume a job."""
    view = View.of(visit)
    return _resume(view, _job(view))


def _resume(view: View, row: JobRow) -> Shown:
    return view.shown(
        "ask_resume.html",
        view.say("Resume {title}", title=row.job.title),
        "jobs",
        job=row.job,
        back=_back(view, view.url("job", job=row.job.id)),
    )


def ask_cancel(visit: Visit) -> Shown:
    """Cancel a task that waits or runs."""
    view = View.of(visit)
    task = _task(view)
    return view.shown(
        "ask_cancel.html",
        view.say("Cancel {title}", title=task.name),
        "tasks",
        task=task,
        is_final=task.status.is_final,
        stops=task.policy.executor is not ExecutorKind.THREAD or task.status.value != "RUNNING",
        back=_back(view, view.url("task", task=task.id)),
    )


def ask_retry(visit: Visit) -> Shown:
    """Run a final task again, as a new one."""
    view = View.of(visit)
    task = _task(view)
    return view.shown(
        "ask_retry.html",
        view.say("Run {title} again", title=task.name),
        "tasks",
        task=task,
        is_final=task.status.is_final,
        arguments=json.loads(task.arguments),
        short_json=short_json,
        back=_back(view, view.url("task", task=task.id)),
    )


def ask_submit(visit: Visit) -> Shown:
    """Submit a registered function."""
    view = View.of(visit)
    registry: Any = visit.atlas.registry
    return view.shown(
        "ask_submit.html",
        view.say("Submit a task"),
        "queue",
        functions=sorted(registry.names()),
        function=view.asked("function"),
        priorities=[priority.name for priority in TaskPriority],
        back=_back(view, view.url("queue")),
    )


ASKING: Final = (
    Page("ask_run", "/ask/run", ask_run),
    Page("ask_pause", "/ask/pause", ask_pause),
    Page("ask_resume", "/ask/resume", ask_resume),
    Page("ask_cancel", "/ask/cancel", ask_cancel),
    Page("ask_retry", "/ask/retry", ask_retry),
    Page("ask_submit", "/ask/submit", ask_submit),
)
