"""One task or one job in full: the command ``task``, and ``jobs JOB``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from atlas.cli.exits import Exit
from atlas.cli.installation import local_times, opened
from atlas.cli.results import SAID
from atlas.cli.tables import Cell, Column, counted, print_facts, print_json, print_table, say, state_cell
from atlas.scheduler.as_json import as_json
from atlas.scheduler.durations import format_duration
from atlas.scheduler.error_text import error_line
from atlas.scheduler.errors import UnknownJobError
from atlas.scheduler.job_view import JobState, status_json, task_json
from atlas.scheduler.task import ExecutorKind

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from atlas.cli.times import LocalTimes
    from atlas.scheduler.client import SyncAtlasClient
    from atlas.scheduler.job_view import Job
    from atlas.scheduler.task import Task
    from atlas.settings import Settings

_ATTEMPTS: Final = (
    Column("TRY", right=True),
    Column("STARTED", right=True),
    Column("OUTCOME"),
    Column("THEN WAITED", right=True),
    Column("ERROR", shrinks=True),
)


def task(args: argparse.Namespace) -> int:
    """One task in full."""
    with opened(args) as (client, settings):
        found, attempts = client.task(args.task), client.attempts(args.task)
        times = local_times(settings)
    if args.json:
        more = {
            "arguments": json.loads(found.arguments),
            "policy": found.policy.values(),
            "attempts": as_json(attempts),
        }
        print_json({**task_json(found), **more})
        return Exit.OK
    print_facts((name, value) for name, value in _task_facts(found, times) if value)
    if attempts:
        say()
        print_table(_ATTEMPTS, [_attempt_row(one, times) for one in [*attempts, *_latest(found, attempts)]])
    say(Cell(times.words, "dim"))
    return Exit.OK


def print_job(client: SyncAtlasClient, name: str, times: LocalTimes, *, to_json: bool) -> None:
    """Everything about one job on stdout.

    Raises:
        UnknownJobError: No such job.
    """
    status = client.job_status(name)
    if to_json:
        print_json(status_json(status))
        return
    job = next(job for job in client.jobs() if job.name == name)
    print_facts((name, value) for name, value in _job_facts(job, status, times) if value)
    if "policy" in status:
        say()
        columns = (Column("POLICY"), Column("VALUE"), Column("FROM"))
        rows = [(name, _policy_text(one["value"]), one["from"]) for name, one in status["policy"].items()]
        print_table(columns, rows)
    say(Cell(times.words, "dim"))


def print_reasons(found: Iterable[Job], times: LocalTimes) -> None:
    """A line on stdout for each job that does not simply run, or has ended: why."""
    for job in found:
        if job.state not in {JobState.ACTIVE, JobState.ENDED}:
            say(Cell(f"{job.name} is {job.state.lower()}: {_reason(job, times)}", "yellow"))


def known_job(client: SyncAtlasClient, job_id: str) -> None:
    """Raise if no job and no history has this id."""
    try:
        client.job_status(job_id)
    except UnknownJobError:
        if not client.tasks(job=job_id, limit=1):
            raise


def no_jobs(settings: Settings) -> str:
    """What to do where the store knows no job."""
    return f"no jobs yet: a scheduler that starts ('atlas serve') reads them from {settings.persistence.cron_config}"


def _task_facts(task: Task, times: LocalTimes) -> list[tuple[str, str | Cell | None]]:
    arguments = json.loads(task.arguments)
    given = [json.dumps(value, ensure_ascii=False) for value in arguments["args"]]
    given += [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments["kwargs"].items()]
    policy = task.policy
    limit = "no limit" if policy.timeout_s is None else f"at most {format_duration(policy.timeout_s)}"
    place = " in a process" if policy.executor is ExecutorKind.PROCESS else ""
    crashes = f", {counted(task.crashes, 'crash', 'crashes')}" if task.crashes else ""
    result = None if task.value is None else json.dumps(task.value, ensure_ascii=False, indent=2)
    return [
        ("task", Cell(task.id, "bold")),
        ("status", state_cell(task.status.value)),
        ("cause", None if task.cause is None or task.cause.value in SAID else task.cause.value),
        ("name", task.name),
        ("job", task.job_id),
        ("function", f"{task.function}({', '.join(given)})"),
        ("because", task.reason + (f" for {times.exactly(task.fire_time)}" if task.fire_time else "")),
        ("priority", task.priority.name.lower()),
        ("policy", f"{limit} an attempt{place}, {counted(policy.retry.max_retries, 'retry', 'retries')}"),
        ("accepted", times.exactly(task.created_at)),
        ("next try", _next_try(task, times)),
        ("started", times.exactly(task.started_at)),
        ("finished", times.exactly(task.finished_at)),
        ("duration", None if task.duration_s is None else format_duration(max(0.0, task.duration_s))),
        ("attempts", f"{task.attempt}, {task.failures} failed{crashes}"),
        ("cancel", "asked for" if task.cancel_requested and not task.status.is_final else None),
        ("error", Cell(task.error.strip(), "red") if task.error else None),
        ("result", "not kept: not JSON, or over 64 kB" if task.result_omitted else result),
    ]


def _next_try(task: Task, times: LocalTimes) -> str | None:
    if task.due_at is None:
        return None
    at = times.exactly(task.due_at)
    return f"{at}, in {times.ahead(task.due_at)}" if task.due_at > times.now else f"waits for a slot since {at}"


def _latest(task: Task, earlier: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The attempt that runs, or ended the task: it is no row of its own."""
    if task.started_at is None or task.attempt in {one["attempt"] for one in earlier}:
        return []
    outcome, error = task.status.value, task.error
    return [
        {"attempt": task.attempt, "started_at": task.started_at, "outcome": outcome, "wait_s": None, "error": error}
    ]


def _attempt_row(one: dict[str, Any], times: LocalTimes) -> tuple[str | Cell, ...]:
    return (
        str(one["attempt"]),
        times.exactly(one["started_at"]) or "",
        one["outcome"].lower(),
        "" if one["wait_s"] is None else format_duration(one["wait_s"]),
        error_line(one["error"]),
    )


def _job_facts(job: Job, status: dict[str, Any], times: LocalTimes) -> list[tuple[str, str | Cell | None]]:
    counts, last, words = status["by_status"], status["last_task"], status.get("words", {})
    due = job.next_run_at if job.state is JobState.ACTIVE else None
    rate = status_json(status)["success_rate"]
    return [
        ("job", Cell(job.name, "bold")),
        ("title", None if job.title == job.name else job.title),
        ("description", job.description),
        ("state", state_cell(job.state.value)),
        ("because", _reason(job, times)),
        ("schedule", f"{job.schedule} ({job.timezone})"),
        ("", words.get("en")),
        ("", words.get("zh")),
        ("next", None if due is None else f"{times.exactly(due)}, in {times.ahead(due)}"),
        ("function", status.get("function")),
        ("owner", status.get("owner")),
        ("runbook", status.get("runbook")),
        ("tags", ", ".join(job.tags)),
        ("last task", f"{last['id']} {last['status'].lower()}" if last else None),
        ("unfinished", ", ".join(status["unfinished_tasks"])),
        ("tasks", ", ".join(f"{count:,} {name.lower()}" for name, count in counts.items() if count) or "none yet"),
        ("success rate", None if rate is None else f"{rate:.1f} %"),
    ]


def _reason(job: Job, times: LocalTimes) -> str:
    """Why a job stands where it stands, instants in the reader's zone."""
    if job.pause is None or job.state is not JobState.PAUSED:
        return times.within(job.detail)
    until = f" until {times.day(job.pause.until)}" if job.pause.until else ""
    return f"by {job.pause.by or 'somebody'}{until}" + (f": {job.pause.reason}" if job.pause.reason else "")


def _policy_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "all"
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
