"""The commands that look: ``jobs``, ``tasks``, ``task``."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from atlas.cli.exits import Exit
from atlas.cli.installation import local_times, opened
from atlas.cli.results import outcome_text
from atlas.cli.strips import EMPTY, HOURS, strips
from atlas.cli.tables import Cell, Column, first_line, print_facts, print_json, print_table, say, state_cell
from atlas.scheduler.durations import format_duration
from atlas.scheduler.errors import UnknownJobError
from atlas.scheduler.job_view import JobState, task_json
from atlas.scheduler.task import ExecutorKind, TaskStatus

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from atlas.cli.times import LocalTimes
    from atlas.scheduler.client import SyncAtlasClient
    from atlas.scheduler.job_view import Job
    from atlas.scheduler.metrics import Metrics
    from atlas.scheduler.task import Task
    from atlas.settings import Settings

MOST_RECENT: Final = 5_000
"""Tasks of a day beyond which the strip of the last 24 hours would be made of too few of them, and is left out."""


def jobs(args: argparse.Namespace) -> int:
    """Every job, or one in full."""
    with opened(args) as (client, settings):
        times = local_times(settings)
        if args.job is not None:
            return _one_job(client, args, times)
        found = client.jobs()
        client.metrics()  # reads the totals of all jobs at once
        figures = {job.name: client.store.totals.metrics(job.name) for job in found}
        latest = {job.name: client.tasks(job=job.name, limit=1)[0] for job in found if figures[job.name].total_tasks}
        recent = client.tasks(since=times.now - timedelta(hours=HOURS), limit=MOST_RECENT + 1)
    if args.json:
        print_json([_job_json(job, figures[job.name], latest.get(job.name)) for job in found])
        return Exit.OK
    if not found:
        say(no_jobs(settings))
        return Exit.OK
    with_strip = len(recent) <= MOST_RECENT
    strip = strips(recent, times.now) if with_strip else {}
    columns = (
        Column("JOB"),
        Column("TITLE", shrinks=True),
        Column("SCHEDULE", shrinks=True),
        Column("NEXT", right=True),
        Column("IN", right=True),
        Column("LAST"),
        *([Column("LAST 24 H", yields=True)] if with_strip else []),
        Column("OK", right=True),
        Column("MEAN", right=True),
    )
    rows = [_job_row(job, figures[job.name], latest.get(job.name), times) for job in found]
    if with_strip:
        rows = [(*row[:6], strip.get(job.name, EMPTY), *row[6:]) for job, row in zip(found, rows, strict=True)]
    print_table(columns, rows)
    print_details(found, times)
    say(Cell(f"{_count_words(found, latest)} · {times.words}", "dim"))
    return Exit.OK


def tasks(args: argparse.Namespace) -> int:
    """The newest tasks."""
    with opened(args) as (client, settings):
        times = local_times(settings)
        since = times.read(args.since, ahead=False) if args.since else None
        found = client.tasks(job=args.job, status=args.status, since=since, limit=args.limit + 1)
        if not found and args.job is not None:
            _known(client, args.job)
    found, more = found[: args.limit], len(found) > args.limit
    if args.json:
        print_json([task_json(task) for task in found])
        return Exit.OK
    if not found:
        say("no such tasks" if args.job or args.status or since else "no tasks yet")
        return Exit.OK
    columns = [
        Column("TASK"),
        *([] if args.job else [Column("JOB", shrinks=True)]),
        Column("SCHEDULED", right=True),
        Column("RESULT"),
        Column("DURATION", right=True),
        Column("TRIES", right=True),
        Column("OUTCOME", shrinks=True),
    ]
    print_table(columns, [_task_row(task, times, with_job=not args.job) for task in found])
    counts = Counter(task.status.value.lower() for task in found)
    told = (
        f"the newest {len(found):,} (--limit shows more)" if more else f"{len(found):,} task{'s' * (len(found) != 1)}"
    )
    say(
        Cell(
            f"{told}: {', '.join(f'{count} {status}' for status, count in counts.most_common())} · {times.words}", "dim"
        )
    )
    return Exit.OK


def task(args: argparse.Namespace) -> int:
    """One task in full."""
    with opened(args) as (client, settings):
        found, attempts = client.task(args.task), client.attempts(args.task)
        times = local_times(settings)
    arguments = json.loads(found.arguments)
    if args.json:
        policy = json.loads(found.policy.to_json())
        print_json(
            {**task_json(found), "arguments": arguments, "policy": policy, "attempts": [_iso(one) for one in attempts]}
        )
        return Exit.OK
    given = [json.dumps(value, ensure_ascii=False) for value in arguments["args"]]
    given += [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments["kwargs"].items()]
    retry = found.policy.retry
    limit = "no limit" if found.policy.timeout_s is None else f"at most {format_duration(found.policy.timeout_s)}"
    facts: list[tuple[str, str | Cell | None]] = [
        ("task", Cell(found.id, "bold")),
        ("status", state_cell(found.status.value)),
        ("cause", found.cause and found.cause.value not in _SAID and found.cause.value),
        ("name", found.name),
        ("job", found.job_id),
        ("function", f"{found.function}({', '.join(given)})"),
        ("started by", found.reason + (f" for {times.exactly(found.fire_time)}" if found.fire_time else "")),
        ("priority", found.priority.name.lower()),
        (
            "policy",
            f"{limit} an attempt, {retry.max_retries} retries{', in a process' * (found.policy.executor is ExecutorKind.PROCESS)}",
        ),
        ("accepted", times.exactly(found.created_at)),
        ("next try", found.due_at and f"{times.exactly(found.due_at)}, in {times.ahead(found.due_at)}"),
        ("started", times.exactly(found.started_at)),
        ("finished", times.exactly(found.finished_at)),
        ("duration", None if found.duration_s is None else format_duration(found.duration_s)),
        (
            "attempts",
            f"{found.attempt}, {found.failures} failed" + (f", {found.crashes} crashed" if found.crashes else ""),
        ),
        ("error", found.error and Cell(found.error.strip(), "red")),
        ("result", result_text(found)),
    ]
    print_facts((name, value) for name, value in facts if value)
    if attempts:
        say()
        print_table(
            (
                Column("TRY", right=True),
                Column("STARTED", right=True),
                Column("OUTCOME"),
                Column("THEN WAITED", right=True),
                Column("ERROR", shrinks=True),
            ),
            [_attempt_row(one, times) for one in attempts],
        )
    say(Cell(times.words, "dim"))
    return Exit.OK


def print_details(found: Iterable[Job], times: LocalTimes) -> None:
    """A line for each job that does not simply run, or has ended: why."""
    for job in found:
        if job.state not in {JobState.ACTIVE, JobState.ENDED}:
            say(Cell(f"{job.name} is {job.state.lower()}: {state_text(job, times)}", "yellow"))


def state_text(job: Job, times: LocalTimes) -> str:
    """Why a job stands where it stands, instants in the reader's zone."""
    if job.pause is None:
        return job.detail
    until = f" until {times.day(job.pause.until)}" if job.pause.until else ""
    return f"by {job.pause.by or 'somebody'}{until}" + (f": {job.pause.reason}" if job.pause.reason else "")


_SAID: Final = frozenset({"error", "timeout", "cancelled"})
"""Causes that the status itself tells."""


def no_jobs(settings: Settings) -> str:
    """What to do where the store knows no job."""
    return f"no jobs yet: a scheduler that starts ('atlas serve') reads them from {settings.persistence.cron_config}"


def result_text(task: Task) -> str | None:
    """The whole result for reading, None if there is none."""
    if task.result_omitted:
        return "not kept: not JSON, or over 64 kB"
    return None if task.value is None else json.dumps(task.value, ensure_ascii=False, indent=2)


# --- rows ------------------------------------------------------------------------------------------------------------


def _job_row(job: Job, figures: Metrics, last: Task | None, times: LocalTimes) -> tuple[str | Cell, ...]:
    if job.state is JobState.ACTIVE:
        upcoming: tuple[str | Cell, str | Cell] = (
            times.at(job.next_run_at),
            "" if job.next_run_at is None else times.ahead(job.next_run_at),
        )
    else:
        upcoming = (state_cell(job.state.value), "")
    mean_s = figures.average_duration_s
    return (
        Cell(job.name, "bold"),
        "" if job.title == job.name else job.title,
        job.schedule,
        *upcoming,
        Cell("–", "dim") if last is None else state_cell(last.status.value),
        _rate(figures),
        "–" if mean_s is None else format_duration(mean_s),
    )


def _rate(figures: Metrics) -> str:
    tried = figures.successful_tasks + figures.failed_tasks + figures.timeout_tasks
    return "–" if not tried else f"{figures.success_rate:.1f}%".replace("100.0%", "100%")


def _task_row(task: Task, times: LocalTimes, *, with_job: bool) -> tuple[str | Cell, ...]:
    if task.duration_s is not None:
        duration = format_duration(max(0.0, task.duration_s))
    elif task.status is TaskStatus.RUNNING and task.started_at is not None:
        duration = times.age(task.started_at)
    else:
        duration = ""
    return (
        task.id,
        *([task.job_id or task.name] if with_job else []),
        times.at(task.fire_time or task.created_at),
        state_cell(task.status.value),
        duration,
        str(task.attempt),
        outcome_text(task),
    )


def _attempt_row(one: dict[str, Any], times: LocalTimes) -> tuple[str | Cell, ...]:
    wait_s = one["wait_s"]
    return (
        str(one["attempt"]),
        times.exactly(one["started_at"]) or "",
        one["outcome"].lower(),
        "" if wait_s is None else format_duration(wait_s),
        first_line(one["error"], last=True),
    )


def _count_words(found: list[Job], latest: dict[str, Task]) -> str:
    failing = sum(1 for task in latest.values() if task.status in {TaskStatus.FAILED, TaskStatus.TIMEOUT})
    running = sum(1 for task in latest.values() if task.status is TaskStatus.RUNNING)
    states = Counter(job.state.lower() for job in found if job.state is not JobState.ACTIVE)
    parts = [f"{len(found):,} job{'s' * (len(found) != 1)}"]
    parts += [
        f"{count} {word}" for word, count in (("failing", failing), ("running", running), *states.items()) if count
    ]
    return ", ".join(parts)


# --- one job ---------------------------------------------------------------------------------------------------------


def _one_job(client: SyncAtlasClient, args: argparse.Namespace, times: LocalTimes) -> int:
    status = client.job_status(args.job)
    job = next(job for job in client.jobs() if job.name == args.job)
    if args.json:
        print_json(_iso(status))
        return Exit.OK
    tried = status["by_status"]
    pause = status["pause"]
    last = status["last_task"]
    upcoming = status["next_run_at"]
    facts: list[tuple[str, str | Cell | None]] = [
        ("job", Cell(status["id"], "bold")),
        ("title", status["title"] if status["title"] != status["id"] else None),
        ("description", status["description"]),
        ("state", state_cell(status["state"])),
        ("because", state_text(job, times)),
        ("schedule", f"{status['schedule']} ({status['timezone']})"),
        ("", status.get("words", {}).get("en")),
        ("", status.get("words", {}).get("zh")),
        ("next", upcoming and not pause and f"{times.exactly(upcoming)}, in {times.ahead(upcoming)}"),
        ("function", status.get("function")),
        ("owner", status.get("owner")),
        ("runbook", status.get("runbook")),
        ("tags", ", ".join(status["tags"])),
        ("last task", last and f"{last['id']} {last['status'].lower()}"),
        ("unfinished", ", ".join(status["unfinished_tasks"])),
        ("tasks", ", ".join(f"{count:,} {name.lower()}" for name, count in tried.items() if count) or "none yet"),
        ("success rate", f"{status['success_rate']:.1f} %" if status["average_duration_s"] is not None else None),
    ]
    print_facts((name, value) for name, value in facts if value)
    if "policy" in status:
        say()
        columns = (Column("POLICY"), Column("VALUE"), Column("FROM"))
        print_table(
            columns, [(name, _policy_text(one["value"]), one["from"]) for name, one in status["policy"].items()]
        )
    say(Cell(times.words, "dim"))
    return Exit.OK


def _policy_text(value: Any) -> str:
    return "–" if value is None else ", ".join(map(str, value)) or "all" if isinstance(value, list) else f"{value}"


def _job_json(job: Job, figures: Metrics, last: Task | None) -> dict[str, Any]:
    return {**job.to_json(), **figures.to_json(), "last_task": None if last is None else task_json(last)}


def _iso(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` with instants as text."""
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in values.items()}


def _known(client: SyncAtlasClient, job_id: str) -> None:
    """Raise if no job and no history has this id."""
    try:
        client.job_status(job_id)
    except UnknownJobError:
        if not client.tasks(job=job_id, limit=1):
            raise
