"""Pages that ask before something is done: each shows what will happen, and its form is one action.

The forms' addresses and fields are those of `atlas.web.actions`; without a script they are plain POSTs. A form that was
refused comes back as a POST to its own page, which shows what was written in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from atlas.scheduler.errors import UnknownJobError
from atlas.scheduler.store.task_rows import fetch_known
from atlas.scheduler.task import ExecutorKind, TaskPriority
from atlas.web.choosing import chosen_in, may_resume
from atlas.web.pages.job_rows import rows_of
from atlas.web.pages.view import View, short_json
from atlas.web.rendering import Page
from atlas.web.site import is_local

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atlas.scheduler.job_state import Pause
    from atlas.scheduler.job_store.records import JobRecord
    from atlas.scheduler.task import Task
    from atlas.web.pages.job_rows import JobRow
    from atlas.web.rendering import Shown
    from atlas.web.site import Visit


MOST_SHOWN: Final = 50
"""Chosen jobs that are named."""
MOST_PAUSES: Final = 20
SEVERAL: Final = {
    "run": ("Run 1 job now|Run {n} jobs now",) * 2,
    "pause": ("Pause 1 job|Pause {n} jobs", "Pause the only job that fires|Pause all {n} jobs that fire"),
    "resume": ("Resume 1 job|Resume {n} jobs", "Resume the only paused job|Resume all {n} paused jobs"),
}
"""What is done → its words for chosen jobs, and for all."""


def _job(view: View) -> JobRow:
    job_id = view.visit.query.get("job", "")
    record = view.desk.record(job_id)
    if record is None:
        raise UnknownJobError(job_id)
    return rows_of(view.desk, [record], view.now)[0]


def _task(view: View) -> Task:
    task_id = view.visit.query.get("task", "")
    return view.desk.store.read(lambda connection: fetch_known(connection, task_id))


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
        args=visit.form.get("args", json.dumps(arguments["args"], ensure_ascii=False)),
        kwargs=visit.form.get("kwargs", json.dumps(arguments["kwargs"], ensure_ascii=False, indent=2)),
        busy=running if row.definition.policies.overlap.value == "skip" else [],
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
        given={name: visit.form.get(name, "") for name in ("reason", "until")},
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


SUBMITTED: Final = {"kwargs": "{}", "args": "[]", "timeout": "", "max_retries": "", "priority": "NORMAL"}
"""Fields of a task that is submitted → what stands in them at first."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """Jobs that were paused together."""

    count: int
    title: str
    pause: Pause


def ask_several(visit: Visit) -> Shown:
    """Run, pause or resume several jobs, or pause or resume all."""
    view = View.of(visit)
    desk, fields = view.desk, visit.form or visit.query
    do, everything = fields.get("do", ""), fields.get("all") == "1"
    known = [(job_id, desk.record(job_id)) for job_id in chosen_in(fields)]
    chosen = [record for _job_id, record in known if record is not None]
    if everything:
        paused = set(desk.atlas.cron.sync.shown.states.paused())
        chosen = [
            record
            for record in desk.records()
            if (record.enabled if do == "resume" else record.next_run is not None)
            and (record.id in paused) is (do == "resume")
        ]
    asked = len(chosen)
    if do == "resume" and not everything:
        resumable = set(may_resume(visit, [record.id for record in chosen]))
        chosen = [record for record in chosen if record.id in resumable]
    words = SEVERAL.get(do, SEVERAL["pause"])
    rows = rows_of(desk, chosen[:MOST_SHOWN], view.now)
    return view.shown(
        "ask_several.html",
        view.say(words[everything], n=view.said.count(len(chosen))),
        "jobs",
        do=do if do in SEVERAL else "pause",
        everything=everything,
        chosen=chosen,
        rows=rows,
        more=len(chosen) - len(rows),
        left_out=asked - len(chosen),
        gone=[job_id for job_id, record in known if record is None],
        busy=[row for row in rows if row.definition.policies.overlap.value == "skip" and row.recent.unfinished],
        paused=[row for row in rows if row.job.pause is not None],
        pauses=_pauses(view, chosen) if do == "resume" else [],
        back=fields["back"] if is_local(fields.get("back", "")) else view.url("jobs").removeprefix(visit.root),
    )


def _pauses(view: View, chosen: Sequence[JobRecord]) -> list[Pauses]:
    """The pauses of these jobs, those that were made together as one, most jobs first."""
    states = view.desk.atlas.cron.sync.shown.states
    found: dict[Pause, list[JobRecord]] = {}
    for record in chosen:
        pause = states.pause_of(record.id)
        if pause is not None:
            found.setdefault(pause, []).append(record)
    together = [Pauses(len(some), some[0].definition.title, pause) for pause, some in found.items()]
    return sorted(together, key=lambda one: -one.count)[:MOST_PAUSES]


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
        given={name: visit.form.get(name, value) for name, value in SUBMITTED.items()},
        priorities=[priority.name for priority in TaskPriority],
        back=_back(view, view.url("queue")),
    )


ASKING: Final = (
    Page("ask_run", "/ask/run", ask_run, methods=("GET", "POST")),
    Page("ask_pause", "/ask/pause", ask_pause, methods=("GET", "POST")),
    Page("ask_resume", "/ask/resume", ask_resume),
    Page("ask_several", "/ask/several", ask_several, methods=("GET", "POST")),
    Page("ask_cancel", "/ask/cancel", ask_cancel),
    Page("ask_retry", "/ask/retry", ask_retry),
    Page("ask_submit", "/ask/submit", ask_submit, methods=("GET", "POST")),
)
